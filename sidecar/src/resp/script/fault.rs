//! What functions of the sandbox raise, and how a script sees it.
//!
//! Rust can raise nothing but Rust's errors, which a script would see as userdata. So the sandbox's
//! `pcall`, `xpcall` and `coroutine.resume` turn what they catch into what Lua or Redis would have
//! raised: [`plain`]. The one thing that they may not catch is the end of the script.

use std::fmt::Display;

use mlua::debug::Debug;
use mlua::{Error, Lua, LuaString, Value};

/// The name of the sandbox's own Lua, which is no part of what a script did.
pub(super) const SANDBOX: &str = "=sandbox";

/// Something raised from Rust.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Raised {
    /// A string.
    #[error("{0}")]
    Text(String),
    /// A table with the field `err`, as Redis' own functions raise it.
    #[error("{0}")]
    Reply(String),
    /// What a function of the script raised that was called from Rust.
    #[error("an error of the script")]
    Value(Value),
    /// The script is over; `Shared` knows why.
    #[error("the script is over")]
    Over,
}

impl From<Raised> for Error {
    fn from(raised: Raised) -> Self {
        Self::external(raised)
    }
}

/// A text with the place in the script from where the running function was called.
pub(super) fn text(lua: &Lua, words: impl Display) -> Error {
    Raised::Text(format!("{}{words}", place(lua))).into()
}

/// A text as a C library raises it that knows no place.
pub(super) fn bare(words: impl Into<String>) -> Error {
    Raised::Text(words.into()).into()
}

/// An error table with the prefix `ERR`.
pub(super) fn reply(words: impl Display) -> Error {
    Raised::Reply(format!("ERR {words}")).into()
}

/// What Lua says of an argument that doesn't fit, counted from 1. As in Lua the running function has
/// the name by which it was called.
pub(super) fn argument(lua: &Lua, at: usize, words: impl Display) -> Error {
    let called = lua.inspect_stack(0, |frame| {
        let names = frame.names();
        (names.name.map(std::borrow::Cow::into_owned), names.name_what == Some("method"))
    });
    let (name, is_method) = called.unwrap_or_default();
    let name = name.as_deref().unwrap_or("?");
    match at - usize::from(is_method && at > 0) {
        0 if is_method => text(lua, format_args!("calling '{name}' on bad self ({words})")),
        at => text(lua, format_args!("bad argument #{at} to '{name}' ({words})")),
    }
}

/// What Lua says when memory is short.
pub(super) fn memory() -> Error {
    bare("not enough memory")
}

/// `user_script:1: `, or nothing when the running function wasn't called from Lua.
fn place(lua: &Lua) -> String {
    let place = |frame: &Debug<'_>| {
        let line = frame.current_line()?;
        let source = frame.source();
        Some((source.source? == SANDBOX, format!("{}:{line}: ", source.short_src?)))
    };
    (1..4)
        .map_while(|level| lua.inspect_stack(level, place))
        .find(|frame| !matches!(frame, Some((true, _))))
        .flatten()
        .map(|(_, place)| place)
        .unwrap_or_default()
}

/// Where a script failed: the source and the line of the innermost function that isn't C's, or of
/// its caller. Called from an error handler.
pub(super) fn origin(lua: &Lua) -> Option<(String, i64)> {
    let frame = |frame: &Debug<'_>| {
        let source = frame.source();
        let line = frame.current_line().and_then(|line| i64::try_from(line).ok()).unwrap_or(-1);
        (source.what == "C", source.source.unwrap_or_default().into_owned(), line)
    };
    let mut frames =
        (1..).map_while(|level| lua.inspect_stack(level, frame)).filter(|frame| frame.1 != SANDBOX);
    let innermost = frames.next()?;
    let frame = if innermost.0 { frames.next()? } else { innermost };
    Some((frame.1, frame.2))
}

/// What Lua or Redis would have raised in place of `value`.
pub(super) fn plain(lua: &Lua, value: Value) -> mlua::Result<Value> {
    let error = match value {
        Value::Error(error) => error,
        Value::String(text) => return placed(lua, text).map(Value::String),
        other => return Ok(other),
    };
    match error.downcast_ref::<Raised>() {
        Some(Raised::Text(words)) => lua.create_string(words).map(Value::String),
        Some(Raised::Reply(words)) => {
            let table = lua.create_table()?;
            table.raw_set("err", words.as_str())?;
            Ok(Value::Table(table))
        }
        Some(Raised::Value(value)) => plain(lua, value.clone()),
        Some(Raised::Over) => Err(Raised::Over.into()),
        None => lua.create_string(words(&error)).map(Value::String),
    }
}

/// A text without a place in the sandbox, which is where a function of Lua's own was called from
/// that is behind one of the sandbox.
pub(super) fn placed(lua: &Lua, text: LuaString) -> mlua::Result<LuaString> {
    let bytes = text.as_bytes();
    let words = bytes
        .strip_prefix(b"sandbox:")
        .and_then(|rest| memchr::memmem::find(rest, b": ").map(|colon| &rest[colon + 2..]));
    words.map_or_else(|| Ok(text), |words| lua.create_string(words))
}

/// What a script is told of an error that isn't ours.
pub(super) fn words(error: &Error) -> String {
    match error {
        Error::CallbackError { cause, .. }
        | Error::WithContext { cause, .. }
        | Error::BadArgument { cause, .. } => words(cause),
        Error::MemoryError(_) => "not enough memory".to_owned(),
        Error::StackError => "stack overflow".to_owned(),
        other => other.to_string().lines().next().unwrap_or_default().to_owned(),
    }
}
