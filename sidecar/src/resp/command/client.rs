//! CLIENT and its subcommands: what a client tells about itself and asks about the others.

use std::borrow::Cow;

use bytes::Bytes;

use super::arguments::{SYNTAX_ERROR, integer, is};
use super::tracking::{caching, getredir, tracking, trackinginfo};
use super::{Call, Command, NO_KEYS, Outcome, wrong_number};
use crate::adapter::memory::End;
use crate::resp::number::parse_i64;
use crate::resp::reply::Reply;
use crate::resp::session::Replies;

const PLAIN: &[&str] = &["noscript", "loading", "stale"];
const ADMIN: &[&str] = &["admin", "noscript", "loading", "stale"];

#[rustfmt::skip]
pub(super) const FAMILY: &[Command] = &[
    Command::new("client", -2, &[], NO_KEYS, "2.4.0", "A container for client connection commands.", needs_subcommand)
        .with_subcommands(SUBCOMMANDS),
];

#[rustfmt::skip]
const SUBCOMMANDS: &[Command] = &[
    Command::new("client|caching", 3, PLAIN, NO_KEYS, "6.0.0", "Instructs the server whether to track the keys in the next request.", caching),
    Command::new("client|getname", 2, PLAIN, NO_KEYS, "2.6.9", "Returns the name of the connection.", getname),
    Command::new("client|getredir", 2, PLAIN, NO_KEYS, "6.0.0", "Returns the client ID to which the connection's tracking notifications are redirected.", getredir),
    Command::new("client|help", 2, PLAIN, NO_KEYS, "5.0.0", "Returns helpful text about the different subcommands.", help),
    Command::new("client|id", 2, PLAIN, NO_KEYS, "5.0.0", "Returns the unique client ID of the connection.", id),
    Command::new("client|info", 2, PLAIN, NO_KEYS, "6.2.0", "Returns information about the connection.", info),
    Command::new("client|list", -2, ADMIN, NO_KEYS, "2.4.0", "Lists open connections.", list),
    Command::new("client|no-evict", 3, ADMIN, NO_KEYS, "7.0.0", "Sets the client eviction mode of the connection.", no_evict),
    Command::new("client|no-touch", 3, PLAIN, NO_KEYS, "7.2.0", "Controls whether commands sent by the client affect the LRU/LFU of accessed keys.", no_touch),
    Command::new("client|reply", 3, PLAIN, NO_KEYS, "3.2.0", "Instructs the server whether to reply to commands.", reply),
    Command::new("client|setinfo", 4, PLAIN, NO_KEYS, "7.2.0", "Sets information specific to the client or connection.", setinfo),
    Command::new("client|setname", 3, PLAIN, NO_KEYS, "2.6.9", "Sets the connection name.", setname),
    Command::new("client|tracking", -3, PLAIN, NO_KEYS, "6.0.0", "Controls server-assisted client-side caching for the connection.", tracking),
    Command::new("client|trackinginfo", 2, PLAIN, NO_KEYS, "6.2.0", "Returns information about server-assisted client-side caching for the connection.", trackinginfo),
    Command::new("client|unblock", -3, ADMIN, NO_KEYS, "5.0.0", "Unblocks a client blocked by a blocking command from a different connection.", unblock),
];

const HELP: &[&str] = &[
    "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CACHING (YES|NO)",
    "    Enable/disable tracking of the keys for next command in OPTIN/OPTOUT modes.",
    "GETNAME",
    "    Return the name of the current connection.",
    "GETREDIR",
    "    Return the client ID we are redirecting to when tracking is enabled.",
    "ID",
    "    Return the ID of the current connection.",
    "INFO",
    "    Return information about the current client connection.",
    "LIST [options ...]",
    "    Return information about client connections. Options:",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      Return clients of specified type.",
    "    * ID <id> [<id> ...]",
    "      Return clients of specified IDs only.",
    "NO-EVICT (ON|OFF)",
    "    Protect current client connection from eviction.",
    "NO-TOUCH (ON|OFF)",
    "    Will not touch LRU/LFU stats when this mode is on.",
    "REPLY (ON|OFF|SKIP)",
    "    Control the replies sent to the current connection.",
    "SETINFO <option> <value>",
    "    Set client meta attr. Options are:",
    "    * LIB-NAME: the client lib name.",
    "    * LIB-VER: the client lib version.",
    "SETNAME <name>",
    "    Assign the name <name> to the current connection.",
    "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]",
    "         [OPTIN] [OPTOUT] [NOLOOP]",
    "    Control server assisted client side caching.",
    "TRACKINGINFO",
    "    Report tracking status for the current connection.",
    "UNBLOCK <clientid> [TIMEOUT|ERROR]",
    "    Unblock the specified blocked client.",
    "HELP",
    "    Print this help.",
];

/// A container that was called without a subcommand.
pub(super) fn needs_subcommand(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    Err(wrong_number(&String::from_utf8_lossy(call.arguments[0]).to_ascii_lowercase()))
}

fn getname(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let name = call.session.admission.client.with_state(|state| state.name.clone());
    Ok(Outcome::Reply(Reply::bulk_or_null(Some(name).filter(|name| !name.is_empty()))))
}

fn help(_: &mut Call<'_>) -> Result<Outcome, Reply> {
    Ok(Outcome::Reply(help_text(HELP)))
}

/// A help text as Redis gives it, line by line.
pub(super) fn help_text(lines: &'static [&'static str]) -> Reply {
    Reply::Array(lines.iter().map(|line| Reply::Simple(Cow::Borrowed(line))).collect())
}

fn id(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    Ok(Outcome::Reply(Reply::count(call.session.admission.client.id)))
}

fn info(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    call.session.publish_last_command();
    let line = call.session.admission.client.describe(call.now()) + "\n";
    Ok(Outcome::Reply(Reply::Verbatim(*b"txt", line.into())))
}

fn list(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    call.session.publish_last_command();
    let clients = call.host.clients.all();
    let now = call.now();
    let lines: String = match &call.arguments[2..] {
        [] => clients.iter().map(|client| client.describe(now) + "\n").collect(),
        [option, kind] if is(option, "TYPE") => {
            let subscribed = match kind.to_ascii_lowercase().as_slice() {
                b"normal" => Some(false),
                b"pubsub" => Some(true),
                b"master" | b"replica" | b"slave" => None,
                _ => {
                    let kind = String::from_utf8_lossy(kind);
                    return Err(Reply::err(&format!("Unknown client type '{kind}'")));
                }
            };
            let of_kind = clients.iter().filter(|client| {
                client.with_state(|state| subscribed == Some(state.is_subscribed()))
            });
            of_kind.map(|client| client.describe(now) + "\n").collect()
        }
        [option, ids @ ..] if is(option, "ID") && !ids.is_empty() => {
            let mut lines = String::new();
            for id in ids {
                let id = parse_i64(id).ok_or_else(|| Reply::err("Invalid client ID"))?;
                let found = clients.iter().find(|client| u64::try_from(id) == Ok(client.id));
                lines.extend(found.map(|client| client.describe(now) + "\n"));
            }
            lines
        }
        _ => return Err(SYNTAX_ERROR),
    };
    Ok(Outcome::Reply(Reply::Verbatim(*b"txt", lines.into())))
}

/// ON or OFF.
fn switch(argument: &[u8]) -> Result<bool, Reply> {
    match argument {
        on if is(on, "ON") => Ok(true),
        off if is(off, "OFF") => Ok(false),
        _ => Err(SYNTAX_ERROR),
    }
}

fn no_evict(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let on = switch(call.arguments[2])?;
    call.session.admission.client.with_state(|state| state.no_evict = on);
    Ok(Outcome::Reply(Reply::OK))
}

fn no_touch(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let on = switch(call.arguments[2])?;
    call.session.admission.client.with_state(|state| state.no_touch = on);
    Ok(Outcome::Reply(Reply::OK))
}

fn reply(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let wanted = call.arguments[2];
    let replies = &mut call.session.replies;
    if is(wanted, "ON") {
        *replies = Replies::On;
    } else if is(wanted, "OFF") {
        *replies = Replies::Off;
    } else if is(wanted, "SKIP") {
        if *replies == Replies::On {
            *replies = Replies::SkipNext;
        }
    } else {
        return Err(SYNTAX_ERROR);
    }
    Ok(Outcome::Reply(Reply::OK))
}

fn setinfo(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (attribute, value) = (call.arguments[2], call.arguments[3]);
    let is_name = is(attribute, "LIB-NAME");
    if !is_name && !is(attribute, "LIB-VER") {
        let attribute = String::from_utf8_lossy(attribute);
        return Err(Reply::err(&format!("Unrecognized option '{attribute}'")));
    }
    if !is_plain(value) {
        let attribute = String::from_utf8_lossy(attribute);
        return Err(Reply::err(&format!(
            "{attribute} cannot contain spaces, newlines or special characters."
        )));
    }
    let value = Bytes::copy_from_slice(value);
    call.session.admission.client.with_state(|state| {
        *(if is_name { &mut state.library } else { &mut state.library_version }) = value;
    });
    Ok(Outcome::Reply(Reply::OK))
}

fn setname(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    set_name(call, call.arguments[2])?;
    Ok(Outcome::Reply(Reply::OK))
}

/// Names the connection, for CLIENT SETNAME and HELLO.
pub(super) fn set_name(call: &Call<'_>, name: &[u8]) -> Result<(), Reply> {
    if !is_plain(name) {
        return Err(Reply::err(
            "Client names cannot contain spaces, newlines or special characters.",
        ));
    }
    let name = Bytes::copy_from_slice(name);
    call.session.admission.client.with_state(|state| state.name = name);
    Ok(())
}

/// Ends another client's wait for a key. What waits at a Redis behind Warp is Redis' own, and its
/// clients have other numbers.
fn unblock(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let end = match &call.arguments[3..] {
        [] => End::TimedOut,
        [how] if is(how, "TIMEOUT") => End::TimedOut,
        [how] if is(how, "ERROR") => End::Unblocked,
        [_] => return Err(Reply::err("CLIENT UNBLOCK reason should be TIMEOUT or ERROR")),
        _ => return Err(SYNTAX_ERROR),
    };
    let ended = match u64::try_from(integer(call.arguments[2])?) {
        Ok(id) => call.view.on_keyspace(|keyspace| keyspace.end_wait(id, end)) == Some(true),
        Err(_) => false,
    };
    Ok(Outcome::Reply(Reply::Integer(ended.into())))
}

/// Whether a text can stand in CLIENT LIST, whose fields are separated by blanks.
fn is_plain(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_graphic)
}
