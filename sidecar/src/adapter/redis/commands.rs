//! Which keys a command writes, by what the server says of its own commands.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::frame::Reply;
use super::link::Link;
use crate::adapter::{Access, Key, Result};

/// The keys that a command writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeysWritten {
    /// It writes none, or the server doesn't know it.
    None,
    /// These at most.
    Keys(Vec<Key>),
    /// Any.
    Unknown,
}

/// What is known of commands by now. Only names that the server knows are kept, so that an
/// application can't fill it.
#[derive(Debug, Default)]
pub(super) struct Commands(Mutex<HashMap<Vec<u8>, Arc<Spec>>>);

/// A command, as COMMAND INFO tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Spec {
    readonly: bool,
    writes: bool,
    /// Where its keys are depends on its arguments.
    movable: bool,
    /// The places of its keys: the first, the last (from the end if negative), the step.
    first: i64,
    last: i64,
    step: i64,
    /// Its subcommands, where they are commands of their own (since Redis 7).
    subcommands: HashMap<Vec<u8>, Spec>,
}

impl Commands {
    /// What `args` would write.
    pub(super) async fn keys_written(&self, link: &Link, args: &[Bytes]) -> KeysWritten {
        let Some(name) = args.first() else { return KeysWritten::None };
        let command = match self.lookup(link, name).await {
            Ok(Some(spec)) => spec,
            Ok(None) => return KeysWritten::None,
            Err(_) => return KeysWritten::Unknown,
        };
        let Some(spec) = command.of(args) else { return KeysWritten::None };
        if spec.readonly || !(spec.writes || spec.movable) {
            return KeysWritten::None;
        }
        let keys =
            if spec.movable { ask_for_keys(link, args).await } else { Some(spec.keys(args)) };
        match keys {
            // FLUSHALL, a script without keys, ….
            Some(keys) if keys.is_empty() => KeysWritten::Unknown,
            Some(keys) => KeysWritten::Keys(keys),
            None => KeysWritten::Unknown,
        }
    }

    /// Whether `args` certainly writes nothing, as far as is known without asking.
    pub(super) fn is_known_to_read(&self, args: &[Bytes]) -> bool {
        let name = args.first().map(|name| name.to_ascii_lowercase()).unwrap_or_default();
        let command = self.0.lock().get(&name).cloned();
        command.is_some_and(|command| command.of(args).is_some_and(|spec| spec.readonly))
    }

    async fn lookup(&self, link: &Link, name: &Bytes) -> Result<Option<Arc<Spec>>> {
        let name = name.to_ascii_lowercase();
        if let Some(spec) = self.0.lock().get(&name) {
            return Ok(Some(Arc::clone(spec)));
        }
        let reply = link.ask(Access::Read, &[b"COMMAND".as_slice(), b"INFO", &name]).await?;
        let spec = match &reply {
            Reply::Array(entries) => entries.first().and_then(Spec::read),
            _ => None,
        };
        Ok(spec.map(|(_, spec)| {
            let spec = Arc::new(spec);
            self.0.lock().insert(name, Arc::clone(&spec));
            spec
        }))
    }
}

async fn ask_for_keys(link: &Link, args: &[Bytes]) -> Option<Vec<Key>> {
    let mut question = vec![Bytes::from_static(b"COMMAND"), Bytes::from_static(b"GETKEYS")];
    question.extend_from_slice(args);
    match link.ask(Access::Read, &question).await {
        Ok(Reply::Array(keys)) => keys.iter().map(|key| key.text().cloned()).collect(),
        _ => None,
    }
}

impl Spec {
    /// An entry of COMMAND INFO's answer, with its name.
    fn read(entry: &Reply) -> Option<(Vec<u8>, Self)> {
        let Reply::Array(fields) = entry else { return None };
        let name = fields.first()?.text()?.to_ascii_lowercase();
        let Reply::Array(flags) = fields.get(2)? else { return None };
        let has = |flag: &str| flags.iter().any(|f| f.text().is_some_and(|f| f == flag));
        let place = |at: usize| fields.get(at).and_then(Reply::integer);
        let subcommands = match fields.get(9) {
            Some(Reply::Array(entries)) => entries.iter().filter_map(Self::read).collect(),
            _ => HashMap::new(),
        };
        let spec = Self {
            readonly: has("readonly"),
            writes: has("write"),
            movable: has("movablekeys"),
            first: place(3)?,
            last: place(4)?,
            step: place(5)?,
            subcommands,
        };
        Some((name, spec))
    }

    /// The subcommand that `args` names, where the command has any; `None` if it isn't there.
    fn of(&self, args: &[Bytes]) -> Option<&Self> {
        if self.subcommands.is_empty() {
            return Some(self);
        }
        let name = [args.first()?, b"|".as_slice(), args.get(1)?].concat().to_ascii_lowercase();
        self.subcommands.get(&name)
    }

    /// The keys among `args`, by their places.
    fn keys(&self, args: &[Bytes]) -> Vec<Key> {
        let (Ok(first), Ok(step)) = (usize::try_from(self.first), usize::try_from(self.step))
        else {
            return Vec::new();
        };
        let last = match usize::try_from(self.last) {
            Ok(last) => last,
            Err(_) => args.len().saturating_add_signed(isize::try_from(self.last).unwrap_or(0)),
        };
        if first == 0 || step == 0 {
            return Vec::new();
        }
        (first..=last).step_by(step).map_while(|at| args.get(at).cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(first: i64, last: i64, step: i64, command: &str) -> Vec<Key> {
        let args: Vec<Bytes> =
            command.split(' ').map(|arg| Bytes::copy_from_slice(arg.as_bytes())).collect();
        Spec { first, last, step, ..Spec::default() }.keys(&args)
    }

    #[test]
    fn keys_are_taken_from_the_places_that_the_server_names() {
        assert_eq!(keys(1, 1, 1, "HSET h f v"), ["h"]);
        assert_eq!(keys(1, -1, 1, "DEL a b c"), ["a", "b", "c"]);
        assert_eq!(keys(1, -2, 1, "BLPOP a b 0"), ["a", "b"]);
        assert_eq!(keys(1, -1, 2, "MSET a 1 b 2"), ["a", "b"]);
        assert_eq!(keys(2, 2, 1, "XGROUP CREATE s g $"), ["s"]);
        assert_eq!(keys(0, 0, 0, "FLUSHALL"), [""; 0]);
        assert_eq!(keys(1, 2, 1, "RENAME a"), ["a"]);
        assert_eq!(keys(1, -3, 1, "X"), [""; 0]);
    }
}
