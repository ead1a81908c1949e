//! The least and the greatest are taken out.

use crate::adapter::memory::Keyspace;
use crate::adapter::memory::collection::SortedSet;
use crate::resp::command::arguments::{
    SYNTAX_ERROR, is, keys_to_pop_from, not_negative, pop_count,
};
use crate::resp::command::{Call, Outcome};
use crate::resp::reply::{Protocol, Reply};

/// An end of a sorted set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::resp::command) enum Extreme {
    Least,
    Greatest,
}

impl Extreme {
    /// MIN or MAX.
    pub(in crate::resp::command) fn parse(argument: &[u8]) -> Result<Self, Reply> {
        if is(argument, "MIN") {
            Ok(Self::Least)
        } else if is(argument, "MAX") {
            Ok(Self::Greatest)
        } else {
            Err(SYNTAX_ERROR)
        }
    }
}

pub(super) fn zpopmin(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    pop(call, Extreme::Least)
}

pub(super) fn zpopmax(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    pop(call, Extreme::Greatest)
}

fn pop(call: &Call<'_>, end: Extreme) -> Result<Outcome, Reply> {
    let key = call.arguments[1];
    let count = match &call.arguments[2..] {
        [] => None,
        [count] => Some(not_negative(count, "ERR value is out of range, must be positive")?),
        _ => return Err(SYNTAX_ERROR),
    };
    // Without a count there is one pair at most, which is never a list in a list.
    let form = if count.is_some() { call.session.protocol } else { Protocol::Resp2 };
    call.on_keyspace(|keyspace| {
        let popped = pop_some(keyspace, key, end, count.unwrap_or(1))?;
        Ok(Reply::pairs(form, popped.unwrap_or_default().into_iter()))
    })
}

/// Takes up to `count` members; nothing if there is no sorted set.
pub(in crate::resp::command) fn pop_some(
    keyspace: &mut Keyspace,
    key: &[u8],
    end: Extreme,
    count: usize,
) -> Result<Option<Vec<(Reply, Reply)>>, Reply> {
    if count == 0 {
        return Ok(keyspace.collection::<SortedSet>(key)?.map(|_| Vec::new()));
    }
    keyspace.change_found(key, |set: &mut SortedSet| {
        let length = set.len();
        let count = count.min(length);
        let popped: Vec<(Vec<u8>, f64)> = match end {
            Extreme::Least => {
                set.range(0..count).map(|(member, score)| (member.to_vec(), score.get())).collect()
            }
            Extreme::Greatest => set
                .range(length - count..length)
                .rev()
                .map(|(member, score)| (member.to_vec(), score.get()))
                .collect(),
        };
        for (member, _) in &popped {
            set.remove(member);
        }
        let replies = popped.into_iter();
        Ok(replies
            .map(|(member, score)| (Reply::Bulk(member.into()), Reply::Double(score)))
            .collect())
    })
}

/// Members with their scores, a list for each.
pub(in crate::resp::command) fn as_lists_of_two(members: Vec<(Reply, Reply)>) -> Reply {
    Reply::pairs(Protocol::Resp3, members.into_iter())
}

pub(super) fn zmpop(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (keys, which, options) = keys_to_pop_from(call.arguments, 1)?;
    let (end, count) = (Extreme::parse(which)?, pop_count(options)?);
    call.on_keyspace(|keyspace| {
        for key in keys {
            if let Some(popped) = pop_some(keyspace, key, end, count)? {
                return Ok(Reply::Array(vec![Reply::bulk(key), as_lists_of_two(popped)]));
            }
        }
        Ok(Reply::NullArray)
    })
}
