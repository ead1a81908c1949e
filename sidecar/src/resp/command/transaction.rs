//! MULTI and its kin, where Warp itself executes what is queued.

use std::borrow::Cow;

use super::{ALL_KEYS, Call, Command, Entry, NO_KEYS, Outcome, subcommand_of, wrong_number};
use crate::resp::queue::{Queue, Taken};
use crate::resp::reply::Reply;

const PLAIN: &[&str] = &["noscript", "loading", "stale", "fast", "allow_busy"];
const SLOW: &[&str] = &["noscript", "loading", "stale", "skip_slowlog"];

#[rustfmt::skip]
pub(super) const FAMILY: &[Command] = &[
    Command::in_memory("multi", 1, PLAIN, NO_KEYS, "1.2.0", "Starts a transaction.", multi),
    Command::in_memory("exec", 1, SLOW, NO_KEYS, "1.2.0", "Executes all commands in a transaction.", exec),
    Command::in_memory("discard", 1, PLAIN, NO_KEYS, "2.0.0", "Discards a transaction.", discard),
    Command::in_memory("watch", -2, PLAIN, ALL_KEYS, "2.2.0", "Monitors changes to keys to determine the execution of a transaction.", watch),
    Command::in_memory("unwatch", 1, PLAIN, NO_KEYS, "2.2.0", "Forgets about watched keys of a transaction.", unwatch),
];

/// What is executed at once within MULTI.
const AT_ONCE: [&str; 6] = ["multi", "exec", "discard", "watch", "quit", "reset"];

/// Queues a command, or refuses it; `None` for one that is executed at once.
pub(in crate::resp) fn queue(
    entry: Option<&Entry>,
    arguments: &[&[u8]],
    queue: &mut Queue,
) -> Option<Reply> {
    let checked = match entry {
        Some(entry) if AT_ONCE.contains(&entry.command.name) => return None,
        Some(entry) => subcommand_of(entry.command, arguments).and_then(|command| {
            command.takes(arguments.len()).then_some(()).ok_or_else(|| wrong_number(command.name))
        }),
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
        Taken::Commands(_, watch) if watch.has_changed(call.view) => {
            Ok(Outcome::Reply(Reply::NullArray))
        }
        Taken::Commands(commands, _) => {
            call.run_all(&commands);
            Ok(Outcome::Written)
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
    call.session.queue.watch().add(call.view, &call.arguments[1..]);
    Ok(Outcome::Reply(Reply::OK))
}

fn unwatch(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    *call.session.queue.watch() = Default::default();
    Ok(Outcome::Reply(Reply::OK))
}
