//! The scripts that were loaded, by the SHA-1 of their text. A script that isn't here any more is
//! sent again by its client after `NOSCRIPT`; so the cache may forget the oldest when it is full.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use sha1::{Digest, Sha1};

use super::header::{self, Flags};
use super::{Interpreter, ScriptError};

/// The SHA-1 of a script's text, by which clients name it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha([u8; 20]);

impl Sha {
    /// Of `source`.
    pub fn of(source: &[u8]) -> Self {
        Self(Sha1::digest(source).into())
    }

    /// Reads 40 hexadecimal digits of either case; anything else names no script.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut sha = [0; 20];
        hex::decode_to_slice(text, &mut sha).ok().map(|()| Self(sha))
    }
}

impl fmt::Display for Sha {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Sha {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Sha({self})")
    }
}

/// A script whose header was read. It need not compile.
#[derive(Clone, Debug)]
pub struct Script {
    /// What clients call it.
    pub sha: Sha,
    /// What its header says.
    pub flags: Flags,
    source: Bytes,
    body: usize,
}

impl Script {
    /// Reads the header of `source`.
    pub fn parse(source: Bytes) -> Result<Self, ScriptError> {
        let (flags, body) = header::parse(&source)?;
        Ok(Self { sha: Sha::of(&source), flags, source, body })
    }

    /// The Lua text, without the header but with the header's line end.
    pub(super) fn body(&self) -> &[u8] {
        &self.source[self.body..]
    }
}

/// How much a [`Scripts`] keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// How many scripts.
    pub count: usize,
    /// How many bytes their texts have together.
    pub bytes: usize,
}

impl Default for Capacity {
    fn default() -> Self {
        Self { count: 500, bytes: 8 * 1024 * 1024 }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Scripts {
    capacity: Capacity,
    by_sha: HashMap<Sha, Arc<Script>>,
    /// The oldest first.
    order: VecDeque<Sha>,
    bytes: usize,
}

impl Scripts {
    /// An empty one.
    pub fn new(capacity: Capacity) -> Self {
        Self { capacity, ..Self::default() }
    }

    /// Takes in a script that compiles. One that is larger than the cache is not kept.
    pub fn load(
        &mut self,
        source: &[u8],
        interpreter: &mut Interpreter,
    ) -> Result<Arc<Script>, ScriptError> {
        if let Some(known) = self.by_sha.get(&Sha::of(source)) {
            return Ok(Arc::clone(known));
        }
        let script = Script::parse(Bytes::copy_from_slice(source))?;
        interpreter.compile(&script)?;
        let script = Arc::new(script);
        self.keep(Arc::clone(&script));
        Ok(script)
    }

    /// The script that `sha` names.
    pub fn get(&self, sha: Sha) -> Option<&Arc<Script>> {
        self.by_sha.get(&sha)
    }

    /// Whether `sha` names a script.
    pub fn exists(&self, sha: Sha) -> bool {
        self.by_sha.contains_key(&sha)
    }

    /// Forgets all scripts.
    pub fn flush(&mut self) {
        self.by_sha.clear();
        self.order.clear();
        self.bytes = 0;
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.by_sha.len()
    }

    /// How many bytes their texts have.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn keep(&mut self, script: Arc<Script>) {
        let size = script.source.len();
        if size > self.capacity.bytes || self.capacity.count == 0 {
            return;
        }
        while self.by_sha.len() >= self.capacity.count || self.bytes + size > self.capacity.bytes {
            let oldest = self.order.pop_front().and_then(|sha| self.by_sha.remove(&sha));
            let Some(oldest) = oldest else { break };
            self.bytes -= oldest.source.len();
        }
        self.bytes += size;
        self.order.push_back(script.sha);
        self.by_sha.insert(script.sha, script);
    }
}

#[cfg(test)]
mod tests {
    use super::{Capacity, Scripts, Sha};
    use crate::resp::script::{Interpreter, Limits};

    fn load(scripts: &mut Scripts, source: &'static str) -> Sha {
        let mut interpreter = Interpreter::new(Limits::default());
        scripts.load(source.as_bytes(), &mut interpreter).unwrap().sha
    }

    #[test]
    fn a_script_is_found_by_the_sum_of_its_text() {
        let mut scripts = Scripts::default();
        let sha = load(&mut scripts, "return 1");
        assert_eq!(sha.to_string(), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
        assert_eq!(Sha::parse(b"E0E1F9FABFC9D4800C877A703B823AC0578FF8DB"), Some(sha));
        assert!(scripts.exists(sha) && scripts.get(sha).is_some());
        scripts.flush();
        assert!(!scripts.exists(sha));
        assert_eq!((scripts.count(), scripts.bytes()), (0, 0));
    }

    #[test]
    fn what_is_no_sum_names_nothing() {
        for text in ["", "e0e1", "z0e1f9fabfc9d4800c877a703b823ac0578ff8db"] {
            assert_eq!(Sha::parse(text.as_bytes()), None);
        }
    }

    #[test]
    fn the_oldest_leave_when_it_is_full() {
        let mut scripts = Scripts::new(Capacity { count: 2, bytes: 20 });
        let first = load(&mut scripts, "return 1");
        let second = load(&mut scripts, "return 2");
        load(&mut scripts, "return 1");
        let third = load(&mut scripts, "return 3");
        assert!(!scripts.exists(first) && scripts.exists(second) && scripts.exists(third));
        let long = load(&mut scripts, "return 1 + 2 + 3 + 4");
        assert!(scripts.exists(long));
        assert_eq!((scripts.count(), scripts.bytes()), (1, 20));
        let longer = load(&mut scripts, "return 1 + 2 + 3 + 45");
        assert!(!scripts.exists(longer) && scripts.exists(long));
    }

    #[test]
    fn what_does_not_compile_is_not_kept() {
        let mut scripts = Scripts::default();
        let mut interpreter = Interpreter::new(Limits::default());
        let error = scripts.load(b"return (", &mut interpreter).unwrap_err();
        assert_eq!(
            error.to_string(),
            "ERR Error compiling script (new function): user_script:1: unexpected symbol near '<eof>'"
        );
        assert_eq!(scripts.count(), 0);
    }
}
