//! `struct`: C's structs packed into strings and out of them.

use std::rc::Rc;

use mlua::{Lua, MultiValue, Table, Value};

use super::Arguments;
use crate::resp::script::fault;
use crate::resp::script::number::{float, truncated};
use crate::resp::script::shared::Shared;

/// The largest size of an integer.
const MAX_INTEGER: usize = 32;
/// What `!` aligns to by default.
const MAX_ALIGNMENT: usize = 8;

pub(super) fn library(lua: &Lua, shared: &Rc<Shared>) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    let bounds = Rc::clone(shared);
    let pack = lua.create_function(move |lua, mut values: MultiValue| {
        // The original has a nil behind its arguments, and says so when it gets there.
        if !values.is_empty() {
            values.push_back(Value::Nil);
        }
        let packed = pack(&Arguments::new(lua, &values), &bounds)?;
        lua.create_string(packed)
    })?;
    library.raw_set("pack", pack)?;
    let bounds = Rc::clone(shared);
    let unpack = lua.create_function(move |lua, values: MultiValue| {
        unpack(&Arguments::new(lua, &values), &bounds)
    })?;
    library.raw_set("unpack", unpack)?;
    let size =
        lua.create_function(|lua, values: MultiValue| size(&Arguments::new(lua, &values)))?;
    library.raw_set("size", size)?;
    Ok(library)
}

/// A format as it is read: what is left of it, and the order and alignment in force.
struct Format<'a> {
    arguments: &'a Arguments<'a>,
    rest: &'a [u8],
    big: bool,
    alignment: usize,
}

/// One thing of a format.
struct Field {
    kind: u8,
    size: usize,
    /// Bytes before it.
    padding: usize,
}

impl<'a> Format<'a> {
    fn new(arguments: &'a Arguments<'a>, text: &'a [u8]) -> Self {
        let end = memchr::memchr(0, text).unwrap_or(text.len());
        Self { arguments, rest: &text[..end], big: false, alignment: 1 }
    }

    /// The next field that starts at `position`.
    fn next(&mut self, position: usize) -> mlua::Result<Option<Field>> {
        let Some((kind, rest)) = self.rest.split_first() else { return Ok(None) };
        self.rest = rest;
        let size = match kind {
            b'B' | b'b' | b'x' => 1,
            b'H' | b'h' => 2,
            b'f' => 4,
            b'L' | b'l' | b'T' | b'd' => 8,
            b'c' => self.count(1)?,
            b'i' | b'I' => {
                let size = self.count(4)?;
                if size > MAX_INTEGER {
                    return Err(self.wrong(format_args!(
                        "integral size {size} is larger than limit of {MAX_INTEGER}"
                    )));
                }
                size
            }
            _ => 0,
        };
        let padding = if size == 0 || *kind == b'c' {
            0
        } else {
            // As in C this means nothing when the size is no power of 2.
            let size = size.min(self.alignment);
            size.wrapping_sub(position & (size - 1)) & (size - 1)
        };
        Ok(Some(Field { kind: *kind, size, padding }))
    }

    /// A field that says how the others are laid out.
    fn control(&mut self, kind: u8) -> mlua::Result<()> {
        match kind {
            b' ' => {}
            b'>' => self.big = true,
            b'<' => self.big = false,
            b'!' => {
                let alignment = self.count(MAX_ALIGNMENT)?;
                if !alignment.is_power_of_two() {
                    let words = format_args!("alignment {alignment} is not a power of 2");
                    return Err(self.wrong(words));
                }
                self.alignment = alignment;
            }
            other => {
                let words = format!("invalid format option '{}'", char::from(other));
                return Err(self.arguments.unfit(1, words));
            }
        }
        Ok(())
    }

    /// A number in the format; it must fit C's int.
    fn count(&mut self, default: usize) -> mlua::Result<usize> {
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return Ok(default);
        }
        let (number, rest) = self.rest.split_at(digits);
        self.rest = rest;
        number
            .iter()
            .try_fold(0_i32, |number, digit| {
                number.checked_mul(10)?.checked_add(i32::from(digit - b'0'))
            })
            .and_then(|number| usize::try_from(number).ok())
            .ok_or_else(|| self.wrong("integral size overflow"))
    }

    fn wrong(&self, words: impl std::fmt::Display) -> mlua::Error {
        fault::text(self.arguments.lua, words)
    }
}

fn is_integer(kind: u8) -> bool {
    matches!(kind, b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I')
}

fn pack(arguments: &Arguments<'_>, shared: &Shared) -> mlua::Result<Vec<u8>> {
    let format = arguments.string(1)?;
    let format = format.as_bytes();
    let mut format = Format::new(arguments, &format);
    let mut packed = Vec::new();
    let mut next = 2;
    let mut argument = || {
        next += 1;
        next - 1
    };
    while let Some(field) = format.next(packed.len())? {
        shared.step(packed.len().saturating_add(field.size))?;
        packed.resize(packed.len() + field.padding, 0);
        match field.kind {
            kind if is_integer(kind) => {
                let number = arguments.number(argument())?;
                put_integer(&mut packed, number, field.size, format.big);
            }
            b'x' => packed.push(0),
            b'f' => {
                #[expect(clippy::cast_possible_truncation, reason = "C's float is asked for")]
                let number = arguments.number(argument())? as f32;
                let bytes = number.to_bits();
                packed.extend(if format.big { bytes.to_be_bytes() } else { bytes.to_le_bytes() });
            }
            b'd' => {
                let bytes = arguments.number(argument())?.to_bits();
                packed.extend(if format.big { bytes.to_be_bytes() } else { bytes.to_le_bytes() });
            }
            b'c' | b's' => {
                let at = argument();
                let text = arguments.string(at)?;
                let text = text.as_bytes();
                let size = if field.size == 0 { text.len() } else { field.size };
                // The original names the argument behind the one that is short.
                let part =
                    text.get(..size).ok_or_else(|| arguments.unfit(at + 1, "string too short"))?;
                shared.step(packed.len() + size)?;
                packed.extend(part);
                if field.kind == b's' {
                    packed.push(0);
                }
            }
            other => format.control(other)?,
        }
    }
    Ok(packed)
}

/// The low bytes of a number; beyond eight there are zeros.
fn put_integer(packed: &mut Vec<u8>, number: f64, size: usize, big: bool) {
    let value = if number < 0.0 { truncated(number).cast_unsigned() } else { unsigned(number) };
    let mut bytes = [0; MAX_INTEGER];
    bytes[..8].copy_from_slice(&value.to_le_bytes());
    if big {
        packed.extend(bytes[..size].iter().rev());
    } else {
        packed.extend(&bytes[..size]);
    }
}

/// As C casts a double to an unsigned integer of 64 bits on x86, where it fits.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "that is the cast")]
fn unsigned(number: f64) -> u64 {
    if number < 18_446_744_073_709_551_616.0 { number as u64 } else { 0 }
}

fn unpack(arguments: &Arguments<'_>, shared: &Shared) -> mlua::Result<MultiValue> {
    let lua = arguments.lua;
    let format = arguments.string(1)?;
    let data = arguments.string(2)?;
    let (format, data) = (format.as_bytes(), data.as_bytes());
    let start = arguments.integer_or(3, 1)?;
    let mut position = usize::try_from(start)
        .ok()
        .and_then(|start| start.checked_sub(1))
        .ok_or_else(|| arguments.unfit(3, "offset must be 1 or greater"))?;
    let mut format = Format::new(arguments, &format);
    let mut values = MultiValue::new();
    let short = || arguments.unfit(2, "data string too short");
    while let Some(field) = format.next(position)? {
        shared.step(0)?;
        position = position.checked_add(field.padding).ok_or_else(short)?;
        let end = position.checked_add(field.size).filter(|end| *end <= data.len());
        let end = end.ok_or_else(short)?;
        let bytes = &data[position..end];
        position = end;
        match field.kind {
            kind if is_integer(kind) => {
                let number = get_integer(bytes, format.big, kind.is_ascii_lowercase());
                values.push_back(Value::Number(number));
            }
            b'x' => {}
            b'f' => {
                let mut bytes: [u8; 4] = bytes.try_into().unwrap_or_default();
                if format.big {
                    bytes.reverse();
                }
                values.push_back(Value::Number(f32::from_le_bytes(bytes).into()));
            }
            b'd' => {
                let mut bytes: [u8; 8] = bytes.try_into().unwrap_or_default();
                if format.big {
                    bytes.reverse();
                }
                values.push_back(Value::Number(f64::from_le_bytes(bytes)));
            }
            b'c' if field.size == 0 => {
                let size = match values.pop_back() {
                    Some(Value::Number(size)) => usize::try_from(truncated(size)).ok(),
                    _ => return Err(fault::text(lua, "format 'c0' needs a previous size")),
                };
                let end = size.and_then(|size| position.checked_add(size)).ok_or_else(short)?;
                let text = data.get(position..end).ok_or_else(short)?;
                values.push_back(Value::String(lua.create_string(text)?));
                position = end;
            }
            b'c' => values.push_back(Value::String(lua.create_string(bytes)?)),
            b's' => {
                let length = memchr::memchr(0, &data[position..])
                    .ok_or_else(|| fault::text(lua, "unfinished string in data"))?;
                let text = &data[position..position + length];
                values.push_back(Value::String(lua.create_string(text)?));
                position += length + 1;
            }
            other => format.control(other)?,
        }
    }
    values.push_back(Value::Integer(i64::try_from(position + 1).unwrap_or(i64::MAX)));
    Ok(values)
}

/// The last eight bytes that count are the number.
fn get_integer(bytes: &[u8], big: bool, signed: bool) -> f64 {
    let add = |number: u64, byte: &u8| (number << 8) | u64::from(*byte);
    let number = if big { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) };
    if signed {
        let unused = u32::try_from(8_usize.saturating_sub(bytes.len()) * 8).unwrap_or_default();
        // A size of 0 has no bits at all.
        return float(
            number.checked_shl(unused).unwrap_or_default().cast_signed()
                >> unused.min(u64::BITS - 1),
        );
    }
    #[expect(clippy::cast_precision_loss, reason = "Lua's numbers are doubles")]
    let number = number as f64;
    number
}

fn size(arguments: &Arguments<'_>) -> mlua::Result<i64> {
    let format = arguments.string(1)?;
    let format = format.as_bytes();
    let mut format = Format::new(arguments, &format);
    let mut position = 0_usize;
    while let Some(field) = format.next(position)? {
        match field.kind {
            b's' => return Err(arguments.unfit(1, "option 's' has no fixed size")),
            b'c' if field.size == 0 => {
                return Err(arguments.unfit(1, "option 'c0' has no fixed size"));
            }
            kind if !kind.is_ascii_alphanumeric() => format.control(kind)?,
            _ => {}
        }
        position = position.saturating_add(field.padding).saturating_add(field.size);
    }
    Ok(i64::try_from(position).unwrap_or(i64::MAX))
}
