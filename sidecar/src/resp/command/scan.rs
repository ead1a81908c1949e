//! Commands that go over all keys.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;

use super::arguments::{SYNTAX_ERROR, integer, is};
use super::{Call, Command, NO_KEYS, Outcome, failure, kept};
use crate::core::Engine;
use crate::resp::number::parse_u64;
use crate::resp::reply::Reply;

#[rustfmt::skip]
pub(super) const FAMILY: &[Command] = &[
    Command::new("scan", -2, &["readonly"], NO_KEYS, "2.8.0", "Iterates over the key names in the database.", scan),
    Command::new("keys", 2, &["readonly"], NO_KEYS, "1.0.0", "Returns all key names that match a pattern.", keys),
    Command::new("dbsize", 1, &["readonly", "fast"], NO_KEYS, "1.0.0", "Returns the number of keys in the database.", dbsize),
];

/// How many keys a page of SCAN has if the client doesn't say.
const USUAL_COUNT: usize = 10;
/// The most that one page may be asked to have, since a page is held in memory.
const MOST_COUNT: usize = 10_000;
/// How many keys KEYS asks for at a time.
const KEYS_PAGE: usize = 1_000;

fn scan(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let cursor = parse_u64(call.arguments[1]).ok_or_else(|| Reply::err("invalid cursor"))?;
    let mut pattern = None;
    let mut count = USUAL_COUNT;
    let mut only_type: Option<&[u8]> = None;
    let mut rest = call.arguments[2..].iter();
    while let Some(option) = rest.next() {
        match rest.next() {
            Some(given) if is(option, "MATCH") => pattern = Some(kept(given)),
            Some(given) if is(option, "COUNT") => {
                let asked = integer(given)?;
                if asked < 1 {
                    return Err(SYNTAX_ERROR);
                }
                count = usize::try_from(asked).unwrap_or(MOST_COUNT).min(MOST_COUNT);
            }
            Some(given) if is(option, "TYPE") => only_type = Some(given),
            _ => return Err(SYNTAX_ERROR),
        }
    }
    let named = only_type.map(|name| String::from_utf8_lossy(name));
    let found = call.view.scan_now(cursor, pattern.as_deref(), named.as_deref(), count);
    if let Some(found) = found {
        return Ok(Outcome::Reply(page(found.cursor, found.keys)));
    }
    match only_type {
        Some(_) if call.is_redis() => return Ok(Outcome::Relay),
        Some(name) if !is(name, "STRING") => return Ok(Outcome::Reply(page(0, Vec::new()))),
        _ => {}
    }
    let engine = Arc::clone(call.engine);
    Ok(Outcome::Read(
        async move {
            match engine.scan(cursor, pattern.as_deref(), count).await {
                Ok(found) => page(found.cursor, found.keys),
                Err(error) => failure(&error),
            }
        }
        .boxed(),
    ))
}

fn page(cursor: u64, keys: Vec<Bytes>) -> Reply {
    let keys = keys.into_iter().map(Reply::Bulk).collect();
    Reply::Array(vec![Reply::Bulk(cursor.to_string().into()), Reply::Array(keys)])
}

fn keys(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let pattern = kept(call.arguments[1]);
    if let Some(found) = call.view.scan_now(0, Some(&pattern), None, usize::MAX) {
        let keys = found.keys.into_iter().map(Reply::Bulk);
        return Ok(Outcome::Reply(Reply::Array(keys.collect())));
    }
    let engine = Arc::clone(call.engine);
    Ok(Outcome::Read(async move { all_keys(&engine, &pattern).await }.boxed()))
}

async fn all_keys(engine: &Engine, pattern: &[u8]) -> Reply {
    let mut found = HashSet::new();
    let mut cursor = 0;
    loop {
        match engine.scan(cursor, Some(pattern), KEYS_PAGE).await {
            Ok(page) => {
                found.extend(page.keys);
                cursor = page.cursor;
            }
            Err(error) => return failure(&error),
        }
        if cursor == 0 {
            return Reply::Array(found.into_iter().map(Reply::Bulk).collect());
        }
    }
}

fn dbsize(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    if let Some(count) = call.view.count_now() {
        return Ok(Outcome::Reply(Reply::count(count)));
    }
    let engine = Arc::clone(call.engine);
    Ok(Outcome::Read(
        async move {
            match engine.count().await {
                Ok(count) => Reply::count(count),
                Err(error) => failure(&error),
            }
        }
        .boxed(),
    ))
}
