//! Commands on sets.

use bytes::Bytes;

use super::arguments::{
    NumberOfKeys, SYNTAX_ERROR, ScanOptions, cursor, is, not_negative, numbered_keys,
};
use super::pick::Count;
use super::{ALL_KEYS, Call, Command, NUMBERED_KEYS, ONE_KEY, Outcome, TWO_KEYS};
use crate::adapter::memory::collection::Set;
use crate::adapter::memory::{Keyspace, Refusal};
use crate::resp::reply::Reply;

const READ: &[&str] = &["readonly"];
const FAST_READ: &[&str] = &["readonly", "fast"];
const WRITE: &[&str] = &["write", "denyoom"];
const FAST_WRITE: &[&str] = &["write", "denyoom", "fast"];
const FAST_DELETE: &[&str] = &["write", "fast"];
const MOVABLE_READ: &[&str] = &["readonly", "movablekeys"];

#[rustfmt::skip]
pub(super) const FAMILY: &[Command] = &[
    Command::new("sadd", -3, FAST_WRITE, ONE_KEY, "1.0.0", "Adds one or more members to a set. Creates the key if it doesn't exist.", sadd).in_memory(),
    Command::new("srem", -3, FAST_DELETE, ONE_KEY, "1.0.0", "Removes one or more members from a set. Deletes the set if the last member was removed.", srem).in_memory(),
    Command::new("smove", 4, FAST_DELETE, TWO_KEYS, "1.0.0", "Moves a member from one set to another.", smove).in_memory(),
    Command::new("sismember", 3, FAST_READ, ONE_KEY, "1.0.0", "Determines whether a member belongs to a set.", sismember).in_memory(),
    Command::new("smismember", -3, FAST_READ, ONE_KEY, "6.2.0", "Determines whether multiple members belong to a set.", smismember).in_memory(),
    Command::new("scard", 2, FAST_READ, ONE_KEY, "1.0.0", "Returns the number of members in a set.", scard).in_memory(),
    Command::new("smembers", 2, READ, ONE_KEY, "1.0.0", "Returns all members of a set.", smembers).in_memory(),
    Command::new("spop", -2, FAST_DELETE, ONE_KEY, "1.0.0", "Returns one or more random members from a set after removing them. Deletes the set if the last member was popped.", spop).in_memory(),
    Command::new("srandmember", -2, READ, ONE_KEY, "1.0.0", "Get one or multiple random members from a set", srandmember).in_memory(),
    Command::new("sinter", -2, READ, ALL_KEYS, "1.0.0", "Returns the intersect of multiple sets.", sinter).in_memory(),
    Command::new("sintercard", -3, MOVABLE_READ, NUMBERED_KEYS, "7.0.0", "Returns the number of members of the intersect of multiple sets.", sintercard).in_memory(),
    Command::new("sinterstore", -3, WRITE, ALL_KEYS, "1.0.0", "Stores the intersect of multiple sets in a key.", sinterstore).in_memory(),
    Command::new("sunion", -2, READ, ALL_KEYS, "1.0.0", "Returns the union of multiple sets.", sunion).in_memory(),
    Command::new("sunionstore", -3, WRITE, ALL_KEYS, "1.0.0", "Stores the union of multiple sets in a key.", sunionstore).in_memory(),
    Command::new("sdiff", -2, READ, ALL_KEYS, "1.0.0", "Returns the difference of multiple sets.", sdiff).in_memory(),
    Command::new("sdiffstore", -3, WRITE, ALL_KEYS, "1.0.0", "Stores the difference of multiple sets in a key.", sdiffstore).in_memory(),
    Command::new("sscan", -3, READ, ONE_KEY, "2.8.0", "Iterates over members of a set.", sscan).in_memory(),
];

fn sadd(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (key, members) = (call.arguments[1], &call.arguments[2..]);
    call.on_keyspace(|keyspace| {
        keyspace.change(key, |set: &mut Set| {
            let added = members.iter().filter(|member| set.add(member)).count();
            Ok(Reply::count(added as u64))
        })
    })
}

fn srem(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (key, members) = (call.arguments[1], &call.arguments[2..]);
    call.on_keyspace(|keyspace| {
        let removed = keyspace.change_found(key, |set: &mut Set| {
            Ok::<_, Reply>(members.iter().filter(|member| set.remove(member)).count())
        })?;
        Ok(Reply::count(removed.unwrap_or_default() as u64))
    })
}

fn smove(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (from, to, member) = (call.arguments[1], call.arguments[2], call.arguments[3]);
    call.on_keyspace(|keyspace| {
        let Some(source) = keyspace.collection::<Set>(from)? else {
            return Ok(Reply::Integer(0));
        };
        let is_member = source.contains(member);
        keyspace.collection::<Set>(to)?;
        if is_member && from != to {
            keyspace.change_found(from, |set: &mut Set| Ok::<_, Reply>(set.remove(member)))?;
            keyspace.change(to, |set: &mut Set| Ok::<_, Reply>(set.add(member)))?;
        }
        Ok(Reply::Integer(i64::from(is_member)))
    })
}

/// Answers from the set, or from an empty one where there is none.
fn read(call: &Call<'_>, answer: impl FnOnce(&Set) -> Reply) -> Result<Outcome, Reply> {
    let key = call.arguments[1];
    call.on_keyspace(|keyspace| {
        Ok(match keyspace.collection::<Set>(key)? {
            Some(set) => answer(set),
            None => answer(&Set::default()),
        })
    })
}

fn sismember(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let member = call.arguments[2];
    read(call, |set| Reply::Integer(i64::from(set.contains(member))))
}

fn smismember(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let members = &call.arguments[2..];
    read(call, |set| {
        let found = members.iter().map(|member| i64::from(set.contains(member)));
        Reply::Array(found.map(Reply::Integer).collect())
    })
}

fn scard(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    read(call, |set| Reply::count(set.len() as u64))
}

fn members_of(set: &Set) -> Reply {
    Reply::Set(set.iter().map(Reply::bulk).collect())
}

fn smembers(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    read(call, members_of)
}

fn spop(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let key = call.arguments[1];
    let count = match &call.arguments[2..] {
        [] => None,
        [count] => Some(not_negative(count, "ERR value is out of range, must be positive")?),
        _ => return Err(SYNTAX_ERROR),
    };
    call.on_keyspace(|keyspace| {
        let popped = keyspace.change_found(key, |set: &mut Set| {
            let distinct = Count::Distinct(count.unwrap_or(1));
            let places = distinct.pick(set.len(), &mut rand::rng());
            let popped: Vec<Bytes> = places
                .into_iter()
                .filter_map(|place| set.at(place).map(Bytes::copy_from_slice))
                .collect();
            for member in &popped {
                set.remove(member);
            }
            Ok::<_, Reply>(popped)
        })?;
        let mut popped = popped.unwrap_or_default().into_iter().map(Reply::Bulk);
        Ok(match count {
            None => popped.next().unwrap_or(Reply::Null),
            Some(_) => Reply::Set(popped.collect()),
        })
    })
}

fn srandmember(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    match &call.arguments[2..] {
        [] => read(call, |set| {
            let place = Count::WithRepeats(1).pick(set.len(), &mut rand::rng());
            place.first().and_then(|place| set.at(*place)).map_or(Reply::Null, Reply::bulk)
        }),
        [count] => {
            let count = Count::parse(count)?;
            read(call, |set| {
                let places = count.pick(set.len(), &mut rand::rng());
                let picked = places.into_iter().filter_map(|place| set.at(place));
                Reply::Array(picked.map(Reply::bulk).collect())
            })
        }
        _ => Err(SYNTAX_ERROR),
    }
}

/// How several sets become one.
type Combination = fn(&[Option<&Set>]) -> Set;

/// Members of all sets.
fn intersection(sets: &[Option<&Set>]) -> Set {
    let Some(sets) = sets.iter().copied().collect::<Option<Vec<&Set>>>() else {
        return Set::default();
    };
    // Each member of the smallest is looked for in the others.
    let Some((at, smallest)) = sets.iter().enumerate().min_by_key(|(_, set)| set.len()) else {
        return Set::default();
    };
    let in_others = |member: &&[u8]| {
        sets.iter().enumerate().all(|(other, set)| other == at || set.contains(member))
    };
    smallest.iter().filter(in_others).collect()
}

/// Members of any set.
fn union(sets: &[Option<&Set>]) -> Set {
    sets.iter().flatten().flat_map(|set| set.iter()).collect()
}

/// Members of the first set that no other has.
fn difference(sets: &[Option<&Set>]) -> Set {
    let Some((Some(first), others)) = sets.split_first() else {
        return Set::default();
    };
    let in_none = |member: &&[u8]| !others.iter().flatten().any(|other| other.contains(member));
    first.iter().filter(in_none).collect()
}

fn combined(keyspace: &Keyspace, keys: &[&[u8]], combination: Combination) -> Result<Set, Refusal> {
    let sets: Vec<Option<&Set>> =
        keys.iter().map(|key| keyspace.peek_collection(key)).collect::<Result<_, _>>()?;
    Ok(combination(&sets))
}

fn combine(call: &Call<'_>, combination: Combination) -> Result<Outcome, Reply> {
    let keys = &call.arguments[1..];
    call.on_keyspace(|keyspace| Ok(members_of(&combined(keyspace, keys, combination)?)))
}

fn combine_and_store(call: &Call<'_>, combination: Combination) -> Result<Outcome, Reply> {
    let (to, keys) = (call.arguments[1], &call.arguments[2..]);
    call.on_keyspace(|keyspace| {
        let set = combined(keyspace, keys, combination)?;
        let count = set.len();
        keyspace.put_collection(to, set)?;
        Ok(Reply::count(count as u64))
    })
}

fn sinter(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    combine(call, intersection)
}

fn sinterstore(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    combine_and_store(call, intersection)
}

fn sunion(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    combine(call, union)
}

fn sunionstore(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    combine_and_store(call, union)
}

fn sdiff(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    combine(call, difference)
}

fn sdiffstore(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    combine_and_store(call, difference)
}

fn sintercard(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (keys, options) = numbered_keys(call.arguments, 1).map_err(|wrong| {
        Reply::err(match wrong {
            NumberOfKeys::NotANumber | NumberOfKeys::NotPositive => {
                "numkeys should be greater than 0"
            }
            NumberOfKeys::TooMany => "Number of keys can't be greater than number of args",
        })
    })?;
    let limit = cardinality_limit(options)?;
    call.on_keyspace(|keyspace| {
        let count = combined(keyspace, keys, intersection)?.len();
        Ok(Reply::count(count.min(limit) as u64))
    })
}

/// LIMIT, of which 0 is none.
pub(super) fn cardinality_limit(options: &[&[u8]]) -> Result<usize, Reply> {
    let mut limit = 0;
    let mut rest = options.iter();
    while let Some(option) = rest.next() {
        match rest.next() {
            Some(given) if is(option, "LIMIT") => {
                limit = not_negative(given, "ERR LIMIT can't be negative")?;
            }
            _ => return Err(SYNTAX_ERROR),
        }
    }
    Ok(if limit == 0 { usize::MAX } else { limit })
}

fn sscan(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let key = call.arguments[1];
    let cursor = cursor(call.arguments[2])?;
    let options = &call.arguments[3..];
    call.on_keyspace(|keyspace| {
        let Some(set) = keyspace.collection::<Set>(key)? else {
            return Ok(ScanOptions::page(0, Vec::new()));
        };
        let options = ScanOptions::parse(options, false)?;
        let mut page = Vec::new();
        let next = set.scan(cursor, options.count, |member| {
            if options.wants(member) {
                page.push(Reply::bulk(member));
            }
        });
        Ok(ScanOptions::page(next, page))
    })
}
