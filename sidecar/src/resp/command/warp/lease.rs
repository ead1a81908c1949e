//! `WARP.LEASE.*`: keys that live as long as somebody keeps their lease alive.

use std::borrow::Cow;
use std::sync::Arc;

use futures::FutureExt as _;

use super::super::arguments::{SYNTAX_ERROR, is};
use super::super::string::Set;
use super::super::{Call, Command, Keys, NO_KEYS, Outcome, failure, kept, kept_all};
use super::{millis, shown_millis};
use crate::adapter::StorageError;
use crate::channels::{Loss, Message};
use crate::lease::{LeaseError, Owner};
use crate::resp::number::parse_u64;
use crate::resp::reply::Reply;

const PLAIN: &[&str] = &["noscript"];
const WRITING: &[&str] = &["write", "denyoom", "noscript"];

/// All arguments behind the lease are keys.
const KEYS_BEHIND_LEASE: Keys = Keys { first: 2, last: -1, step: 1, numbered: 0 };
/// The argument behind the lease is a key.
const KEY_BEHIND_LEASE: Keys = Keys { first: 2, last: 2, step: 1, numbered: 0 };

#[rustfmt::skip]
pub(in crate::resp::command) const FAMILY: &[Command] = &[
    Command::new("warp.lease.grant", -2, PLAIN, NO_KEYS, "0.1.0", "Grants a lease and returns its id.", grant),
    Command::new("warp.lease.attach", -3, PLAIN, KEYS_BEHIND_LEASE, "0.1.0", "Has keys live as long as a lease.", attach),
    Command::new("warp.lease.set", -4, WRITING, KEY_BEHIND_LEASE, "0.1.0", "Sets a key that lives as long as a lease.", set),
    Command::new("warp.lease.keepalive", 2, PLAIN, NO_KEYS, "0.1.0", "Keeps a lease alive for its TTL from now on.", keepalive),
    Command::new("warp.lease.revoke", 2, PLAIN, NO_KEYS, "0.1.0", "Ends a lease and removes its keys.", revoke),
    Command::new("warp.lease.timetolive", -2, PLAIN, NO_KEYS, "0.1.0", "Shows how long a lease lives, and its keys.", timetolive),
    Command::new("warp.lease.list", 1, PLAIN, NO_KEYS, "0.1.0", "Lists the leases.", list),
];

/// WARP.LEASE.GRANT ttl [KEEPALIVE]
fn grant(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let ttl = millis(call.arguments[1])?;
    let owner = match call.arguments[2..] {
        [] => None,
        [option] if is(option, "KEEPALIVE") => Some(owner(call)),
        _ => return Err(SYNTAX_ERROR),
    };
    let leases = Arc::clone(call.engine.leases());
    Ok(work(async move { Ok(Reply::count(leases.grant(ttl, owner).await?)) }))
}

/// Keeps a lease alive as long as the connection lives, which is told when it has ended.
fn owner(call: &Call<'_>) -> Owner {
    let inbox = Arc::downgrade(&call.session.inbox);
    let on_loss = move |lease: u64, reason| {
        if let Some(inbox) = inbox.upgrade() {
            inbox.put(Message::Lost(Box::new(Loss {
                kind: "warp.lease.lost",
                name: lease.to_string().into(),
                token: Vec::new(),
                reason,
            })));
        }
    };
    Owner { gone: call.session.gone.clone(), on_loss: Box::new(on_loss) }
}

/// WARP.LEASE.ATTACH id key [key ...]
fn attach(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (id, keys) = (id(call)?, kept_all(&call.arguments[2..]));
    let leases = Arc::clone(call.engine.leases());
    Ok(work(async move { Ok(Reply::count(leases.attach(id, &keys).await?)) }))
}

/// WARP.LEASE.SET id key value [what SET takes]
fn set(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (id, key) = (id(call)?, [kept(call.arguments[2])]);
    let set = Set::parse(&call.arguments[4..], call.now.unix)?;
    let mutation = set.mutation(call.arguments[3]);
    let engine = Arc::clone(call.engine);
    Ok(work(async move {
        let leases = engine.leases();
        // *It is attached before it is there*, so that it doesn't outlive the lease if this sidecar
        // is gone a moment later.
        let is_new = leases.attach(id, &key).await? > 0;
        let applied = match engine.write(&key[0], mutation).await {
            Ok(applied) if applied.done => applied,
            not_done => {
                if is_new && !matches!(not_done, Err(StorageError::Unknown { .. })) {
                    // It is another's key. That the lease is gone meanwhile is as good.
                    let _ = leases.detach(id, &key).await;
                }
                return Ok(not_done.map_or_else(|error| failure(&error), |no| set.reply(no)));
            }
        };
        // The lease may have ended before the key was there.
        if !leases.is_alive(id).await? {
            let removed = engine.delete(&key).await;
            return removed.map_or_else(|error| Ok(failure(&error)), |_| Err(LeaseError::Gone));
        }
        Ok(set.reply(applied))
    }))
}

/// WARP.LEASE.KEEPALIVE id
fn keepalive(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let id = id(call)?;
    let leases = Arc::clone(call.engine.leases());
    Ok(work(async move { Ok(shown_millis(leases.keep_alive(id).await?)) }))
}

/// WARP.LEASE.REVOKE id
fn revoke(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let id = id(call)?;
    let leases = Arc::clone(call.engine.leases());
    Ok(work(async move { Ok(Reply::count(leases.revoke(id).await?)) }))
}

/// WARP.LEASE.TIMETOLIVE id [KEYS]
fn timetolive(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let id = id(call)?;
    let with_keys = match call.arguments[2..] {
        [] => false,
        [option] if is(option, "KEYS") => true,
        _ => return Err(SYNTAX_ERROR),
    };
    let leases = Arc::clone(call.engine.leases());
    Ok(work(async move {
        let info = leases.info(id).await?;
        let mut shown = vec![
            (Reply::text("ttl"), shown_millis(info.ttl)),
            (Reply::text("left"), shown_millis(info.left)),
        ];
        if with_keys {
            let keys = info.keys.into_iter().map(Reply::Bulk).collect();
            shown.push((Reply::text("keys"), Reply::Array(keys)));
        }
        Ok(Reply::Map(shown))
    }))
}

/// WARP.LEASE.LIST
fn list(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let ids = call.engine.leases().list().map_err(|error| refusal(&error))?;
    Ok(Outcome::Reply(Reply::Array(ids.into_iter().map(Reply::count).collect())))
}

/// What is asked of the bus is done in the order of the connection's commands.
fn work(work: impl Future<Output = Result<Reply, LeaseError>> + Send + 'static) -> Outcome {
    Outcome::Write(async move { work.await.unwrap_or_else(|error| refusal(&error)) }.boxed())
}

fn id(call: &Call<'_>) -> Result<u64, Reply> {
    parse_u64(call.arguments[1]).ok_or(Reply::Error(Cow::Borrowed(
        "ERR a lease is the number that WARP.LEASE.GRANT returned",
    )))
}

/// By a first word that says what to do: LEASEGONE is final, LEASEDOWN may pass.
fn refusal(error: &LeaseError) -> Reply {
    let prefix = match error {
        LeaseError::Gone => "LEASEGONE",
        LeaseError::Down(_) | LeaseError::Storage(_) => "LEASEDOWN",
        LeaseError::Unsupported(_) | LeaseError::Ttl(_) | LeaseError::Full => "ERR",
    };
    Reply::Error(Cow::Owned(format!("{prefix} {error}")))
}
