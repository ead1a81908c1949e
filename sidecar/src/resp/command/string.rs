//! Commands on strings.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;

use super::arguments::{SYNTAX_ERROR, TimeForm, integer, is};
use super::{
    ALL_KEYS, Call, Command, KEYS_AND_VALUES, ONE_KEY, Outcome, failure, kept, kept_all,
    read_alive, wrong_number,
};
use crate::adapter::{Applied, Mutation, SetCondition, SetExpiry, StorageError, UnixMillis, Value};
use crate::core::Engine;
use crate::resp::reply::Reply;

const READ: &[&str] = &["readonly"];
const FAST_READ: &[&str] = &["readonly", "fast"];
const WRITE: &[&str] = &["write", "denyoom"];
const FAST_WRITE: &[&str] = &["write", "denyoom", "fast"];
const FAST_DELETE: &[&str] = &["write", "fast"];

#[rustfmt::skip]
pub(super) const FAMILY: &[Command] = &[
    Command::new("get", 2, FAST_READ, ONE_KEY, "1.0.0", "Returns the string value of a key.", get),
    Command::new("set", -3, WRITE, ONE_KEY, "1.0.0", "Sets the string value of a key, ignoring its type. The key is created if it doesn't exist.", set),
    Command::new("setex", 4, WRITE, ONE_KEY, "2.0.0", "Sets the string value and expiration time of a key. Creates the key if it doesn't exist.", setex),
    Command::new("psetex", 4, WRITE, ONE_KEY, "2.6.0", "Sets both string value and expiration time in milliseconds of a key. The key is created if it doesn't exist.", psetex),
    Command::new("setnx", 3, FAST_WRITE, ONE_KEY, "1.0.0", "Sets the string value of a key only when the key doesn't exist.", setnx),
    Command::new("getset", 3, FAST_WRITE, ONE_KEY, "1.0.0", "Returns the previous string value of a key after setting it to a new value.", getset),
    Command::new("getdel", 2, FAST_DELETE, ONE_KEY, "6.2.0", "Returns the string value of a key after deleting the key.", getdel),
    Command::new("getex", -2, FAST_DELETE, ONE_KEY, "6.2.0", "Returns the string value of a key after setting its expiration time.", getex),
    Command::new("mget", -2, FAST_READ, ALL_KEYS, "1.0.0", "Atomically returns the string values of one or more keys.", mget),
    Command::new("mset", -3, WRITE, KEYS_AND_VALUES, "1.0.1", "Atomically creates or modifies the string values of one or more keys.", mset),
    Command::new("incr", 2, FAST_WRITE, ONE_KEY, "1.0.0", "Increments the integer value of a key by one. Uses 0 as initial value if the key doesn't exist.", incr),
    Command::new("decr", 2, FAST_WRITE, ONE_KEY, "1.0.0", "Decrements the integer value of a key by one. Uses 0 as initial value if the key doesn't exist.", decr),
    Command::new("incrby", 3, FAST_WRITE, ONE_KEY, "1.0.0", "Increments the integer value of a key by a number. Uses 0 as initial value if the key doesn't exist.", incrby),
    Command::new("decrby", 3, FAST_WRITE, ONE_KEY, "1.0.0", "Decrements a number from the integer value of a key. Uses 0 as initial value if the key doesn't exist.", decrby),
    Command::new("append", 3, FAST_WRITE, ONE_KEY, "2.0.0", "Appends a string to the value of a key. Creates the key if it doesn't exist.", append),
    Command::new("strlen", 2, FAST_READ, ONE_KEY, "2.2.0", "Returns the length of a string value.", strlen),
    Command::new("getrange", 4, READ, ONE_KEY, "2.4.0", "Returns a substring of the string stored at a key.", getrange),
    Command::new("substr", 4, READ, ONE_KEY, "1.0.0", "Returns a substring from a string value.", getrange),
];

fn data_or_null(value: Option<Value>) -> Reply {
    Reply::bulk_or_null(value.map(|value| value.data))
}

fn get(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    if let Some(outcome) = call.write_string() {
        return Ok(outcome);
    }
    Ok(call.read(call.arguments[1], data_or_null))
}

/// SET's options, or GETEX's.
#[derive(Debug, Default)]
struct Options<'a> {
    condition: SetCondition,
    get: bool,
    keep_expiry: bool,
    persist: bool,
    time: Option<(TimeForm, &'a [u8])>,
}

impl<'a> Options<'a> {
    /// Those of SET; NX and XX, and the ways to say an expiry, exclude each other.
    fn of_set(arguments: &[&'a [u8]]) -> Result<Self, Reply> {
        let mut options = Self::default();
        let mut rest = arguments.iter();
        while let Some(option) = rest.next() {
            if is(option, "NX") && options.condition != SetCondition::IfPresent {
                options.condition = SetCondition::IfAbsent;
            } else if is(option, "XX") && options.condition != SetCondition::IfAbsent {
                options.condition = SetCondition::IfPresent;
            } else if is(option, "GET") {
                options.get = true;
            } else if is(option, "KEEPTTL") && options.time.is_none() {
                options.keep_expiry = true;
            } else {
                options.time(option, rest.next())?;
            }
        }
        Ok(options)
    }

    /// Those of GETEX.
    fn of_getex(arguments: &[&'a [u8]]) -> Result<Self, Reply> {
        let mut options = Self::default();
        let mut rest = arguments.iter();
        while let Some(option) = rest.next() {
            if is(option, "PERSIST") && options.time.is_none() {
                options.persist = true;
            } else {
                options.time(option, rest.next())?;
            }
        }
        Ok(options)
    }

    fn time(&mut self, option: &[u8], amount: Option<&&'a [u8]>) -> Result<(), Reply> {
        let form = if is(option, "EX") {
            TimeForm::Seconds
        } else if is(option, "PX") {
            TimeForm::Milliseconds
        } else if is(option, "EXAT") {
            TimeForm::AtSecond
        } else if is(option, "PXAT") {
            TimeForm::AtMillisecond
        } else {
            return Err(SYNTAX_ERROR);
        };
        let other = self.time.as_ref().is_some_and(|(given, _)| *given != form);
        match amount {
            Some(amount) if !(other || self.keep_expiry || self.persist) => {
                self.time = Some((form, amount));
                Ok(())
            }
            _ => Err(SYNTAX_ERROR),
        }
    }

    fn expires_at(&self, now: UnixMillis, command: &str) -> Result<Option<UnixMillis>, Reply> {
        let time = self.time.as_ref();
        time.map(|(form, amount)| form.positive_at(amount, now, command)).transpose()
    }
}

fn set(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let set = Set::parse(&call.arguments[3..], call.now())?;
    let overwrites = set.condition == SetCondition::Always && !set.get;
    let expires_at = match set.expiry {
        SetExpiry::Clear if overwrites => Some(None),
        SetExpiry::At(at) if overwrites && at > call.now() => Some(Some(at)),
        _ => None,
    };
    if let Some(outcome) = expires_at.and_then(|at| call.put_string(call.arguments[2], at)) {
        return Ok(outcome);
    }
    let mutation = set.mutation(call.arguments[2]);
    Ok(call.write(call.arguments[1], mutation, move |applied| set.reply(applied)))
}

/// A SET, without its key and its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Set {
    condition: SetCondition,
    get: bool,
    expiry: SetExpiry,
}

impl Set {
    /// From the arguments behind the value.
    pub(super) fn parse(arguments: &[&[u8]], now: UnixMillis) -> Result<Self, Reply> {
        let options = Options::of_set(arguments)?;
        let expiry = match options.expires_at(now, "set")? {
            Some(at) => SetExpiry::At(at),
            None if options.keep_expiry => SetExpiry::Keep,
            None => SetExpiry::Clear,
        };
        Ok(Self { condition: options.condition, get: options.get, expiry })
    }

    /// What it does with `value`.
    pub(super) fn mutation(&self, value: &[u8]) -> Mutation {
        let Self { condition, get, expiry } = *self;
        Mutation::Set { data: kept(value), condition, expiry, get }
    }

    /// What it answers.
    pub(super) fn reply(&self, applied: Applied) -> Reply {
        match applied {
            Applied { previous, .. } if self.get => Reply::bulk_or_null(previous),
            Applied { done: true, .. } => Reply::OK,
            Applied { done: false, .. } => Reply::Null,
        }
    }
}

fn setex(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    set_with_time(call, TimeForm::Seconds, "setex")
}

fn psetex(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    set_with_time(call, TimeForm::Milliseconds, "psetex")
}

fn set_with_time(call: &mut Call<'_>, form: TimeForm, name: &str) -> Result<Outcome, Reply> {
    let at = form.positive_at(call.arguments[2], call.now(), name)?;
    let mutation = Mutation::Set {
        data: kept(call.arguments[3]),
        condition: SetCondition::Always,
        expiry: SetExpiry::At(at),
        get: false,
    };
    Ok(call.write(call.arguments[1], mutation, |_| Reply::OK))
}

fn setnx(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let mutation = Mutation::Set {
        data: kept(call.arguments[2]),
        condition: SetCondition::IfAbsent,
        expiry: SetExpiry::Clear,
        get: false,
    };
    let answer = |applied: Applied| Reply::Integer(i64::from(applied.done));
    Ok(call.write(call.arguments[1], mutation, answer))
}

fn getset(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let mutation = Mutation::Set {
        data: kept(call.arguments[2]),
        condition: SetCondition::Always,
        expiry: SetExpiry::Clear,
        get: true,
    };
    let answer = |applied: Applied| Reply::bulk_or_null(applied.previous);
    Ok(call.write(call.arguments[1], mutation, answer))
}

fn getdel(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let answer = |applied: Applied| Reply::bulk_or_null(applied.previous);
    Ok(call.write(call.arguments[1], Mutation::Delete, answer))
}

fn getex(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let key = call.arguments[1];
    let options = Options::of_getex(&call.arguments[2..])?;
    if options.time.is_none() && !options.persist {
        return Ok(call.read(key, data_or_null));
    }
    let at = match options.expires_at(call.now(), "getex") {
        Ok(at) => at,
        // Redis looks at the time only when there is a key.
        Err(error) => return Ok(call.read(key, |value| value.map_or(Reply::Null, |_| error))),
    };
    let answer = |applied: Applied| Reply::bulk_or_null(applied.previous);
    Ok(call.write(key, Mutation::GetExpire { at }, answer))
}

fn mget(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let keys = &call.arguments[1..];
    if let Some(values) = call.view.read_many_now(keys) {
        // A key of another type counts as none.
        let values = values.into_iter().map(|value| value.map_or(Reply::Null, data_or_null));
        return Ok(Outcome::Reply(Reply::Array(values.collect())));
    }
    let cached: Option<Vec<_>> = keys.iter().map(|key| call.cached(key)).collect();
    if let Some(values) = cached {
        let values = values.into_iter().map(|value| Reply::Bulk(value.data));
        return Ok(Outcome::Reply(Reply::Array(values.collect())));
    }
    let keys = kept_all(keys);
    let engine = Arc::clone(call.engine);
    Ok(Outcome::Read(
        async move {
            match read_alive(&engine, &keys).await {
                Err(StorageError::Refused(_)) => read_one_by_one(&engine, &keys).await,
                Err(error) => failure(&error),
                Ok(values) => Reply::Array(values.into_iter().map(data_or_null).collect()),
            }
        }
        .boxed(),
    ))
}

/// For MGET a key of another type than a string counts as none. Only a Redis has such keys.
async fn read_one_by_one(engine: &Arc<Engine>, keys: &[Bytes]) -> Reply {
    let mut found = Vec::new();
    for key in keys {
        found.push(match read_alive(engine, std::slice::from_ref(key)).await {
            Ok(mut values) => data_or_null(values.pop().flatten()),
            Err(StorageError::Refused(words)) if words.starts_with("WRONGTYPE") => Reply::Null,
            Err(error) => return failure(&error),
        });
    }
    Reply::Array(found)
}

fn mset(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (pairs, []) = call.arguments[1..].as_chunks::<2>() else {
        return Err(wrong_number("mset"));
    };
    let borrowed: Vec<(&[u8], &[u8])> = pairs.iter().map(|[key, data]| (&**key, &**data)).collect();
    if let Some(result) = call.view.write_many_now(&borrowed) {
        return Ok(Outcome::Reply(result.map_or_else(|error| failure(&error), |()| Reply::OK)));
    }
    let pairs: Vec<_> = pairs.iter().map(|[key, data]| (kept(key), kept(data))).collect();
    let engine = Arc::clone(call.engine);
    Ok(Outcome::Write(
        async move {
            match engine.write_many(&pairs).await {
                Ok(()) => Reply::OK,
                Err(error) => failure(&error),
            }
        }
        .boxed(),
    ))
}

fn incr(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    Ok(add(call, 1))
}

fn decr(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    Ok(add(call, -1))
}

fn incrby(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let amount = integer(call.arguments[2])?;
    Ok(add(call, amount))
}

fn decrby(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let amount = integer(call.arguments[2])?;
    let amount = amount.checked_neg().ok_or_else(|| Reply::err("decrement would overflow"))?;
    Ok(add(call, amount))
}

fn add(call: &Call<'_>, amount: i64) -> Outcome {
    call.write(call.arguments[1], Mutation::Add(amount), |applied| Reply::Integer(applied.number))
}

fn append(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let mutation = Mutation::Append(kept(call.arguments[2]));
    Ok(call.write(call.arguments[1], mutation, |applied| Reply::Integer(applied.number)))
}

fn strlen(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    Ok(call.read_any_type(call.arguments[1], |value| {
        Reply::count(value.map_or(0, |value| value.data.len() as u64))
    }))
}

fn getrange(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (start, end) = (integer(call.arguments[2])?, integer(call.arguments[3])?);
    Ok(call.read_any_type(call.arguments[1], move |value| {
        Reply::Bulk(value.map_or_else(Bytes::new, |value| range(&value.data, start, end)))
    }))
}

/// The bytes from `start` to `end`, both included; negative counts from the end, and what is
/// beyond an end of the string is left out.
fn range(data: &Bytes, start: i64, end: i64) -> Bytes {
    let length = i64::try_from(data.len()).unwrap_or(i64::MAX);
    if start < 0 && end < 0 && start > end {
        return Bytes::new();
    }
    let from_front = |at: i64| if at < 0 { (length + at.max(-length)).max(0) } else { at };
    let (start, end) = (from_front(start), from_front(end).min(length - 1));
    match (usize::try_from(start), usize::try_from(end)) {
        (Ok(start), Ok(end)) if start <= end => data.slice(start..=end),
        _ => Bytes::new(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::range;

    #[test]
    fn ranges_include_both_ends_and_stay_within_the_string() {
        let data = Bytes::from_static(b"This is a string");
        for (start, end, expected) in [
            (0, 3, "This"),
            (-3, -1, "ing"),
            (0, -1, "This is a string"),
            (10, 100, "string"),
            (-100, 2, "Thi"),
            (-100, -90, "T"),
            (5, 3, ""),
            (-1, -2, ""),
            (16, 20, ""),
            (i64::MIN, i64::MAX, "This is a string"),
            (i64::MAX, i64::MIN, ""),
        ] {
            assert_eq!(range(&data, start, end), expected, "{start} {end}");
        }
        assert_eq!(range(&Bytes::new(), 0, -1), "");
    }
}
