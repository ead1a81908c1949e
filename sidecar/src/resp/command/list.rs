//! Commands on lists, but those that wait for an element, which are `blocking`.

use super::arguments::{
    SYNTAX_ERROR, integer, is, keys_to_pop_from, not_negative, places, pop_count,
};
use super::{Call, Command, NUMBERED_KEYS, ONE_KEY, Outcome, TWO_KEYS};
use crate::adapter::memory::Keyspace;
use crate::adapter::memory::collection::{List, Side};
use crate::resp::reply::Reply;

const READ: &[&str] = &["readonly"];
const FAST_READ: &[&str] = &["readonly", "fast"];
const WRITE: &[&str] = &["write", "denyoom"];
const FAST_WRITE: &[&str] = &["write", "denyoom", "fast"];
const DELETE: &[&str] = &["write"];
const FAST_DELETE: &[&str] = &["write", "fast"];
const MOVABLE_DELETE: &[&str] = &["write", "movablekeys"];

#[rustfmt::skip]
pub(super) const FAMILY: &[Command] = &[
    Command::new("lpush", -3, FAST_WRITE, ONE_KEY, "1.0.0", "Prepends one or more elements to a list. Creates the key if it doesn't exist.", lpush).in_memory(),
    Command::new("rpush", -3, FAST_WRITE, ONE_KEY, "1.0.0", "Appends one or more elements to a list. Creates the key if it doesn't exist.", rpush).in_memory(),
    Command::new("lpushx", -3, FAST_WRITE, ONE_KEY, "2.2.0", "Prepends one or more elements to a list only when the list exists.", lpushx).in_memory(),
    Command::new("rpushx", -3, FAST_WRITE, ONE_KEY, "2.2.0", "Appends an element to a list only when the list exists.", rpushx).in_memory(),
    Command::new("lpop", -2, FAST_DELETE, ONE_KEY, "1.0.0", "Returns the first elements in a list after removing it. Deletes the list if the last element was popped.", lpop).in_memory(),
    Command::new("rpop", -2, FAST_DELETE, ONE_KEY, "1.0.0", "Returns and removes the last elements of a list. Deletes the list if the last element was popped.", rpop).in_memory(),
    Command::new("lmpop", -4, MOVABLE_DELETE, NUMBERED_KEYS, "7.0.0", "Returns multiple elements from a list after removing them. Deletes the list if the last element was popped.", lmpop).in_memory(),
    Command::new("llen", 2, FAST_READ, ONE_KEY, "1.0.0", "Returns the length of a list.", llen).in_memory(),
    Command::new("lindex", 3, READ, ONE_KEY, "1.0.0", "Returns an element from a list by its index.", lindex).in_memory(),
    Command::new("lrange", 4, READ, ONE_KEY, "1.0.0", "Returns a range of elements from a list.", lrange).in_memory(),
    Command::new("lpos", -3, READ, ONE_KEY, "6.0.6", "Returns the index of matching elements in a list.", lpos).in_memory(),
    Command::new("lset", 4, WRITE, ONE_KEY, "1.0.0", "Sets the value of an element in a list by its index.", lset).in_memory(),
    Command::new("linsert", 5, WRITE, ONE_KEY, "2.2.0", "Inserts an element before or after another element in a list.", linsert).in_memory(),
    Command::new("lrem", 4, DELETE, ONE_KEY, "1.0.0", "Removes elements from a list. Deletes the list if the last element was removed.", lrem).in_memory(),
    Command::new("ltrim", 4, DELETE, ONE_KEY, "1.0.0", "Removes elements from both ends a list. Deletes the list if all elements were trimmed.", ltrim).in_memory(),
    Command::new("lmove", 5, WRITE, TWO_KEYS, "6.2.0", "Returns an element after popping it from one list and pushing it to another. Deletes the list if the last element was moved.", lmove).in_memory(),
    Command::new("rpoplpush", 3, WRITE, TWO_KEYS, "1.2.0", "Returns the last element of a list after removing and pushing it to another list. Deletes the list if the last element was popped.", rpoplpush).in_memory(),
];

fn lpush(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    push(call, Side::Left)
}

fn rpush(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    push(call, Side::Right)
}

fn lpushx(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    push_to_found(call, Side::Left)
}

fn rpushx(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    push_to_found(call, Side::Right)
}

fn push_all(list: &mut List, side: Side, elements: &[&[u8]]) -> Result<Reply, Reply> {
    elements.iter().for_each(|element| list.push(side, element));
    Ok(Reply::count(list.len() as u64))
}

fn push(call: &Call<'_>, side: Side) -> Result<Outcome, Reply> {
    let (key, elements) = (call.arguments[1], &call.arguments[2..]);
    call.on_keyspace(|keyspace| keyspace.change(key, |list| push_all(list, side, elements)))
}

fn push_to_found(call: &Call<'_>, side: Side) -> Result<Outcome, Reply> {
    let (key, elements) = (call.arguments[1], &call.arguments[2..]);
    call.on_keyspace(|keyspace| {
        let length = keyspace.change_found(key, |list| push_all(list, side, elements))?;
        Ok(length.unwrap_or(Reply::Integer(0)))
    })
}

fn lpop(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    pop(call, Side::Left, "lpop")
}

fn rpop(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    pop(call, Side::Right, "rpop")
}

fn pop(call: &Call<'_>, side: Side, name: &str) -> Result<Outcome, Reply> {
    let key = call.arguments[1];
    let count = match &call.arguments[2..] {
        [] => None,
        [count] => Some(not_negative(count, "ERR value is out of range, must be positive")?),
        _ => return Err(super::wrong_number(name)),
    };
    call.on_keyspace(|keyspace| {
        let popped = pop_some(keyspace, key, side, count.unwrap_or(1))?;
        Ok(match (popped, count) {
            (None, None) => Reply::Null,
            (None, Some(_)) => Reply::NullArray,
            (Some(popped), None) => popped.into_iter().next().unwrap_or(Reply::Null),
            (Some(popped), Some(_)) => Reply::Array(popped),
        })
    })
}

/// Takes up to `count` elements; nothing if there is no list.
pub(super) fn pop_some(
    keyspace: &mut Keyspace,
    key: &[u8],
    side: Side,
    count: usize,
) -> Result<Option<Vec<Reply>>, Reply> {
    if count == 0 {
        return Ok(keyspace.collection::<List>(key)?.map(|_| Vec::new()));
    }
    keyspace.change_found(key, |list: &mut List| {
        let count = count.min(list.len());
        Ok((0..count).filter_map(|_| list.pop(side)).map(|it| Reply::bulk(&it)).collect())
    })
}

/// LEFT or RIGHT.
pub(super) fn side(argument: &[u8]) -> Result<Side, Reply> {
    if is(argument, "LEFT") {
        Ok(Side::Left)
    } else if is(argument, "RIGHT") {
        Ok(Side::Right)
    } else {
        Err(SYNTAX_ERROR)
    }
}

fn lmpop(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (keys, which, options) = keys_to_pop_from(call.arguments, 1)?;
    let (side, count) = (side(which)?, pop_count(options)?);
    call.on_keyspace(|keyspace| {
        for key in keys {
            if let Some(popped) = pop_some(keyspace, key, side, count)? {
                return Ok(Reply::Array(vec![Reply::bulk(key), Reply::Array(popped)]));
            }
        }
        Ok(Reply::NullArray)
    })
}

/// Answers from the list, or from an empty one where there is none.
fn read(call: &Call<'_>, answer: impl FnOnce(&List) -> Reply) -> Result<Outcome, Reply> {
    let key = call.arguments[1];
    call.on_keyspace(|keyspace| {
        Ok(match keyspace.collection::<List>(key)? {
            Some(list) => answer(list),
            None => answer(&List::default()),
        })
    })
}

fn llen(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    read(call, |list| Reply::count(list.len() as u64))
}

fn lindex(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (key, place) = (call.arguments[1], call.arguments[2]);
    call.on_keyspace(|keyspace| {
        // The place is looked at only when there is a list.
        let Some(list) = keyspace.collection::<List>(key)? else {
            return Ok(Reply::Null);
        };
        Ok(list.get(integer(place)?).map_or(Reply::Null, Reply::bulk))
    })
}

fn lrange(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (start, end) = (integer(call.arguments[2])?, integer(call.arguments[3])?);
    read(call, |list| {
        let places = places(start, end, list.len());
        Reply::Array(list.range(places).map(Reply::bulk).collect())
    })
}

fn lpos(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let element = call.arguments[2];
    let (mut rank, mut count, mut most) = (1, None, 0);
    let mut rest = call.arguments[3..].iter();
    while let Some(option) = rest.next() {
        match rest.next() {
            Some(given) if is(option, "RANK") => {
                rank = integer(given)?;
                if rank == i64::MIN {
                    return Err(Reply::err("value is out of range"));
                }
                if rank == 0 {
                    return Err(Reply::err(
                        "RANK can't be zero: use 1 to start from the first match, 2 from the \
                         second ... or use negative to start from the end of the list",
                    ));
                }
            }
            Some(given) if is(option, "COUNT") => {
                count = Some(not_negative(given, "ERR COUNT can't be negative")?);
            }
            Some(given) if is(option, "MAXLEN") => {
                most = not_negative(given, "ERR MAXLEN can't be negative")?;
            }
            _ => return Err(SYNTAX_ERROR),
        }
    }
    let from = if rank > 0 { Side::Left } else { Side::Right };
    let passed_over = usize::try_from(rank.unsigned_abs() - 1).unwrap_or(usize::MAX);
    let unbounded = |number: usize| if number == 0 { usize::MAX } else { number };
    read(call, |list| {
        let within = |place: &usize| {
            let compared = if rank > 0 { *place } else { list.len() - 1 - place };
            compared < unbounded(most)
        };
        let places = list.positions(element, from).take_while(within).skip(passed_over);
        let mut places = places.map(|place| Reply::count(place as u64));
        match count {
            None => places.next().unwrap_or(Reply::Null),
            Some(count) => Reply::Array(places.take(unbounded(count)).collect()),
        }
    })
}

fn lset(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (key, place, element) = (call.arguments[1], call.arguments[2], call.arguments[3]);
    call.on_keyspace(|keyspace| {
        let set = keyspace.change_found(key, |list: &mut List| {
            if list.set(integer(place)?, element) {
                Ok(Reply::OK)
            } else {
                Err(Reply::err("index out of range"))
            }
        })?;
        set.ok_or_else(|| Reply::err("no such key"))
    })
}

fn linsert(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let [_, key, place, pivot, element] = call.arguments else {
        return Err(SYNTAX_ERROR);
    };
    let behind = if is(place, "AFTER") {
        true
    } else if is(place, "BEFORE") {
        false
    } else {
        return Err(SYNTAX_ERROR);
    };
    call.on_keyspace(|keyspace| {
        let inserted = keyspace.change_found(key, |list: &mut List| {
            Ok::<_, Reply>(if list.insert(pivot, behind, element) {
                Reply::count(list.len() as u64)
            } else {
                Reply::Integer(-1)
            })
        })?;
        Ok(inserted.unwrap_or(Reply::Integer(0)))
    })
}

fn lrem(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (key, element) = (call.arguments[1], call.arguments[3]);
    let count = integer(call.arguments[2])?;
    let from = if count < 0 { Side::Right } else { Side::Left };
    let most = match usize::try_from(count.unsigned_abs()) {
        Ok(0) | Err(_) => usize::MAX,
        Ok(most) => most,
    };
    call.on_keyspace(|keyspace| {
        let removed = keyspace.change_found(key, |list: &mut List| {
            Ok::<_, Reply>(list.remove(element, from, most))
        })?;
        Ok(Reply::count(removed.unwrap_or_default() as u64))
    })
}

fn ltrim(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let key = call.arguments[1];
    let (start, end) = (integer(call.arguments[2])?, integer(call.arguments[3])?);
    call.on_keyspace(|keyspace| {
        keyspace.change_found(key, |list: &mut List| {
            list.trim(places(start, end, list.len()));
            Ok::<_, Reply>(())
        })?;
        Ok(Reply::OK)
    })
}

fn lmove(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (from_side, to_side) = (side(call.arguments[3])?, side(call.arguments[4])?);
    move_now(call, from_side, to_side)
}

fn rpoplpush(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    move_now(call, Side::Right, Side::Left)
}

fn move_now(call: &Call<'_>, from_side: Side, to_side: Side) -> Result<Outcome, Reply> {
    let (from, to) = (call.arguments[1], call.arguments[2]);
    call.on_keyspace(|keyspace| {
        let moved = move_one(keyspace, (from, from_side), (to, to_side))?;
        Ok(moved.unwrap_or(Reply::Null))
    })
}

/// Moves an element from one list to another; nothing if there is none. *An element for which there
/// is no room where it goes stays where it is.*
pub(super) fn move_one(
    keyspace: &mut Keyspace,
    (from, from_side): (&[u8], Side),
    (to, to_side): (&[u8], Side),
) -> Result<Option<Reply>, Reply> {
    if keyspace.collection::<List>(from)?.is_none() {
        return Ok(None);
    }
    keyspace.collection::<List>(to)?;
    if from == to {
        // In one step, so that a list of one element doesn't go with its expiry.
        let moved = keyspace.change_found(from, |list: &mut List| {
            let element = list.pop(from_side);
            if let Some(element) = &element {
                list.push(to_side, element);
            }
            Ok::<_, Reply>(element)
        })?;
        return Ok(moved.flatten().map(|element| Reply::bulk(&element)));
    }
    let place = if from_side == Side::Left { 0 } else { -1 };
    let element = keyspace.collection::<List>(from)?.and_then(|list| list.get(place));
    let Some(element) = element.map(<[u8]>::to_vec) else {
        return Ok(None);
    };
    keyspace.change(to, |list: &mut List| {
        list.push(to_side, &element);
        Ok::<_, Reply>(())
    })?;
    keyspace.change_found(from, |list: &mut List| {
        list.pop(from_side);
        Ok::<_, Reply>(())
    })?;
    Ok(Some(Reply::Bulk(element.into())))
}
