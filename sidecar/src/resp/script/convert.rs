//! What a command answers as Lua's values, and what a script returns as a reply.

use bytes::Bytes;
use mlua::{Lua, Table, Value};
use smallvec::SmallVec;

use super::number::{self, float, truncated};
use super::shared::Shared;
use crate::resp::number::{Digits, format_f64};
use crate::resp::reply::{Protocol, Reply};
use crate::resp::reply_parse;

/// Tables within tables, deeper than which no reply goes.
const MAX_DEPTH: usize = 128;

/// The arguments of a command, one behind the other: copied, since what refers to a string of Lua's
/// takes one of the few thousand places that an interpreter has for that.
#[derive(Default)]
pub(super) struct Words {
    bytes: Vec<u8>,
    ends: SmallVec<[usize; 8]>,
}

impl Words {
    /// `None` when one is neither a string nor a number. The error is one of Lua, when they are
    /// more than a script may have.
    pub(super) fn of<'a>(
        shared: &Shared,
        values: impl Iterator<Item = &'a Value>,
    ) -> mlua::Result<Option<Self>> {
        let mut words = Self::default();
        for value in values {
            match value {
                Value::String(text) => {
                    let text = text.as_bytes();
                    shared.step(words.bytes.len() + text.len())?;
                    words.push(&text);
                }
                // Redis writes all numbers with 17 digits, which integers up to there fit.
                Value::Integer(number) if number.unsigned_abs() < 100_000_000_000_000_000 => {
                    words.push(Digits::of(*number).as_bytes());
                }
                Value::Integer(number) => {
                    words.push(number::general(float(*number), 17).as_bytes());
                }
                Value::Number(number) => words.push(number::general(*number, 17).as_bytes()),
                _ => return Ok(None),
            }
        }
        Ok(Some(words))
    }

    fn push(&mut self, word: &[u8]) {
        self.bytes.extend_from_slice(word);
        self.ends.push(self.bytes.len());
    }

    /// Each for itself.
    pub(super) fn slices(&self) -> SmallVec<[&[u8]; 8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end]).collect()
    }
}

/// A reply for the script, by the protocol that it asked for.
pub(super) fn to_lua(lua: &Lua, reply: &Reply, protocol: Protocol) -> mlua::Result<Value> {
    let resp3 = protocol == Protocol::Resp3;
    let single = |field: &str, value: Value| {
        let table = lua.create_table()?;
        table.raw_set(field, value)?;
        Ok(Value::Table(table))
    };
    let string = |text: &[u8]| lua.create_string(text).map(Value::String);
    match reply {
        Reply::Simple(text) => single("ok", string(text.as_bytes())?),
        Reply::Error(text) => error(lua, text),
        Reply::Integer(number) => Ok(Value::Number(float(*number))),
        Reply::Bulk(data) => string(data),
        Reply::Null | Reply::NullArray => {
            Ok(if resp3 { Value::Nil } else { Value::Boolean(false) })
        }
        Reply::Set(items) if resp3 => {
            let members = lua.create_table()?;
            for item in items {
                insert(&members, to_lua(lua, item, protocol)?, Value::Boolean(true))?;
            }
            single("set", Value::Table(members))
        }
        Reply::Array(items) | Reply::Push(items) | Reply::Set(items) => {
            array(lua, items.iter(), protocol)
        }
        Reply::Map(pairs) if resp3 => {
            let map = lua.create_table()?;
            for (key, value) in pairs {
                insert(&map, to_lua(lua, key, protocol)?, to_lua(lua, value, protocol)?)?;
            }
            single("map", Value::Table(map))
        }
        Reply::Map(pairs) => {
            array(lua, pairs.iter().flat_map(|(key, value)| [key, value]), protocol)
        }
        Reply::Double(number) if resp3 => single("double", Value::Number(*number)),
        Reply::Double(number) => string(format_f64(*number).as_bytes()),
        Reply::Boolean(truth) if resp3 => Ok(Value::Boolean(*truth)),
        Reply::Boolean(truth) => Ok(Value::Integer(i64::from(*truth))),
        Reply::BigNumber(digits) if resp3 => single("big_number", string(digits.as_bytes())?),
        Reply::BigNumber(digits) => string(digits.as_bytes()),
        Reply::Verbatim(format, text) if resp3 => {
            let table = lua.create_table()?;
            table.raw_set("string", string(text)?)?;
            table.raw_set("format", string(format)?)?;
            single("verbatim_string", Value::Table(table))
        }
        Reply::Verbatim(_, text) => string(text),
        Reply::Raw(encoded) => match reply_parse::parse(encoded) {
            Ok(reply) => to_lua(lua, &reply, protocol),
            Err(not_a_reply) => error(lua, &format!("ERR {not_a_reply}")),
        },
    }
}

/// An error of a command as a table.
pub(super) fn error(lua: &Lua, text: &str) -> mlua::Result<Value> {
    let table = lua.create_table()?;
    table.raw_set("err", coded(text))?;
    // A script that writes out all fields of an error finds what Redis has there.
    table.raw_set("ignore_error_stats_update", true)?;
    Ok(Value::Table(table))
}

/// An error's words with a prefix, and `ERR` when it is a single word.
pub(super) fn coded(text: &str) -> String {
    match text.split_once(' ') {
        Some((code, words)) => format!("{code} {}", words.trim_matches(['\r', '\n'])),
        None => format!("ERR {}", text.trim_matches(['\r', '\n'])),
    }
}

fn array<'a>(
    lua: &Lua,
    items: impl Iterator<Item = &'a Reply>,
    protocol: Protocol,
) -> mlua::Result<Value> {
    let table = lua.create_table()?;
    for (index, item) in (1..).zip(items) {
        let index: i64 = index;
        table.raw_set(index, to_lua(lua, item, protocol)?)?;
    }
    Ok(Value::Table(table))
}

/// Sets what can be a key; nil and NaN can't.
fn insert(table: &Table, key: Value, value: Value) -> mlua::Result<()> {
    match key {
        Value::Nil => Ok(()),
        Value::Number(number) if number.is_nan() => Ok(()),
        key => table.raw_set(key, value),
    }
}

/// Why a value is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TooDeep;

/// What a script returned. The error is one of Lua, when memory or time are at their end.
pub(super) fn to_reply(shared: &Shared, value: &Value) -> mlua::Result<Reply> {
    let mut bytes = 0;
    let reply = from_lua(shared, value, 0, &mut bytes)?;
    Ok(reply.unwrap_or_else(|TooDeep| Reply::err("reached lua stack limit")))
}

/// `bytes` counts what the reply takes: a table that holds another twice needs room for both.
fn from_lua(
    shared: &Shared,
    value: &Value,
    depth: usize,
    bytes: &mut usize,
) -> mlua::Result<Result<Reply, TooDeep>> {
    *bytes += size_of::<Reply>();
    if let Value::String(text) = value {
        *bytes += text.as_bytes().len();
    }
    shared.step(*bytes)?;
    Ok(Ok(match value {
        Value::String(text) => Reply::Bulk(Bytes::copy_from_slice(&text.as_bytes())),
        Value::Integer(number) => Reply::Integer(*number),
        Value::Number(number) => Reply::Integer(truncated(*number)),
        Value::Boolean(truth) if shared.protocol.get() == Protocol::Resp3 => Reply::Boolean(*truth),
        Value::Boolean(true) => Reply::Integer(1),
        Value::Table(_) if depth == MAX_DEPTH => return Ok(Err(TooDeep)),
        Value::Table(table) => return table_reply(shared, table, depth, bytes),
        _ => Reply::Null,
    }))
}

/// A table with a field that names a kind, in the order in which Redis looks for them, or a list.
fn table_reply(
    shared: &Shared,
    table: &Table,
    depth: usize,
    bytes: &mut usize,
) -> mlua::Result<Result<Reply, TooDeep>> {
    if let Value::String(text) = table.raw_get("err")? {
        return Ok(Ok(Reply::Error(text.to_string_lossy().into())));
    }
    if let Value::String(text) = table.raw_get("ok")? {
        return Ok(Ok(Reply::Simple(text.to_string_lossy().into())));
    }
    match table.raw_get("double")? {
        Value::Number(number) => return Ok(Ok(Reply::Double(number))),
        Value::Integer(number) => return Ok(Ok(Reply::Double(float(number)))),
        _ => {}
    }
    if let Value::String(digits) = table.raw_get("big_number")? {
        let digits = digits.to_string_lossy().replace(['\r', '\n'], " ");
        return Ok(Ok(Reply::BigNumber(digits)));
    }
    if let Value::Table(verbatim) = table.raw_get("verbatim_string")?
        && let Value::String(format) = verbatim.raw_get("format")?
        && let Value::String(text) = verbatim.raw_get("string")?
    {
        let mut padded = [b' '; 3];
        padded.iter_mut().zip(format.as_bytes().iter()).for_each(|(to, from)| *to = *from);
        return Ok(Ok(Reply::Verbatim(padded, Bytes::copy_from_slice(&text.as_bytes()))));
    }
    if let Value::Table(map) = table.raw_get("map")? {
        let mut pairs = Vec::new();
        for pair in map.pairs::<Value, Value>() {
            let (key, value) = pair?;
            let key = from_lua(shared, &key, depth + 1, bytes)?;
            let value = from_lua(shared, &value, depth + 1, bytes)?;
            match (key, value) {
                (Ok(key), Ok(value)) => pairs.push((key, value)),
                _ => return Ok(Err(TooDeep)),
            }
        }
        return Ok(Ok(Reply::Map(pairs)));
    }
    let mut items = Vec::new();
    if let Value::Table(set) = table.raw_get("set")? {
        for member in set.pairs::<Value, Value>() {
            match from_lua(shared, &member?.0, depth + 1, bytes)? {
                Ok(item) => items.push(item),
                Err(too_deep) => return Ok(Err(too_deep)),
            }
        }
        return Ok(Ok(Reply::Set(items)));
    }
    for index in 1_i64.. {
        let item: Value = table.raw_get(index)?;
        if item.is_nil() {
            break;
        }
        match from_lua(shared, &item, depth + 1, bytes)? {
            Ok(item) => items.push(item),
            Err(too_deep) => return Ok(Err(too_deep)),
        }
    }
    Ok(Ok(Reply::Array(items)))
}
