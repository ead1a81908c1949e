//! SORT: the elements of a list, a set or a sorted set in an order that other keys may give.

use std::cmp::Ordering;

use bytes::Bytes;

use super::arguments::{SYNTAX_ERROR, integer, is};
use super::{Call, Command, ONE_KEY, Outcome};
use crate::adapter::memory::collection::{Collection, Hash, Kind, List, Side};
use crate::adapter::memory::{Keyspace, Refusal};
use crate::resp::number::parse_f64_as_c;
use crate::resp::reply::Reply;

#[rustfmt::skip]
pub(super) const FAMILY: &[Command] = &[
    Command::new("sort", -2, &["write", "denyoom", "movablekeys"], ONE_KEY, "1.0.0", "Sorts the elements in a list, a set, or a sorted set, optionally storing the result.", sort).in_memory(),
    Command::new("sort_ro", -2, &["readonly", "movablekeys"], ONE_KEY, "7.0.0", "Returns the sorted elements of a list, a set, or a sorted set.", sort_ro).in_memory(),
];

#[derive(Debug, Default)]
struct Options<'a> {
    by: Option<&'a [u8]>,
    get: Vec<&'a [u8]>,
    limit: Option<(i64, i64)>,
    descending: bool,
    alpha: bool,
    store: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(arguments: &'a [&'a [u8]], may_store: bool) -> Result<Self, Reply> {
        let mut options = Self::default();
        let mut rest = arguments.iter();
        while let Some(option) = rest.next() {
            if is(option, "ASC") {
                options.descending = false;
            } else if is(option, "DESC") {
                options.descending = true;
            } else if is(option, "ALPHA") {
                options.alpha = true;
            } else if is(option, "LIMIT") {
                let (Some(start), Some(count)) = (rest.next(), rest.next()) else {
                    return Err(SYNTAX_ERROR);
                };
                options.limit = Some((integer(start)?, integer(count)?));
            } else {
                let given = rest.next().ok_or(SYNTAX_ERROR)?;
                if may_store && is(option, "STORE") {
                    options.store = Some(given);
                } else if is(option, "BY") {
                    options.by = Some(given);
                } else if is(option, "GET") {
                    options.get.push(given);
                } else {
                    return Err(SYNTAX_ERROR);
                }
            }
        }
        Ok(options)
    }

    /// The places of `length` that LIMIT leaves.
    fn places(&self, length: usize) -> std::ops::Range<usize> {
        let Some((start, count)) = self.limit else {
            return 0..length;
        };
        let start = usize::try_from(start).unwrap_or(0).min(length);
        let end = usize::try_from(count).map_or(length, |count| start.saturating_add(count));
        start..end.min(length)
    }
}

/// The key that the last STORE among the arguments of SORT names.
pub(super) fn stored<'a>(command: &Command, arguments: &'a [&'a [u8]]) -> Option<&'a [u8]> {
    let store = arguments.iter().rposition(|argument| is(argument, "STORE"));
    arguments.get(store.filter(|at| command.name == "sort" && *at > 1)? + 1).copied()
}

fn sort(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    run(call, true)
}

fn sort_ro(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    run(call, false)
}

fn run(call: &Call<'_>, may_store: bool) -> Result<Outcome, Reply> {
    let key = call.arguments[1];
    let options = Options::parse(&call.arguments[2..], may_store)?;
    call.on_keyspace(|keyspace| {
        let sorted = sorted(keyspace, key, &options)?;
        let Some(to) = options.store else {
            let replies = sorted.into_iter().map(|it| it.map_or(Reply::Null, Reply::Bulk));
            return Ok(Reply::Array(replies.collect()));
        };
        let mut list = List::default();
        for element in &sorted {
            list.push(Side::Right, element.as_deref().unwrap_or_default());
        }
        keyspace.put_collection(to, list)?;
        Ok(Reply::count(sorted.len() as u64))
    })
}

/// The elements in their order, or what GET shows in their stead.
fn sorted(
    keyspace: &mut Keyspace,
    key: &[u8],
    options: &Options<'_>,
) -> Result<Vec<Option<Bytes>>, Reply> {
    let kind = keyspace.kind(key);
    let mut elements: Vec<Bytes> = match (keyspace.any_collection(key), kind) {
        (Some(Collection::List(list)), _) => list.iter().map(Bytes::copy_from_slice).collect(),
        (Some(Collection::Set(set)), _) => set.iter().map(Bytes::copy_from_slice).collect(),
        (Some(Collection::SortedSet(set)), _) => {
            set.iter().map(|(member, _)| Bytes::copy_from_slice(member)).collect()
        }
        (None, None) => Vec::new(),
        _ => return Err(Refusal::WrongType.into()),
    };
    // Weights that are all the same: the order is that of the collection, but for a set that is
    // stored, which has none.
    let unsorted = options.by.is_some_and(|by| !by.contains(&b'*'));
    if unsorted && !(kind == Some(Kind::Set) && options.store.is_some()) {
        if options.descending && kind == Some(Kind::SortedSet) {
            elements.reverse();
        }
    } else {
        let by = options.by.filter(|_| !unsorted);
        elements = in_order(keyspace, elements, by, options.alpha || unsorted, options.descending)?;
    }
    let shown = &elements[options.places(elements.len())];
    if options.get.is_empty() {
        return Ok(shown.iter().cloned().map(Some).collect());
    }
    let mut found = Vec::with_capacity(shown.len() * options.get.len());
    for element in shown {
        found.extend(options.get.iter().map(|pattern| look_up(keyspace, pattern, element)));
    }
    Ok(found)
}

fn in_order(
    keyspace: &mut Keyspace,
    elements: Vec<Bytes>,
    by: Option<&[u8]>,
    alpha: bool,
    descending: bool,
) -> Result<Vec<Bytes>, Reply> {
    let mut weight = |element: &Bytes| match by {
        Some(pattern) => look_up(keyspace, pattern, element),
        None => Some(element.clone()),
    };
    let direct = |order: Ordering| if descending { order.reverse() } else { order };
    if alpha {
        let mut weighed: Vec<_> = elements.into_iter().map(|it| (weight(&it), it)).collect();
        weighed.sort_by(|one, other| direct(one.0.cmp(&other.0)));
        return Ok(weighed.into_iter().map(|(_, element)| element).collect());
    }
    let mut weighed = Vec::with_capacity(elements.len());
    for element in elements {
        let number = weight(&element).map_or(Some(0.0), |text| parse_f64_as_c(&text));
        let number = number
            .ok_or_else(|| Reply::err("One or more scores can't be converted into double"))?;
        weighed.push((number, element));
    }
    weighed.sort_by(|one, other| {
        let order = one.0.partial_cmp(&other.0).unwrap_or(Ordering::Equal);
        direct(order.then_with(|| one.1.cmp(&other.1)))
    });
    Ok(weighed.into_iter().map(|(_, element)| element).collect())
}

/// The string that `pattern` leads to when its `*` is `element`; `key->field` leads into a hash,
/// and `#` is the element itself.
fn look_up(keyspace: &mut Keyspace, pattern: &[u8], element: &[u8]) -> Option<Bytes> {
    if pattern == b"#" {
        return Some(Bytes::copy_from_slice(element));
    }
    let star = pattern.iter().position(|byte| *byte == b'*')?;
    let (before, behind) = (&pattern[..star], &pattern[star + 1..]);
    let arrow = behind.windows(2).position(|pair| pair == b"->");
    let arrow = arrow.filter(|arrow| arrow + 2 < behind.len());
    let (behind, field) = match arrow {
        Some(arrow) => (&behind[..arrow], Some(&behind[arrow + 2..])),
        None => (behind, None),
    };
    let key = [before, element, behind].concat();
    match field {
        Some(field) => {
            let hash = keyspace.collection::<Hash>(&key).ok().flatten()?;
            hash.get(field).map(Bytes::copy_from_slice)
        }
        None => keyspace.string(&key).ok().flatten().map(|text| text.into_owned().into()),
    }
}
