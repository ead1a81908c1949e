//! Commands on sorted sets: the table, and those about one member.

use bytes::Bytes;

use super::arguments::{SYNTAX_ERROR, ScanOptions, cursor, is};
use super::pick::Count;
use super::{
    Call, Command, KEY_AND_NUMBERED_KEYS, NUMBERED_KEYS, ONE_KEY, Outcome, TWO_KEYS, wrong_number,
};
use crate::adapter::memory::collection::{Score, SortedSet};
use crate::resp::number::format_f64;
use crate::resp::reply::{Protocol, Reply};

mod add;
mod bounds;
mod combine;
mod pop;
mod range;

pub(super) use pop::{Extreme, as_lists_of_two, pop_some};

const READ: &[&str] = &["readonly"];
const FAST_READ: &[&str] = &["readonly", "fast"];
const WRITE: &[&str] = &["write", "denyoom"];
const FAST_WRITE: &[&str] = &["write", "denyoom", "fast"];
const DELETE: &[&str] = &["write"];
const FAST_DELETE: &[&str] = &["write", "fast"];
const MOVABLE_READ: &[&str] = &["readonly", "movablekeys"];
const MOVABLE_WRITE: &[&str] = &["write", "denyoom", "movablekeys"];
const MOVABLE_DELETE: &[&str] = &["write", "movablekeys"];

#[rustfmt::skip]
pub(super) const FAMILY: &[Command] = &[
    Command::new("zadd", -4, FAST_WRITE, ONE_KEY, "1.2.0", "Adds one or more members to a sorted set, or updates their scores. Creates the key if it doesn't exist.", add::zadd).in_memory(),
    Command::new("zincrby", 4, FAST_WRITE, ONE_KEY, "1.2.0", "Increments the score of a member in a sorted set.", add::zincrby).in_memory(),
    Command::new("zrem", -3, FAST_DELETE, ONE_KEY, "1.2.0", "Removes one or more members from a sorted set. Deletes the sorted set if all members were removed.", zrem).in_memory(),
    Command::new("zcard", 2, FAST_READ, ONE_KEY, "1.2.0", "Returns the number of members in a sorted set.", zcard).in_memory(),
    Command::new("zscore", 3, FAST_READ, ONE_KEY, "1.2.0", "Returns the score of a member in a sorted set.", zscore).in_memory(),
    Command::new("zmscore", -3, FAST_READ, ONE_KEY, "6.2.0", "Returns the score of one or more members in a sorted set.", zmscore).in_memory(),
    Command::new("zrank", -3, FAST_READ, ONE_KEY, "2.0.0", "Returns the index of a member in a sorted set ordered by ascending scores.", zrank).in_memory(),
    Command::new("zrevrank", -3, FAST_READ, ONE_KEY, "2.0.0", "Returns the index of a member in a sorted set ordered by descending scores.", zrevrank).in_memory(),
    Command::new("zrandmember", -2, READ, ONE_KEY, "6.2.0", "Returns one or more random members from a sorted set.", zrandmember).in_memory(),
    Command::new("zscan", -3, READ, ONE_KEY, "2.8.0", "Iterates over members and scores of a sorted set.", zscan).in_memory(),
    Command::new("zrange", -4, READ, ONE_KEY, "1.2.0", "Returns members in a sorted set within a range of indexes.", range::zrange).in_memory(),
    Command::new("zrangestore", -5, WRITE, TWO_KEYS, "6.2.0", "Stores a range of members from sorted set in a key.", range::zrangestore).in_memory(),
    Command::new("zrevrange", -4, READ, ONE_KEY, "1.2.0", "Returns members in a sorted set within a range of indexes in reverse order.", range::zrevrange).in_memory(),
    Command::new("zrangebyscore", -4, READ, ONE_KEY, "1.0.5", "Returns members in a sorted set within a range of scores.", range::zrangebyscore).in_memory(),
    Command::new("zrevrangebyscore", -4, READ, ONE_KEY, "2.2.0", "Returns members in a sorted set within a range of scores in reverse order.", range::zrevrangebyscore).in_memory(),
    Command::new("zrangebylex", -4, READ, ONE_KEY, "2.8.9", "Returns members in a sorted set within a lexicographical range.", range::zrangebylex).in_memory(),
    Command::new("zrevrangebylex", -4, READ, ONE_KEY, "2.8.9", "Returns members in a sorted set within a lexicographical range in reverse order.", range::zrevrangebylex).in_memory(),
    Command::new("zcount", 4, FAST_READ, ONE_KEY, "2.0.0", "Returns the count of members in a sorted set that have scores within a range.", range::zcount).in_memory(),
    Command::new("zlexcount", 4, FAST_READ, ONE_KEY, "2.8.9", "Returns the number of members in a sorted set within a lexicographical range.", range::zlexcount).in_memory(),
    Command::new("zremrangebyrank", 4, DELETE, ONE_KEY, "2.0.0", "Removes members in a sorted set within a range of indexes. Deletes the sorted set if all members were removed.", range::zremrangebyrank).in_memory(),
    Command::new("zremrangebyscore", 4, DELETE, ONE_KEY, "1.2.0", "Removes members in a sorted set within a range of scores. Deletes the sorted set if all members were removed.", range::zremrangebyscore).in_memory(),
    Command::new("zremrangebylex", 4, DELETE, ONE_KEY, "2.8.9", "Removes members in a sorted set within a lexicographical range. Deletes the sorted set if all members were removed.", range::zremrangebylex).in_memory(),
    Command::new("zpopmin", -2, FAST_DELETE, ONE_KEY, "5.0.0", "Returns the lowest-scoring members from a sorted set after removing them. Deletes the sorted set if the last member was popped.", pop::zpopmin).in_memory(),
    Command::new("zpopmax", -2, FAST_DELETE, ONE_KEY, "5.0.0", "Returns the highest-scoring members from a sorted set after removing them. Deletes the sorted set if the last member was popped.", pop::zpopmax).in_memory(),
    Command::new("zmpop", -4, MOVABLE_DELETE, NUMBERED_KEYS, "7.0.0", "Returns the highest- or lowest-scoring members from one or more sorted sets after removing them. Deletes the sorted set if the last member was popped.", pop::zmpop).in_memory(),
    Command::new("zunion", -3, MOVABLE_READ, NUMBERED_KEYS, "6.2.0", "Returns the union of multiple sorted sets.", combine::zunion).in_memory(),
    Command::new("zunionstore", -4, MOVABLE_WRITE, KEY_AND_NUMBERED_KEYS, "2.0.0", "Stores the union of multiple sorted sets in a key.", combine::zunionstore).in_memory(),
    Command::new("zinter", -3, MOVABLE_READ, NUMBERED_KEYS, "6.2.0", "Returns the intersect of multiple sorted sets.", combine::zinter).in_memory(),
    Command::new("zinterstore", -4, MOVABLE_WRITE, KEY_AND_NUMBERED_KEYS, "2.0.0", "Stores the intersect of multiple sorted sets in a key.", combine::zinterstore).in_memory(),
    Command::new("zintercard", -3, MOVABLE_READ, NUMBERED_KEYS, "7.0.0", "Returns the number of members of the intersect of multiple sorted sets.", combine::zintercard).in_memory(),
    Command::new("zdiff", -3, MOVABLE_READ, NUMBERED_KEYS, "6.2.0", "Returns the difference between multiple sorted sets.", combine::zdiff).in_memory(),
    Command::new("zdiffstore", -4, MOVABLE_WRITE, KEY_AND_NUMBERED_KEYS, "6.2.0", "Stores the difference of multiple sorted sets in a key.", combine::zdiffstore).in_memory(),
];

/// Answers from the sorted set, or from an empty one where there is none.
fn read(call: &Call<'_>, answer: impl FnOnce(&SortedSet) -> Reply) -> Result<Outcome, Reply> {
    let key = call.arguments[1];
    call.on_keyspace(|keyspace| {
        Ok(match keyspace.collection::<SortedSet>(key)? {
            Some(set) => answer(set),
            None => answer(&SortedSet::default()),
        })
    })
}

fn score_or_null(score: Option<Score>) -> Reply {
    score.map_or(Reply::Null, |score| Reply::Double(score.get()))
}

/// Members, and with `scores` theirs too.
fn members<'a>(
    members: impl Iterator<Item = (&'a [u8], Score)>,
    scores: bool,
    protocol: Protocol,
) -> Reply {
    if scores {
        let pairs =
            members.map(|(member, score)| (Reply::bulk(member), Reply::Double(score.get())));
        Reply::pairs(protocol, pairs)
    } else {
        Reply::Array(members.map(|(member, _)| Reply::bulk(member)).collect())
    }
}

fn zrem(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (key, members) = (call.arguments[1], &call.arguments[2..]);
    call.on_keyspace(|keyspace| {
        let removed = keyspace.change_found(key, |set: &mut SortedSet| {
            Ok::<_, Reply>(members.iter().filter(|member| set.remove(member).is_some()).count())
        })?;
        Ok(Reply::count(removed.unwrap_or_default() as u64))
    })
}

fn zcard(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    read(call, |set| Reply::count(set.len() as u64))
}

fn zscore(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let member = call.arguments[2];
    read(call, |set| score_or_null(set.score(member)))
}

fn zmscore(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let members = &call.arguments[2..];
    read(call, |set| {
        Reply::Array(members.iter().map(|member| score_or_null(set.score(member))).collect())
    })
}

fn zrank(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    rank(call, "zrank", |rank, _| rank)
}

fn zrevrank(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    rank(call, "zrevrank", |rank, length| length - 1 - rank)
}

fn rank(call: &Call<'_>, name: &str, counted: fn(usize, usize) -> usize) -> Result<Outcome, Reply> {
    let member = call.arguments[2];
    let with_score = match &call.arguments[3..] {
        [] => false,
        [option] if is(option, "WITHSCORE") => true,
        [_] => return Err(SYNTAX_ERROR),
        _ => return Err(wrong_number(name)),
    };
    read(call, |set| {
        let rank = set.rank(member).map(|rank| counted(rank, set.len()));
        match (rank, with_score) {
            (Some(rank), false) => Reply::count(rank as u64),
            (Some(rank), true) => {
                Reply::Array(vec![Reply::count(rank as u64), score_or_null(set.score(member))])
            }
            (None, false) => Reply::Null,
            (None, true) => Reply::NullArray,
        }
    })
}

fn zrandmember(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let Some(count) = call.arguments.get(2) else {
        return read(call, |set| {
            let place = Count::WithRepeats(1).pick(set.len(), &mut rand::rng());
            let picked = place.first().and_then(|place| set.at(*place));
            picked.map_or(Reply::Null, |(member, _)| Reply::bulk(member))
        });
    };
    let count = Count::parse(count)?;
    let scores = match &call.arguments[3..] {
        [] => false,
        [option] if is(option, "WITHSCORES") => true,
        _ => return Err(SYNTAX_ERROR),
    };
    let protocol = call.session.protocol;
    read(call, |set| {
        let places = count.pick(set.len(), &mut rand::rng());
        members(places.into_iter().filter_map(|place| set.at(place)), scores, protocol)
    })
}

fn zscan(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let key = call.arguments[1];
    let cursor = cursor(call.arguments[2])?;
    let options = &call.arguments[3..];
    call.on_keyspace(|keyspace| {
        let Some(set) = keyspace.collection::<SortedSet>(key)? else {
            return Ok(ScanOptions::page(0, Vec::new()));
        };
        let options = ScanOptions::parse(options, false)?;
        let mut page = Vec::new();
        let next = set.scan(cursor, options.count, |member, score| {
            if options.wants(member) {
                let score = Bytes::from(format_f64(score.get()).into_owned());
                page.extend([Reply::bulk(member), Reply::Bulk(score)]);
            }
        });
        Ok(ScanOptions::page(next, page))
    })
}
