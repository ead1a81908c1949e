//! The functions of the table `redis` in a script.

use std::cell::RefCell;
use std::rc::Rc;

use mlua::{Lua, MultiValue, Scope, Table, Value};

use super::cache::Sha;
use super::convert::{self, Words};
use super::fault;
use super::shared::Shared;
use super::{Call, number};
use crate::resp::reply::{Protocol, Reply};

/// The Redis whose scripting this is. Scripts ask for it to find out what they may use.
const VERSION: [u8; 3] = [7, 0, 15];
/// Bits for "all" of `redis.set_repl`.
const REPL_ALL: i64 = 3;

/// Who runs the commands of a script.
pub(super) type Host<'a> = dyn FnMut(Call<'_>) -> Reply + 'a;

/// `redis.call`, or `redis.pcall` when `protected`, for the run that `scope` is for.
pub(super) fn call<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    shared: &'env Shared,
    host: &'env RefCell<&'env mut Host<'env>>,
    protected: bool,
) -> mlua::Result<mlua::Function> {
    scope.create_function(move |lua, values: MultiValue| {
        let refused = |words: &str| {
            if protected { own_error(lua, words) } else { Err(fault::reply(words)) }
        };
        if values.is_empty() {
            return refused("Please specify at least one argument for this redis lib call");
        }
        let Some(words) = Words::of(shared, values.iter())? else {
            return refused("Lua redis lib command arguments must be strings or integers");
        };
        drop(values);
        let protocol = shared.protocol.get();
        let mut host = host
            .try_borrow_mut()
            .map_err(|_| fault::reply("redis.call() was called within redis.call()"))?;
        let reply = host(Call { arguments: &words.slices(), protocol, protected });
        shared.check_time()?;
        match convert::to_lua(lua, &reply, protocol)? {
            Value::Table(table)
                if !protected && matches!(reply, Reply::Error(_) | Reply::Raw(_)) =>
            {
                match table.raw_get::<Option<mlua::LuaString>>("err") {
                    Ok(Some(words)) => Err(fault::Raised::Reply(words.to_string_lossy()).into()),
                    _ => Ok(Value::Table(table)),
                }
            }
            value => Ok(value),
        }
    })
}

/// An error table that is not of a command.
fn own_error(lua: &Lua, words: &str) -> mlua::Result<Value> {
    let table = lua.create_table()?;
    table.raw_set("err", format!("ERR {words}"))?;
    Ok(Value::Table(table))
}

/// Everything but `call` and `pcall`, the same for all runs.
pub(super) fn library(lua: &Lua, shared: &Rc<Shared>) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    replies(lua, &library)?;
    compatibility(lua, &library)?;
    let log = lua.create_function(log)?;
    library.raw_set("log", log)?;
    for (level, name) in (0..).zip(["LOG_DEBUG", "LOG_VERBOSE", "LOG_NOTICE", "LOG_WARNING"]) {
        let level: i64 = level;
        library.raw_set(name, level)?;
    }
    let shared = Rc::clone(shared);
    let setresp = lua.create_function(move |lua, values: MultiValue| {
        if values.len() != 1 {
            return Err(fault::reply("redis.setresp() requires one argument."));
        }
        shared.protocol.set(match integer(lua, &values[0])? {
            2 => Protocol::Resp2,
            3 => Protocol::Resp3,
            _ => return Err(fault::reply("RESP version must be 2 or 3.")),
        });
        Ok(())
    })?;
    library.raw_set("setresp", setresp)?;
    Ok(library)
}

/// What a script builds replies with.
fn replies(lua: &Lua, library: &Table) -> mlua::Result<()> {
    const WRONG: &str = "wrong number or type of arguments";
    let error_reply = lua.create_function(|lua, values: MultiValue| match one(&values) {
        Some(Value::String(words)) => {
            let words = words.to_string_lossy();
            let table = lua.create_table()?;
            table.raw_set("err", convert::coded(words.strip_prefix('-').unwrap_or(&words)))?;
            Ok(Value::Table(table))
        }
        _ => own_error(lua, WRONG),
    })?;
    library.raw_set("error_reply", error_reply)?;
    let status_reply = lua.create_function(|lua, values: MultiValue| match one(&values) {
        Some(Value::String(words)) => {
            let table = lua.create_table()?;
            table.raw_set("ok", words)?;
            Ok(Value::Table(table))
        }
        _ => own_error(lua, WRONG),
    })?;
    library.raw_set("status_reply", status_reply)?;
    let sha1hex = lua.create_function(|lua, values: MultiValue| {
        let Some(value) = one(&values) else {
            return Err(fault::reply("wrong number of arguments"));
        };
        let text = lua.coerce_string(value.clone())?;
        Ok(Sha::of(text.as_ref().map(mlua::LuaString::as_bytes).as_deref().unwrap_or_default())
            .to_string())
    })?;
    library.raw_set("sha1hex", sha1hex)
}

fn one(values: &MultiValue) -> Option<&Value> {
    if values.len() == 1 { values.front() } else { None }
}

/// What scripts call that were written for replication, debugging and ACLs. Nothing of it is here,
/// and nothing of it may fail.
fn compatibility(lua: &Lua, library: &Table) -> mlua::Result<()> {
    for (name, bits) in [
        ("REPL_NONE", 0),
        ("REPL_AOF", 1),
        ("REPL_SLAVE", 2),
        ("REPL_REPLICA", 2),
        ("REPL_ALL", REPL_ALL),
    ] {
        library.raw_set(name, bits)?;
    }
    let [major, minor, patch] = VERSION;
    library.raw_set("REDIS_VERSION", format!("{major}.{minor}.{patch}"))?;
    library.raw_set("REDIS_VERSION_NUM", u32::from_be_bytes([0, major, minor, patch]))?;
    let set_repl = lua.create_function(|lua, values: MultiValue| match one(&values) {
        None => Err(fault::reply("redis.set_repl() requires two arguments.")),
        Some(flags) if integer(lua, flags)? & !REPL_ALL != 0 => Err(fault::reply(
            "Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.",
        )),
        Some(_) => Ok(()),
    })?;
    library.raw_set("set_repl", set_repl)?;
    library.raw_set("replicate_commands", lua.create_function(|_, _: MultiValue| Ok(true))?)?;
    library.raw_set("breakpoint", lua.create_function(|_, _: MultiValue| Ok(false))?)?;
    library.raw_set("debug", lua.create_function(|_, _: MultiValue| Ok(()))?)?;
    let acl_check_cmd = lua.create_function(|_, values: MultiValue| {
        if values.is_empty() {
            let words = "Please specify at least one argument for this redis lib call";
            return Err(fault::reply(words));
        }
        let is_word = |value: &Value| value.is_string() || value.is_number() || value.is_integer();
        if values.iter().all(is_word) {
            Ok(true)
        } else {
            Err(fault::reply("Lua redis lib command arguments must be strings or integers"))
        }
    })?;
    library.raw_set("acl_check_cmd", acl_check_cmd)
}

/// `redis.log`: a script's words are the application's, and go to the log as details.
fn log(lua: &Lua, values: MultiValue) -> mlua::Result<()> {
    if values.len() < 2 {
        return Err(fault::reply("redis.log() requires two arguments or more."));
    }
    let mut values = values.into_iter();
    let level = values.next().unwrap_or_default();
    if lua.coerce_number(level.clone())?.is_none() {
        return Err(fault::reply("First argument must be a number (log level)."));
    }
    let level = integer(lua, &level)?;
    if !(0..=3).contains(&level) {
        return Err(fault::reply("Invalid debug level."));
    }
    let words: Vec<String> = values
        .filter_map(|value| lua.coerce_string(value).ok().flatten())
        .map(|word| word.to_string_lossy())
        .collect();
    tracing::debug!(level, script = words.join(" "));
    Ok(())
}

/// As Lua's C interface reads an integer: 0 for what is no number.
fn integer(lua: &Lua, value: &Value) -> mlua::Result<i64> {
    Ok(number::truncated(lua.coerce_number(value.clone())?.unwrap_or_default()))
}
