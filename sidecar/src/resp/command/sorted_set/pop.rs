//! The least and the greatest are taken out.

use crate::adapter::memory::Keyspace;
use crate::adapter::memory::collection::SortedSet;
use crate::resp::command::arguments::{
    NumberOfKeys, SYNTAX_ERROR, is, not_negative, numbered_keys, pop_count,
};
use crate::resp::command::{Call, Outcome};
use crate::resp::reply::{Protocol, Reply};

/// An end of a sorted set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Least,
    Greatest,
}

pub(super) fn zpopmin(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    pop(call, End::Least)
}

pub(super) fn zpopmax(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    pop(call, End::Greatest)
}

fn pop(call: &Call<'_>, end: End) -> Result<Outcome, Reply> {
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
fn pop_some(
    keyspace: &mut Keyspace,
    key: &[u8],
    end: End,
    count: usize,
) -> Result<Option<Vec<(Reply, Reply)>>, Reply> {
    if count == 0 {
        return Ok(keyspace.collection::<SortedSet>(key)?.map(|_| Vec::new()));
    }
    keyspace.change_found(key, |set: &mut SortedSet| {
        let length = set.len();
        let count = count.min(length);
        let popped: Vec<(Vec<u8>, f64)> = match end {
            End::Least => {
                set.range(0..count).map(|(member, score)| (member.to_vec(), score.get())).collect()
            }
            End::Greatest => set
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

pub(super) fn zmpop(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (keys, options) = numbered_keys(call.arguments, 1).map_err(|wrong| match wrong {
        NumberOfKeys::NotANumber | NumberOfKeys::NotPositive => {
            Reply::err("numkeys should be greater than 0")
        }
        NumberOfKeys::TooMany => SYNTAX_ERROR,
    })?;
    let end = |argument: &[u8]| {
        if is(argument, "MIN") {
            Ok(End::Least)
        } else if is(argument, "MAX") {
            Ok(End::Greatest)
        } else {
            Err(SYNTAX_ERROR)
        }
    };
    let [which, options @ ..] = options else {
        return Err(SYNTAX_ERROR);
    };
    let (end, count) = (end(which)?, pop_count(options)?);
    call.on_keyspace(|keyspace| {
        for key in keys {
            if let Some(popped) = pop_some(keyspace, key, end, count)? {
                let popped = Reply::pairs(Protocol::Resp3, popped.into_iter());
                return Ok(Reply::Array(vec![Reply::bulk(key), popped]));
            }
        }
        Ok(Reply::NullArray)
    })
}
