//! CONFIG: the settings that clients ask for, and the few that they may change.
//!
//! Over a Redis they are Redis' own. Warp's are in its manifests, but for what a person changes who
//! looks for what is slow; that lasts until the sidecar ends.

use std::borrow::Cow;

use warp_crds::pattern::glob_match;

use super::arguments::SYNTAX_ERROR;
use super::client::{help_text, needs_subcommand};
use super::{Call, Command, NO_KEYS, Outcome, info};
use crate::resp::number::parse_i64;
use crate::resp::reply::Reply;

const PLAIN: &[&str] = &["loading", "stale"];
const ADMIN: &[&str] = &["admin", "noscript", "loading", "stale"];

#[rustfmt::skip]
pub(super) const FAMILY: &[Command] = &[
    Command::new("config", -2, &[], NO_KEYS, "2.0.0", "A container for server configuration commands.", needs_subcommand)
        .with_subcommands(&[
            Command::new("config|get", -3, ADMIN, NO_KEYS, "2.0.0", "Returns the effective values of configuration parameters.", get),
            Command::new("config|help", 2, PLAIN, NO_KEYS, "5.0.0", "Returns helpful text about the different subcommands.", help),
            Command::new("config|resetstat", 2, ADMIN, NO_KEYS, "2.0.0", "Resets the server's statistics.", of_storage),
            Command::new("config|rewrite", 2, ADMIN, NO_KEYS, "2.8.0", "Persists the effective configuration to file.", of_storage),
            Command::new("config|set", -4, ADMIN, NO_KEYS, "2.0.0", "Sets configuration parameters in-flight.", set),
        ]),
];

const HELP: &[&str] = &[
    "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GET <pattern>",
    "    Return parameters matching the glob-like <pattern> and their values.",
    "SET <directive> <value>",
    "    Set the configuration <directive> to <value>.",
    "HELP",
    "    Print this help.",
];

fn get(call: &mut Call<'_>) -> Result<Outcome, Reply> {
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
    let slow_log = &call.host.timing.slow_log;
    vec![
        ("appendonly", text("no")),
        ("bind", text("127.0.0.1")),
        ("cluster-enabled", text("no")),
        ("databases", text("1")),
        (Setting::LatencyThreshold.name(), call.engine.latency().threshold().to_string()),
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
        (Setting::SlowThreshold.name(), slow_log.threshold().to_string()),
        (Setting::SlowMost.name(), slow_log.most().to_string()),
        ("tcp-keepalive", text("300")),
        ("timeout", call.host.idle_seconds.to_string()),
        ("unixsocket", unix.unwrap_or_default()),
    ]
}

fn help(_: &mut Call<'_>) -> Result<Outcome, Reply> {
    Ok(Outcome::Reply(help_text(HELP)))
}

/// What clients may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setting {
    /// See [`SlowLog::threshold`](crate::resp::slow_log::SlowLog::threshold).
    SlowThreshold,
    /// See [`SlowLog::most`](crate::resp::slow_log::SlowLog::most).
    SlowMost,
    /// See [`Latency::threshold`](crate::metrics::latency::Latency::threshold).
    LatencyThreshold,
}

impl Setting {
    const ALL: [Self; 3] = [Self::SlowThreshold, Self::SlowMost, Self::LatencyThreshold];

    const fn name(self) -> &'static str {
        match self {
            Self::SlowThreshold => "slowlog-log-slower-than",
            Self::SlowMost => "slowlog-max-len",
            Self::LatencyThreshold => "latency-monitor-threshold",
        }
    }

    fn of_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|setting| setting.name().as_bytes().eq_ignore_ascii_case(name))
    }

    fn parse(self, value: &[u8]) -> Result<i64, Reply> {
        let least = if self == Self::SlowThreshold { -1 } else { 0 };
        match parse_i64(value) {
            Some(value) if value >= least => Ok(value),
            Some(_) => Err(self
                .refused(&format!("argument must be between {least} and {} inclusive", i64::MAX))),
            None => Err(self.refused("argument couldn't be parsed into an integer")),
        }
    }

    fn refused(self, why: &str) -> Reply {
        refused(self.name(), why)
    }

    fn set(self, value: i64, call: &Call<'_>) {
        let slow_log = &call.host.timing.slow_log;
        match self {
            Self::SlowThreshold => slow_log.set_threshold(value),
            Self::SlowMost => slow_log.set_most(usize::try_from(value).unwrap_or(usize::MAX)),
            Self::LatencyThreshold => {
                call.engine.latency().set_threshold(u64::try_from(value).unwrap_or_default());
            }
        }
    }
}

fn refused(name: &str, why: &str) -> Reply {
    Reply::err(&format!("CONFIG SET failed (possibly related to argument '{name}') - {why}"))
}

/// Sets all that are named, or none.
fn set(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    if call.is_redis() {
        return Ok(Outcome::Relay);
    }
    let mut settings: Vec<(Setting, &[u8])> = Vec::new();
    for pair in call.arguments[2..].chunks(2) {
        let [name, value] = pair else {
            return Err(SYNTAX_ERROR);
        };
        if name.eq_ignore_ascii_case(b"notify-keyspace-events") {
            let why = "Warp publishes no keyspace notifications; CLIENT TRACKING tells which keys \
                       have changed";
            return Err(refused("notify-keyspace-events", why));
        }
        let Some(setting) = Setting::of_name(name) else {
            return of_storage(call);
        };
        if settings.iter().any(|(other, _)| *other == setting) {
            return Err(setting.refused("duplicate parameter"));
        }
        settings.push((setting, value));
    }
    let parsed: Result<Vec<_>, Reply> =
        settings.into_iter().map(|(setting, value)| Ok((setting, setting.parse(value)?))).collect();
    for (setting, value) in parsed? {
        setting.set(value, call);
    }
    Ok(Outcome::Reply(Reply::OK))
}

/// What changes the settings of a Redis behind Warp. Warp's own are in its manifests.
fn of_storage(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    if call.is_redis() {
        return Ok(Outcome::Relay);
    }
    Err(Reply::Error(Cow::Borrowed(
        "ERR Warp's settings are changed in its WarpCluster and WarpPolicy manifests, not with \
         CONFIG",
    )))
}
