//! Commands on the server: its settings, its figures, its clock.

use std::borrow::Cow;

use bytes::Bytes;
use warp_crds::pattern::glob_match;

use super::client::{help_text, needs_subcommand};
use super::info::{self, Section};
use super::{Call, Command, NO_KEYS, Outcome};
use crate::resp::reply::Reply;

const PLAIN: &[&str] = &["loading", "stale"];
const FAST: &[&str] = &["loading", "stale", "fast"];
const ADMIN: &[&str] = &["admin", "noscript", "loading", "stale"];

#[rustfmt::skip]
pub(super) const FAMILY: &[Command] = &[
    Command::new("info", -1, PLAIN, NO_KEYS, "1.0.0", "Returns information and statistics about the server.", info),
    Command::new("time", 1, FAST, NO_KEYS, "2.6.0", "Returns the server time.", time),
    Command::new("config", -2, &[], NO_KEYS, "2.0.0", "A container for server configuration commands.", needs_subcommand)
        .with_subcommands(&[
            Command::new("config|get", -3, ADMIN, NO_KEYS, "2.0.0", "Returns the effective values of configuration parameters.", config_get),
            Command::new("config|help", 2, PLAIN, NO_KEYS, "5.0.0", "Returns helpful text about the different subcommands.", config_help),
            Command::new("config|resetstat", 2, ADMIN, NO_KEYS, "2.0.0", "Resets the server's statistics.", config_of_storage),
            Command::new("config|rewrite", 2, ADMIN, NO_KEYS, "2.8.0", "Persists the effective configuration to file.", config_of_storage),
            Command::new("config|set", -4, ADMIN, NO_KEYS, "2.0.0", "Sets configuration parameters in-flight.", config_set),
        ]),
];

const CONFIG_HELP: &[&str] = &[
    "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GET <pattern>",
    "    Return parameters matching the glob-like <pattern> and their values.",
    "HELP",
    "    Print this help.",
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

/// Of the parameters that clients ask for. Those of a Redis behind Warp are asked there.
fn config_get(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    if call.is_redis() {
        return Ok(Outcome::Relay);
    }
    let patterns: Vec<Vec<u8>> =
        call.arguments[2..].iter().map(|pattern| pattern.to_ascii_lowercase()).collect();
    let found = parameters(call)
        .into_iter()
        .filter(|(name, _)| patterns.iter().any(|pattern| glob_match(pattern, name.as_bytes())));
    Ok(Outcome::Reply(Reply::Map(
        found.map(|(name, value)| (Reply::text(name), Reply::Bulk(value.into()))).collect(),
    )))
}

fn parameters(call: &Call<'_>) -> Vec<(&'static str, String)> {
    let text = str::to_owned;
    let unix = call.host.unix.as_ref().map(|path| path.display().to_string());
    vec![
        ("appendonly", text("no")),
        ("bind", text("127.0.0.1")),
        ("cluster-enabled", text("no")),
        ("databases", text("1")),
        ("maxclients", call.host.clients.limit().to_string()),
        ("maxmemory", call.engine.figures().limit_bytes.to_string()),
        ("maxmemory-policy", text(info::eviction_policy(call.engine.figures().when_full))),
        ("notify-keyspace-events", text("")),
        ("port", call.host.port.to_string()),
        ("proto-max-bulk-len", call.host.bulk_limit.to_string()),
        ("replica-read-only", text("yes")),
        ("requirepass", text("")),
        ("save", text("")),
        ("slave-read-only", text("yes")),
        ("tcp-keepalive", text("300")),
        ("timeout", call.host.idle_seconds.to_string()),
        ("unixsocket", unix.unwrap_or_default()),
    ]
}

fn config_help(_: &mut Call<'_>) -> Result<Outcome, Reply> {
    Ok(Outcome::Reply(help_text(CONFIG_HELP)))
}

fn config_set(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let notifies = |name: &&[u8]| name.eq_ignore_ascii_case(b"notify-keyspace-events");
    if !call.is_redis() && call.arguments.iter().skip(2).step_by(2).any(notifies) {
        return Err(Reply::err(
            "CONFIG SET failed (possibly related to argument 'notify-keyspace-events') - Warp \
             publishes no keyspace notifications; CLIENT TRACKING tells which keys have changed",
        ));
    }
    config_of_storage(call)
}

/// What changes the settings of a Redis behind Warp. Warp's own are in its manifests.
fn config_of_storage(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    if call.is_redis() {
        return Ok(Outcome::Relay);
    }
    Err(Reply::Error(Cow::Borrowed(
        "ERR Warp's settings are changed in its WarpCluster and WarpPolicy manifests, not with \
         CONFIG",
    )))
}
