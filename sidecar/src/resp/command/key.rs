//! Commands on keys as such: whether they are there, of what type, and their end.

use std::borrow::Cow;
use std::sync::Arc;

use futures::FutureExt as _;

use super::arguments::{SYNTAX_ERROR, is};
use super::{ALL_KEYS, Call, Command, NO_KEYS, ONE_KEY, Outcome, failure, kept_all};
use crate::adapter::memory::collection::Kind;
use crate::resp::reply::Reply;

const READ: &[&str] = &["readonly", "fast"];
const WRITE: &[&str] = &["write"];
const FAST_WRITE: &[&str] = &["write", "fast"];

#[rustfmt::skip]
pub(super) const FAMILY: &[Command] = &[
    Command::new("del", -2, WRITE, ALL_KEYS, "1.0.0", "Deletes one or more keys.", delete),
    Command::new("unlink", -2, FAST_WRITE, ALL_KEYS, "4.0.0", "Asynchronously deletes one or more keys.", delete),
    Command::new("exists", -2, READ, ALL_KEYS, "1.0.0", "Determines whether one or more keys exist.", exists),
    Command::new("touch", -2, READ, ALL_KEYS, "3.2.1", "Returns the number of existing keys out of those specified after updating the time they were last accessed.", exists),
    Command::new("type", 2, READ, ONE_KEY, "1.0.0", "Determines the type of value stored at a key.", type_of),
    Command::new("flushdb", -1, WRITE, NO_KEYS, "1.0.0", "Remove all keys from the current database.", flush),
    Command::new("flushall", -1, WRITE, NO_KEYS, "1.0.0", "Removes all keys from all databases.", flush),
];

fn delete(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    if let Some(deleted) = call.view.delete_now(&call.arguments[1..]) {
        return Ok(Outcome::Reply(Reply::count(deleted)));
    }
    let keys = kept_all(&call.arguments[1..]);
    let engine = Arc::clone(call.engine);
    Ok(Outcome::Write(
        async move {
            match engine.delete(&keys).await {
                Ok(deleted) => Reply::count(deleted),
                Err(error) => failure(&error),
            }
        }
        .boxed(),
    ))
}

/// How many of the keys are there; one that is named twice counts twice.
fn exists(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let keys = &call.arguments[1..];
    let there =
        call.view.on_keyspace(|keyspace| keys.iter().filter(|key| keyspace.contains(key)).count());
    if let Some(there) = there {
        return Ok(Outcome::Reply(Reply::count(there as u64)));
    }
    if keys.iter().all(|key| call.cached(key).is_some()) {
        return Ok(Outcome::Reply(Reply::count(keys.len() as u64)));
    }
    if call.is_redis() {
        return Ok(Outcome::Relay);
    }
    Ok(call.read_many(keys, |values| Reply::count(values.iter().flatten().count() as u64)))
}

fn type_of(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let key = call.arguments[1];
    if let Some(kind) = call.view.on_keyspace(|keyspace| keyspace.kind(key)) {
        let name = kind.map_or("none", Kind::name);
        return Ok(Outcome::Reply(Reply::Simple(Cow::Borrowed(name))));
    }
    Ok(call.read_any_type(key, |value| {
        Reply::Simple(Cow::Borrowed(if value.is_some() { "string" } else { "none" }))
    }))
}

/// Both ways to flush are one here: the storage is asked to forget everything, and the reply comes
/// when it has.
fn flush(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    match &call.arguments[1..] {
        [] => {}
        [way] if is(way, "ASYNC") || is(way, "SYNC") => {}
        _ => return Err(SYNTAX_ERROR),
    }
    if let Some(()) = call.view.flush_now() {
        return Ok(Outcome::Reply(Reply::OK));
    }
    let engine = Arc::clone(call.engine);
    Ok(Outcome::Write(
        async move {
            match engine.flush().await {
                Ok(()) => Reply::OK,
                Err(error) => failure(&error),
            }
        }
        .boxed(),
    ))
}
