//! Arguments that several commands take, and the errors that Redis answers when they are wrong.

use std::borrow::Cow;

use crate::adapter::UnixMillis;
use crate::resp::number::parse_i64;
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
