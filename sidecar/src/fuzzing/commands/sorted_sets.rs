//! Commands on sorted sets.

#![allow(clippy::float_cmp, reason = "scores are compared as they are")]

use super::model::{Model, Sorted, Text, bulks, count, error, range};
use super::{Command, Input, key, number, say, text};
use crate::resp::number::format_f64;
use crate::resp::reply::Reply;

const SCORES: [f64; 10] =
    [0.0, 1.0, -1.0, 1.5, 2.0, 3.0, -2.25, 1e20, f64::INFINITY, f64::NEG_INFINITY];

fn score(input: &mut Input<'_>) -> f64 {
    *input.one_of(&SCORES)
}

fn said(score: f64) -> Text {
    format_f64(score).as_bytes().to_vec()
}

pub(super) fn command(input: &mut Input<'_>) -> Command {
    let (key, member) = (key(input), text(input));
    match input.below(18) {
        0..=3 => add(key, member, input),
        4 => {
            let by = score(input);
            command!([b"ZINCRBY", key, &said(by), &member], move |m| {
                increase(m, &key, member, by, "")
                    .map(|score| score.map_or(Reply::Null, Reply::Double))
            })
        }
        5 => command!([b"ZSCORE", key, &member], move |m| {
            let set: Sorted = m.get(&key)?;
            Ok::<_, Reply>(set.get(&member).map_or(Reply::Null, |score| Reply::Double(*score)))
        }),
        6 => {
            command!([b"ZCARD", key], move |m| { m.get(&key).map(|set: Sorted| count(set.len())) })
        }
        7 => {
            let other = text(input);
            command!([b"ZREM", key, &member, &other], move |m| {
                let mut set: Sorted = m.get(&key)?;
                let before = set.len();
                set.remove(&member);
                set.remove(&other);
                let gone = count(before - set.len());
                m.put(&key, set);
                Ok::<_, Reply>(gone)
            })
        }
        8 => rank(key, member, input),
        9 => {
            let bounds = Bounds::read(input);
            command!([b"ZCOUNT", key, &bounds.words[0], &bounds.words[1]], move |m| {
                let set: Sorted = m.get(&key)?;
                Ok::<_, Reply>(count(set.values().filter(|score| bounds.hold(**score)).count()))
            })
        }
        10 | 11 => by_rank(key, input),
        12 | 13 => by_score(key, input),
        14 | 15 => pop(key, input),
        16 => {
            let (start, stop) = (number(input), number(input));
            command!([b"ZREMRANGEBYRANK", key, &say(start), &say(stop)], move |m| {
                let set: Sorted = m.get(&key)?;
                let order = in_order(&set);
                let gone = order[range(start, stop, order.len())].to_vec();
                Ok::<_, Reply>(without(m, &key, set, &gone))
            })
        }
        _ => {
            let bounds = Bounds::read(input);
            let words = words![b"ZREMRANGEBYSCORE", key, &bounds.words[0], &bounds.words[1]];
            Command::new(words, move |m| {
                let set: Sorted = m.get(&key)?;
                let mut gone = in_order(&set);
                gone.retain(|(_, score)| bounds.hold(*score));
                Ok::<_, Reply>(without(m, &key, set, &gone))
            })
        }
    }
}

fn in_order(set: &Sorted) -> Vec<(Text, f64)> {
    let mut all: Vec<_> = set.iter().map(|(member, score)| (member.clone(), *score)).collect();
    all.sort_by(|one, other| one.1.total_cmp(&other.1).then_with(|| one.0.cmp(&other.0)));
    all
}

fn without(m: &mut Model, key: &[u8], mut set: Sorted, gone: &[(Text, f64)]) -> Reply {
    set.retain(|member, _| gone.iter().all(|(other, _)| other != member));
    m.put(key, set);
    count(gone.len())
}

/// Members, with their scores if `scores`.
fn shown(m: &Model, found: &[(Text, f64)], scores: bool) -> Reply {
    if !scores {
        return bulks(found.iter().map(|(member, _)| member));
    }
    let pair = |(member, score): &(Text, f64)| (Reply::bulk(member), Reply::Double(*score));
    Reply::pairs(m.protocol, found.iter().map(pair))
}

/// A range of scores, and how it is said.
struct Bounds {
    words: [Text; 2],
    ends: [(f64, bool); 2],
}

impl Bounds {
    fn read(input: &mut Input<'_>) -> Self {
        let ends = [(score(input), input.truth()), (score(input), input.truth())];
        let say = |(score, is_out): (f64, bool)| {
            [if is_out { &b"("[..] } else { b"" }, &said(score)].concat()
        };
        Self { words: ends.map(say), ends }
    }

    fn hold(&self, score: f64) -> bool {
        let [(min, above), (max, below)] = self.ends;
        (score > min || (score == min && !above)) && (score < max || (score == max && !below))
    }
}

fn add(key: Text, member: Text, input: &mut Input<'_>) -> Command {
    let condition = *input.one_of(&["", "", "NX", "XX", "GT", "LT"]);
    let (changed, increases) = (input.below(3) == 0, input.below(5) == 0);
    let (new, other, another) = (score(input), text(input), score(input));
    let mut words: Vec<Text> = vec![b"ZADD".to_vec(), key.clone()];
    words.extend((!condition.is_empty()).then(|| condition.as_bytes().to_vec()));
    if increases {
        words.extend([b"INCR".to_vec(), said(new), member.clone()]);
        return Command::new(words, move |m| {
            increase(m, &key, member, new, condition)
                .map(|score| score.map_or(Reply::Null, Reply::Double))
        });
    }
    words.extend(changed.then(|| b"CH".to_vec()));
    words.extend([said(new), member.clone(), said(another), other.clone()]);
    Command::new(words, move |m| {
        let mut set: Sorted = m.get(&key)?;
        let (mut added, mut altered) = (0, 0);
        for (member, new) in [(member, new), (other, another)] {
            let old = set.get(&member).copied();
            if !holds(condition, old, new) {
                continue;
            }
            added += usize::from(old.is_none());
            altered += usize::from(old.is_some_and(|old| old != new));
            set.insert(member, new);
        }
        m.put(&key, set);
        Ok::<_, Reply>(count(added + if changed { altered } else { 0 }))
    })
}

fn holds(condition: &str, old: Option<f64>, new: f64) -> bool {
    match condition {
        "NX" => old.is_none(),
        "XX" => old.is_some(),
        "GT" => old.is_none_or(|old| new > old),
        "LT" => old.is_none_or(|old| new < old),
        _ => true,
    }
}

fn increase(
    m: &mut Model,
    key: &[u8],
    member: Text,
    by: f64,
    condition: &str,
) -> Result<Option<f64>, Reply> {
    let mut set: Sorted = m.get(key)?;
    let old = set.get(&member).copied();
    if !matches!((condition, old), ("NX", None) | ("XX", Some(_)) | ("" | "GT" | "LT", _)) {
        return Ok(None);
    }
    let new = old.unwrap_or_default() + by;
    if new.is_nan() {
        return Err(error("ERR resulting score is not a number (NaN)"));
    }
    if !holds(condition, old, new) {
        return Ok(None);
    }
    set.insert(member, new);
    m.put(key, set);
    Ok(Some(new))
}

fn rank(key: Text, member: Text, input: &mut Input<'_>) -> Command {
    let reversed = input.truth();
    let name: &[u8] = if reversed { b"ZREVRANK" } else { b"ZRANK" };
    command!([name, &key, &member], move |m| {
        let mut order = in_order(&m.get(&key)?);
        if reversed {
            order.reverse();
        }
        let at = order.iter().position(|(other, _)| *other == member);
        Ok::<_, Reply>(at.map_or(Reply::Null, count))
    })
}

fn by_rank(key: Text, input: &mut Input<'_>) -> Command {
    let (start, stop, reversed, scores) =
        (number(input), number(input), input.truth(), input.truth());
    let words = words![b"ZRANGE", key, &say(start), &say(stop)].into_iter();
    let words = words.chain(reversed.then(|| b"REV".to_vec()));
    Command::new(words.chain(scores.then(|| b"WITHSCORES".to_vec())), move |m| {
        let mut order = in_order(&m.get(&key)?);
        if reversed {
            order.reverse();
        }
        Ok::<_, Reply>(shown(m, &order[range(start, stop, order.len())], scores))
    })
}

fn by_score(key: Text, input: &mut Input<'_>) -> Command {
    let (bounds, reversed, scores) = (Bounds::read(input), input.truth(), input.truth());
    let limit = input.truth().then(|| (input.below(4), i64::from(input.byte() % 6) - 2));
    let [min, max] = bounds.words.clone();
    let ends = if reversed { [max, min] } else { [min, max] };
    let mut words = vec![b"ZRANGE".to_vec(), key.clone()];
    words.extend(ends);
    words.push(b"BYSCORE".to_vec());
    words.extend(reversed.then(|| b"REV".to_vec()));
    if let Some((from, most)) = limit {
        words.extend([b"LIMIT".to_vec(), from.to_string().into_bytes(), say(most)]);
    }
    words.extend(scores.then(|| b"WITHSCORES".to_vec()));
    Command::new(words, move |m| {
        let mut order = in_order(&m.get(&key)?);
        if reversed {
            order.reverse();
        }
        order.retain(|(_, score)| bounds.hold(*score));
        if let Some((from, most)) = limit {
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            order = order.into_iter().skip(from).take(most).collect();
        }
        Ok::<_, Reply>(shown(m, &order, scores))
    })
}

fn pop(key: Text, input: &mut Input<'_>) -> Command {
    let (greatest, most) = (input.truth(), input.truth().then(|| input.below(4)));
    let name: &[u8] = if greatest { b"ZPOPMAX" } else { b"ZPOPMIN" };
    let words = words![name, &key].into_iter();
    Command::new(words.chain(most.map(|most| most.to_string().into_bytes())), move |m| {
        let set: Sorted = m.get(&key)?;
        let mut order = in_order(&set);
        if greatest {
            order.reverse();
        }
        order.truncate(most.unwrap_or(1));
        without(m, &key, set, &order);
        if most.is_some() {
            return Ok::<_, Reply>(shown(m, &order, true));
        }
        let pair = |(member, score): &(Text, f64)| [Reply::bulk(member), Reply::Double(*score)];
        Ok(Reply::Array(order.iter().flat_map(pair).collect()))
    })
}
