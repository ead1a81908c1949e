//! Commands on the bits of a string. Bit 0 is the highest of the first byte.

use std::ops::Range;

use bytes::Bytes;

use super::arguments::{SYNTAX_ERROR, integer, is, places};
use super::string_in_memory::overwrite;
use super::{Call, Command, KEYS_FROM_SECOND, ONE_KEY, Outcome};
use crate::resp::number::parse_i64;
use crate::resp::reply::Reply;

const READ: &[&str] = &["readonly"];
const FAST_READ: &[&str] = &["readonly", "fast"];
const WRITE: &[&str] = &["write", "denyoom"];

#[rustfmt::skip]
pub(super) const FAMILY: &[Command] = &[
    Command::new("setbit", 4, WRITE, ONE_KEY, "2.2.0", "Sets or clears the bit at offset of the string value. Creates the key if it doesn't exist.", setbit).in_memory(),
    Command::new("getbit", 3, FAST_READ, ONE_KEY, "2.2.0", "Returns a bit value by offset.", getbit).in_memory(),
    Command::new("bitcount", -2, READ, ONE_KEY, "2.6.0", "Counts the number of set bits (population counting) in a string.", bitcount).in_memory(),
    Command::new("bitpos", -3, READ, ONE_KEY, "2.8.7", "Finds the first set (1) or clear (0) bit in a string.", bitpos).in_memory(),
    Command::new("bitop", -4, WRITE, KEYS_FROM_SECOND, "2.6.0", "Performs bitwise operations on multiple strings, and stores the result.", bitop).in_memory(),
];

/// The most bits of a string of 512 MiB.
const MOST_BITS: u64 = 512 * 1024 * 1024 * 8;

/// The byte of a bit, and what it is worth there.
fn offset(argument: &[u8]) -> Result<(usize, u8), Reply> {
    let offset = parse_i64(argument).and_then(|offset| u64::try_from(offset).ok());
    let offset = offset.filter(|offset| *offset < MOST_BITS);
    let offset =
        offset.ok_or_else(|| Reply::err("bit offset is not an integer or out of range"))?;
    let byte = usize::try_from(offset / 8).unwrap_or(usize::MAX);
    Ok((byte, 0x80 >> (offset % 8)))
}

fn setbit(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let key = call.arguments[1];
    let (byte, mask) = offset(call.arguments[2])?;
    let bit = match call.arguments[3] {
        b"0" => false,
        b"1" => true,
        _ => return Err(Reply::err("bit is not an integer or out of range")),
    };
    call.on_keyspace(|keyspace| {
        overwrite(keyspace, key, byte + 1, |text| {
            let old = text[byte] & mask != 0;
            text[byte] = if bit { text[byte] | mask } else { text[byte] & !mask };
            Reply::Integer(i64::from(old))
        })
    })
}

fn getbit(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let key = call.arguments[1];
    let (byte, mask) = offset(call.arguments[2])?;
    call.on_keyspace(|keyspace| {
        let text = keyspace.string(key)?.unwrap_or_default();
        Ok(Reply::Integer(text.get(byte).map_or(0, |byte| i64::from(byte & mask != 0))))
    })
}

/// What a range counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Byte,
    Bit,
}

impl Unit {
    fn parse(argument: &[u8]) -> Result<Self, Reply> {
        if is(argument, "BYTE") {
            Ok(Self::Byte)
        } else if is(argument, "BIT") {
            Ok(Self::Bit)
        } else {
            Err(SYNTAX_ERROR)
        }
    }

    /// The range in bits of a string of `bytes`. Unlike the end of a list's range, one that lies
    /// before the first is the first.
    fn bits(self, start: i64, end: i64, bytes: usize) -> Range<usize> {
        let length = match self {
            Self::Byte => bytes,
            Self::Bit => bytes * 8,
        };
        let lowest = i64::try_from(length).map_or(i64::MIN, |length| -length);
        let range = places(start.max(lowest), end.max(lowest), length);
        match self {
            Self::Byte => range.start * 8..range.end * 8,
            Self::Bit => range,
        }
    }
}

/// The bytes in which the bits `range` lie, all others being `filler`.
fn masked(text: &[u8], range: Range<usize>, filler: bool) -> impl Iterator<Item = (usize, u8)> {
    let first = range.start / 8;
    let bytes = if range.is_empty() { 0..0 } else { first..range.end.div_ceil(8) };
    bytes.map(move |at| {
        let mut mask = 0xff_u8;
        if at == first {
            mask &= 0xff >> (range.start % 8);
        }
        if at == (range.end - 1) / 8 {
            mask &= 0xff << (7 - (range.end - 1) % 8);
        }
        let byte = text.get(at).copied().unwrap_or_default();
        (at, if filler { byte | !mask } else { byte & mask })
    })
}

fn bitcount(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let key = call.arguments[1];
    let (start, end, unit) = match &call.arguments[2..] {
        [] => (0, -1, Unit::Byte),
        [start, end] => (integer(start)?, integer(end)?, Unit::Byte),
        [start, end, unit] => (integer(start)?, integer(end)?, Unit::parse(unit)?),
        _ => return Err(SYNTAX_ERROR),
    };
    call.on_keyspace(|keyspace| {
        let text = keyspace.string(key)?.unwrap_or_default();
        if start < 0 && end < 0 && start > end {
            return Ok(Reply::Integer(0));
        }
        let range = unit.bits(start, end, text.len());
        let ones = masked(&text, range, false).map(|(_, byte)| u64::from(byte.count_ones()));
        Ok(Reply::count(ones.sum()))
    })
}

fn bitpos(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let key = call.arguments[1];
    let bit = match integer(call.arguments[2])? {
        0 => false,
        1 => true,
        _ => return Err(Reply::err("The bit argument must be 1 or 0.")),
    };
    let (start, end, unit) = match &call.arguments[3..] {
        [] => (0, None, Unit::Byte),
        [start] => (integer(start)?, None, Unit::Byte),
        [start, end] => (integer(start)?, Some(integer(end)?), Unit::Byte),
        [start, end, unit] => (integer(start)?, Some(integer(end)?), Unit::parse(unit)?),
        _ => return Err(SYNTAX_ERROR),
    };
    call.on_keyspace(|keyspace| {
        let Some(text) = keyspace.string(key)? else {
            // An absent string is one of endless zeros.
            return Ok(Reply::Integer(if bit { -1 } else { 0 }));
        };
        let range = unit.bits(start, end.unwrap_or(-1), text.len());
        let is_empty = range.is_empty();
        let found = masked(&text, range, !bit).find_map(|(at, byte)| {
            let within = if bit { byte.leading_zeros() } else { byte.leading_ones() };
            (within < 8).then(|| at as u64 * 8 + u64::from(within))
        });
        Ok(match found {
            Some(place) => Reply::count(place),
            // Behind a string without an end that was given there are zeros.
            None if !bit && end.is_none() && !is_empty => Reply::count(text.len() as u64 * 8),
            None => Reply::Integer(-1),
        })
    })
}

fn bitop(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (operation, to, keys) = (call.arguments[1], call.arguments[2], &call.arguments[3..]);
    let combine: fn(u8, u8) -> u8 = if is(operation, "AND") {
        |one, other| one & other
    } else if is(operation, "OR") {
        |one, other| one | other
    } else if is(operation, "XOR") {
        |one, other| one ^ other
    } else if is(operation, "NOT") {
        if keys.len() != 1 {
            return Err(Reply::err("BITOP NOT must be called with a single source key."));
        }
        |one, _| !one
    } else {
        return Err(SYNTAX_ERROR);
    };
    call.on_keyspace(|keyspace| {
        let mut texts = Vec::with_capacity(keys.len());
        for key in keys {
            texts.push(Bytes::from(keyspace.string(key)?.unwrap_or_default().into_owned()));
        }
        let length = texts.iter().map(Bytes::len).max().unwrap_or_default();
        let byte = |text: &Bytes, at: usize| text.get(at).copied().unwrap_or_default();
        let combined: Vec<u8> = (0..length)
            .map(|at| match texts.as_slice() {
                [only] => combine_one(combine, byte(only, at), is(operation, "NOT")),
                [first, others @ ..] => {
                    others.iter().fold(byte(first, at), |sum, text| combine(sum, byte(text, at)))
                }
                [] => 0,
            })
            .collect();
        if combined.is_empty() {
            keyspace.remove(to);
        } else {
            keyspace.put_string(to, &combined, None)?;
        }
        Ok(Reply::count(length as u64))
    })
}

/// A single string is itself, but for NOT.
fn combine_one(combine: fn(u8, u8) -> u8, byte: u8, negated: bool) -> u8 {
    if negated { combine(byte, byte) } else { byte }
}
