//! Commands on the time that a key has left.

use std::borrow::Cow;
use std::sync::Arc;

use futures::FutureExt as _;

use super::arguments::{TimeForm, integer, invalid_expire_time, is};
use super::{Call, Command, ONE_KEY, Outcome, failure, kept};
use crate::adapter::{Applied, ExpireCondition, Mutation, UnixMillis};
use crate::resp::reply::Reply;

const WRITE: &[&str] = &["write", "fast"];
const READ: &[&str] = &["readonly", "fast"];

#[rustfmt::skip]
pub(super) const FAMILY: &[Command] = &[
    Command::new("expire", -3, WRITE, ONE_KEY, "1.0.0", "Sets the expiration time of a key in seconds.", expire),
    Command::new("pexpire", -3, WRITE, ONE_KEY, "2.6.0", "Sets the expiration time of a key in milliseconds.", pexpire),
    Command::new("expireat", -3, WRITE, ONE_KEY, "1.2.0", "Sets the expiration time of a key to a Unix timestamp.", expireat),
    Command::new("pexpireat", -3, WRITE, ONE_KEY, "2.6.0", "Sets the expiration time of a key to a Unix milliseconds timestamp.", pexpireat),
    Command::new("ttl", 2, READ, ONE_KEY, "1.0.0", "Returns the expiration time in seconds of a key.", ttl),
    Command::new("pttl", 2, READ, ONE_KEY, "2.6.0", "Returns the expiration time in milliseconds of a key.", pttl),
    Command::new("expiretime", 2, READ, ONE_KEY, "7.0.0", "Returns the expiration time of a key as a Unix timestamp.", expiretime),
    Command::new("pexpiretime", 2, READ, ONE_KEY, "7.0.0", "Returns the expiration time of a key as a Unix milliseconds timestamp.", pexpiretime),
    Command::new("persist", 2, WRITE, ONE_KEY, "2.2.0", "Removes the expiration time of a key.", persist),
];

fn expire(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    expire_at(call, TimeForm::Seconds, "expire")
}

fn pexpire(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    expire_at(call, TimeForm::Milliseconds, "pexpire")
}

fn expireat(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    expire_at(call, TimeForm::AtSecond, "expireat")
}

fn pexpireat(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    expire_at(call, TimeForm::AtMillisecond, "pexpireat")
}

fn expire_at(call: &mut Call<'_>, form: TimeForm, name: &str) -> Result<Outcome, Reply> {
    let (condition, also_some) = conditions(&call.arguments[3..])?;
    let amount = integer(call.arguments[2])?;
    let at = form.at(amount, call.now()).ok_or_else(|| invalid_expire_time(name))?;
    // Every time before 1970 is as past as 1970 itself.
    let at = UnixMillis::try_from(at).unwrap_or_default();
    let mutation = Mutation::Expire { at: Some(at), condition };
    let key = call.arguments[1];
    let answer = |applied: Applied| Reply::Integer(i64::from(applied.done));
    if !also_some {
        return Ok(call.write(key, mutation, answer));
    }
    if call.is_redis() {
        return Ok(Outcome::Relay);
    }
    let at_once = call.view.on_keyspace(|keyspace| match keyspace.expires_at(key).flatten() {
        Some(_) => keyspace.apply(key, &mutation).map(answer),
        None => Ok(Reply::Integer(0)),
    });
    if let Some(result) = at_once {
        return Ok(Outcome::Reply(result.unwrap_or_else(|error| failure(&error))));
    }
    let (engine, key) = (Arc::clone(call.engine), kept(key));
    Ok(Outcome::Write(
        async move {
            let expires = match engine.read(std::slice::from_ref(&key)).await {
                Ok(values) => values.iter().flatten().any(|value| value.expires_at.is_some()),
                Err(error) => return failure(&error),
            };
            if !expires {
                return Reply::Integer(0);
            }
            engine.write(&key, mutation).await.map_or_else(|error| failure(&error), answer)
        }
        .boxed(),
    ))
}

/// The condition, and whether XX comes with an LT, for which it says more: LT alone takes a key
/// that never expires.
fn conditions(options: &[&[u8]]) -> Result<(ExpireCondition, bool), Reply> {
    let [mut none, mut some, mut later, mut earlier] = [false; 4];
    for option in options {
        if is(option, "NX") {
            none = true;
        } else if is(option, "XX") {
            some = true;
        } else if is(option, "GT") {
            later = true;
        } else if is(option, "LT") {
            earlier = true;
        } else {
            let option = String::from_utf8_lossy(option);
            return Err(Reply::err(&format!("Unsupported option {option}")));
        }
    }
    if none && (some || later || earlier) {
        return Err(Reply::Error(Cow::Borrowed(
            "ERR NX and XX, GT or LT options at the same time are not compatible",
        )));
    }
    if later && earlier {
        return Err(Reply::Error(Cow::Borrowed(
            "ERR GT and LT options at the same time are not compatible",
        )));
    }
    let condition = match (none, some, later, earlier) {
        (true, ..) => ExpireCondition::IfNone,
        (_, _, true, _) => ExpireCondition::IfLater,
        (_, _, _, true) => ExpireCondition::IfEarlier,
        (_, true, ..) => ExpireCondition::IfSome,
        _ => ExpireCondition::Always,
    };
    Ok((condition, some && earlier))
}

fn persist(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let mutation = Mutation::Expire { at: None, condition: ExpireCondition::Always };
    let answer = |applied: Applied| Reply::Integer(i64::from(applied.done));
    Ok(call.write(call.arguments[1], mutation, answer))
}

fn ttl(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    Ok(time_left(call, |left| (left + 500) / 1000))
}

fn pttl(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    Ok(time_left(call, |left| left))
}

fn time_left(call: &Call<'_>, unit: fn(u64) -> u64) -> Outcome {
    let now = call.now();
    answer_expiry(call, move |at| unit(at.saturating_sub(now)))
}

fn expiretime(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    Ok(answer_expiry(call, |at| (at + 500) / 1000))
}

fn pexpiretime(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    Ok(answer_expiry(call, |at| at))
}

/// -2 for a key that isn't there, -1 for one that stays, else what `answer` makes of its time.
fn answer_expiry(
    call: &Call<'_>,
    answer: impl FnOnce(UnixMillis) -> u64 + Send + 'static,
) -> Outcome {
    let key = call.arguments[1];
    let answer = |expires_at: Option<Option<UnixMillis>>| match expires_at {
        None => Reply::Integer(-2),
        Some(None) => Reply::Integer(-1),
        Some(Some(at)) => Reply::count(answer(at)),
    };
    if let Some(expires_at) = call.view.on_keyspace(|keyspace| keyspace.expires_at(key)) {
        return Outcome::Reply(answer(expires_at));
    }
    call.read_any_type(key, |value| answer(value.map(|value| value.expires_at)))
}
