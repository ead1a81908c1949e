//! Commands on strings that the memory storage alone has a meaning for.

use std::borrow::Cow;

use super::arguments::{SYNTAX_ERROR, integer, is};
use super::{Call, Command, KEYS_AND_VALUES, ONE_KEY, Outcome, TWO_KEYS, wrong_number};
use crate::adapter::memory::{Keyspace, Refusal};
use crate::resp::decimal::{self, Number};
use crate::resp::reply::Reply;

const READ: &[&str] = &["readonly"];
const WRITE: &[&str] = &["write", "denyoom"];
const FAST_WRITE: &[&str] = &["write", "denyoom", "fast"];

#[rustfmt::skip]
pub(super) const FAMILY: &[Command] = &[
    Command::new("setrange", 4, WRITE, ONE_KEY, "2.2.0", "Overwrites a part of a string value with another by an offset. Creates the key if it doesn't exist.", setrange).in_memory(),
    Command::new("incrbyfloat", 3, FAST_WRITE, ONE_KEY, "2.6.0", "Increment the floating point value of a key by a number. Uses 0 as initial value if the key doesn't exist.", incrbyfloat).in_memory(),
    Command::new("msetnx", -3, WRITE, KEYS_AND_VALUES, "1.0.1", "Atomically modifies the string values of one or more keys only when all keys don't exist.", msetnx).in_memory(),
    Command::new("lcs", -3, READ, TWO_KEYS, "7.0.0", "Finds the longest common substring.", lcs).in_memory(),
];

/// The longest string, as in Redis (`proto-max-bulk-len`).
const LONGEST: usize = 512 * 1024 * 1024;

/// Grows the string under `key` to at least `length` bytes, lets `change` write into it, and keeps
/// its expiry.
pub(super) fn overwrite(
    keyspace: &mut Keyspace,
    key: &[u8],
    length: usize,
    change: impl FnOnce(&mut [u8]) -> Reply,
) -> Result<Reply, Reply> {
    let mut text = keyspace.string(key)?.unwrap_or_default().into_owned();
    let growth = length.saturating_sub(text.len());
    keyspace.make_room(growth)?;
    text.resize(text.len() + growth, 0);
    let reply = change(&mut text);
    let expires_at = keyspace.expires_at(key).flatten();
    keyspace.put_string(key, &text, expires_at)?;
    Ok(reply)
}

fn setrange(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (key, patch) = (call.arguments[1], call.arguments[3]);
    let start = integer(call.arguments[2])?;
    let start = usize::try_from(start).map_err(|_| Reply::err("offset is out of range"))?;
    call.on_keyspace(|keyspace| {
        if patch.is_empty() {
            let length = keyspace.string(key)?.map_or(0, |text| text.len());
            return Ok(Reply::count(length as u64));
        }
        // Of another type is said before too long.
        keyspace.string(key)?;
        let end = start.saturating_add(patch.len());
        if end > LONGEST {
            return Err(Reply::err("string exceeds maximum allowed size (proto-max-bulk-len)"));
        }
        overwrite(keyspace, key, end, |text| {
            text[start..end].copy_from_slice(patch);
            Reply::count(text.len() as u64)
        })
    })
}

fn incrbyfloat(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    const NO_FLOAT: Reply = Reply::Error(Cow::Borrowed("ERR value is not a valid float"));
    let (key, amount) = (call.arguments[1], call.arguments[2]);
    call.on_keyspace(|keyspace| {
        let number = match keyspace.string(key)? {
            Some(text) => Number::parse(&text).ok_or(NO_FLOAT)?,
            None => Number::ZERO,
        };
        let amount = Number::parse(amount).ok_or(NO_FLOAT)?;
        let sum = decimal::sum(&number, &amount)
            .ok_or_else(|| Reply::err("increment would produce NaN or Infinity"))?;
        let expires_at = keyspace.expires_at(key).flatten();
        keyspace.put_string(key, sum.as_bytes(), expires_at)?;
        Ok(Reply::Bulk(sum.into()))
    })
}

fn msetnx(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (pairs, []) = call.arguments[1..].as_chunks::<2>() else {
        return Err(wrong_number("msetnx"));
    };
    let pairs: Vec<(&[u8], &[u8])> = pairs.iter().map(|[key, data]| (&**key, &**data)).collect();
    call.on_keyspace(|keyspace| {
        if pairs.iter().any(|(key, _)| keyspace.contains(key)) {
            return Ok(Reply::Integer(0));
        }
        keyspace.put_strings(&pairs)?;
        Ok(Reply::Integer(1))
    })
}

/// The most cells of the table of an LCS: what it takes is the product of both lengths.
const MOST_CELLS: usize = 64 * 1024 * 1024;

/// What LCS is to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Text,
    Length,
    Matches { least: u64, with_length: bool },
}

impl Wanted {
    fn parse(options: &[&[u8]]) -> Result<Self, Reply> {
        let (mut length, mut matches, mut with_length, mut least) = (false, false, false, 0);
        let mut rest = options.iter();
        while let Some(option) = rest.next() {
            if is(option, "LEN") {
                length = true;
            } else if is(option, "IDX") {
                matches = true;
            } else if is(option, "WITHMATCHLEN") {
                with_length = true;
            } else if is(option, "MINMATCHLEN") {
                let given = rest.next().ok_or(SYNTAX_ERROR)?;
                least = u64::try_from(integer(given)?).unwrap_or_default();
            } else {
                return Err(SYNTAX_ERROR);
            }
        }
        match (length, matches) {
            (true, true) => {
                Err(Reply::err("If you want both the length and indexes, please just use IDX."))
            }
            (true, false) => Ok(Self::Length),
            (false, true) => Ok(Self::Matches { least, with_length }),
            (false, false) => Ok(Self::Text),
        }
    }
}

fn lcs(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (one, other, options) = (call.arguments[1], call.arguments[2], &call.arguments[3..]);
    call.on_keyspace(|keyspace| {
        let not_strings = |_: Refusal| Reply::err("The specified keys must contain string values");
        let one = keyspace.string(one).map_err(not_strings)?.unwrap_or_default().into_owned();
        let other = keyspace.string(other).map_err(not_strings)?.unwrap_or_default();
        // Redis looks at the options only when it has found strings.
        let wanted = Wanted::parse(options)?;
        if (one.len() + 1).saturating_mul(other.len() + 1) > MOST_CELLS {
            return Err(Reply::err(
                "Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
            ));
        }
        Ok(common(&one, &other, wanted))
    })
}

/// The longest sequence of bytes that both have in their order.
fn common(one: &[u8], other: &[u8], wanted: Wanted) -> Reply {
    let width = other.len() + 1;
    // `lengths[i * width + j]`: of the first `i` bytes of one and the first `j` of the other.
    let mut lengths = vec![0_u32; (one.len() + 1) * width];
    for (i, byte) in one.iter().enumerate() {
        for (j, other_byte) in other.iter().enumerate() {
            let at = (i + 1) * width + j + 1;
            lengths[at] = if byte == other_byte {
                lengths[at - width - 1] + 1
            } else {
                lengths[at - width].max(lengths[at - 1])
            };
        }
    }
    let total = lengths[one.len() * width + other.len()];
    if wanted == Wanted::Length {
        return Reply::Integer(total.into());
    }
    // Back from the end; the matches come in that order.
    let (mut i, mut j) = (one.len(), other.len());
    let mut text = Vec::new();
    // The start in one and in the other, and the length.
    let mut matches: Vec<(usize, usize, usize)> = Vec::new();
    while i > 0 && j > 0 {
        if one[i - 1] == other[j - 1] {
            text.push(one[i - 1]);
            (i, j) = (i - 1, j - 1);
            match matches.last_mut() {
                Some(last) if last.0 == i + 1 && last.1 == j + 1 => *last = (i, j, last.2 + 1),
                _ => matches.push((i, j, 1)),
            }
        } else if lengths[(i - 1) * width + j] > lengths[i * width + j - 1] {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    let Wanted::Matches { least, with_length } = wanted else {
        text.reverse();
        return Reply::Bulk(text.into());
    };
    let span = |start: usize, length: usize| {
        let ends = [start, start + length - 1].map(|end| Reply::count(end as u64));
        Reply::Array(ends.into())
    };
    let shown = matches.into_iter().filter(|(_, _, length)| *length as u64 >= least);
    let shown = shown.map(|(in_one, in_other, length)| {
        let mut shown = vec![span(in_one, length), span(in_other, length)];
        if with_length {
            shown.push(Reply::count(length as u64));
        }
        Reply::Array(shown)
    });
    Reply::Map(vec![
        (Reply::text("matches"), Reply::Array(shown.collect())),
        (Reply::text("len"), Reply::Integer(total.into())),
    ])
}
