//! Mutations as the server's own commands, and its replies as what was done; no I/O.
//!
//! Expiries cross the wire as time left, so that the clocks of the server and of the pod needn't
//! agree. An option that the server is too old for is refused by the server itself, in the words
//! that the application would get from it directly.

use bytes::Bytes;

use super::frame::Reply;
use super::unexpected;
use crate::adapter::{
    Applied, Current, ExpireCondition, Key, Mutation, Result, SetCondition, SetExpiry,
    StorageError, UnixMillis, Value,
};

/// The command that does `mutation`.
pub(super) fn command(key: &Key, mutation: &Mutation, now: UnixMillis) -> Vec<Bytes> {
    let word = Bytes::from_static;
    let number = |number: u64| Bytes::from(number.to_string());
    let left = |at: UnixMillis| at.saturating_sub(now);
    let mut args = Vec::with_capacity(7);
    match mutation {
        Mutation::Set { data, condition, expiry, get } => {
            args.extend([word(b"SET"), key.clone(), data.clone()]);
            match expiry {
                SetExpiry::Clear => {}
                SetExpiry::Keep => args.push(word(b"KEEPTTL")),
                // 0 isn't taken; what has expired already lives for a millisecond.
                SetExpiry::At(at) => args.extend([word(b"PX"), number(left(*at).max(1))]),
            }
            match condition {
                SetCondition::Always => {}
                SetCondition::IfAbsent => args.push(word(b"NX")),
                SetCondition::IfPresent => args.push(word(b"XX")),
            }
            if *get {
                args.push(word(b"GET"));
            }
        }
        Mutation::Delete => args.extend([word(b"GETDEL"), key.clone()]),
        Mutation::Expire { at: None, .. } => args.extend([word(b"PERSIST"), key.clone()]),
        Mutation::Expire { at: Some(at), condition } => {
            args.extend([word(b"PEXPIRE"), key.clone(), number(left(*at))]);
            match condition {
                ExpireCondition::Always => {}
                ExpireCondition::IfNone => args.push(word(b"NX")),
                ExpireCondition::IfSome => args.push(word(b"XX")),
                ExpireCondition::IfLater => args.push(word(b"GT")),
                ExpireCondition::IfEarlier => args.push(word(b"LT")),
            }
        }
        Mutation::GetExpire { at: None } => {
            args.extend([word(b"GETEX"), key.clone(), word(b"PERSIST")]);
        }
        Mutation::GetExpire { at: Some(at) } if left(*at) == 0 => {
            args.extend([word(b"GETDEL"), key.clone()]);
        }
        Mutation::GetExpire { at: Some(at) } => {
            args.extend([word(b"GETEX"), key.clone(), word(b"PX"), number(left(*at))]);
        }
        Mutation::Add(step) => {
            args.extend([word(b"INCRBY"), key.clone(), Bytes::from(step.to_string())]);
        }
        Mutation::Append(tail) => args.extend([word(b"APPEND"), key.clone(), tail.clone()]),
    }
    args
}

/// What the server did, by its reply to [`command`] with the same `now`.
pub(super) fn applied(mutation: Mutation, reply: Reply, now: UnixMillis) -> Result<Applied> {
    let known = |data: Bytes, expires_at: Option<UnixMillis>| match expires_at {
        Some(at) if at <= now => Current::Absent,
        expires_at => Current::Value(Value { data, expires_at, version: 0 }),
    };
    let plain = |done, current| Applied { done, previous: None, number: 0, current };
    Ok(match mutation {
        Mutation::Set { data, condition, expiry, get } => {
            let (done, previous) = match (get, reply) {
                (false, Reply::Nil) => (false, None),
                (false, Reply::Text(_)) => (true, None),
                (true, reply) => {
                    let previous = string(reply)?;
                    let done = match condition {
                        SetCondition::Always => true,
                        SetCondition::IfAbsent => previous.is_none(),
                        SetCondition::IfPresent => previous.is_some(),
                    };
                    (done, previous)
                }
                _ => return Err(unexpected()),
            };
            let current = match (done, condition, expiry) {
                (true, _, SetExpiry::Clear) => known(data, None),
                (true, _, SetExpiry::At(at)) => known(data, Some(at)),
                (false, SetCondition::IfPresent, _) => Current::Absent,
                _ => Current::Unknown,
            };
            Applied { previous, ..plain(done, current) }
        }
        Mutation::Delete => {
            let previous = string(reply)?;
            Applied { done: previous.is_some(), previous, number: 0, current: Current::Absent }
        }
        Mutation::Expire { at, .. } => {
            let done = reply.integer().ok_or_else(unexpected)? == 1;
            let past = at.is_some_and(|at| at <= now);
            plain(done, if done && past { Current::Absent } else { Current::Unknown })
        }
        Mutation::GetExpire { at } => {
            let previous = string(reply)?;
            let current = previous.clone().map_or(Current::Absent, |data| known(data, at));
            Applied { done: previous.is_some(), previous, number: 0, current }
        }
        Mutation::Add(_) | Mutation::Append(_) => {
            let number = reply.integer().ok_or_else(unexpected)?;
            Applied { number, ..plain(true, Current::Unknown) }
        }
    })
}

/// The values of `keys` by the replies to MULTI, a GET and a PTTL for each, EXEC.
///
/// `sent` is when they were sent: what was left then is at least what was left when the server
/// looked, so that the expiry is never too late.
pub(super) fn values(replies: Vec<Reply>, sent: UnixMillis) -> Result<Vec<Option<Value>>> {
    let mut replies = replies;
    let refused = |reply: &Reply| match reply {
        Reply::Error(words) => Some(StorageError::Refused(words.clone())),
        _ => None,
    };
    // A command that was refused on the way makes EXEC fail too, with less to say.
    if let Some(refusal) = replies.iter().find_map(refused) {
        return Err(refusal);
    }
    let Some(Reply::Array(results)) = replies.pop() else { return Err(unexpected()) };
    if let Some(refusal) = results.iter().find_map(refused) {
        return Err(refusal);
    }
    let pairs = results.chunks_exact(2);
    pairs
        .map(|pair| match pair {
            [Reply::Nil, _] => Ok(None),
            [Reply::Text(data), Reply::Integer(left)] => Ok(Some(Value {
                data: data.clone(),
                expires_at: u64::try_from(*left).ok().map(|left| sent.saturating_add(left)),
                version: 0,
            })),
            _ => Err(unexpected()),
        })
        .collect()
}

fn string(reply: Reply) -> Result<Option<Bytes>> {
    match reply {
        Reply::Nil => Ok(None),
        Reply::Text(text) => Ok(Some(text)),
        _ => Err(unexpected()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = 1_000_000;

    fn text(text: &'static str) -> Reply {
        Reply::Text(Bytes::from_static(text.as_bytes()))
    }

    fn set(condition: SetCondition, expiry: SetExpiry, get: bool) -> Mutation {
        Mutation::Set { data: Bytes::from_static(b"new"), condition, expiry, get }
    }

    fn written(mutation: &Mutation) -> String {
        let args = command(&Bytes::from_static(b"k"), mutation, NOW);
        args.iter().map(|arg| String::from_utf8_lossy(arg)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_mutation_is_one_command_with_the_time_that_is_left() {
        use ExpireCondition as When;
        use SetCondition::{Always, IfAbsent, IfPresent};
        for (mutation, expected) in [
            (set(Always, SetExpiry::Clear, false), "SET k new"),
            (set(IfAbsent, SetExpiry::At(NOW + 10), false), "SET k new PX 10 NX"),
            (set(IfPresent, SetExpiry::Keep, true), "SET k new KEEPTTL XX GET"),
            (set(Always, SetExpiry::At(NOW - 10), false), "SET k new PX 1"),
            (Mutation::Delete, "GETDEL k"),
            (Mutation::Expire { at: Some(NOW + 5), condition: When::IfLater }, "PEXPIRE k 5 GT"),
            (Mutation::Expire { at: Some(NOW - 5), condition: When::Always }, "PEXPIRE k 0"),
            (Mutation::Expire { at: None, condition: When::Always }, "PERSIST k"),
            (Mutation::GetExpire { at: Some(NOW + 5) }, "GETEX k PX 5"),
            (Mutation::GetExpire { at: Some(NOW) }, "GETDEL k"),
            (Mutation::GetExpire { at: None }, "GETEX k PERSIST"),
            (Mutation::Add(-3), "INCRBY k -3"),
            (Mutation::Append(Bytes::from_static(b"tail")), "APPEND k tail"),
        ] {
            assert_eq!(written(&mutation), expected);
        }
    }

    #[test]
    fn the_reply_tells_whether_a_set_was_done() {
        use SetCondition::{Always, IfAbsent, IfPresent};
        for (condition, get, reply, done, previous) in [
            (Always, false, text("OK"), true, None),
            (IfAbsent, false, Reply::Nil, false, None),
            (Always, true, Reply::Nil, true, None),
            (Always, true, text("old"), true, Some("old")),
            (IfAbsent, true, Reply::Nil, true, None),
            (IfAbsent, true, text("old"), false, Some("old")),
            (IfPresent, true, Reply::Nil, false, None),
            (IfPresent, true, text("old"), true, Some("old")),
        ] {
            let what = format!("{condition:?} {get} {reply:?}");
            let applied = applied(set(condition, SetExpiry::Clear, get), reply, NOW).unwrap();
            assert_eq!(applied.done, done, "{what}");
            assert_eq!(applied.previous.as_deref(), previous.map(str::as_bytes), "{what}");
            assert_eq!(done, matches!(applied.current, Current::Value(_)), "{what}");
        }
    }

    #[test]
    fn what_has_expired_already_is_absent_afterwards() {
        let past = [
            (set(SetCondition::Always, SetExpiry::At(NOW), false), text("OK")),
            (Mutation::GetExpire { at: Some(NOW) }, text("old")),
            (
                Mutation::Expire { at: Some(NOW), condition: ExpireCondition::Always },
                Reply::Integer(1),
            ),
        ];
        for (mutation, reply) in past {
            assert_eq!(applied(mutation, reply, NOW).unwrap().current, Current::Absent);
        }
    }

    #[test]
    fn values_come_with_what_is_left_of_their_time() {
        let queued = || text("QUEUED");
        let results = vec![
            text("forever"),
            Reply::Integer(-1),
            Reply::Nil,
            Reply::Integer(-2),
            text("brief"),
            Reply::Integer(30),
        ];
        let replies = vec![text("OK"), queued(), queued(), Reply::Array(results)];
        let values = values(replies, NOW).unwrap();
        let expiries: Vec<_> = values.iter().map(|v| v.as_ref().map(|v| v.expires_at)).collect();
        assert_eq!(expiries, [Some(None), None, Some(Some(NOW + 30))]);
    }

    #[test]
    fn a_refusal_is_given_in_the_servers_words() {
        let words = "WRONGTYPE Operation against a key holding the wrong kind of value";
        let wrong = Reply::Error(words.to_owned());
        let inside = vec![text("OK"), Reply::Array(vec![wrong, Reply::Integer(-1)])];
        let before = vec![
            text("OK"),
            Reply::Error("NOPERM no".to_owned()),
            Reply::Error("EXECABORT Transaction discarded".to_owned()),
        ];
        assert_eq!(values(inside, NOW).unwrap_err(), StorageError::Refused(words.to_owned()));
        assert_eq!(values(before, NOW).unwrap_err(), StorageError::Refused("NOPERM no".to_owned()));
    }
}
