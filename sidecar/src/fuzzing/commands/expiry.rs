//! Commands on keys of any type: their ends, their names, and whether they are there.

use super::model::{Model, bulks, count, error, flag};
use super::{Answer, Command, Input, key, say};
use crate::resp::reply::Reply;

pub(super) fn command(input: &mut Input<'_>, now: u64) -> Command {
    let (one, other) = (key(input), key(input));
    match input.below(16) {
        0..=2 => expire(one, input, now),
        3 => command!([b"TTL", one], move |m| { left(m, &one, |at, now| (at - now + 500) / 1000) }),
        4 => command!([b"PTTL", one], move |m| { left(m, &one, |at, now| at - now) }),
        5 => command!([b"EXPIRETIME", one], move |m| { left(m, &one, |at, _| (at + 500) / 1000) }),
        6 => command!([b"PEXPIRETIME", one], move |m| { left(m, &one, |at, _| at) }),
        7 => command!([b"PERSIST", one], move |m| {
            let had = m.end(&one).is_some();
            m.set_end(&one, None);
            flag(had)
        }),
        8 => {
            let name: &[u8] = if input.truth() { b"DEL" } else { b"UNLINK" };
            command!([name, &one, &other], move |m| {
                count(usize::from(m.remove(&one)) + usize::from(m.remove(&other)))
            })
        }
        9 => {
            let name: &[u8] = if input.truth() { b"EXISTS" } else { b"TOUCH" };
            command!([name, &one, &other], move |m| {
                count(usize::from(m.has(&one)) + usize::from(m.has(&other)))
            })
        }
        10 => command!([b"TYPE", one], move |m| Reply::Simple(m.kind(&one).into())),
        11 => command!([b"RENAME", one, &other], move |m| {
            if !m.has(&one) {
                return Err(error("ERR no such key"));
            }
            if one != other {
                m.copy(&one, &other);
                m.remove(&one);
            }
            Ok(Reply::OK)
        }),
        12 => command!([b"RENAMENX", one, &other], move |m| {
            if !m.has(&one) {
                return Err(error("ERR no such key"));
            }
            let is_free = !m.has(&other);
            if is_free {
                m.copy(&one, &other);
                m.remove(&one);
            }
            Ok(flag(is_free))
        }),
        13 => {
            let replace = input.truth();
            let words = words![b"COPY", one, &other].into_iter();
            Command::new(words.chain(replace.then(|| b"REPLACE".to_vec())), move |m| {
                if one == other {
                    return Err(error("ERR source and destination objects are the same"));
                }
                let copies = m.has(&one) && (replace || !m.has(&other));
                if copies {
                    m.copy(&one, &other);
                }
                Ok(flag(copies))
            })
        }
        14 if input.byte() < 32 => command!([b"FLUSHALL"], |m| {
            m.clear();
            Reply::OK
        }),
        14 => command!([b"DBSIZE"], |m| count(m.keys().len())),
        _ => command!([b"KEYS", b"k*"], |m| Answer::InAnyOrder(bulks(m.keys()))),
    }
}

fn left(m: &mut Model, key: &[u8], say: impl Fn(u64, u64) -> u64) -> Reply {
    match m.end(key) {
        Some(at) => Reply::count(say(at, m.now)),
        None if m.has(key) => Reply::Integer(-1),
        None => Reply::Integer(-2),
    }
}

fn expire(key: Vec<u8>, input: &mut Input<'_>, now: u64) -> Command {
    let amount = i64::from(input.byte()) - 8;
    let now = now.cast_signed();
    let (name, amount): (&[u8], i64) = match input.below(5) {
        0 => (b"EXPIRE", amount),
        1 => (b"PEXPIRE", amount * 16),
        2 => (b"EXPIREAT", now / 1000 + amount / 16),
        3 => (b"PEXPIREAT", now + amount * 16),
        _ => (b"EXPIRE", *input.one_of(&[i64::MAX, i64::MIN, i64::MAX / 1000])),
    };
    let condition = *input.one_of(&[&b""[..], b"", b"NX", b"XX", b"GT", b"LT"]);
    let words = words![name, &key, &say(amount)].into_iter();
    let option = (!condition.is_empty()).then(|| condition.to_vec());
    Command::new(words.chain(option), move |m| {
        let now = i128::from(m.now);
        let amount = i128::from(amount);
        let at = match name {
            b"EXPIRE" => now + amount * 1000,
            b"PEXPIRE" => now + amount,
            b"EXPIREAT" => amount * 1000,
            _ => amount,
        };
        if i64::try_from(at).is_err() || i64::try_from(at - now).is_err() {
            return Err(error("ERR invalid expire time in 'expire' command"));
        }
        if !m.has(&key) {
            return Ok(flag(false));
        }
        let ends = m.end(&key).map(i128::from);
        let holds = match condition {
            b"NX" => ends.is_none(),
            b"XX" => ends.is_some(),
            b"GT" => ends.is_some_and(|ends| at > ends),
            b"LT" => ends.is_none_or(|ends| at < ends),
            _ => true,
        };
        if holds && at <= now {
            m.remove(&key);
        } else if holds {
            m.set_end(&key, u64::try_from(at).ok());
        }
        Ok(flag(holds))
    })
}
