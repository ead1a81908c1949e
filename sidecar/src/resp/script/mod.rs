//! Lua scripts as Redis runs them, without the commands themselves, which are `command/script`.
//!
//! [`Scripts`] keeps what was loaded, an [`Interpreter`] runs it. Neither knows of connections or
//! storage: what a script asks for with `redis.call` goes to the function that [`Interpreter::run`]
//! is given, and comes back as a [`Reply`](super::reply::Reply).
//!
//! A script is a stranger's program. *It can't see or change anything but its arguments and what the
//! calls give* (`sandbox`), *nothing of it is left for the next* (a run has globals of its own), *and
//! it ends* ([`Limits`]): by a count of Lua's instructions and of the steps of the libraries that
//! are written in Rust, which no `pcall` can catch, and by what it may allocate.
//!
//! ```text
//! cache, header     what a script is, and which are known
//! running           which one runs, and whether it can be killed
//! interpreter       the bounds around a run, and its reply
//! sandbox           the globals of a run; redis: the functions of `redis`
//! convert           replies to Lua and back
//! fault             what is raised, and how scripts see it
//! libraries         bit, cjson, cmsgpack, struct, and the patterns of string
//! ```

mod cache;
mod convert;
mod fault;
mod header;
mod interpreter;
mod libraries;
mod number;
mod random;
mod redis;
mod running;
mod sandbox;
mod shared;

use std::time::Duration;

pub use cache::{Capacity, Script, Scripts, Sha};
pub use header::Flags;
pub use interpreter::{Interpreter, Kill};
pub use running::{Running, Ticket, Unkillable};

use super::reply::{Protocol, Reply};

/// What a script may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long it may run, its calls included.
    pub time: Duration,
    /// How many bytes it may allocate.
    pub memory: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { time: Duration::from_secs(5), memory: 16 * 1024 * 1024 }
    }
}

/// A command that a script runs with `redis.call` or `redis.pcall`.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The command's name and its arguments, never empty.
    pub arguments: &'a [&'a [u8]],
    /// What the script asked for with `redis.setresp`. Replies of any kind are converted for it;
    /// it matters to who passes the command on.
    pub protocol: Protocol,
    /// Whether an error is given to the script (`redis.pcall`), or ends it (`redis.call`).
    pub protected: bool,
}

/// Why a script can't be loaded, in Redis' words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// The header has no end.
    #[error("ERR Invalid script shebang")]
    NoHeaderEnd,
    /// The header can't be split into words.
    #[error("ERR Invalid engine in script shebang")]
    NoEngine,
    /// The header asks for something else than Lua.
    #[error("ERR Unexpected engine in script shebang: {0}")]
    UnknownEngine(String),
    /// A flag that Redis doesn't know.
    #[error("ERR Unexpected flag in script shebang: {0}")]
    UnknownFlag(String),
    /// Something else than flags.
    #[error("ERR Unknown lua shebang option: {0}")]
    UnknownOption(String),
    /// Lua can't make sense of it.
    #[error("ERR Error compiling script (new function): {0}")]
    Syntax(String),
    /// No interpreter could be made, or it broke.
    #[error("ERR Error running script, the interpreter failed: {0}")]
    Interpreter(String),
}

impl From<ScriptError> for Reply {
    fn from(error: ScriptError) -> Self {
        Self::Error(error.to_string().into())
    }
}
