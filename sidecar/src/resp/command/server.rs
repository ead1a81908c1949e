//! Commands on the server: its settings, its figures, its clock.

use bytes::Bytes;

use super::info::{self, Section};
use super::{Call, Command, NO_KEYS, Outcome};
use crate::resp::reply::Reply;

const PLAIN: &[&str] = &["loading", "stale"];
const FAST: &[&str] = &["loading", "stale", "fast"];

#[rustfmt::skip]
pub(super) const FAMILY: &[Command] = &[
    Command::new("info", -1, PLAIN, NO_KEYS, "1.0.0", "Returns information and statistics about the server.", info),
    Command::new("time", 1, FAST, NO_KEYS, "2.6.0", "Returns the server time.", time),
];

fn info(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let text = info::text(&Section::asked_for(&call.arguments[1..]), call);
    Ok(Outcome::Reply(Reply::Verbatim(*b"txt", text.into())))
}

/// The clock that expiries go by, which counts milliseconds.
fn time(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let now = call.now();
    let part = |number: u64| Reply::Bulk(Bytes::from(number.to_string()));
    Ok(Outcome::Reply(Reply::Array(vec![part(now / 1000), part(now % 1000 * 1000)])))
}
