//! Arguments that several commands take, and the errors that Redis answers when they are wrong.

use std::borrow::Cow;
use std::ops::Range;

use warp_crds::pattern::glob_match;

use crate::adapter::UnixMillis;
use crate::resp::number::{parse_f64, parse_i64, parse_u64};
use crate::resp::reply::Reply;

/// Options that don't fit together, or that the command doesn't have.
pub(super) const SYNTAX_ERROR: Reply = Reply::Error(Cow::Borrowed("ERR syntax error"));

/// Whether an argument is the option `name`, which is in capitals.
pub(super) fn is(argument: &[u8], name: &str) -> bool {
    argument.eq_ignore_ascii_case(name.as_bytes())
}

/// A 64-bit integer.
pub(super) fn integer(argument: &[u8]) -> Result<i64, Reply> {
    parse_i64(argument)
        .ok_or(Reply::Error(Cow::Borrowed("ERR value is not an integer or out of range")))
}

/// The four ways to say when a key expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeForm {
    /// EX: in so many seconds.
    Seconds,
    /// PX: in so many milliseconds.
    Milliseconds,
    /// EXAT: at that Unix second.
    AtSecond,
    /// PXAT: at that Unix millisecond.
    AtMillisecond,
}

impl TimeForm {
    /// The Unix millisecond that `amount` means; `None` if it leaves 63 bits, and below 0 for a
    /// time before 1970.
    pub(super) fn at(self, amount: i64, now: UnixMillis) -> Option<i64> {
        let now = i64::try_from(now).ok()?;
        match self {
            Self::Seconds => amount.checked_mul(1000)?.checked_add(now),
            Self::Milliseconds => amount.checked_add(now),
            Self::AtSecond => amount.checked_mul(1000),
            Self::AtMillisecond => Some(amount),
        }
    }

    /// The time that a SET or a GETEX gives, which must be more than 0. `command` is the name that
    /// the error shows.
    pub(super) fn positive_at(
        self,
        amount: &[u8],
        now: UnixMillis,
        command: &str,
    ) -> Result<UnixMillis, Reply> {
        let amount = integer(amount)?;
        Some(amount)
            .filter(|amount| *amount > 0)
            .and_then(|amount| self.at(amount, now))
            .and_then(|at| UnixMillis::try_from(at).ok())
            .ok_or_else(|| invalid_expire_time(command))
    }
}

/// A time that isn't one.
pub(super) fn invalid_expire_time(command: &str) -> Reply {
    Reply::err(&format!("invalid expire time in '{command}' command"))
}

/// A number that may have digits behind a point.
pub(super) fn float(argument: &[u8]) -> Result<f64, Reply> {
    parse_f64(argument).ok_or(Reply::Error(Cow::Borrowed("ERR value is not a valid float")))
}

/// A whole number that isn't below zero; `words` say what is wrong with another.
pub(super) fn not_negative(argument: &[u8], words: &'static str) -> Result<usize, Reply> {
    let number = parse_i64(argument).and_then(|number| usize::try_from(number).ok());
    number.ok_or(Reply::Error(Cow::Borrowed(words)))
}

/// The two ends of a range of `length` places, as a command says them: both included, negative
/// counted from the end.
pub(super) fn places(start: i64, end: i64, length: usize) -> Range<usize> {
    let from_front = |at: i64| {
        if at < 0 {
            usize::try_from(at.unsigned_abs()).map_or(None, |back| length.checked_sub(back))
        } else {
            Some(usize::try_from(at).unwrap_or(usize::MAX))
        }
    };
    let start = from_front(start).unwrap_or(0);
    let end = from_front(end).map_or(0, |end| end.saturating_add(1).min(length));
    if start >= end { 0..0 } else { start..end }
}

/// Some arguments of a command, in their order.
pub(super) type Arguments<'a> = &'a [&'a [u8]];

/// The numbered keys of a command, and what follows them. `at` is where their number stands.
pub(super) fn numbered_keys(
    arguments: Arguments<'_>,
    at: usize,
) -> Result<(Arguments<'_>, Arguments<'_>), NumberOfKeys> {
    let count = arguments.get(at).and_then(|count| parse_i64(count));
    let count = count.ok_or(NumberOfKeys::NotANumber)?;
    let count = usize::try_from(count).ok().filter(|count| *count > 0);
    let count = count.ok_or(NumberOfKeys::NotPositive)?;
    arguments[at + 1..].split_at_checked(count).ok_or(NumberOfKeys::TooMany)
}

/// What is wrong with a number of keys; the words differ from command to command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NumberOfKeys {
    NotANumber,
    NotPositive,
    TooMany,
}

/// The keys of LMPOP and its kin, whose number stands at `at`, what says which end of them is meant,
/// and the options.
pub(super) fn keys_to_pop_from(
    arguments: Arguments<'_>,
    at: usize,
) -> Result<(Arguments<'_>, &[u8], Arguments<'_>), Reply> {
    let (keys, options) = numbered_keys(arguments, at).map_err(|wrong| match wrong {
        NumberOfKeys::NotANumber | NumberOfKeys::NotPositive => {
            Reply::err("numkeys should be greater than 0")
        }
        NumberOfKeys::TooMany => SYNTAX_ERROR,
    })?;
    let (which, options) = options.split_first().ok_or(SYNTAX_ERROR)?;
    Ok((keys, which, options))
}

/// COUNT, which LMPOP and ZMPOP take and which is more than 0; 1 if it isn't there.
pub(super) fn pop_count(options: &[&[u8]]) -> Result<usize, Reply> {
    const WRONG: &str = "ERR count should be greater than 0";
    match options {
        [] => Ok(1),
        [option, count, rest @ ..] if is(option, "COUNT") => {
            let count = not_negative(count, WRONG)?;
            match (count, rest) {
                (0, _) => Err(Reply::Error(Cow::Borrowed(WRONG))),
                (count, []) => Ok(count),
                _ => Err(SYNTAX_ERROR),
            }
        }
        _ => Err(SYNTAX_ERROR),
    }
}

/// Where a scan of a collection is to go on.
pub(super) fn cursor(argument: &[u8]) -> Result<u64, Reply> {
    parse_u64(argument).ok_or_else(|| Reply::err("invalid cursor"))
}

/// The options of the scans of a collection.
#[derive(Debug)]
pub(super) struct ScanOptions<'a> {
    /// About how many elements a page has.
    pub count: usize,
    /// NOVALUES.
    pub no_values: bool,
    pattern: Option<&'a [u8]>,
}

impl<'a> ScanOptions<'a> {
    /// Redis looks at them only when there is something to scan.
    pub(super) fn parse(arguments: &'a [&'a [u8]], may_leave_values: bool) -> Result<Self, Reply> {
        let mut options = Self { count: 10, no_values: false, pattern: None };
        let mut rest = arguments.iter();
        while let Some(option) = rest.next() {
            if may_leave_values && is(option, "NOVALUES") {
                options.no_values = true;
                continue;
            }
            match rest.next() {
                Some(given) if is(option, "MATCH") => options.pattern = Some(given),
                Some(given) if is(option, "COUNT") => {
                    let count = integer(given)?;
                    options.count = usize::try_from(count).unwrap_or_default();
                    if count < 1 {
                        return Err(SYNTAX_ERROR);
                    }
                }
                _ => return Err(SYNTAX_ERROR),
            }
        }
        Ok(options)
    }

    /// Whether an element is to be shown.
    pub(super) fn wants(&self, element: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob_match(pattern, element))
    }

    /// The page as a reply.
    pub(super) fn page(next: u64, elements: Vec<Reply>) -> Reply {
        Reply::Array(vec![Reply::Bulk(next.to_string().into()), Reply::Array(elements)])
    }
}

#[cfg(test)]
mod tests {
    use super::places;

    #[test]
    fn places_stay_within_the_length() {
        for (start, end, length, expected) in [
            (0, -1, 5, 0..5),
            (1, 3, 5, 1..4),
            (-2, -1, 5, 3..5),
            (-100, 100, 5, 0..5),
            (3, 1, 5, 0..0),
            (5, 9, 5, 0..0),
            (0, -6, 5, 0..0),
            (0, 0, 0, 0..0),
            (i64::MIN, i64::MAX, 2, 0..2),
        ] {
            assert_eq!(places(start, end, length), expected, "{start} {end}");
        }
    }
}
