//! What Warp has beyond Redis, as commands that any client can send. A name with dots is one
//! command and not a subcommand, so that clients that know no such thing pass it on as it is.

use std::borrow::Cow;
use std::time::Duration;

use crate::resp::number::parse_u64;
use crate::resp::reply::Reply;

pub(super) mod explain;
pub(super) mod lease;
pub(super) mod lock;
pub(super) mod session;

/// A number of milliseconds.
fn millis(argument: &[u8]) -> Result<Duration, Reply> {
    parse_u64(argument)
        .map(Duration::from_millis)
        .ok_or(Reply::Error(Cow::Borrowed("ERR a time is a whole number of milliseconds")))
}

/// A time as a reply.
fn shown_millis(duration: Duration) -> Reply {
    Reply::count(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
