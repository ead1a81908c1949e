//! SLOWLOG, LATENCY and MONITOR: what a person asks who looks for what is slow. Over a Redis they
//! are Redis' own.

use super::arguments::integer;
use super::client::{help_text, needs_subcommand};
use super::{Call, Command, NO_KEYS, Origin, Outcome, find, subcommand_of};
use crate::metrics::latency::Event;
use crate::resp::histogram::Histograms;
use crate::resp::reply::Reply;
use crate::resp::slow_log::Slow;

const PLAIN: &[&str] = &["loading", "stale"];
const LOG: &[&str] = &["admin", "loading", "stale"];
const ADMIN: &[&str] = &["admin", "noscript", "loading", "stale"];

#[rustfmt::skip]
pub(super) const FAMILY: &[Command] = &[
    Command::new("monitor", 1, ADMIN, NO_KEYS, "1.0.0", "Listens for all requests received by the server in real-time.", monitor).beside_redis(),
    Command::new("slowlog", -2, &[], NO_KEYS, "2.2.12", "A container for slow log commands.", needs_subcommand).beside_redis()
        .with_subcommands(&[
            Command::new("slowlog|get", -2, LOG, NO_KEYS, "2.2.12", "Returns the slow log's entries.", slowlog_get).beside_redis(),
            Command::new("slowlog|help", 2, PLAIN, NO_KEYS, "6.2.0", "Show helpful text about the different subcommands", slowlog_help).beside_redis(),
            Command::new("slowlog|len", 2, LOG, NO_KEYS, "2.2.12", "Returns the number of entries in the slow log.", slowlog_len).beside_redis(),
            Command::new("slowlog|reset", 2, LOG, NO_KEYS, "2.2.12", "Clears all entries from the slow log.", slowlog_reset).beside_redis(),
        ]),
    Command::new("latency", -2, &[], NO_KEYS, "2.8.13", "A container for latency diagnostics commands.", needs_subcommand).beside_redis()
        .with_subcommands(&[
            Command::new("latency|doctor", 2, ADMIN, NO_KEYS, "2.8.13", "Returns a human-readable latency analysis report.", doctor).beside_redis(),
            Command::new("latency|help", 2, PLAIN, NO_KEYS, "2.8.13", "Returns helpful text about the different subcommands.", latency_help).beside_redis(),
            Command::new("latency|histogram", -2, ADMIN, NO_KEYS, "7.0.0", "Returns the cumulative distribution of latencies of a subset or all commands.", histogram).beside_redis(),
            Command::new("latency|history", 3, ADMIN, NO_KEYS, "2.8.13", "Returns timestamp-latency samples for an event.", history).beside_redis(),
            Command::new("latency|latest", 2, ADMIN, NO_KEYS, "2.8.13", "Returns the latest latency samples for all events.", latest).beside_redis(),
            Command::new("latency|reset", -2, ADMIN, NO_KEYS, "2.8.13", "Resets the latency data for one or more events.", latency_reset).beside_redis(),
        ]),
];

const SLOWLOG_HELP: &[&str] = &[
    "SLOWLOG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GET [<count>]",
    "    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
    "    Entries are made of:",
    "    id, timestamp, time in microseconds, arguments array, client IP and port,",
    "    client name",
    "LEN",
    "    Return the length of the slowlog.",
    "RESET",
    "    Reset the slowlog.",
    "HELP",
    "    Print this help.",
];

const LATENCY_HELP: &[&str] = &[
    "LATENCY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "DOCTOR",
    "    Return a human readable latency analysis report.",
    "HISTORY <event>",
    "    Return time-latency samples for the <event> class.",
    "LATEST",
    "    Return the latest latency samples for all events.",
    "RESET [<event> ...]",
    "    Reset latency data of one or more <event> classes.",
    "    (default: reset all data for all event classes)",
    "HISTOGRAM [COMMAND ...]",
    "    Return a cumulative distribution of latencies in the format of a histogram for the specified command names.",
    "    If no commands are specified then all histograms are replied.",
    "HELP",
    "    Print this help.",
];

/// The client is shown what all clients do, until it leaves or calls RESET.
fn monitor(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    if call.origin != Origin::Client {
        return Err(Reply::err("MONITOR isn't allowed for DENY BLOCKING client"));
    }
    if call.session.monitoring.is_none() {
        call.session.monitoring = Some(call.host.monitors.begin(&call.session.inbox));
        call.session.admission.client.with_state(|state| state.monitors = true);
    }
    Ok(Outcome::Reply(Reply::OK))
}

fn slowlog_get(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    const WRONG: &str = "count should be greater than or equal to -1";
    let count = match &call.arguments[2..] {
        [] => 10,
        [count] => match integer(count).map_err(|_| Reply::err(WRONG))? {
            -1 => usize::MAX,
            count => usize::try_from(count).map_err(|_| Reply::err(WRONG))?,
        },
        _ => {
            return Err(Reply::err(
                "unknown subcommand or wrong number of arguments for 'GET'. Try SLOWLOG HELP.",
            ));
        }
    };
    let slow = call.host.timing.slow_log.last(count);
    Ok(Outcome::Reply(Reply::Array(slow.into_iter().map(shown).collect())))
}

fn shown(slow: Slow) -> Reply {
    let micros = u64::try_from(slow.took.as_micros()).unwrap_or(u64::MAX);
    Reply::Array(vec![
        Reply::count(slow.id),
        Reply::count(slow.at),
        Reply::count(micros),
        Reply::Array(slow.command.0.into_iter().map(Reply::Bulk).collect()),
        Reply::Bulk(slow.client.into()),
        Reply::Bulk(slow.client_name),
    ])
}

fn slowlog_len(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    Ok(Outcome::Reply(Reply::count(call.host.timing.slow_log.count() as u64)))
}

fn slowlog_reset(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    call.host.timing.slow_log.reset();
    Ok(Outcome::Reply(Reply::OK))
}

fn slowlog_help(_: &mut Call<'_>) -> Result<Outcome, Reply> {
    Ok(Outcome::Reply(help_text(SLOWLOG_HELP)))
}

fn latest(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let latest = |event: Event| {
        let series = call.engine.latency().series(event);
        let last = series.samples.back()?;
        Some(Reply::Array(vec![
            Reply::text(event.name()),
            Reply::count(last.at),
            Reply::count(last.millis),
            Reply::count(series.max),
        ]))
    };
    Ok(Outcome::Reply(Reply::Array(Event::ALL.into_iter().filter_map(latest).collect())))
}

fn history(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let series = Event::of_name(call.arguments[2]).map(|event| call.engine.latency().series(event));
    let samples = series.unwrap_or_default().samples.into_iter();
    let pair = |(at, millis)| Reply::Array(vec![Reply::count(at), Reply::count(millis)]);
    let samples = samples.map(|sample| pair((sample.at, sample.millis)));
    Ok(Outcome::Reply(Reply::Array(samples.collect())))
}

fn latency_reset(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let latency = call.engine.latency();
    let named = &call.arguments[2..];
    let reset = if named.is_empty() {
        Event::ALL.into_iter().filter(|event| latency.reset(*event)).count()
    } else {
        let events = named.iter().filter_map(|name| Event::of_name(name));
        events.filter(|event| latency.reset(*event)).count()
    };
    Ok(Outcome::Reply(Reply::count(reset as u64)))
}

/// In short: what was slow, how often and how long at most.
fn doctor(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let latency = call.engine.latency();
    let mut text = String::new();
    if latency.threshold() == 0 {
        text.push_str(
            "Latency is not monitored. CONFIG SET latency-monitor-threshold <milliseconds> has \
             what takes so long noted.\n",
        );
    }
    let mut calm = true;
    for event in Event::ALL {
        let series = latency.series(event);
        let Some(last) = series.samples.back() else { continue };
        calm = false;
        let count = series.samples.len() as u64;
        let mean = series.samples.iter().map(|sample| sample.millis).sum::<u64>() / count;
        let ago = (call.now() / 1000).saturating_sub(last.at);
        text.push_str(&format!(
            "{}: {count} seconds with spikes, {mean} ms on average, {} ms at most, the last {ago} \
             s ago. {}\n",
            event.name(),
            series.max,
            advice(event),
        ));
    }
    if calm && latency.threshold() > 0 {
        text.push_str("Nothing took as long as the threshold.\n");
    }
    Ok(Outcome::Reply(Reply::Verbatim(*b"txt", text.into())))
}

fn advice(event: Event) -> &'static str {
    match event {
        Event::Command => "SLOWLOG GET names the commands.",
        Event::FastCommand => "These commands had very many arguments: do them in parts.",
        Event::EventLoop => {
            "A thread had so much to do at once, waited for a script, or got no processor."
        }
        Event::ExpireCycle => "Very large keys have ended, or the process got no processor.",
        Event::Storage => "Look at the storage and at the network to it.",
        Event::Bus => "Look at NATS and at the network to it.",
    }
}

fn histogram(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let histograms = &call.host.timing.histograms;
    let named = &call.arguments[2..];
    let mut shown = Vec::new();
    if named.is_empty() {
        for entry in super::COMMANDS.iter() {
            show_all(entry.command, histograms, &mut shown);
        }
    } else {
        for name in named {
            let mut parts = name.splitn(2, |byte| *byte == b'|');
            let (container, subcommand) = (parts.next().unwrap_or_default(), parts.next());
            let Some(entry) = find(container) else { continue };
            match subcommand {
                None => show_all(entry.command, histograms, &mut shown),
                Some(part) => {
                    if let Ok(command) = subcommand_of(entry.command, &[container, part]) {
                        shown.extend(show_one(command, histograms));
                    }
                }
            }
        }
    }
    Ok(Outcome::Reply(Reply::Map(shown)))
}

/// A command's, and those of its subcommands.
fn show_all(command: &Command, histograms: &Histograms, shown: &mut Vec<(Reply, Reply)>) {
    shown.extend(show_one(command, histograms));
    for subcommand in command.subcommands {
        shown.extend(show_one(subcommand, histograms));
    }
}

fn show_one(command: &Command, histograms: &Histograms) -> Option<(Reply, Reply)> {
    let counts = histograms.of(command);
    let (_, calls) = *counts.last()?;
    let buckets =
        counts.into_iter().map(|(up_to, count)| (Reply::count(up_to), Reply::count(count)));
    let figures = vec![
        (Reply::text("calls"), Reply::count(calls)),
        (Reply::text("histogram_usec"), Reply::Map(buckets.collect())),
    ];
    Some((Reply::text(command.name), Reply::Map(figures)))
}

fn latency_help(_: &mut Call<'_>) -> Result<Outcome, Reply> {
    Ok(Outcome::Reply(help_text(LATENCY_HELP)))
}
