//! `cmsgpack`: MessagePack, as Redis' library writes and reads it.

use std::rc::Rc;

use mlua::{Lua, MultiValue, Table, Value};

use super::Arguments;
use crate::resp::script::fault;
use crate::resp::script::number::float;
use crate::resp::script::shared::Shared;

/// Tables within tables, deeper than which nil is written; so a table may hold itself.
const MAX_NESTING: usize = 16;
/// How deep the values may lie that are read, for the sake of the stack.
const MAX_DEPTH: usize = 64;

pub(super) fn library(lua: &Lua, shared: &Rc<Shared>) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    library.raw_set("_NAME", "cmsgpack")?;
    library.raw_set("_VERSION", "lua-cmsgpack 0.4.0")?;
    library.raw_set("_COPYRIGHT", "Copyright (C) 2012, Salvatore Sanfilippo")?;
    library.raw_set("_DESCRIPTION", "MessagePack C implementation for Lua")?;
    let bounds = Rc::clone(shared);
    let pack = lua.create_function(move |lua, values: MultiValue| {
        if values.is_empty() {
            let arguments = Arguments::new(lua, &values);
            return Err(arguments.unfit(0, "MessagePack pack needs input."));
        }
        let mut packed = Vec::new();
        values.iter().try_for_each(|value| put(&mut packed, value, 0, &bounds))?;
        lua.create_string(packed)
    })?;
    library.raw_set("pack", pack)?;
    let bounds = Rc::clone(shared);
    let unpack = lua.create_function(move |lua, values: MultiValue| {
        let arguments = Arguments::new(lua, &values);
        read(&arguments, &bounds, None)
    })?;
    library.raw_set("unpack", unpack)?;
    let bounds = Rc::clone(shared);
    let unpack_one = lua.create_function(move |lua, values: MultiValue| {
        let arguments = Arguments::new(lua, &values);
        let offset = arguments.integer_or(2, 0)?;
        read(&arguments, &bounds, Some((1, offset)))
    })?;
    library.raw_set("unpack_one", unpack_one)?;
    let bounds = Rc::clone(shared);
    let unpack_limit = lua.create_function(move |lua, values: MultiValue| {
        let arguments = Arguments::new(lua, &values);
        let range = (arguments.integer(2)?, arguments.integer_or(3, 0)?);
        read(&arguments, &bounds, Some(range))
    })?;
    library.raw_set("unpack_limit", unpack_limit)?;
    Ok(library)
}

fn put(packed: &mut Vec<u8>, value: &Value, level: usize, shared: &Shared) -> mlua::Result<()> {
    shared.step(packed.len())?;
    match value {
        Value::String(text) => {
            let text = text.as_bytes();
            shared.step(packed.len() + text.len())?;
            match text.len() {
                length @ 0..32 => packed.push(0xa0 | low(length)),
                length @ 32..0x100 => packed.extend([0xd9, low(length)]),
                length => put_length(packed, [0xda, 0xdb], length),
            }
            packed.extend(&*text);
        }
        Value::Boolean(truth) => packed.push(if *truth { 0xc3 } else { 0xc2 }),
        Value::Integer(number) => put_integer(packed, *number),
        // Negative zero is an integer too, as it equals one.
        Value::Number(0.0) => put_integer(packed, 0),
        Value::Number(number) => put_float(packed, *number),
        Value::Table(table) if level < MAX_NESTING => put_table(packed, table, level, shared)?,
        _ => packed.push(0xc0),
    }
    Ok(())
}

fn put_table(
    packed: &mut Vec<u8>,
    table: &Table,
    level: usize,
    shared: &Shared,
) -> mlua::Result<()> {
    if let Some(length) = list_length(table, shared)? {
        match length {
            0..16 => packed.push(0x90 | low(length)),
            _ => put_length(packed, [0xdc, 0xdd], length),
        }
        for index in 1..=length {
            put(packed, &table.raw_get(index)?, level + 1, shared)?;
        }
        return Ok(());
    }
    let mut length = 0;
    table.for_each(|_: Value, _: Value| {
        length += 1;
        Ok(())
    })?;
    match length {
        0..16 => packed.push(0x80 | low(length)),
        _ => put_length(packed, [0xde, 0xdf], length),
    }
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair?;
        put(packed, &key, level + 1, shared)?;
        put(packed, &value, level + 1, shared)?;
    }
    Ok(())
}

/// How long a table is that has the keys from 1 to its length and no others.
fn list_length(table: &Table, shared: &Shared) -> mlua::Result<Option<usize>> {
    let (mut count, mut largest) = (0, 0);
    for pair in table.pairs::<Value, Value>() {
        shared.step(0)?;
        let Value::Integer(key @ 1..) = pair?.0 else { return Ok(None) };
        count += 1;
        largest = largest.max(key);
    }
    Ok(usize::try_from(largest).ok().filter(|largest| *largest == count))
}

/// A length of 16 or 32 bits behind its mark.
fn put_length(packed: &mut Vec<u8>, marks: [u8; 2], length: usize) {
    if let Ok(length) = u16::try_from(length) {
        packed.push(marks[0]);
        packed.extend(length.to_be_bytes());
    } else {
        packed.push(marks[1]);
        packed.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    }
}

fn put_integer(packed: &mut Vec<u8>, number: i64) {
    let bytes = number.to_be_bytes();
    let (mark, size) = match number {
        -32..=127 => return packed.push(bytes[7]),
        128..=0xff => (0xcc, 1),
        0x100..=0xffff => (0xcd, 2),
        0x1_0000..=0xffff_ffff => (0xce, 4),
        0x1_0000_0000.. => (0xcf, 8),
        -128..-32 => (0xd0, 1),
        -32_768..-128 => (0xd1, 2),
        -2_147_483_648..-32_768 => (0xd2, 4),
        ..-2_147_483_648 => (0xd3, 8),
    };
    packed.push(mark);
    packed.extend(&bytes[8 - size..]);
}

#[expect(clippy::cast_possible_truncation, clippy::float_cmp, reason = "a float may be exact")]
fn put_float(packed: &mut Vec<u8>, number: f64) {
    let short = number as f32;
    if f64::from(short) == number {
        packed.push(0xca);
        packed.extend(short.to_be_bytes());
    } else {
        packed.push(0xcb);
        packed.extend(number.to_be_bytes());
    }
}

#[expect(clippy::cast_possible_truncation, reason = "it is below 256")]
fn low(length: usize) -> u8 {
    length as u8
}

/// Reads everything, or as many values as the range's limit from its offset on; then the offset of
/// the next value comes first, -1 at the end.
fn read(
    arguments: &Arguments<'_>,
    shared: &Shared,
    range: Option<(i64, i64)>,
) -> mlua::Result<MultiValue> {
    let lua = arguments.lua;
    let data = arguments.string(1)?;
    let data = data.as_bytes();
    let (limit, offset) = range.unwrap_or((0, 0));
    let (Ok(limit), Ok(offset)) = (usize::try_from(limit), usize::try_from(offset)) else {
        let length = data.len();
        return Err(fault::text(
            lua,
            format_args!(
                "Invalid request to unpack with offset of {offset} and limit of {length}."
            ),
        ));
    };
    let Some(rest) = data.get(offset..) else {
        let length = data.len();
        return Err(fault::text(
            lua,
            format_args!("Start offset {offset} greater than input length {length}."),
        ));
    };
    // Nothing asked for is everything.
    let everything = (limit, offset) == (0, 0);
    let mut reader = Reader { lua, shared, rest };
    let mut values = MultiValue::new();
    while !reader.rest.is_empty() && (everything || values.len() < limit) {
        values.push_back(reader.value(0)?);
    }
    if !everything {
        let next = match reader.rest.len() {
            0 => -1,
            left => i64::try_from(data.len() - left).unwrap_or(-1),
        };
        values.push_front(Value::Integer(next));
    }
    Ok(values)
}

struct Reader<'a> {
    lua: &'a Lua,
    shared: &'a Shared,
    rest: &'a [u8],
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> mlua::Result<Value> {
        self.shared.step(0)?;
        let [mark] = self.array()?;
        Ok(match mark {
            0x00..=0x7f => Value::Integer(mark.into()),
            0xe0..=0xff => Value::Integer(mark.cast_signed().into()),
            0xc0 => Value::Nil,
            0xc2 => Value::Boolean(false),
            0xc3 => Value::Boolean(true),
            0xcc => Value::Integer(u8::from_be_bytes(self.array()?).into()),
            0xcd => Value::Integer(u16::from_be_bytes(self.array()?).into()),
            0xce => Value::Integer(u32::from_be_bytes(self.array()?).into()),
            0xcf => {
                // As in C the number goes through Lua's own integer on its way.
                Value::Number(float(u64::from_be_bytes(self.array()?).cast_signed()))
            }
            0xd0 => Value::Integer(i8::from_be_bytes(self.array()?).into()),
            0xd1 => Value::Integer(i16::from_be_bytes(self.array()?).into()),
            0xd2 => Value::Integer(i32::from_be_bytes(self.array()?).into()),
            0xd3 => Value::Number(float(i64::from_be_bytes(self.array()?))),
            0xca => Value::Number(f32::from_be_bytes(self.array()?).into()),
            0xcb => Value::Number(f64::from_be_bytes(self.array()?)),
            0xa0..=0xbf => self.string(usize::from(mark & 0x1f))?,
            0xd9 => {
                let length = u8::from_be_bytes(self.array()?).into();
                self.string(length)?
            }
            0xda => {
                let length = u16::from_be_bytes(self.array()?).into();
                self.string(length)?
            }
            0xdb => {
                let length = u32::from_be_bytes(self.array()?);
                self.string(usize::try_from(length).unwrap_or(usize::MAX))?
            }
            0x90..=0x9f => self.list((mark & 0xf).into(), depth)?,
            0xdc => {
                let length = u16::from_be_bytes(self.array()?).into();
                self.list(length, depth)?
            }
            0xdd => {
                let length = u32::from_be_bytes(self.array()?);
                self.list(length, depth)?
            }
            0x80..=0x8f => self.map((mark & 0xf).into(), depth)?,
            0xde => {
                let length = u16::from_be_bytes(self.array()?).into();
                self.map(length, depth)?
            }
            0xdf => {
                let length = u32::from_be_bytes(self.array()?);
                self.map(length, depth)?
            }
            _ => return Err(self.bad_format()),
        })
    }

    fn list(&mut self, length: u32, depth: usize) -> mlua::Result<Value> {
        let table = self.nested(depth)?;
        for index in 1..=length {
            table.raw_set(index, self.value(depth + 1)?)?;
        }
        Ok(Value::Table(table))
    }

    fn map(&mut self, length: u32, depth: usize) -> mlua::Result<Value> {
        let table = self.nested(depth)?;
        for _ in 0..length {
            let key = self.value(depth + 1)?;
            let value = self.value(depth + 1)?;
            match key {
                Value::Nil => return Err(fault::bare("table index is nil")),
                Value::Number(number) if number.is_nan() => {
                    return Err(fault::bare("table index is NaN"));
                }
                key => table.raw_set(key, value)?,
            }
        }
        Ok(Value::Table(table))
    }

    fn nested(&self, depth: usize) -> mlua::Result<Table> {
        if depth == MAX_DEPTH { Err(self.bad_format()) } else { self.lua.create_table() }
    }

    fn string(&mut self, length: usize) -> mlua::Result<Value> {
        let (text, rest) = self.rest.split_at_checked(length).ok_or_else(|| self.missing())?;
        self.rest = rest;
        self.lua.create_string(text).map(Value::String)
    }

    fn array<const SIZE: usize>(&mut self) -> mlua::Result<[u8; SIZE]> {
        let (array, rest) = self.rest.split_first_chunk().ok_or_else(|| self.missing())?;
        self.rest = rest;
        Ok(*array)
    }

    fn missing(&self) -> mlua::Error {
        fault::text(self.lua, "Missing bytes in input.")
    }

    fn bad_format(&self) -> mlua::Error {
        fault::text(self.lua, "Bad data format in input.")
    }
}
