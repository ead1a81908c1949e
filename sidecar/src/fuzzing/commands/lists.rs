//! Commands on lists.

use super::model::{List, bulks, count, error, maybe, range};
use super::{Command, Input, key, number, say, text};
use crate::resp::reply::Reply;

pub(super) fn command(input: &mut Input<'_>) -> Command {
    let (key, element) = (key(input), text(input));
    match input.below(15) {
        0..=2 => push(key, element, input),
        3 | 4 => pop(key, input),
        5 => command!([b"LLEN", key], move |m| { m.get(&key).map(|list: List| count(list.len())) }),
        6 => {
            let (start, stop) = (number(input), number(input));
            command!([b"LRANGE", key, &say(start), &say(stop)], move |m| {
                let list: List = m.get(&key)?;
                Ok::<_, Reply>(bulks(&list[range(start, stop, list.len())]))
            })
        }
        7 => {
            let at = number(input);
            command!([b"LINDEX", key, &say(at)], move |m| {
                let list: List = m.get(&key)?;
                Ok::<_, Reply>(maybe(place(at, list.len()).map(|at| &list[at])))
            })
        }
        8 => {
            let at = number(input);
            command!([b"LSET", key, &say(at), &element], move |m| {
                let mut list: List = m.get(&key)?;
                if list.is_empty() {
                    return Err(error("ERR no such key"));
                }
                let at = place(at, list.len()).ok_or_else(|| error("ERR index out of range"))?;
                list[at] = element;
                m.put(&key, list);
                Ok(Reply::OK)
            })
        }
        9 => remove(key, element, number(input)),
        10 => {
            let (start, stop) = (number(input), number(input));
            command!([b"LTRIM", key, &say(start), &say(stop)], move |m| {
                let list: List = m.get(&key)?;
                m.put(&key, list[range(start, stop, list.len())].to_vec());
                Ok::<_, Reply>(Reply::OK)
            })
        }
        11 => {
            let (before, pivot) = (input.truth(), text(input));
            let side: &[u8] = if before { b"BEFORE" } else { b"AFTER" };
            command!([b"LINSERT", key, side, &pivot, &element], move |m| {
                let mut list: List = m.get(&key)?;
                if list.is_empty() {
                    return Ok::<_, Reply>(count(0));
                }
                let Some(at) = list.iter().position(|element| *element == pivot) else {
                    return Ok(Reply::Integer(-1));
                };
                list.insert(at + usize::from(!before), element);
                let length = count(list.len());
                m.put(&key, list);
                Ok(length)
            })
        }
        12 | 13 => {
            let (to, from_left, to_left) = (super::key(input), input.truth(), input.truth());
            let words = words![b"LMOVE", key, &to, side(from_left), side(to_left)];
            Command::new(words, move |m| {
                let mut from: List = m.get(&key)?;
                if from.is_empty() {
                    return Ok(Reply::Null);
                }
                m.get::<List>(&to)?;
                let element = from.remove(if from_left { 0 } else { from.len() - 1 });
                m.put(&key, from);
                let mut list: List = m.get(&to)?;
                list.insert(if to_left { 0 } else { list.len() }, element.clone());
                m.put(&to, list);
                Ok::<_, Reply>(Reply::bulk(&element))
            })
        }
        _ => command!([b"LPOS", key, &element], move |m| {
            let list: List = m.get(&key)?;
            let at = list.iter().position(|one| *one == element);
            Ok::<_, Reply>(at.map_or(Reply::Null, count))
        }),
    }
}

fn side(is_left: bool) -> &'static [u8] {
    if is_left { b"LEFT" } else { b"RIGHT" }
}

/// Where a position is that counts from the end if it is negative.
fn place(at: i64, length: usize) -> Option<usize> {
    let length = i64::try_from(length).expect("few");
    let at = if at < 0 { at.checked_add(length)? } else { at };
    usize::try_from(at).ok().filter(|_| at < length)
}

fn push(key: Vec<u8>, element: Vec<u8>, input: &mut Input<'_>) -> Command {
    let (left, only_there, other) = (input.truth(), input.below(4) == 0, text(input));
    let name: &[u8] = match (left, only_there) {
        (true, false) => b"LPUSH",
        (false, false) => b"RPUSH",
        (true, true) => b"LPUSHX",
        (false, true) => b"RPUSHX",
    };
    command!([name, &key, &element, &other], move |m| {
        let mut list: List = m.get(&key)?;
        if only_there && list.is_empty() {
            return Ok::<_, Reply>(count(0));
        }
        for element in [element, other] {
            list.insert(if left { 0 } else { list.len() }, element);
        }
        let length = count(list.len());
        m.put(&key, list);
        Ok(length)
    })
}

fn pop(key: Vec<u8>, input: &mut Input<'_>) -> Command {
    let left = input.truth();
    let most = (input.below(3) == 0).then(|| input.below(5));
    let name: &[u8] = if left { b"LPOP" } else { b"RPOP" };
    let words = words![name, &key].into_iter();
    Command::new(words.chain(most.map(|most| most.to_string().into_bytes())), move |m| {
        let mut list: List = m.get(&key)?;
        if list.is_empty() {
            return Ok(if most.is_some() { Reply::NullArray } else { Reply::Null });
        }
        let mut popped = Vec::new();
        while popped.len() < most.unwrap_or(1) && !list.is_empty() {
            popped.push(list.remove(if left { 0 } else { list.len() - 1 }));
        }
        m.put(&key, list);
        Ok::<_, Reply>(if most.is_some() { bulks(popped) } else { maybe(popped.first()) })
    })
}

fn remove(key: Vec<u8>, element: Vec<u8>, most: i64) -> Command {
    command!([b"LREM", key, &say(most), &element], move |m| {
        let mut list: List = m.get(&key)?;
        let before = list.len();
        let mut left = if most == 0 { u64::MAX } else { most.unsigned_abs() };
        let mut keep = |one: &Vec<u8>| {
            let goes = *one == element && left > 0;
            left -= u64::from(goes);
            !goes
        };
        if most < 0 {
            list.reverse();
            list.retain(&mut keep);
            list.reverse();
        } else {
            list.retain(&mut keep);
        }
        let gone = count(before - list.len());
        m.put(&key, list);
        Ok::<_, Reply>(gone)
    })
}
