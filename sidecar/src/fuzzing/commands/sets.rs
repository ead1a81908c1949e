//! Commands on sets.

use super::model::{Model, Set, count, flag};
use super::{Answer, Command, Input, key, text};
use crate::resp::reply::Reply;

pub(super) fn command(input: &mut Input<'_>) -> Command {
    let (key, one, other) = (key(input), text(input), text(input));
    match input.below(12) {
        0..=3 => command!([b"SADD", key, &one, &other], move |m| {
            let mut set: Set = m.get(&key)?;
            let before = set.len();
            set.extend([one, other]);
            let new = count(set.len() - before);
            m.put(&key, set);
            Ok::<_, Reply>(new)
        }),
        4 => command!([b"SREM", key, &one, &other], move |m| {
            let mut set: Set = m.get(&key)?;
            let before = set.len();
            set.remove(&one);
            set.remove(&other);
            let gone = count(before - set.len());
            m.put(&key, set);
            Ok::<_, Reply>(gone)
        }),
        5 => command!([b"SMISMEMBER", key, &one, &other], move |m| {
            let set: Set = m.get(&key)?;
            Ok::<_, Reply>(Reply::Array(vec![flag(set.contains(&one)), flag(set.contains(&other))]))
        }),
        6 => command!([b"SCARD", key], move |m| { m.get(&key).map(|set: Set| count(set.len())) }),
        7 => command!([b"SMEMBERS", key], move |m| m.get(&key).map(members)),
        8 => {
            let to = super::key(input);
            command!([b"SMOVE", key, &to, &one], move |m| {
                let mut from: Set = m.get(&key)?;
                if from.is_empty() {
                    return Ok(flag(false));
                }
                m.get::<Set>(&to)?;
                let is_there = from.remove(&one);
                if is_there && key != to {
                    m.put(&key, from);
                    let mut set: Set = m.get(&to)?;
                    set.insert(one);
                    m.put(&to, set);
                }
                Ok::<_, Reply>(flag(is_there))
            })
        }
        kind => combine(key, kind, input),
    }
}

fn members(set: Set) -> Answer {
    Answer::InAnyOrder(Reply::Set(
        set.into_iter().map(|member| Reply::Bulk(member.into())).collect(),
    ))
}

/// What becomes of two sets.
type Combine = fn(&Set, &Set) -> Set;

fn combine(first: Vec<u8>, kind: usize, input: &mut Input<'_>) -> Command {
    let (second, third) = (key(input), key(input));
    let to = input.truth().then(|| key(input));
    let (name, combine): (&[u8], Combine) = match kind {
        9 => (b"SINTER", |one, other| one & other),
        10 => (b"SUNION", |one, other| one | other),
        _ => (b"SDIFF", |one, other| one - other),
    };
    let mut words = vec![name.to_vec()];
    if let Some(to) = &to {
        words[0].extend_from_slice(b"STORE");
        words.push(to.clone());
    }
    words.extend([first.clone(), second.clone(), third.clone()]);
    Command::new(words, move |m: &mut Model| {
        let sets = [m.get(&first)?, m.get(&second)?, m.get(&third)?];
        let result = combine(&combine(&sets[0], &sets[1]), &sets[2]);
        let Some(to) = to else { return Ok::<_, Reply>(members(result)) };
        let length = count(result.len());
        m.overwrite(&to, result);
        Ok(length.into())
    })
}
