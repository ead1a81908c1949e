//! The fresh interpreter, its libraries and its replacements for what Lua has but a script of a
//! stranger may not have. What a script sees of them is put together in `sandbox.lua`.

use std::rc::Rc;
use std::time::Instant;

use mlua::chunk::ChunkMode;
use mlua::state::{GcIncParams, GcMode};
use mlua::{Function, Lua, LuaOptions, MultiValue, StdLib, Table, Value};

use super::fault::{self, SANDBOX};
use super::libraries::{self, Arguments};
use super::number;
use super::random::Random;
use super::redis;
use super::shared::Shared;

/// A fresh interpreter.
pub(super) struct Sandbox {
    /// Makes the globals of a run out of its keys, its arguments, `redis.call` and `redis.pcall`.
    pub environment: Function,
    /// Calls a function with a handler for its failure: whether it succeeded, and its first result.
    pub run: Function,
    // Behind what refers to it.
    pub lua: Lua,
}

/// Puts the sandbox together.
pub(super) fn open(shared: &Rc<Shared>) -> mlua::Result<Sandbox> {
    let lua = Lua::new_with(StdLib::TABLE | StdLib::STRING | StdLib::MATH, LuaOptions::default())?;
    // A failed allocation ends the script without a collection, so garbage may never be the larger
    // part: a whole collection whenever memory has grown by half.
    let params = GcIncParams::default().pause(150).step_multiplier(1_000_000);
    lua.gc_set_mode(GcMode::Incremental(params));
    let host = lua.create_table()?;
    protected_calls(&lua, &host, shared)?;
    tables(&lua, &host)?;
    chunks(&lua, &host, shared)?;
    numbers(&lua, &host, shared)?;
    libraries::open(&lua, &host, shared)?;
    host.raw_set("redis", redis::library(&lua, shared)?)?;
    let (environment, run) = lua
        .load(include_str!("sandbox.lua"))
        .set_name(SANDBOX)
        .set_mode(ChunkMode::Text)
        .call((lua.globals(), host))?;
    Ok(Sandbox { environment, run, lua })
}

/// What `pcall` and its like give instead of what they caught. Each fails when the script is over.
fn protected_calls(lua: &Lua, host: &Table, shared: &Rc<Shared>) -> mlua::Result<()> {
    let over = Rc::clone(shared);
    let plain = lua.create_function(move |lua, value: Value| {
        over.end().map_or(Ok(()), |_| over.check_time())?;
        fault::plain(lua, value)
    })?;
    host.raw_set("plain", plain)?;
    // Before Redis 7 errors were strings, and `pcall` gives them so to this day.
    let over = Rc::clone(shared);
    let words = lua.create_function(move |lua, value: Value| {
        over.end().map_or(Ok(()), |_| over.check_time())?;
        match fault::plain(lua, value)? {
            Value::Table(table) => match table.raw_get("err")? {
                words @ (Value::String(_) | Value::Integer(_) | Value::Number(_)) => Ok(words),
                _ => Ok(Value::Table(table)),
            },
            other => Ok(other),
        }
    })?;
    host.raw_set("words", words)?;
    let over = Rc::clone(shared);
    let checked = lua.create_function(move |_, value: Value| {
        over.end().map_or(Ok(()), |_| over.check_time())?;
        Ok(value)
    })?;
    host.raw_set("checked", checked)
}

/// Whether a table is one that only shows what lies behind it.
fn is_protected(table: &Table) -> bool {
    table.metatable().is_some_and(|metatable| metatable.raw_get("__protected").unwrap_or(false))
}

const READ_ONLY: &str = "Attempt to modify a readonly table";

/// Reading and writing of tables, with those in mind that can't be changed.
fn tables(lua: &Lua, host: &Table) -> mlua::Result<()> {
    let refuse =
        lua.create_function(|lua, _: MultiValue| Err::<(), _>(fault::text(lua, READ_ONLY)))?;
    host.raw_set("refuse", refuse)?;
    let missing = lua.create_function(|lua, name: Value| {
        let name = match &name {
            Value::String(name) => name.to_string_lossy(),
            Value::Integer(name) => name.to_string(),
            Value::Number(name) => number::general(*name, 14),
            _ => {
                let words = "Second argument to luaProtectedTableError must be a string or number";
                return Err::<(), _>(fault::text(lua, words));
            }
        };
        let words = format!("Script attempted to access nonexistent global variable '{name}'");
        Err(fault::text(lua, words))
    })?;
    host.raw_set("missing", missing)?;
    let rawset = lua.create_function(|lua, values: MultiValue| {
        let arguments = Arguments::new(lua, &values);
        let table = arguments.table(1)?;
        let key = arguments.any(2)?;
        let value = arguments.any(3)?;
        if is_protected(&table) {
            return Err(fault::bare(READ_ONLY));
        }
        match key {
            Value::Nil => Err(fault::bare("table index is nil")),
            Value::Number(number) if number.is_nan() => Err(fault::bare("table index is NaN")),
            key => table.raw_set(key, value).map(|()| table),
        }
    })?;
    host.raw_set("rawset", rawset)?;
    let setmetatable = lua.create_function(|lua, values: MultiValue| {
        let arguments = Arguments::new(lua, &values);
        let table = arguments.table(1)?;
        let metatable = match values.get(1) {
            Some(Value::Nil) => None,
            Some(Value::Table(metatable)) => Some(metatable.clone()),
            _ => return Err(arguments.unfit(2, "nil or table expected")),
        };
        if is_protected(&table) {
            return Err(fault::bare(READ_ONLY));
        }
        let protected = table.metatable().map(|metatable| metatable.raw_get("__metatable"));
        if !matches!(protected.transpose()?, None | Some(Value::Nil)) {
            return Err(fault::text(lua, "cannot change a protected metatable"));
        }
        table.set_metatable(metatable)?;
        Ok(table)
    })?;
    host.raw_set("setmetatable", setmetatable)
}

/// `loadstring`: text alone, with the globals of the script; and `collectgarbage`, which can't turn
/// the collector off.
fn chunks(lua: &Lua, host: &Table, shared: &Rc<Shared>) -> mlua::Result<()> {
    let shared = Rc::clone(shared);
    let loadstring = lua.create_function(move |lua, values: MultiValue| {
        let arguments = Arguments::new(lua, &values);
        let source = arguments.string(1)?;
        let name = if values.len() > 1 && !values[1].is_nil() {
            arguments.string(2)?
        } else {
            source.clone()
        };
        let environment = shared.environment.borrow().clone();
        let loaded = load(lua, &source.as_bytes(), &name.to_string_lossy(), environment);
        match loaded {
            Ok(function) => Ok((Value::Function(function), Value::Nil)),
            Err(mlua::Error::SyntaxError { message, .. }) => {
                Ok((Value::Nil, Value::String(lua.create_string(message)?)))
            }
            Err(other) => Err(other),
        }
    })?;
    host.raw_set("loadstring", loadstring)?;
    let collectgarbage = lua.create_function(|lua, values: MultiValue| {
        let arguments = Arguments::new(lua, &values);
        let option = match values.front() {
            None | Some(Value::Nil) => "collect".to_owned(),
            _ => arguments.string(1)?.to_string_lossy(),
        };
        match option.as_str() {
            "count" => {
                let bytes = i64::try_from(lua.used_memory()).unwrap_or_default();
                Ok(Value::Number(number::float(bytes) / 1024.0))
            }
            "step" => Ok(Value::Boolean(true)),
            "collect" => lua.gc_collect().map(|()| Value::Integer(0)),
            "stop" | "restart" | "setpause" | "setstepmul" => Ok(Value::Integer(0)),
            _ => Err(arguments.unfit(1, format_args!("invalid option '{option}'"))),
        }
    })?;
    host.raw_set("collectgarbage", collectgarbage)
}

/// Compiles text. Bytecode is no text: Lua doesn't check it, and it can do anything.
pub(super) fn load(
    lua: &Lua,
    source: &[u8],
    name: &str,
    environment: Option<Table>,
) -> mlua::Result<Function> {
    // What bytecode begins with is an odd character to the reader of texts, behind a blank.
    let masked = source.first().is_some_and(|first| *first == 0x1b);
    let source = if masked { [b" ", source].concat() } else { source.to_vec() };
    let name = name.split('\0').next().unwrap_or_default();
    let mut chunk = lua.load(source).set_name(name).set_mode(ChunkMode::Text);
    if let Some(environment) = environment {
        chunk = chunk.set_environment(environment);
    }
    chunk.into_function()
}

/// The random numbers, alike in every run, and a clock.
fn numbers(lua: &Lua, host: &Table, shared: &Rc<Shared>) -> mlua::Result<()> {
    let source = Rc::clone(shared);
    let random = lua.create_function(move |lua, values: MultiValue| {
        let arguments = Arguments::new(lua, &values);
        let mut random = source.random.get();
        let share = random.next();
        source.random.set(random);
        let (low, high) = match values.len() {
            0 => return Ok(share),
            1 => (1, arguments.integer(1)?),
            2 => (arguments.integer(1)?, arguments.integer(2)?),
            _ => return Err(fault::text(lua, "wrong number of arguments")),
        };
        if low > high {
            return Err(arguments.unfit(values.len(), "interval is empty"));
        }
        let (low, high) = (number::float(low), number::float(high));
        Ok((share * (high - low + 1.0)).floor() + low)
    })?;
    host.raw_set("random", random)?;
    let target = Rc::clone(shared);
    let randomseed = lua.create_function(move |lua, values: MultiValue| {
        let seed = Arguments::new(lua, &values).integer(1)?;
        target.random.set(Random::seeded(low_half(seed)));
        Ok(())
    })?;
    host.raw_set("randomseed", randomseed)?;
    let begin = Instant::now();
    let clock = lua.create_function(move |_, ()| Ok(begin.elapsed().as_secs_f64()))?;
    host.raw_set("clock", clock)
}

#[expect(clippy::cast_possible_truncation, reason = "C's int is what srand48 takes")]
fn low_half(seed: i64) -> i32 {
    seed as i32
}
