//! `WARP.LOCK.*`: locks that are held in all pods at once.

use std::borrow::Cow;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;

use super::super::arguments::{SYNTAX_ERROR, is};
use super::super::{Call, Command, NO_KEYS, Outcome, kept};
use super::{millis, shown_millis};
use crate::channels::{Inbox, Loss, Message};
use crate::lock::{LONGEST_NAME, LockError, Locks, Lost, Owner, Token};
use crate::resp::number::parse_u64;
use crate::resp::reply::Reply;

const WAITING: &[&str] = &["noscript", "blocking"];
const PLAIN: &[&str] = &["noscript"];

#[rustfmt::skip]
pub(in crate::resp::command) const FAMILY: &[Command] = &[
    Command::new("warp.lock.acquire", -3, WAITING, NO_KEYS, "0.1.0", "Acquires a lock and returns its fencing token.", acquire),
    Command::new("warp.lock.renew", -4, PLAIN, NO_KEYS, "0.1.0", "Gives a lock that is held its TTL again.", renew),
    Command::new("warp.lock.release", 4, PLAIN, NO_KEYS, "0.1.0", "Releases a lock.", release),
    Command::new("warp.lock.info", 2, PLAIN, NO_KEYS, "0.1.0", "Shows who holds a lock and how many wait for it.", info),
];

/// WARP.LOCK.ACQUIRE name ttl [WAIT ms] [KEEPALIVE]
fn acquire(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (name, ttl) = (name(call)?, millis(call.arguments[2])?);
    let (mut wait, mut keeps) = (Duration::ZERO, false);
    let mut rest = call.arguments[3..].iter();
    while let Some(option) = rest.next() {
        if is(option, "KEEPALIVE") {
            keeps = true;
        } else if let (true, Some(given)) = (is(option, "WAIT"), rest.next()) {
            wait = millis(given)?;
        } else {
            return Err(SYNTAX_ERROR);
        }
    }
    let inbox = Arc::downgrade(&call.session.inbox);
    let on_loss = Box::new(move |lost: &Lost| tell(&inbox, lost));
    let owner = Owner { gone: call.session.gone.clone(), keeps, on_loss };
    let locks = Arc::clone(call.engine.locks());
    Ok(work(async move {
        let granted = locks.acquire(name, ttl, wait, owner).await?;
        Ok(granted.map_or(Reply::NullArray, shown))
    }))
}

/// WARP.LOCK.RENEW name epoch sequence [ttl]
fn renew(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (name, token) = (name(call)?, token(call)?);
    let ttl = match call.arguments[4..] {
        [] => None,
        [ttl] => Some(millis(ttl)?),
        _ => return Err(SYNTAX_ERROR),
    };
    let locks = Arc::clone(call.engine.locks());
    Ok(work(async move { Ok(shown_millis(locks.renew(&name, token, ttl).await?)) }))
}

/// WARP.LOCK.RELEASE name epoch sequence
fn release(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (name, token) = (name(call)?, token(call)?);
    let locks = Arc::clone(call.engine.locks());
    Ok(work(async move { locks.release(&name, token).await.map(|()| Reply::OK) }))
}

/// WARP.LOCK.INFO name
fn info(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let name = name(call)?;
    let locks: Arc<Locks> = Arc::clone(call.engine.locks());
    Ok(work(async move {
        let info = locks.info(&name).await?;
        Ok(Reply::Map(vec![
            (Reply::text("held"), Reply::Integer(i64::from(info.token.is_some()))),
            (Reply::text("token"), info.token.map_or(Reply::NullArray, shown)),
            (Reply::text("ttl"), shown_millis(info.ttl)),
            (Reply::text("renewals"), Reply::count(info.renewals)),
            (Reply::text("waiting"), Reply::count(info.waiting as u64)),
            // Only the sidecar that granted it knows that.
            (Reply::text("left"), info.left.map_or(Reply::Null, shown_millis)),
        ]))
    }))
}

/// What is asked of the bus is done in the order of the connection's commands.
fn work(work: impl Future<Output = Result<Reply, LockError>> + Send + 'static) -> Outcome {
    Outcome::Write(async move { work.await.unwrap_or_else(|error| refusal(&error)) }.boxed())
}

fn name(call: &Call<'_>) -> Result<Bytes, Reply> {
    let name = call.arguments[1];
    if (1..=LONGEST_NAME).contains(&name.len()) {
        return Ok(kept(name));
    }
    Err(Reply::err(&format!("a lock's name has 1 to {LONGEST_NAME} bytes")))
}

fn token(call: &Call<'_>) -> Result<Token, Reply> {
    match (parse_u64(call.arguments[2]), parse_u64(call.arguments[3])) {
        (Some(epoch), Some(sequence)) => Ok(Token { epoch, sequence }),
        _ => Err(Reply::Error(Cow::Borrowed(
            "ERR a token is two numbers, the epoch and the sequence that ACQUIRE returned",
        ))),
    }
}

fn shown(token: Token) -> Reply {
    Reply::Array(vec![Reply::count(token.epoch), Reply::count(token.sequence)])
}

/// By a first word that says what to do: LOCKLOST is final, LOCKDOWN may pass.
fn refusal(error: &LockError) -> Reply {
    let prefix = match error {
        LockError::Lost(_) => "LOCKLOST",
        LockError::Down(_) | LockError::Settling(_) => "LOCKDOWN",
        LockError::Unsupported(_) | LockError::Ttl(_) | LockError::Full => "ERR",
    };
    Reply::Error(Cow::Owned(format!("{prefix} {error}")))
}

fn tell(inbox: &Weak<Inbox>, lost: &Lost) {
    if let Some(inbox) = inbox.upgrade() {
        inbox.put(Message::Lost(Box::new(Loss {
            kind: "warp.lock.lost",
            name: lost.name.clone(),
            token: vec![lost.token.epoch, lost.token.sequence],
            reason: lost.reason.word(),
        })));
    }
}
