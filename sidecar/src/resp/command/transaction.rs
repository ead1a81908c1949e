//! MULTI and its kin, where Warp itself executes what is queued.

use std::borrow::Cow;

use bytes::Bytes;

use super::introspection::keys_of;
use super::{
    ALL_KEYS, Call, Command, Entry, Locked, NO_KEYS, Outcome, Pending, Reach, find, kept, kept_all,
    lent, subcommand_of, wrong_number,
};
use crate::adapter::Key;
use crate::core::View;
use crate::resp::queue::{Queue, Taken};
use crate::resp::reply::Reply;

const PLAIN: &[&str] = &["noscript", "loading", "stale", "fast", "allow_busy"];
const SLOW: &[&str] = &["noscript", "loading", "stale", "skip_slowlog"];

#[rustfmt::skip]
pub(super) const FAMILY: &[Command] = &[
    Command::new("multi", 1, PLAIN, NO_KEYS, "1.2.0", "Starts a transaction.", multi).beside_redis(),
    Command::new("exec", 1, SLOW, NO_KEYS, "1.2.0", "Executes all commands in a transaction.", exec).beside_redis(),
    Command::new("discard", 1, PLAIN, NO_KEYS, "2.0.0", "Discards a transaction.", discard).beside_redis(),
    Command::new("watch", -2, PLAIN, ALL_KEYS, "2.2.0", "Monitors changes to keys to determine the execution of a transaction.", watch).beside_redis(),
    Command::new("unwatch", 1, PLAIN, NO_KEYS, "2.2.0", "Forgets about watched keys of a transaction.", unwatch).beside_redis(),
];

/// What is executed at once within MULTI.
const AT_ONCE: [&str; 6] = ["multi", "exec", "discard", "watch", "quit", "reset"];

/// Queues a command, or refuses it; `None` for one that is executed at once.
pub(in crate::resp) fn queue(
    entry: Option<&Entry>,
    arguments: &[&[u8]],
    view: &View,
    queue: &mut Queue,
) -> Option<Reply> {
    let checked = match entry {
        Some(entry) if AT_ONCE.contains(&entry.command.name) => return None,
        Some(entry) => check(entry.command, arguments, view),
        None => Err(super::unknown_command(arguments)),
    };
    Some(match checked {
        Ok(()) if queue.push(arguments) => Reply::Simple(Cow::Borrowed("QUEUED")),
        Ok(()) => Reply::err("the transaction is too long; do it in parts"),
        Err(reply) => {
            queue.spoil();
            reply
        }
    })
}

/// Whether a command can be queued.
fn check(command: &Command, arguments: &[&[u8]], view: &View) -> Result<(), Reply> {
    let command = subcommand_of(command, arguments)?;
    if !command.takes(arguments.len()) {
        return Err(wrong_number(command.name));
    }
    if view.storage().as_memory().is_some() {
        return Ok(());
    }
    if command.reach == Reach::Memory {
        return Err(super::holds_strings_only(command, arguments, view));
    }
    names_keys(command)
}

/// Whether a command names the keys that it is about, if it is about any.
pub(super) fn names_keys(command: &Command) -> Result<(), Reply> {
    let is_about_data = ["readonly", "write"].iter().any(|flag| command.flags.contains(flag));
    if is_about_data && command.keys == NO_KEYS {
        let name = command.name.to_ascii_uppercase();
        return Err(Reply::err(&format!(
            "{name} names no keys, and a transaction over a SQL table locks those that it names"
        )));
    }
    Ok(())
}

/// The keys that queued commands name.
pub(in crate::resp) fn keys_of_all(commands: &[Vec<Bytes>]) -> Vec<Key> {
    let mut keys = Vec::new();
    for command in commands {
        let arguments = lent(command);
        let Some(entry) = find(arguments[0]) else { continue };
        keys.extend(keys_of(entry.command, &arguments).map(kept));
    }
    keys
}

fn multi(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    if !call.session.queue.open() {
        return Err(Reply::err("MULTI calls can not be nested"));
    }
    Ok(Outcome::Reply(Reply::OK))
}

fn exec(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    match call.session.queue.take() {
        Taken::Nothing => Err(Reply::err("EXEC without MULTI")),
        Taken::Spoiled => Err(Reply::Error(Cow::Borrowed(
            "EXECABORT Transaction discarded because of previous errors.",
        ))),
        Taken::Commands(commands, watch) if call.view.storage().as_memory().is_some() => {
            let (view, now) = (call.view, call.now);
            let executed = view.exclusively(now, || {
                let unchanged = !watch.has_changed(view);
                if unchanged {
                    call.run_all(&commands);
                }
                unchanged
            });
            Ok(if executed == Some(true) {
                Outcome::Written
            } else {
                Outcome::Reply(Reply::NullArray)
            })
        }
        Taken::Commands(commands, watch) => {
            let watched = watch.into_versions();
            let pending = find(b"exec").map(|entry| Pending::new(entry.command, call));
            Ok(Outcome::Lock(Box::new(Locked { commands, watched, is_list: true, pending })))
        }
    }
}

fn discard(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    if !call.session.queue.discard() {
        return Err(Reply::err("DISCARD without MULTI"));
    }
    Ok(Outcome::Reply(Reply::OK))
}

fn watch(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    if call.session.queue.is_open() {
        return Err(Reply::err("WATCH inside MULTI is not allowed"));
    }
    let keys = &call.arguments[1..];
    if call.view.storage().as_memory().is_none() {
        return Ok(Outcome::Watch(kept_all(keys)));
    }
    call.session.queue.watch().add(call.view, keys);
    Ok(Outcome::Reply(Reply::OK))
}

fn unwatch(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    *call.session.queue.watch() = Default::default();
    Ok(Outcome::Reply(Reply::OK))
}
