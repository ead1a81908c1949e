//! What a write command does to one string, without I/O.
//!
//! [`Mutation::apply`] is the meaning of each command for the storages that have no Redis commands
//! of their own; the Redis adapter sends the command itself.

use bytes::{Bytes, BytesMut};

use super::{Result, StorageError, UnixMillis, Value};

/// The longest string, as in Redis (`proto-max-bulk-len`): 512 MiB.
const LONGEST: usize = 512 * 1024 * 1024;

/// A write to one key. The comments name the commands whose meaning it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// SET, SETNX, SETEX, GETSET.
    Set {
        /// The new string.
        data: Bytes,
        /// NX, XX.
        condition: SetCondition,
        /// EX, PX, EXAT, PXAT, KEEPTTL.
        expiry: SetExpiry,
        /// GET, GETSET: [`Applied::previous`] is wanted, and a key that holds another type than a
        /// string is refused; without it such a key is overwritten.
        get: bool,
    },
    /// GETDEL.
    Delete,
    /// EXPIRE and its kin, PERSIST. Works on a key of any type.
    Expire {
        /// The new time, which may be past; `None` is never.
        at: Option<UnixMillis>,
        /// NX, XX, GT, LT; PERSIST has none.
        condition: ExpireCondition,
    },
    /// GETEX with an option: the same without a condition, and [`Applied::previous`] is wanted.
    GetExpire {
        /// As in [`Mutation::Expire`].
        at: Option<UnixMillis>,
    },
    /// INCR, DECR, INCRBY, DECRBY.
    Add(i64),
    /// APPEND.
    Append(Bytes),
}

/// When a SET is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetCondition {
    /// Always.
    #[default]
    Always,
    /// NX.
    IfAbsent,
    /// XX.
    IfPresent,
}

/// What a SET does to the expiry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetExpiry {
    /// Never expires from now on.
    #[default]
    Clear,
    /// KEEPTTL.
    Keep,
    /// Expires then.
    At(UnixMillis),
}

/// When an EXPIRE is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpireCondition {
    /// Always.
    #[default]
    Always,
    /// NX: only if it never expires now.
    IfNone,
    /// XX: only if it expires now.
    IfSome,
    /// GT: only if later than now; never counts as infinitely late.
    IfLater,
    /// LT: only if earlier than now; never counts as infinitely late.
    IfEarlier,
}

/// What a mutation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Whether the command took effect: its condition held and, for [`Mutation::Delete`],
    /// [`Mutation::Expire`] and [`Mutation::GetExpire`], the key was there. A PERSIST of a key
    /// that never expires has no effect.
    pub done: bool,
    /// The string before it, whether it was done or not, for a [`Mutation::Set`] with `get`,
    /// [`Mutation::Delete`] and [`Mutation::GetExpire`]; else `None`.
    pub previous: Option<Bytes>,
    /// The sum of [`Mutation::Add`], the length in bytes after [`Mutation::Append`], else 0.
    pub number: i64,
    /// What the key holds after it.
    pub current: Current,
}

/// What a key holds after a mutation, as far as the storage told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Current {
    /// This.
    Value(Value),
    /// Nothing.
    Absent,
    /// The storage didn't say.
    Unknown,
}

/// What is to be stored under a key, as [`Mutation::apply`] or a transaction wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Leave it as it is.
    Nothing,
    /// Store this, whose version the storage gives.
    Put {
        /// The string.
        data: Bytes,
        /// Its expiry.
        expires_at: Option<UnixMillis>,
    },
    /// Delete the key.
    Remove,
}

/// What a mutation does: the change to make, and the answer once it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Effect {
    /// To be stored.
    pub change: Change,
    /// As in [`Applied`].
    pub done: bool,
    /// As in [`Applied`].
    pub previous: Option<Bytes>,
    /// As in [`Applied`].
    pub number: i64,
}

impl Effect {
    fn nothing() -> Self {
        Self { change: Change::Nothing, done: false, previous: None, number: 0 }
    }

    fn done(change: Change) -> Self {
        Self { change, done: true, previous: None, number: 0 }
    }

    /// The answer, once the change to a key that held `before` (not expired) is stored under
    /// `version`.
    pub(super) fn stored(self, before: Option<Value>, version: u64) -> Applied {
        let current = match self.change {
            Change::Nothing => before.map_or(Current::Absent, Current::Value),
            Change::Remove => Current::Absent,
            Change::Put { data, expires_at } => Current::Value(Value { data, expires_at, version }),
        };
        let Self { done, previous, number, .. } = self;
        Applied { done, previous, number, current }
    }
}

impl Mutation {
    /// What it does to a key that holds `before` (an expired one counts as none).
    ///
    /// The meaning is that of Redis 7, as its command reference gives it. Refuses in Redis' words.
    pub(super) fn apply(&self, before: Option<&Value>, now: UnixMillis) -> Result<Effect> {
        let before = before.filter(|value| !value.is_expired(now));
        let previous = before.map(|value| value.data.clone());
        let expires_at = before.and_then(|value| value.expires_at);
        Ok(match self {
            Self::Set { data, condition, expiry, get } => {
                let holds = match condition {
                    SetCondition::Always => true,
                    SetCondition::IfAbsent => before.is_none(),
                    SetCondition::IfPresent => before.is_some(),
                };
                let expires_at = expiry.resolve(expires_at);
                let effect = if holds {
                    Effect::done(put_until(data.clone(), expires_at, now))
                } else {
                    Effect::nothing()
                };
                Effect { previous: previous.filter(|_| *get), ..effect }
            }
            Self::Delete => match previous {
                Some(_) => Effect { previous, ..Effect::done(Change::Remove) },
                None => Effect::nothing(),
            },
            Self::Expire { at, condition } => match previous {
                Some(data) if condition.holds(expires_at, *at) => {
                    Effect::done(put_until(data, *at, now))
                }
                _ => Effect::nothing(),
            },
            Self::GetExpire { at } => match previous {
                Some(data) => Effect {
                    previous: Some(data.clone()),
                    ..Effect::done(if *at == expires_at {
                        Change::Nothing
                    } else {
                        put_until(data, *at, now)
                    })
                },
                None => Effect::nothing(),
            },
            Self::Add(step) => {
                let number = previous
                    .map_or(Some(0), |data| parse_integer(&data))
                    .ok_or_else(|| refused("ERR value is not an integer or out of range"))?;
                let sum = number
                    .checked_add(*step)
                    .ok_or_else(|| refused("ERR increment or decrement would overflow"))?;
                let data = Bytes::from(sum.to_string());
                Effect { number: sum, ..Effect::done(Change::Put { data, expires_at }) }
            }
            Self::Append(tail) => {
                let head = previous.unwrap_or_default();
                let length = head.len() + tail.len();
                if length > LONGEST {
                    return Err(refused(
                        "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
                    ));
                }
                let mut data = BytesMut::with_capacity(length);
                data.extend_from_slice(&head);
                data.extend_from_slice(tail);
                let number = i64::try_from(length).unwrap_or(i64::MAX);
                Effect { number, ..Effect::done(Change::Put { data: data.freeze(), expires_at }) }
            }
        })
    }
}

impl SetExpiry {
    /// The expiry of a key that had `old`.
    pub(super) fn resolve(self, old: Option<UnixMillis>) -> Option<UnixMillis> {
        match self {
            Self::Clear => None,
            Self::Keep => old,
            Self::At(at) => Some(at),
        }
    }
}

impl ExpireCondition {
    /// Whether an expiry may go from `old` to `new`. PERSIST (`new` is never) asks for an expiry
    /// to take away.
    pub(super) fn holds(self, old: Option<UnixMillis>, new: Option<UnixMillis>) -> bool {
        let Some(new) = new else { return old.is_some() };
        match self {
            Self::Always => true,
            Self::IfNone => old.is_none(),
            Self::IfSome => old.is_some(),
            Self::IfLater => old.is_some_and(|old| new > old),
            Self::IfEarlier => old.is_none_or(|old| new < old),
        }
    }
}

/// Storing something that has expired already is deleting the key.
fn put_until(data: Bytes, expires_at: Option<UnixMillis>, now: UnixMillis) -> Change {
    match expires_at {
        Some(at) if at <= now => Change::Remove,
        expires_at => Change::Put { data, expires_at },
    }
}

/// A number as Redis' `string2ll` takes it: decimal, `-` alone as a sign, no leading zeros, no
/// spaces, within 64 bits.
pub(super) fn parse_integer(data: &[u8]) -> Option<i64> {
    let digits = data.strip_prefix(b"-").unwrap_or(data);
    let canonical = match digits {
        [b'0'] => data.len() == 1,
        [b'1'..=b'9', ..] => true,
        _ => false,
    };
    std::str::from_utf8(data).ok().filter(|_| canonical)?.parse().ok()
}

fn refused(words: &str) -> StorageError {
    StorageError::Refused(words.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: UnixMillis = 1_000_000;

    fn value(data: &str, expires_at: Option<UnixMillis>) -> Value {
        Value { data: Bytes::copy_from_slice(data.as_bytes()), expires_at, version: 7 }
    }

    fn put(data: &str, expires_at: Option<UnixMillis>) -> Change {
        Change::Put { data: Bytes::copy_from_slice(data.as_bytes()), expires_at }
    }

    fn set(condition: SetCondition, expiry: SetExpiry) -> Mutation {
        Mutation::Set { data: Bytes::from_static(b"new"), condition, expiry, get: true }
    }

    fn words(result: Result<Effect>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn set_replaces_string_and_expiry() {
        let before = value("old", Some(NOW + 5));
        for (expiry, expires_at) in [
            (SetExpiry::Clear, None),
            (SetExpiry::Keep, Some(NOW + 5)),
            (SetExpiry::At(NOW + 9), Some(NOW + 9)),
        ] {
            let effect = set(SetCondition::Always, expiry).apply(Some(&before), NOW).unwrap();
            assert_eq!(effect.change, put("new", expires_at), "{expiry:?}");
            assert_eq!(effect.previous.as_deref(), Some(b"old".as_slice()));
        }
    }

    #[test]
    fn set_nx_and_xx_leave_the_key_alone_when_they_do_not_hold() {
        let before = value("old", None);
        for (condition, before, done) in [
            (SetCondition::IfAbsent, None, true),
            (SetCondition::IfAbsent, Some(&before), false),
            (SetCondition::IfPresent, None, false),
            (SetCondition::IfPresent, Some(&before), true),
        ] {
            let effect = set(condition, SetExpiry::Clear).apply(before, NOW).unwrap();
            assert_eq!(effect.done, done, "{condition:?}");
            assert_eq!(effect.change == Change::Nothing, !done);
            // GET answers the old string in both cases, since Redis 7.
            assert_eq!(effect.previous, before.map(|value| value.data.clone()));
        }
    }

    #[test]
    fn set_without_get_keeps_the_old_string_to_itself() {
        let mutation = Mutation::Set {
            data: Bytes::from_static(b"new"),
            condition: SetCondition::Always,
            expiry: SetExpiry::Clear,
            get: false,
        };
        assert_eq!(mutation.apply(Some(&value("old", None)), NOW).unwrap().previous, None);
    }

    #[test]
    fn an_expired_key_counts_as_absent() {
        let expired = value("5", Some(NOW));
        let effect = Mutation::Add(1).apply(Some(&expired), NOW).unwrap();
        assert_eq!(effect.change, put("1", None));
        assert!(!Mutation::Delete.apply(Some(&expired), NOW).unwrap().done);
    }

    #[test]
    fn a_time_in_the_past_deletes_the_key() {
        let before = value("old", None);
        for mutation in [
            Mutation::Expire { at: Some(NOW), condition: ExpireCondition::Always },
            Mutation::GetExpire { at: Some(0) },
            set(SetCondition::Always, SetExpiry::At(NOW - 1)),
        ] {
            let effect = mutation.apply(Some(&before), NOW).unwrap();
            assert_eq!((effect.change, effect.done), (Change::Remove, true), "{mutation:?}");
        }
    }

    // The examples of EXPIRE's page in the command reference, and the two that it tells in words.
    #[test]
    fn expire_conditions_compare_with_the_old_expiry() {
        use ExpireCondition::{Always, IfEarlier, IfLater, IfNone, IfSome};
        for (condition, old, done) in [
            (Always, None, true),
            (Always, Some(200), true),
            (IfNone, None, true),
            (IfNone, Some(200), false),
            (IfSome, None, false),
            (IfSome, Some(200), true),
            (IfLater, Some(50), true),
            (IfLater, Some(100), false),
            (IfLater, Some(200), false),
            (IfLater, None, false),
            (IfEarlier, Some(200), true),
            (IfEarlier, Some(100), false),
            (IfEarlier, Some(50), false),
            (IfEarlier, None, true),
        ] {
            let before = value("v", old.map(|ms| NOW + ms));
            let effect = Mutation::Expire { at: Some(NOW + 100), condition }
                .apply(Some(&before), NOW)
                .unwrap();
            assert_eq!(effect.done, done, "{condition:?} over {old:?}");
            let expected = if done { put("v", Some(NOW + 100)) } else { Change::Nothing };
            assert_eq!(effect.change, expected);
        }
    }

    #[test]
    fn persist_takes_effect_on_a_key_that_expires() {
        let persist = Mutation::Expire { at: None, condition: ExpireCondition::Always };
        let effect = persist.apply(Some(&value("v", Some(NOW + 1))), NOW).unwrap();
        assert_eq!((effect.change, effect.done), (put("v", None), true));
        assert!(!persist.apply(Some(&value("v", None)), NOW).unwrap().done);
        assert!(!persist.apply(None, NOW).unwrap().done);
    }

    #[test]
    fn getex_answers_the_string_and_moves_the_expiry() {
        let before = value("Hello", None);
        let effect = Mutation::GetExpire { at: Some(NOW + 60_000) }.apply(Some(&before), NOW);
        let effect = effect.unwrap();
        assert_eq!(effect.previous.as_deref(), Some(b"Hello".as_slice()));
        assert_eq!(effect.change, put("Hello", Some(NOW + 60_000)));
        assert!(!Mutation::GetExpire { at: None }.apply(None, NOW).unwrap().done);
    }

    // The examples of INCR, INCRBY, DECR and DECRBY, whose numbers keep the key's expiry.
    #[test]
    fn add_counts_in_decimal_and_keeps_the_expiry() {
        for (before, step, sum) in
            [(None, 1, 1), (Some("10"), 1, 11), (Some("10"), 5, 15), (Some("10"), -3, 7)]
        {
            let before = before.map(|data| value(data, Some(NOW + 4)));
            let effect = Mutation::Add(step).apply(before.as_ref(), NOW).unwrap();
            assert_eq!(effect.number, sum);
            let expires_at = before.and(Some(NOW + 4));
            assert_eq!(effect.change, put(&sum.to_string(), expires_at));
        }
    }

    #[test]
    fn add_takes_only_what_redis_calls_an_integer() {
        for data in [
            "",
            " 1",
            "1 ",
            "+1",
            "01",
            "-0",
            "-",
            "1.0",
            "0x1",
            "1e3",
            "9223372036854775808",
            "ten",
        ] {
            assert_eq!(
                words(Mutation::Add(1).apply(Some(&value(data, None)), NOW)),
                "ERR value is not an integer or out of range",
                "{data:?}"
            );
        }
        for data in ["0", "-1", "9223372036854775807", "-9223372036854775808"] {
            assert!(Mutation::Add(0).apply(Some(&value(data, None)), NOW).is_ok(), "{data}");
        }
    }

    #[test]
    fn add_refuses_to_overflow() {
        for (data, step) in [(i64::MAX.to_string(), 1), (i64::MIN.to_string(), -1)] {
            assert_eq!(
                words(Mutation::Add(step).apply(Some(&value(&data, None)), NOW)),
                "ERR increment or decrement would overflow"
            );
        }
    }

    // The example of APPEND.
    #[test]
    fn append_creates_then_lengthens() {
        let hello = Mutation::Append(Bytes::from_static(b"Hello")).apply(None, NOW).unwrap();
        assert_eq!((hello.number, hello.change), (5, put("Hello", None)));
        let both = Mutation::Append(Bytes::from_static(b" World"))
            .apply(Some(&value("Hello", Some(NOW + 1))), NOW)
            .unwrap();
        assert_eq!((both.number, both.change), (11, put("Hello World", Some(NOW + 1))));
    }

    #[test]
    fn append_stops_at_the_longest_string() {
        let half = Bytes::from(vec![0; LONGEST / 2 + 1]);
        let before = Value { data: half.clone(), expires_at: None, version: 0 };
        assert_eq!(
            words(Mutation::Append(half).apply(Some(&before), NOW)),
            "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
        );
    }

    fn any_data() -> impl Strategy<Value = Bytes> {
        prop_oneof![
            any::<i64>().prop_map(|number| Bytes::from(number.to_string())),
            (-3_i64..3).prop_map(|number| Bytes::from(number.to_string())),
            prop::collection::vec(any::<u8>(), 0..6).prop_map(Bytes::from),
        ]
    }

    fn any_time() -> impl Strategy<Value = UnixMillis> {
        NOW - 20..NOW + 40
    }

    fn any_mutation() -> impl Strategy<Value = Mutation> {
        let condition = prop_oneof![
            Just(SetCondition::Always),
            Just(SetCondition::IfAbsent),
            Just(SetCondition::IfPresent)
        ];
        let expiry = prop_oneof![
            Just(SetExpiry::Clear),
            Just(SetExpiry::Keep),
            any_time().prop_map(SetExpiry::At)
        ];
        let expire_condition = prop_oneof![
            Just(ExpireCondition::Always),
            Just(ExpireCondition::IfNone),
            Just(ExpireCondition::IfSome),
            Just(ExpireCondition::IfLater),
            Just(ExpireCondition::IfEarlier)
        ];
        prop_oneof![
            (any_data(), condition, expiry, any::<bool>()).prop_map(
                |(data, condition, expiry, get)| Mutation::Set { data, condition, expiry, get }
            ),
            Just(Mutation::Delete),
            (prop::option::of(any_time()), expire_condition)
                .prop_map(|(at, condition)| Mutation::Expire { at, condition }),
            prop::option::of(any_time()).prop_map(|at| Mutation::GetExpire { at }),
            prop_oneof![any::<i64>(), -3_i64..3].prop_map(Mutation::Add),
            any_data().prop_map(Mutation::Append),
        ]
    }

    /// A key as its pages in the command reference tell it: a string, and when it goes.
    type Model = Option<(Vec<u8>, UnixMillis)>;

    const NEVER: UnixMillis = UnixMillis::MAX;

    /// The same meaning, told another way: never is the latest of all times, so that every
    /// comparison is plain, and expiry is a sweep after the command.
    fn model(before: &Model, mutation: &Mutation, now: UnixMillis) -> (Model, bool) {
        let time = |at: &Option<UnixMillis>| at.unwrap_or(NEVER);
        let old = before.clone();
        let (after, done) = match (mutation, old) {
            (Mutation::Set { condition: SetCondition::IfAbsent, .. }, Some(old)) => {
                (Some(old), false)
            }
            (
                Mutation::Set { condition: SetCondition::IfPresent, .. }
                | Mutation::Expire { .. }
                | Mutation::GetExpire { .. },
                None,
            ) => (None, false),
            (Mutation::Set { data, expiry, .. }, old) => {
                let at = match expiry {
                    SetExpiry::Clear => NEVER,
                    SetExpiry::Keep => old.map_or(NEVER, |(_, at)| at),
                    SetExpiry::At(at) => time(&Some(*at)),
                };
                (Some((data.to_vec(), at)), true)
            }
            (Mutation::Delete, old) => (None, old.is_some()),
            (Mutation::GetExpire { at }, Some((data, _))) => (Some((data, time(at))), true),
            (Mutation::Expire { at: None, .. }, Some((data, old_at))) => {
                (Some((data, NEVER)), old_at < NEVER)
            }
            (Mutation::Expire { at, condition }, Some((data, old_at))) => {
                let at = time(at);
                let done = match condition {
                    ExpireCondition::Always => true,
                    ExpireCondition::IfNone => old_at == NEVER,
                    ExpireCondition::IfSome => old_at < NEVER,
                    ExpireCondition::IfLater => at > old_at,
                    ExpireCondition::IfEarlier => at < old_at,
                };
                (Some((data, if done { at } else { old_at })), done)
            }
            (Mutation::Add(step), old) => {
                let (data, at) = old.unwrap_or_else(|| (b"0".to_vec(), NEVER));
                let sum =
                    String::from_utf8(data).unwrap().parse::<i128>().unwrap() + i128::from(*step);
                (Some((sum.to_string().into_bytes(), at)), true)
            }
            (Mutation::Append(tail), old) => {
                let (mut data, at) = old.unwrap_or_else(|| (Vec::new(), NEVER));
                data.extend_from_slice(tail);
                (Some((data, at)), true)
            }
        };
        (after.filter(|(_, at)| *at > now), done)
    }

    proptest! {
        #[test]
        fn any_sequence_does_what_the_model_does(
            steps in prop::collection::vec((any_mutation(), 0_u64..15), 0..40),
        ) {
            let (mut real, mut told): (Option<Value>, Model) = (None, None);
            let mut now = NOW;
            for (mutation, pause) in steps {
                now += pause;
                told = told.filter(|(_, at)| *at > now);
                let live = real.clone().filter(|value| !value.is_expired(now));
                match mutation.apply(real.as_ref(), now) {
                    // The model has no words for refusals: it would take another number for each.
                    Err(error) => {
                        prop_assert!(matches!(mutation, Mutation::Add(_)));
                        prop_assert!(error.to_string().starts_with("ERR "));
                    }
                    Ok(effect) => {
                        let (after, done) = model(&told, &mutation, now);
                        prop_assert_eq!(effect.done, done, "{:?}", mutation);
                        if let Some(previous) = &effect.previous {
                            prop_assert_eq!(Some(previous), live.as_ref().map(|v| &v.data));
                        }
                        match effect.change {
                            Change::Nothing => prop_assert_eq!(&after, &told),
                            Change::Remove => real = None,
                            Change::Put { data, expires_at } => {
                                real = Some(Value { data, expires_at, version: 0 });
                            }
                        }
                        told = after;
                        let shown = real.as_ref().filter(|v| !v.is_expired(now)).map(|v| {
                            (v.data.to_vec(), v.expires_at.unwrap_or(NEVER))
                        });
                        prop_assert_eq!(&shown, &told, "{:?}", mutation);
                    }
                }
            }
        }
    }
}
