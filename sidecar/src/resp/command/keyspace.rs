//! Commands that move and copy keys with what is under them, whatever it is.

use super::arguments::{SYNTAX_ERROR, is};
use super::{Call, Command, NO_KEYS, Outcome, TWO_KEYS};
use crate::resp::number::parse_i64;
use crate::resp::reply::Reply;

const READ: &[&str] = &["readonly"];
const DELETE: &[&str] = &["write"];
const FAST_DELETE: &[&str] = &["write", "fast"];
const WRITE: &[&str] = &["write", "denyoom"];

#[rustfmt::skip]
pub(super) const FAMILY: &[Command] = &[
    Command::new("rename", 3, DELETE, TWO_KEYS, "1.0.0", "Renames a key and overwrites the destination.", rename).in_memory(),
    Command::new("renamenx", 3, FAST_DELETE, TWO_KEYS, "1.0.0", "Renames a key only when the target key name doesn't exist.", renamenx).in_memory(),
    Command::new("copy", -3, WRITE, TWO_KEYS, "6.2.0", "Copies the value of a key to a new key.", copy).in_memory(),
    Command::new("randomkey", 1, READ, NO_KEYS, "1.0.0", "Returns a random key name from the database.", randomkey).in_memory(),
];

fn rename(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (from, to) = (call.arguments[1], call.arguments[2]);
    call.on_keyspace(|keyspace| {
        if keyspace.rename(from, to)? { Ok(Reply::OK) } else { Err(Reply::err("no such key")) }
    })
}

fn renamenx(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (from, to) = (call.arguments[1], call.arguments[2]);
    call.on_keyspace(|keyspace| {
        if !keyspace.contains(from) {
            return Err(Reply::err("no such key"));
        }
        if keyspace.contains(to) {
            return Ok(Reply::Integer(0));
        }
        keyspace.rename(from, to)?;
        Ok(Reply::Integer(1))
    })
}

/// There is one database, so that it is copied to this one or to none.
fn copy(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (from, to) = (call.arguments[1], call.arguments[2]);
    let mut replace = false;
    let mut rest = call.arguments[3..].iter();
    while let Some(option) = rest.next() {
        if is(option, "REPLACE") {
            replace = true;
        } else if is(option, "DB") {
            match rest.next().map(|number| parse_i64(number)) {
                Some(Some(0)) => {}
                Some(Some(_)) => return Err(Reply::err("DB index is out of range")),
                Some(None) => return Err(Reply::err("value is not an integer or out of range")),
                None => return Err(SYNTAX_ERROR),
            }
        } else {
            return Err(SYNTAX_ERROR);
        }
    }
    if from == to {
        return Err(Reply::err("source and destination objects are the same"));
    }
    call.on_keyspace(|keyspace| {
        if !keyspace.contains(from) || (!replace && keyspace.contains(to)) {
            return Ok(Reply::Integer(0));
        }
        Ok(Reply::Integer(i64::from(keyspace.copy(from, to)?)))
    })
}

fn randomkey(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    call.on_keyspace(|keyspace| {
        Ok(keyspace.random_key(rand::random()).map_or(Reply::Null, Reply::bulk))
    })
}
