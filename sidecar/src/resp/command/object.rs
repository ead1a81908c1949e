//! OBJECT and MEMORY: what clients ask about the inside of a key.

use super::arguments::{SYNTAX_ERROR, is, not_negative};
use super::client::{help_text, needs_subcommand};
use super::{Call, Command, Keys, NO_KEYS, Outcome};
use crate::adapter::memory::Keyspace;
use crate::resp::reply::Reply;

const READ: &[&str] = &["readonly"];
const PLAIN: &[&str] = &["loading", "stale"];
/// The subcommand is the first argument.
const SECOND: Keys = Keys { first: 2, last: 2, step: 1, numbered: 0 };

#[rustfmt::skip]
pub(super) const FAMILY: &[Command] = &[
    Command::new("object", -2, &[], NO_KEYS, "2.2.3", "A container for object introspection commands.", needs_subcommand).in_memory()
        .with_subcommands(&[
            Command::new("object|encoding", 3, READ, SECOND, "2.2.3", "Returns the internal encoding of a Redis object.", encoding).in_memory(),
            Command::new("object|freq", 3, READ, SECOND, "4.0.0", "Returns the logarithmic access frequency counter of a Redis object.", freq).in_memory(),
            Command::new("object|help", 2, PLAIN, NO_KEYS, "6.2.0", "Returns helpful text about the different subcommands.", object_help).in_memory(),
            Command::new("object|idletime", 3, READ, SECOND, "2.2.3", "Returns the time since the last access to a Redis object.", idletime).in_memory(),
            Command::new("object|refcount", 3, READ, SECOND, "2.2.3", "Returns the reference count of a value of a key.", refcount).in_memory(),
        ]),
    Command::new("memory", -2, &[], NO_KEYS, "4.0.0", "A container for memory diagnostics commands.", needs_subcommand).in_memory()
        .with_subcommands(&[
            Command::new("memory|help", 2, PLAIN, NO_KEYS, "4.0.0", "Returns helpful text about the different subcommands.", memory_help).in_memory(),
            Command::new("memory|usage", -3, READ, SECOND, "4.0.0", "Estimates the memory usage of a key.", usage).in_memory(),
        ]),
];

const OBJECT_HELP: &[&str] = &[
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    Return the kind of internal representation used in order to store the value",
    "    associated with a <key>.",
    "FREQ <key>",
    "    Return the access frequency index of the <key>. The returned integer is",
    "    proportional to the logarithm of the recent access frequency of the key.",
    "IDLETIME <key>",
    "    Return the idle time of the <key>, that is the approximated number of",
    "    seconds elapsed since the last access to the key.",
    "REFCOUNT <key>",
    "    Return the number of references of the value associated with the specified",
    "    <key>.",
    "HELP",
    "    Print this help.",
];

const MEMORY_HELP: &[&str] = &[
    "MEMORY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "USAGE <key> [SAMPLES <count>]",
    "    Return memory in bytes used by <key> and its value. Nested values are",
    "    sampled up to <count> times (default: 5, 0 means sample all).",
    "HELP",
    "    Print this help.",
];

/// Answers about a key that is there.
fn about(
    call: &Call<'_>,
    answer: impl FnOnce(&Keyspace, &[u8]) -> Result<Reply, Reply>,
) -> Result<Outcome, Reply> {
    let key = call.arguments[2];
    call.on_keyspace(|keyspace| match keyspace.kind(key) {
        Some(_) => answer(keyspace, key),
        None => Ok(Reply::Null),
    })
}

fn encoding(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    about(call, |keyspace, key| Ok(keyspace.encoding(key).map_or(Reply::Null, Reply::text)))
}

/// What is evicted is not found by a count that could be told.
fn freq(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    about(call, |_, _| {
        Err(Reply::err(
            "An LFU maxmemory policy is not selected, access frequency not tracked. Please note \
             that when switching between policies at runtime LRU and LFU data will take some time \
             to adjust.",
        ))
    })
}

/// No key keeps the time of its last use.
fn idletime(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    about(call, |_, _| Ok(Reply::Integer(0)))
}

fn refcount(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    about(call, |_, _| Ok(Reply::Integer(1)))
}

fn object_help(_: &mut Call<'_>) -> Result<Outcome, Reply> {
    Ok(Outcome::Reply(help_text(OBJECT_HELP)))
}

fn memory_help(_: &mut Call<'_>) -> Result<Outcome, Reply> {
    Ok(Outcome::Reply(help_text(MEMORY_HELP)))
}

/// What is counted needs no samples.
fn usage(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    match &call.arguments[3..] {
        [] => {}
        [option, count] if is(option, "SAMPLES") => {
            not_negative(count, "ERR value is not an integer or out of range")?;
        }
        _ => return Err(SYNTAX_ERROR),
    }
    about(call, |keyspace, key| Ok(Reply::count(keyspace.bytes_of(key).unwrap_or_default() as u64)))
}
