//! Commands: what each is called, what it takes, and what it does to the engine.
//!
//! A command never touches a socket. It answers at once from what is in memory, or hands out the
//! work that will give its reply, or leaves the command to the Redis behind Warp; how the work is
//! run and in which order is the connection's business. One file for each family of commands.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::host::Host;
use super::number::Digits;
use super::reply::{self, Reply};
use super::session::Session;
use crate::adapter::memory::{Keyspace, Refusal};
use crate::adapter::{Applied, Key, Mutation, StorageError, UnixMillis, Value};
use crate::cache::store::{Hash, Text};
use crate::core::{Engine, Lent, Moment, View};

mod arguments;
mod bitmap;
mod client;
mod connection;
mod expiry;
mod hash;
mod info;
mod introspection;
mod key;
mod keyspace;
mod list;
mod object;
mod pick;
mod pubsub;
mod scan;
mod script;
mod server;
mod set;
mod sort;
mod sorted_set;
mod string;
mod string_in_memory;
mod table;
mod tracking;
mod transaction;
mod warp;

pub use table::{COMMANDS, Entry, find};
pub(super) use tracking::note_relayed;
pub(super) use transaction::{keys_of_all, queue};

/// A command as COMMAND INFO and COMMAND DOCS tell it, and what runs it.
#[derive(Clone, Copy)]
pub struct Command {
    /// In small letters; `client|id` for a subcommand.
    pub name: &'static str,
    /// How many arguments it takes, its name included; negative is at least as many.
    pub arity: i32,
    /// Redis' flags.
    pub flags: &'static [&'static str],
    /// Which arguments are keys.
    pub keys: Keys,
    /// The version of Redis that had it first.
    pub since: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// Over which storages Warp runs it.
    pub reach: Reach,
    /// Runs it.
    pub run: Run,
    /// Its subcommands.
    pub subcommands: &'static [Command],
}

/// Over which storages Warp runs a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Any: the core has a meaning for it.
    AnyStorage,
    /// The sidecar's memory, which has the types of Redis. Over a Redis it is a command that Warp
    /// doesn't know, and passes through; a table of strings can't do it.
    Memory,
    /// Any that isn't a Redis, where it passes through.
    BesideRedis,
}

/// Which arguments are keys: from the first to the last (negative counts from the end), each
/// `step`th. All 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    first: i32,
    last: i32,
    step: i32,
    /// The argument that says how many keys follow it; 0 is none.
    numbered: i32,
}

/// A function that runs a command. The error is its reply too, so that `?` ends it.
pub type Run = fn(&mut Call<'_>) -> Result<Outcome, Reply>;

/// The work that a reply waits for. It may be dropped at any time: what it has begun to write is
/// carried through all the same.
pub type Work = BoxFuture<'static, Reply>;

/// How a command goes on.
pub enum Outcome {
    /// It is answered.
    Reply(Reply),
    /// Its reply is written to [`Call::out`] already.
    Written,
    /// It is answered by work that may run beside other reads.
    Read(Work),
    /// It is answered by work that must see all that came before it and be seen by all that comes
    /// after it.
    Write(Work),
    /// It is for the Redis behind Warp.
    Relay,
    /// WATCH over a storage that must be asked for the keys' versions.
    Watch(Vec<Key>),
    /// EXEC over such a storage: these commands, if the watched keys have still these versions.
    Transaction(Vec<Vec<Bytes>>, Vec<(Key, u64)>),
}

/// A command that was called.
#[derive(Debug)]
pub struct Call<'a> {
    /// Its arguments; the name is the first. They lie in what the connection has read.
    pub arguments: &'a [&'a [u8]],
    /// What reads and writes.
    pub engine: &'a Arc<Engine>,
    /// Whose connection it came on.
    pub session: &'a mut Session,
    /// The server that it came to.
    pub host: &'a Host,
    /// What it goes by.
    pub view: &'a View,
    /// The hash of its first key, if the first argument is one.
    pub hash: Option<Hash>,
    /// When it is executed, which is after it was read.
    pub now: Moment,
    /// Where replies are written.
    pub out: &'a mut Vec<u8>,
}

/// No argument is a key.
const NO_KEYS: Keys = Keys { first: 0, last: 0, step: 0, numbered: 0 };
/// The first argument is a key.
const ONE_KEY: Keys = Keys { first: 1, last: 1, step: 1, numbered: 0 };
/// The first two arguments are keys.
const TWO_KEYS: Keys = Keys { first: 1, last: 2, step: 1, numbered: 0 };
/// All arguments are keys.
const ALL_KEYS: Keys = Keys { first: 1, last: -1, step: 1, numbered: 0 };
/// All arguments but the first are keys.
const KEYS_FROM_SECOND: Keys = Keys { first: 2, last: -1, step: 1, numbered: 0 };
/// Keys and values by turns.
const KEYS_AND_VALUES: Keys = Keys { first: 1, last: -1, step: 2, numbered: 0 };
/// The first argument says how many keys follow.
const NUMBERED_KEYS: Keys = Keys { numbered: 1, ..NO_KEYS };
/// The first argument is a key, the second says how many more follow.
const KEY_AND_NUMBERED_KEYS: Keys = Keys { numbered: 2, ..ONE_KEY };

impl Command {
    const fn new(
        name: &'static str,
        arity: i32,
        flags: &'static [&'static str],
        keys: Keys,
        since: &'static str,
        summary: &'static str,
        run: Run,
    ) -> Self {
        let reach = Reach::AnyStorage;
        Self { name, arity, flags, keys, since, summary, reach, run, subcommands: &[] }
    }

    /// The same with [`Reach::Memory`].
    const fn in_memory(self) -> Self {
        Self { reach: Reach::Memory, ..self }
    }

    /// The same with [`Reach::BesideRedis`].
    const fn beside_redis(self) -> Self {
        Self { reach: Reach::BesideRedis, ..self }
    }

    const fn with_subcommands(self, subcommands: &'static [Command]) -> Self {
        Self { subcommands, ..self }
    }

    /// Whether its first argument is a key.
    pub(super) const fn first_argument_is_key(&self) -> bool {
        self.keys.first == 1
    }

    fn takes(&self, arguments: usize) -> bool {
        let arguments = i32::try_from(arguments).unwrap_or(i32::MAX);
        if self.arity < 0 { arguments >= -self.arity } else { arguments == self.arity }
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reply(reply) => f.debug_tuple("Reply").field(reply).finish(),
            Self::Written => f.write_str("Written"),
            Self::Read(_) => f.write_str("Read"),
            Self::Write(_) => f.write_str("Write"),
            Self::Relay => f.write_str("Relay"),
            Self::Watch(_) => f.write_str("Watch"),
            Self::Transaction(..) => f.write_str("Transaction"),
        }
    }
}

/// Runs the command that `call` names, which `entry` is the table's entry of, if it has one.
pub fn execute(entry: Option<&Entry>, call: &mut Call<'_>) -> Outcome {
    match entry {
        Some(entry) if entry.command.reach != Reach::AnyStorage && call.is_redis() => call.relay(),
        Some(entry) => match run(entry.command, call) {
            // By itself: the others are moved, and most are this one.
            Ok(Outcome::Written) => Outcome::Written,
            Ok(outcome) => outcome,
            Err(reply) => Outcome::Reply(reply),
        },
        None if call.is_redis() && !is_for_replicas(call.arguments[0]) => call.relay(),
        None => Outcome::Reply(unknown_command(call.arguments)),
    }
}

/// The subcommand that `arguments` name, or the command itself if it has none.
fn subcommand_of<'a>(command: &'a Command, arguments: &[&[u8]]) -> Result<&'a Command, Reply> {
    let (false, Some(name)) = (command.subcommands.is_empty(), arguments.get(1)) else {
        return Ok(command);
    };
    let of_that_name = |subcommand: &&Command| {
        subcommand.name.as_bytes()[command.name.len() + 1..].eq_ignore_ascii_case(name)
    };
    command.subcommands.iter().find(of_that_name).ok_or_else(|| {
        Reply::err(&format!(
            "unknown subcommand '{}'. Try {} HELP.",
            shown(name, 128),
            command.name.to_ascii_uppercase(),
        ))
    })
}

fn run(command: &Command, call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let command = subcommand_of(command, call.arguments)?;
    if !command.takes(call.arguments.len()) {
        return Err(wrong_number(command.name));
    }
    call.admit_of_subscriber(command)?;
    if command.reach == Reach::Memory {
        call.admit(command)?;
    }
    call.session.last_command = Some(command.name);
    if call.session.tracker.is_some() { tracking::run(command, call) } else { (command.run)(call) }
}

/// The commands with which a replica makes a connection its own, which a client has no use for.
fn is_for_replicas(name: &[u8]) -> bool {
    ["SYNC", "PSYNC", "REPLCONF"].iter().any(|own| own.as_bytes().eq_ignore_ascii_case(name))
}

/// Whether a command of that name is for a Redis behind Warp, if there is one, whatever else it
/// says.
pub(super) fn is_for_redis(name: &[u8]) -> bool {
    match find(name) {
        Some(entry) => entry.command.reach != Reach::AnyStorage,
        None => !is_for_replicas(name) && !is_http(name),
    }
}

/// A request of HTTP, which a web page may have a browser send to the port: Redis closes such a
/// connection before it does any harm, and so does Warp.
pub(super) fn is_http(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"POST") || name.eq_ignore_ascii_case(b"HOST:")
}

fn unknown_command(arguments: &[&[u8]]) -> Reply {
    let mut shown_arguments = String::new();
    for argument in &arguments[1..] {
        if shown_arguments.len() >= 128 {
            break;
        }
        let room = 128 - shown_arguments.len();
        shown_arguments.push_str(&format!("'{}' ", shown(argument, room)));
    }
    Reply::err(&format!(
        "unknown command '{}', with args beginning with: {shown_arguments}",
        shown(arguments[0], 128),
    ))
}

/// An argument in a message: as C's `%.*s` shows it, up to its first NUL.
fn shown(argument: &[u8], most: usize) -> Cow<'_, str> {
    let end = memchr::memchr(0, argument).unwrap_or(argument.len()).min(most);
    String::from_utf8_lossy(&argument[..end])
}

fn wrong_number(name: &str) -> Reply {
    Reply::err(&format!("wrong number of arguments for '{name}' command"))
}

/// What a command is answered that a table of strings can't do.
fn holds_strings_only(command: &Command, arguments: &[&[u8]], view: &View) -> Reply {
    let key = introspection::keys_of(command, arguments).next();
    let class = view.class_of(key.unwrap_or_default());
    let name = command.name.replace('|', " ").to_ascii_uppercase();
    Reply::err(&format!(
        "class '{class}' keeps its keys as rows of a SQL table (storage {}), which hold strings \
         only: {name} needs storage memory or redis",
        view.storage().kind(),
    ))
}

/// About what an element takes in a collection besides its bytes.
const ELEMENT_OVERHEAD: usize = 64;

/// The storage's refusal, or what became of the command when there was no answer.
pub(super) fn failure(error: &StorageError) -> Reply {
    Reply::Error(Cow::Owned(match error {
        StorageError::Refused(words) => words.clone(),
        StorageError::Unavailable { kind, cause } => {
            format!("STORAGEDOWN {kind} can't be reached, nothing was done; try again: {cause}")
        }
        StorageError::Unknown { kind, cause } => format!(
            "STORAGEUNKNOWN {kind} gave no answer; the write may or may not have been done: \
             {cause}"
        ),
    }))
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        failure(&refusal.into())
    }
}

/// An argument that outlives its command.
fn kept(argument: &[u8]) -> Bytes {
    Bytes::copy_from_slice(argument)
}

/// Arguments that outlive their command.
pub(super) fn kept_all(arguments: &[&[u8]]) -> Vec<Bytes> {
    arguments.iter().map(|argument| kept(argument)).collect()
}

/// Kept arguments as a command takes them.
fn lent(arguments: &[Bytes]) -> Vec<&[u8]> {
    arguments.iter().map(AsRef::as_ref).collect()
}

/// The values of `keys`, without those that have expired meanwhile.
async fn read_alive(
    engine: &Arc<Engine>,
    keys: &[Key],
) -> Result<Vec<Option<Value>>, StorageError> {
    let mut values = engine.read(keys).await?;
    let now = engine.now().unix;
    for value in &mut values {
        value.take_if(|value| value.is_expired(now));
    }
    Ok(values)
}

impl Call<'_> {
    /// Whether the storage is a Redis, which knows more commands and more types than Warp.
    fn is_redis(&self) -> bool {
        self.view.is_redis()
    }

    /// Leaves the command to the Redis behind Warp.
    fn relay(&mut self) -> Outcome {
        if self.session.tracker.is_some() {
            note_relayed(self.session, self.arguments);
        }
        Outcome::Relay
    }

    /// Whether the storage can do a command with [`Reach::Memory`], and has room for what it says.
    ///
    /// *Nothing else waits for the keys here*: SCRIPT KILL comes by while a script has them.
    fn admit(&self, command: &Command) -> Result<(), Reply> {
        if command.flags.contains(&"denyoom") {
            self.make_room()?;
        }
        match self.view.storage().as_memory() {
            Some(_) => Ok(()),
            None => Err(holds_strings_only(command, self.arguments, self.view)),
        }
    }

    /// Whether a storage that is memory has room for the arguments.
    fn make_room(&self) -> Result<(), Refusal> {
        let each = |argument: &&[u8]| argument.len() + ELEMENT_OVERHEAD;
        let room = self.arguments.iter().map(each).sum();
        self.view.on_keyspace(|keyspace| keyspace.make_room(room)).unwrap_or(Ok(()))
    }

    /// Answers from the keys of the memory storage, which nobody else touches meanwhile.
    fn on_keyspace(
        &self,
        work: impl FnOnce(&mut Keyspace) -> Result<Reply, Reply>,
    ) -> Result<Outcome, Reply> {
        match self.view.on_keyspace(work) {
            Some(reply) => reply.map(Outcome::Reply),
            // The storage was exchanged since the command was admitted.
            None => Ok(Outcome::Relay),
        }
    }

    fn now(&self) -> UnixMillis {
        self.now.unix
    }

    /// The value of `key`, if memory has it.
    fn cached(&self, key: &[u8]) -> Option<Value> {
        self.engine.cached(key, self.now)
    }

    /// Executes another command as if the client had sent it, and appends its reply to
    /// [`Call::out`]; `None` where it would have to wait, which is done to nothing.
    fn nested(&mut self, arguments: &[&[u8]]) -> Option<()> {
        let outcome = execute(
            find(arguments[0]),
            &mut Call {
                arguments,
                engine: self.engine,
                session: &mut *self.session,
                host: self.host,
                view: self.view,
                hash: None,
                now: self.now,
                out: &mut *self.out,
            },
        );
        match outcome {
            Outcome::Written => Some(()),
            Outcome::Reply(reply) => {
                reply.encode(self.session.protocol, self.out);
                Some(())
            }
            _ => None,
        }
    }

    /// Executes queued commands one after the other, and writes the list of their replies.
    pub(super) fn run_all(&mut self, commands: &[Vec<Bytes>]) {
        reply::put_length(self.out, b'*', commands.len());
        for command in commands {
            let arguments = lent(command);
            if self.nested(&arguments).is_none() {
                let name = shown(arguments[0], 128).to_ascii_uppercase();
                let refusal = Reply::err(&format!("{name} can't be part of a transaction"));
                refusal.encode(self.session.protocol, self.out);
            }
        }
    }

    /// Writes the string under the first argument as the reply, without a copy of it, if memory
    /// has it or is where it would be.
    #[inline]
    fn write_string(&mut self) -> Option<Outcome> {
        let key = self.arguments[1];
        let hash = self.hash.unwrap_or_else(|| self.engine.hash(key));
        let out = &mut *self.out;
        let write = |text: Text<'_>| match text {
            Text::Bytes(text) => reply::put_bulk(out, text),
            Text::Integer(number) => reply::put_bulk(out, Digits::of(number).as_bytes()),
        };
        match self.engine.lend(self.view, (hash, key), self.now, write) {
            Lent::Hit(()) => Some(Outcome::Written),
            Lent::Absent => Some(Outcome::Reply(Reply::Null)),
            Lent::Refused(error) => Some(Outcome::Reply(failure(&error))),
            Lent::Ask => None,
        }
    }

    /// Puts a string under the first argument, whatever is there, where memory is the storage.
    #[inline]
    fn put_string(&mut self, text: &[u8], expires_at: Option<UnixMillis>) -> Option<Outcome> {
        let key = self.arguments[1];
        let hash = self.hash.unwrap_or_else(|| self.engine.hash(key));
        let put = self.engine.put_now(self.view, (hash, key), self.now, text, expires_at)?;
        Some(match put {
            Ok(()) => {
                self.out.extend_from_slice(b"+OK\r\n");
                Outcome::Written
            }
            Err(error) => Outcome::Reply(failure(&error)),
        })
    }

    /// Answers from the value of `key`.
    fn read(
        &self,
        key: &[u8],
        answer: impl FnOnce(Option<Value>) -> Reply + Send + 'static,
    ) -> Outcome {
        if let Some(result) = self.view.read_now(key) {
            return Outcome::Reply(result.map_or_else(|error| failure(&error), answer));
        }
        if let Some(value) = self.cached(key) {
            return Outcome::Reply(answer(Some(value)));
        }
        self.read_many(&[key], |mut values| answer(values.pop().flatten()))
    }

    /// Answers from the value of `key` what a Redis would answer for a key of any type: if it
    /// isn't in memory, a Redis behind Warp is asked itself.
    fn read_any_type(
        &self,
        key: &[u8],
        answer: impl FnOnce(Option<Value>) -> Reply + Send + 'static,
    ) -> Outcome {
        if !self.is_redis() {
            return self.read(key, answer);
        }
        self.cached(key).map_or(Outcome::Relay, |value| Outcome::Reply(answer(Some(value))))
    }

    /// Answers from the values of `keys`, in their order.
    fn read_many(
        &self,
        keys: &[&[u8]],
        answer: impl FnOnce(Vec<Option<Value>>) -> Reply + Send + 'static,
    ) -> Outcome {
        let keys = kept_all(keys);
        let engine = Arc::clone(self.engine);
        Outcome::Read(
            async move {
                match read_alive(&engine, &keys).await {
                    Ok(values) => answer(values),
                    Err(error) => failure(&error),
                }
            }
            .boxed(),
        )
    }

    /// Does `mutation` to `key` and answers what came of it.
    fn write(
        &self,
        key: &[u8],
        mutation: Mutation,
        answer: impl FnOnce(Applied) -> Reply + Send + 'static,
    ) -> Outcome {
        if let Some(result) = self.view.write_now(key, &mutation) {
            return Outcome::Reply(result.map_or_else(|error| failure(&error), answer));
        }
        let key = kept(key);
        let engine = Arc::clone(self.engine);
        Outcome::Write(
            async move {
                match engine.write(&key, mutation).await {
                    Ok(applied) => answer(applied),
                    Err(error) => failure(&error),
                }
            }
            .boxed(),
        )
    }
}
