//! Commands on hashes.

use std::borrow::Cow;

use super::arguments::{SYNTAX_ERROR, ScanOptions, cursor, integer, is};
use super::pick::Count;
use super::{Call, Command, ONE_KEY, Outcome, wrong_number};
use crate::adapter::memory::collection::Hash;
use crate::resp::decimal::{self, Number};
use crate::resp::number::{Digits, parse_i64};
use crate::resp::reply::Reply;

const READ: &[&str] = &["readonly"];
const FAST_READ: &[&str] = &["readonly", "fast"];
const FAST_WRITE: &[&str] = &["write", "denyoom", "fast"];
const FAST_DELETE: &[&str] = &["write", "fast"];

#[rustfmt::skip]
pub(super) const FAMILY: &[Command] = &[
    Command::new("hset", -4, FAST_WRITE, ONE_KEY, "2.0.0", "Creates or modifies the value of a field in a hash.", hset).in_memory(),
    Command::new("hmset", -4, FAST_WRITE, ONE_KEY, "2.0.0", "Sets the values of multiple fields.", hmset).in_memory(),
    Command::new("hsetnx", 4, FAST_WRITE, ONE_KEY, "2.0.0", "Sets the value of a field in a hash only when the field doesn't exist.", hsetnx).in_memory(),
    Command::new("hget", 3, FAST_READ, ONE_KEY, "2.0.0", "Returns the value of a field in a hash.", hget).in_memory(),
    Command::new("hmget", -3, FAST_READ, ONE_KEY, "2.0.0", "Returns the values of all fields in a hash.", hmget).in_memory(),
    Command::new("hgetall", 2, READ, ONE_KEY, "2.0.0", "Returns all fields and values in a hash.", hgetall).in_memory(),
    Command::new("hkeys", 2, READ, ONE_KEY, "2.0.0", "Returns all fields in a hash.", hkeys).in_memory(),
    Command::new("hvals", 2, READ, ONE_KEY, "2.0.0", "Returns all values in a hash.", hvals).in_memory(),
    Command::new("hlen", 2, FAST_READ, ONE_KEY, "2.0.0", "Returns the number of fields in a hash.", hlen).in_memory(),
    Command::new("hstrlen", 3, FAST_READ, ONE_KEY, "3.2.0", "Returns the length of the value of a field.", hstrlen).in_memory(),
    Command::new("hexists", 3, FAST_READ, ONE_KEY, "2.0.0", "Determines whether a field exists in a hash.", hexists).in_memory(),
    Command::new("hdel", -3, FAST_DELETE, ONE_KEY, "2.0.0", "Deletes one or more fields and their values from a hash. Deletes the hash if no fields remain.", hdel).in_memory(),
    Command::new("hincrby", 4, FAST_WRITE, ONE_KEY, "2.0.0", "Increments the integer value of a field in a hash by a number. Uses 0 as initial value if the field doesn't exist.", hincrby).in_memory(),
    Command::new("hincrbyfloat", 4, FAST_WRITE, ONE_KEY, "2.6.0", "Increments the floating point value of a field by a number. Uses 0 as initial value if the field doesn't exist.", hincrbyfloat).in_memory(),
    Command::new("hrandfield", -2, READ, ONE_KEY, "6.2.0", "Returns one or more random fields from a hash.", hrandfield).in_memory(),
    Command::new("hscan", -3, READ, ONE_KEY, "2.8.0", "Iterates over fields and values of a hash.", hscan).in_memory(),
];

fn hset(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    set_all(call, "hset", Reply::count)
}

fn hmset(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    set_all(call, "hmset", |_| Reply::OK)
}

/// Sets pairs of fields and values, and answers from the number of new ones.
fn set_all(call: &Call<'_>, name: &str, answer: fn(u64) -> Reply) -> Result<Outcome, Reply> {
    let (key, arguments) = (call.arguments[1], &call.arguments[2..]);
    let (pairs, []) = arguments.as_chunks::<2>() else {
        return Err(wrong_number(name));
    };
    call.on_keyspace(|keyspace| {
        keyspace.change(key, |hash: &mut Hash| {
            let new = pairs.iter().map(|[field, value]| u64::from(hash.set(field, value)));
            Ok(answer(new.sum()))
        })
    })
}

fn hsetnx(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (key, field, value) = (call.arguments[1], call.arguments[2], call.arguments[3]);
    call.on_keyspace(|keyspace| {
        let held = keyspace.collection::<Hash>(key)?;
        if held.is_some_and(|hash| hash.get(field).is_some()) {
            return Ok(Reply::Integer(0));
        }
        keyspace.change(key, |hash: &mut Hash| {
            hash.set(field, value);
            Ok(Reply::Integer(1))
        })
    })
}

/// Answers from the hash, or from an empty one where there is none.
fn read(call: &Call<'_>, answer: impl FnOnce(&Hash) -> Reply) -> Result<Outcome, Reply> {
    let key = call.arguments[1];
    call.on_keyspace(|keyspace| {
        Ok(match keyspace.collection::<Hash>(key)? {
            Some(hash) => answer(hash),
            None => answer(&Hash::default()),
        })
    })
}

fn value_or_null(value: Option<&[u8]>) -> Reply {
    value.map_or(Reply::Null, Reply::bulk)
}

fn hget(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let field = call.arguments[2];
    read(call, |hash| value_or_null(hash.get(field)))
}

fn hmget(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let fields = &call.arguments[2..];
    read(call, |hash| {
        Reply::Array(fields.iter().map(|field| value_or_null(hash.get(field))).collect())
    })
}

fn hgetall(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    read(call, |hash| {
        let pairs = hash.iter().map(|(field, value)| (Reply::bulk(field), Reply::bulk(value)));
        Reply::Map(pairs.collect())
    })
}

fn hkeys(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    read(call, |hash| Reply::Array(hash.iter().map(|(field, _)| Reply::bulk(field)).collect()))
}

fn hvals(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    read(call, |hash| Reply::Array(hash.iter().map(|(_, value)| Reply::bulk(value)).collect()))
}

fn hlen(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    read(call, |hash| Reply::count(hash.len() as u64))
}

fn hstrlen(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let field = call.arguments[2];
    read(call, |hash| Reply::count(hash.get(field).map_or(0, <[u8]>::len) as u64))
}

fn hexists(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let field = call.arguments[2];
    read(call, |hash| Reply::Integer(i64::from(hash.get(field).is_some())))
}

fn hdel(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (key, fields) = (call.arguments[1], &call.arguments[2..]);
    call.on_keyspace(|keyspace| {
        let deleted = keyspace.change_found(key, |hash: &mut Hash| {
            Ok::<_, Reply>(fields.iter().filter(|field| hash.remove(field).is_some()).count())
        })?;
        Ok(Reply::count(deleted.unwrap_or_default() as u64))
    })
}

fn hincrby(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (key, field) = (call.arguments[1], call.arguments[2]);
    let amount = integer(call.arguments[3])?;
    call.on_keyspace(|keyspace| {
        keyspace.change(key, |hash: &mut Hash| {
            let number = hash.get(field).map_or(Some(0), parse_i64);
            let number = number.ok_or_else(|| Reply::err("hash value is not an integer"))?;
            let sum = number
                .checked_add(amount)
                .ok_or_else(|| Reply::err("increment or decrement would overflow"))?;
            hash.set(field, Digits::of(sum).as_bytes());
            Ok(Reply::Integer(sum))
        })
    })
}

fn hincrbyfloat(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (key, field) = (call.arguments[1], call.arguments[2]);
    let amount = Number::parse(call.arguments[3])
        .ok_or(Reply::Error(Cow::Borrowed("ERR value is not a valid float")))?;
    if !amount.is_finite() {
        return Err(Reply::err("value is NaN or Infinity"));
    }
    call.on_keyspace(|keyspace| {
        keyspace.change(key, |hash: &mut Hash| {
            let number = hash.get(field).map_or(Some(Number::ZERO), Number::parse);
            let number = number.ok_or_else(|| Reply::err("hash value is not a float"))?;
            let sum = decimal::sum(&number, &amount)
                .ok_or_else(|| Reply::err("increment would produce NaN or Infinity"))?;
            hash.set(field, sum.as_bytes());
            Ok(Reply::Bulk(sum.into()))
        })
    })
}

fn hrandfield(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let Some(count) = call.arguments.get(2) else {
        return read(call, |hash| {
            let place = Count::WithRepeats(1).pick(hash.len(), &mut rand::rng());
            let picked = place.first().and_then(|place| hash.at(*place));
            value_or_null(picked.map(|(field, _)| field))
        });
    };
    let count = Count::parse(count)?;
    let with_values = match &call.arguments[3..] {
        [] => false,
        [option] if is(option, "WITHVALUES") => true,
        _ => return Err(SYNTAX_ERROR),
    };
    let protocol = call.session.protocol;
    read(call, |hash| {
        let places = count.pick(hash.len(), &mut rand::rng());
        let picked = places.into_iter().filter_map(|place| hash.at(place));
        if with_values {
            let pairs = picked.map(|(field, value)| (Reply::bulk(field), Reply::bulk(value)));
            Reply::pairs(protocol, pairs)
        } else {
            Reply::Array(picked.map(|(field, _)| Reply::bulk(field)).collect())
        }
    })
}

fn hscan(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let key = call.arguments[1];
    let cursor = cursor(call.arguments[2])?;
    let options = &call.arguments[3..];
    call.on_keyspace(|keyspace| {
        let Some(hash) = keyspace.collection::<Hash>(key)? else {
            return Ok(ScanOptions::page(0, Vec::new()));
        };
        let options = ScanOptions::parse(options, true)?;
        let mut page = Vec::new();
        let next = hash.scan(cursor, options.count, |field, value| {
            if options.wants(field) {
                page.push(Reply::bulk(field));
                if !options.no_values {
                    page.push(Reply::bulk(value));
                }
            }
        });
        Ok(ScanOptions::page(next, page))
    })
}
