//! The libraries that Redis adds to Lua's, and those functions of Lua's own whose time or memory
//! Lua doesn't bound. All are Rust without `unsafe`; their words are those of the C originals.

mod bit;
pub(super) mod cjson;
mod cmsgpack;
mod pattern;
mod strings;
mod structs;

use std::fmt::Display;
use std::rc::Rc;

use mlua::{Error, Lua, LuaString, MultiValue, Table, Value};

use super::fault;
use super::number::truncated;
use super::shared::Shared;

/// Adds the libraries to `host`.
pub(super) fn open(lua: &Lua, host: &Table, shared: &Rc<Shared>) -> mlua::Result<()> {
    host.raw_set("bit", bit::library(lua)?)?;
    host.raw_set("cjson", cjson::library(lua, shared)?)?;
    host.raw_set("cmsgpack", cmsgpack::library(lua, shared)?)?;
    host.raw_set("struct", structs::library(lua, shared)?)?;
    host.raw_set("string", strings::replacements(lua, shared)?)
}

/// The arguments of a function, read as Lua's C libraries read theirs. They are counted from 1.
pub(super) struct Arguments<'a> {
    pub lua: &'a Lua,
    values: &'a MultiValue,
}

impl<'a> Arguments<'a> {
    pub(super) fn new(lua: &'a Lua, values: &'a MultiValue) -> Self {
        Self { lua, values }
    }

    pub(super) fn count(&self) -> usize {
        self.values.len()
    }

    /// The error that says that an argument doesn't fit.
    pub(super) fn unfit(&self, at: usize, words: impl Display) -> Error {
        fault::argument(self.lua, at, words)
    }

    /// A string, or a number as one.
    pub(super) fn string(&self, at: usize) -> mlua::Result<LuaString> {
        let text = self.get(at).map(|value| self.lua.coerce_string(value.clone())).transpose()?;
        text.flatten().ok_or_else(|| self.expected(at, "string"))
    }

    /// A number, or a string as one.
    pub(super) fn number(&self, at: usize) -> mlua::Result<f64> {
        let number = self.get(at).map(|value| self.lua.coerce_number(value.clone())).transpose()?;
        number.flatten().ok_or_else(|| self.expected(at, "number"))
    }

    /// A number without its fraction.
    pub(super) fn integer(&self, at: usize) -> mlua::Result<i64> {
        self.number(at).map(truncated)
    }

    /// A number without its fraction, or `default` for nil and none.
    pub(super) fn integer_or(&self, at: usize, default: i64) -> mlua::Result<i64> {
        match self.get(at) {
            None | Some(Value::Nil) => Ok(default),
            Some(_) => self.integer(at),
        }
    }

    pub(super) fn table(&self, at: usize) -> mlua::Result<Table> {
        match self.get(at) {
            Some(Value::Table(table)) => Ok(table.clone()),
            _ => Err(self.expected(at, "table")),
        }
    }

    /// Any value, nil too, but not none.
    pub(super) fn any(&self, at: usize) -> mlua::Result<Value> {
        self.get(at).cloned().ok_or_else(|| self.unfit(at, "value expected"))
    }

    pub(super) fn get(&self, at: usize) -> Option<&Value> {
        self.values.get(at - 1)
    }

    /// The error that says what was expected.
    pub(super) fn expected(&self, at: usize, kind: &str) -> Error {
        let got = self.get(at).map_or("no value", type_name);
        self.unfit(at, format_args!("{kind} expected, got {got}"))
    }
}

/// What Lua's `type` says.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Nil => "nil",
        Value::Boolean(_) => "boolean",
        Value::Integer(_) | Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Table(_) => "table",
        Value::Function(_) => "function",
        Value::Thread(_) => "thread",
        _ => "userdata",
    }
}
