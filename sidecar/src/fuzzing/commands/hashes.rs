//! Commands on hashes.

use super::model::{Hash, bulks, count, error, flag, integer, maybe};
use super::{Answer, Command, Input, key, number, say, text};
use crate::resp::reply::Reply;

pub(super) fn command(input: &mut Input<'_>) -> Command {
    let (key, field) = (key(input), text(input));
    match input.below(14) {
        0..=2 => {
            let (value, other, another) = (text(input), text(input), text(input));
            command!([b"HSET", key, &field, &value, &other, &another], move |m| {
                let mut hash: Hash = m.get(&key)?;
                let before = hash.len();
                hash.insert(field, value);
                hash.insert(other, another);
                let new = hash.len() - before;
                m.put(&key, hash);
                Ok::<_, Reply>(count(new))
            })
        }
        3 => {
            let value = text(input);
            command!([b"HSETNX", key, &field, &value], move |m| {
                let mut hash: Hash = m.get(&key)?;
                let is_new = !hash.contains_key(&field);
                if is_new {
                    hash.insert(field, value);
                    m.put(&key, hash);
                }
                Ok::<_, Reply>(flag(is_new))
            })
        }
        4 => command!([b"HGET", key, &field], move |m| {
            m.get(&key).map(|hash: Hash| maybe(hash.get(&field)))
        }),
        5 => {
            let other = text(input);
            command!([b"HMGET", key, &field, &other], move |m| {
                let hash: Hash = m.get(&key)?;
                Ok::<_, Reply>(Reply::Array(vec![maybe(hash.get(&field)), maybe(hash.get(&other))]))
            })
        }
        6 | 7 => {
            let other = text(input);
            command!([b"HDEL", key, &field, &other], move |m| {
                let mut hash: Hash = m.get(&key)?;
                let before = hash.len();
                hash.remove(&field);
                hash.remove(&other);
                let gone = before - hash.len();
                m.put(&key, hash);
                Ok::<_, Reply>(count(gone))
            })
        }
        8 => command!([b"HLEN", key], move |m| { m.get(&key).map(|hash: Hash| count(hash.len())) }),
        9 => command!([b"HEXISTS", key, &field], move |m| {
            m.get(&key).map(|hash: Hash| flag(hash.contains_key(&field)))
        }),
        10 => command!([b"HSTRLEN", key, &field], move |m| {
            m.get(&key).map(|hash: Hash| count(hash.get(&field).map_or(0, Vec::len)))
        }),
        11 => command!([b"HGETALL", key], move |m| {
            let hash: Hash = m.get(&key)?;
            let pair =
                |(field, value): (&Vec<u8>, &Vec<u8>)| (Reply::bulk(field), Reply::bulk(value));
            Ok::<_, Reply>(Answer::InAnyOrder(Reply::Map(hash.iter().map(pair).collect())))
        }),
        12 => {
            let fields = input.truth();
            let name: &[u8] = if fields { b"HKEYS" } else { b"HVALS" };
            command!([name, &key], move |m| {
                let hash: Hash = m.get(&key)?;
                let items = if fields { bulks(hash.keys()) } else { bulks(hash.values()) };
                Ok::<_, Reply>(Answer::InAnyOrder(items))
            })
        }
        _ => {
            let by = number(input);
            command!([b"HINCRBY", key, &field, &say(by)], move |m| {
                let mut hash: Hash = m.get(&key)?;
                let number = match hash.get(&field) {
                    Some(text) => {
                        integer(text).ok_or_else(|| error("ERR hash value is not an integer"))?
                    }
                    None => 0,
                };
                let sum = number
                    .checked_add(by)
                    .ok_or_else(|| error("ERR increment or decrement would overflow"))?;
                hash.insert(field, say(sum));
                m.put(&key, hash);
                Ok(Reply::Integer(sum))
            })
        }
    }
}
