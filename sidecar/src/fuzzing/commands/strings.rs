//! Commands on strings.

use super::model::{Model, count, error, flag, integer, maybe, range};
use super::{Command, Input, key, number, say, text};
use crate::resp::reply::Reply;

/// How SET and GETEX say an end, and the end.
type End = (Vec<Vec<u8>>, Box<dyn Fn(u64) -> Option<u64>>);

pub(super) fn command(input: &mut Input<'_>, now: u64) -> Command {
    let key = key(input);
    match input.below(17) {
        0 | 1 => set(key, input, now),
        2 => command!([b"GET", key], move |m| m.text(&key).map(maybe)),
        3 => {
            let new = text(input);
            command!([b"GETSET", key, &new], move |m| {
                let old = m.text(&key)?;
                m.set_text(&key, new, None);
                Ok::<_, Reply>(maybe(old))
            })
        }
        4 => command!([b"GETDEL", key], move |m| {
            let old = m.text(&key)?;
            m.remove(&key);
            Ok::<_, Reply>(maybe(old))
        }),
        5 => getex(key, input, now),
        6 => {
            let new = text(input);
            command!([b"SETNX", key, &new], move |m| {
                let is_new = !m.has(&key);
                if is_new {
                    m.set_text(&key, new, None);
                }
                flag(is_new)
            })
        }
        7 => {
            let new = text(input);
            command!([b"APPEND", key, &new], move |m| {
                let mut all = m.text(&key)?.unwrap_or_default();
                all.extend(new);
                let length = count(all.len());
                m.put_text(&key, all);
                Ok::<_, Reply>(length)
            })
        }
        8 => command!([b"STRLEN", key], move |m| {
            Ok::<_, Reply>(count(m.text(&key)?.map_or(0, |text| text.len())))
        }),
        9 => command!([b"INCR", key], move |m| add(m, &key, 1)),
        10 => command!([b"DECR", key], move |m| add(m, &key, -1)),
        11 => {
            let by = number(input);
            command!([b"INCRBY", key, &say(by)], move |m| add(m, &key, by))
        }
        12 => {
            let by = number(input);
            command!([b"DECRBY", key, &say(by)], move |m| match by.checked_neg() {
                Some(by) => add(m, &key, by),
                None => Err(error("ERR decrement would overflow")),
            })
        }
        13 => {
            let (start, stop) = (number(input), number(input));
            command!([b"GETRANGE", key, &say(start), &say(stop)], move |m| {
                let text = m.text(&key)?.unwrap_or_default();
                Ok::<_, Reply>(Reply::bulk(&text[part(start, stop, text.len())]))
            })
        }
        14 => setrange(key, input),
        15 => {
            let other = super::key(input);
            let (one, two) = (text(input), text(input));
            let words = words![b"MSET", key, &one, &other, &two];
            Command::new(words, move |m| {
                m.set_text(&key, one, None);
                m.set_text(&other, two, None);
                Reply::OK
            })
        }
        _ => {
            let other = super::key(input);
            command!([b"MGET", key, &other], move |m| {
                // A key of another type counts as none.
                let mut get = |key: &[u8]| maybe(m.text(key).unwrap_or_default());
                Reply::Array(vec![get(&key), get(&other)])
            })
        }
    }
}

fn end(input: &mut Input<'_>, now: u64) -> Option<End> {
    let (word, number): (&[u8], u64) = match input.below(6) {
        0 => (b"EX", input.byte().into()),
        1 => (b"PX", u64::from(input.byte()) * 10),
        2 => (b"EXAT", now / 1000 + u64::from(input.byte() % 8)),
        3 => (b"PXAT", now + u64::from(input.byte()) * 10),
        _ => return None,
    };
    let word = word.to_vec();
    let of = word.clone();
    let at = move |now| match &of[..] {
        _ if number == 0 => None,
        b"EX" => Some(now + number * 1000),
        b"PX" => Some(now + number),
        b"EXAT" => Some(number * 1000),
        _ => Some(number),
    };
    Some((vec![word, number.to_string().into_bytes()], Box::new(at)))
}

fn set(key: Vec<u8>, input: &mut Input<'_>, now: u64) -> Command {
    let new = text(input);
    let condition = *input.one_of(&[&b""[..], b"", b"NX", b"XX"]);
    let (get, end) = (input.below(4) == 0, end(input, now));
    let keep = end.is_none() && input.below(3) == 0;
    let mut words = vec![b"SET".to_vec(), key.clone(), new.clone()];
    words.extend((!condition.is_empty()).then(|| condition.to_vec()));
    words.extend(get.then(|| b"GET".to_vec()));
    words.extend(end.iter().flat_map(|(words, _)| words.clone()));
    words.extend(keep.then(|| b"KEEPTTL".to_vec()));
    Command::new(words, move |m| {
        let ends = match end.map(|(_, at)| at(m.now)) {
            Some(None) => return Err(error("ERR invalid expire time in 'set' command")),
            at => at.flatten(),
        };
        let old = if get { m.text(&key)? } else { None };
        let holds = match condition {
            b"NX" => !m.has(&key),
            b"XX" => m.has(&key),
            _ => true,
        };
        if holds {
            let ends = if keep { m.end(&key) } else { ends };
            m.set_text(&key, new, ends);
        }
        Ok(match (get, holds) {
            (true, _) => maybe(old),
            (false, true) => Reply::OK,
            (false, false) => Reply::Null,
        })
    })
}

fn getex(key: Vec<u8>, input: &mut Input<'_>, now: u64) -> Command {
    let end = end(input, now);
    let persist = end.is_none() && input.truth();
    let mut words = vec![b"GETEX".to_vec(), key.clone()];
    words.extend(end.iter().flat_map(|(words, _)| words.clone()));
    words.extend(persist.then(|| b"PERSIST".to_vec()));
    Command::new(words, move |m| {
        let Some(text) = m.text(&key)? else { return Ok(Reply::Null) };
        match end.map(|(_, at)| at(m.now)) {
            Some(None) => return Err(error("ERR invalid expire time in 'getex' command")),
            Some(ends) => m.set_end(&key, ends),
            None if persist => m.set_end(&key, None),
            None => {}
        }
        Ok(Reply::bulk(&text))
    })
}

fn setrange(key: Vec<u8>, input: &mut Input<'_>) -> Command {
    let (new, start) = (text(input), i64::from(input.byte()) - 20);
    command!([b"SETRANGE", key, &say(start), &new], move |m| {
        let start = usize::try_from(start).map_err(|_| error("ERR offset is out of range"))?;
        let mut all = m.text(&key)?.unwrap_or_default();
        if !new.is_empty() {
            all.resize(all.len().max(start + new.len()), 0);
            all[start..start + new.len()].copy_from_slice(&new);
            m.put_text(&key, all.clone());
        }
        Ok::<_, Reply>(count(all.len()))
    })
}

fn add(m: &mut Model, key: &[u8], by: i64) -> Result<Reply, Reply> {
    let text = m.text(key)?.unwrap_or_else(|| b"0".to_vec());
    let number =
        integer(&text).ok_or_else(|| error("ERR value is not an integer or out of range"))?;
    let sum =
        number.checked_add(by).ok_or_else(|| error("ERR increment or decrement would overflow"))?;
    m.put_text(key, say(sum));
    Ok(Reply::Integer(sum))
}

/// The range of GETRANGE, whose end is never before the first byte.
fn part(start: i64, stop: i64, length: usize) -> std::ops::Range<usize> {
    if start < 0 && stop < 0 && start > stop {
        return 0..0;
    }
    let first = i64::try_from(length).expect("few").checked_neg().expect("few");
    range(start, if stop < 0 { stop.max(first) } else { stop }, length)
}
