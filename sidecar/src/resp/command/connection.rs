//! Commands on the connection itself.

use std::borrow::Cow;

use bytes::Bytes;

use super::arguments::{SYNTAX_ERROR, integer, is};
use super::client::set_name;
use super::pubsub::pong_as_message;
use super::{Call, Command, NO_KEYS, Outcome, wrong_number};
use crate::resp::number::parse_i64;
use crate::resp::reply::{Protocol, Reply};
use crate::resp::session::Replies;

/// The version that clients are told. They decide by it which commands they may send, and Warp
/// answers its commands as this Redis does.
pub(super) const REDIS_VERSION: &str = "7.4.0";

const PLAIN: &[&str] = &["noscript", "loading", "stale", "fast"];
const FAST: &[&str] = &["fast"];
const LOADING: &[&str] = &["loading", "stale", "fast"];
const NO_AUTH: &[&str] = &["noscript", "loading", "stale", "fast", "no_auth", "allow_busy"];

#[rustfmt::skip]
pub(super) const FAMILY: &[Command] = &[
    Command::new("hello", -1, NO_AUTH, NO_KEYS, "6.0.0", "Handshakes with the Redis server.", hello),
    Command::new("auth", -2, NO_AUTH, NO_KEYS, "1.0.0", "Authenticates the connection.", auth),
    Command::new("ping", -1, FAST, NO_KEYS, "1.0.0", "Returns the server's liveliness response.", ping),
    Command::new("echo", 2, LOADING, NO_KEYS, "1.0.0", "Returns the given string.", echo),
    Command::new("select", 2, LOADING, NO_KEYS, "1.0.0", "Changes the selected database.", select),
    Command::new("quit", -1, NO_AUTH, NO_KEYS, "1.0.0", "Closes the connection.", quit),
    Command::new("reset", 1, PLAIN, NO_KEYS, "6.2.0", "Resets the connection.", reset),
];

const WRONG_PASSWORD: Reply =
    Reply::Error(Cow::Borrowed("WRONGPASS invalid username-password pair or user is disabled."));

fn hello(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let mut rest = call.arguments[1..].iter();
    let protocol = match rest.next() {
        None => call.session.protocol,
        Some(version) => match parse_i64(version) {
            None => {
                return Err(Reply::err("Protocol version is not an integer or out of range"));
            }
            Some(2) => Protocol::Resp2,
            Some(3) => Protocol::Resp3,
            Some(_) => return Err(Reply::Error("NOPROTO unsupported protocol version".into())),
        },
    };
    let mut name = None;
    while let Some(option) = rest.next() {
        if is(option, "AUTH") && rest.len() >= 2 {
            // As in a Redis without passwords, the default user is let in with any.
            let (user, _password) = (rest.next(), rest.next());
            if user.is_none_or(|user| *user != b"default") {
                return Err(WRONG_PASSWORD);
            }
        } else if let (true, Some(given)) = (is(option, "SETNAME"), rest.clone().next()) {
            rest.next();
            name = Some(given);
        } else {
            let option = String::from_utf8_lossy(option);
            return Err(Reply::err(&format!("Syntax error in HELLO option '{option}'")));
        }
    }
    if let Some(name) = name {
        set_name(call, name)?;
    }
    call.session.protocol = protocol;
    let client = &call.session.admission.client;
    client.with_state(|state| state.protocol = protocol);
    Ok(Outcome::Reply(Reply::Map(vec![
        (Reply::text("server"), Reply::text("redis")),
        (Reply::text("version"), Reply::text(REDIS_VERSION)),
        (Reply::text("proto"), Reply::Integer(protocol.number().into())),
        (Reply::text("id"), Reply::count(client.id)),
        (Reply::text("mode"), Reply::text("standalone")),
        (Reply::text("role"), Reply::text("master")),
        (Reply::text("modules"), Reply::Array(Vec::new())),
    ])))
}

fn auth(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    match &call.arguments[1..] {
        [_password] => Err(Reply::err(
            "AUTH <password> called without any password configured for the default user. Are \
             you sure your configuration is correct?",
        )),
        [user, _password] if *user == b"default" => Ok(Outcome::Reply(Reply::OK)),
        [_user, _password] => Err(WRONG_PASSWORD),
        _ => Err(SYNTAX_ERROR),
    }
}

fn ping(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    match &call.arguments[1..] {
        [] | [_] if call.session.is_subscribed() && call.session.protocol == Protocol::Resp2 => {
            Ok(Outcome::Reply(pong_as_message(call)))
        }
        [] => Ok(Outcome::Reply(Reply::Simple(Cow::Borrowed("PONG")))),
        [text] => Ok(Outcome::Reply(Reply::bulk(text))),
        _ => Err(wrong_number("ping")),
    }
}

fn echo(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    Ok(Outcome::Reply(Reply::bulk(call.arguments[1])))
}

fn select(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let index = i32::try_from(integer(call.arguments[1])?);
    match index {
        Ok(0) => Ok(Outcome::Reply(Reply::OK)),
        Ok(_) => Err(Reply::err("DB index is out of range")),
        Err(_) => {
            Err(Reply::err("value is out of range, value must between -2147483648 and 2147483647"))
        }
    }
}

fn quit(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    call.session.closing = true;
    Ok(Outcome::Reply(Reply::OK))
}

fn reset(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let session = &mut *call.session;
    session.protocol = Protocol::default();
    session.replies = Replies::default();
    session.reset = true;
    session.stop_listening();
    session.admission.client.with_state(|state| {
        state.protocol = Protocol::default();
        state.name = Bytes::new();
        state.no_evict = false;
        state.no_touch = false;
    });
    Ok(Outcome::Reply(Reply::Simple(Cow::Borrowed("RESET"))))
}
