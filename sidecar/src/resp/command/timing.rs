//! What is seen of a command's execution from outside: how long it took (SLOWLOG, LATENCY), and
//! that it was executed (MONITOR).
//!
//! *A quick command costs one comparison here*: one that does little, however much its key holds,
//! isn't measured, unless it has many arguments or the slow log asks for less than a millisecond. What is answered by work is measured from the
//! command's execution to its reply. A wait for a key (BLPOP) is nobody's slowness and isn't.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt as _;

use super::{Call, Command, Entry, Origin, Outcome, Work, dispatch, subcommand_of};
use crate::core::Engine;
use crate::metrics::latency::Event;
use crate::resp::host::Timing;
use crate::resp::slow_log::Trimmed;

/// With more arguments than this a quick command is measured.
const MANY: usize = 16;

/// Whether a command is to be observed while it is executed.
#[inline]
pub(super) fn is_observed(entry: Option<&Entry>, call: &Call<'_>) -> bool {
    !entry.is_some_and(|entry| entry.is_quick)
        || call.arguments.len() > MANY
        || call.host.monitors.is_any()
        || call.host.timing.slow_log.wants_quick()
}

/// Executes a command, measures it and shows it.
pub(super) fn observe(entry: Option<&Entry>, call: &mut Call<'_>) -> Outcome {
    let Some(command) = entry.and_then(|entry| called(entry.command, call.arguments)) else {
        return dispatch(entry, call);
    };
    // What a script does is shown behind the script, all else before what comes from it.
    let is_script = command.flags.contains(&"skip_monitor");
    if is_script {
        show(command, call);
    }
    let begun = Instant::now();
    let outcome = dispatch(entry, call);
    let took = begun.elapsed();
    if !is_script {
        show(command, call);
    }
    // The transaction of a SQL storage is measured as a whole.
    if matches!(outcome, Outcome::Reply(_) | Outcome::Written) && !call.view.is_scratch() {
        let timing = &call.host.timing;
        timing.histograms.note(command, took);
        let event = event_of(command);
        call.engine.latency().note(event, took, call.now());
        if timing.slow_log.wants(took) && !command.flags.contains(&"skip_slowlog") {
            let client = &call.session.admission.client;
            let name = client.with_state(|state| state.name.clone());
            let arguments = Trimmed::of(call.arguments);
            timing.slow_log.keep(arguments, took, call.now() / 1000, client.address(), name);
        }
    }
    outcome
}

/// The command that is called, if it is there and takes so many arguments.
fn called(command: &'static Command, arguments: &[&[u8]]) -> Option<&'static Command> {
    subcommand_of(command, arguments).ok().filter(|command| command.takes(arguments.len()))
}

fn event_of(command: &Command) -> Event {
    if command.flags.contains(&"fast") { Event::FastCommand } else { Event::Command }
}

/// Shows it to those that monitor. Commands of administrators aren't shown.
fn show(command: &Command, call: &Call<'_>) {
    let monitors = &call.host.monitors;
    // What waits for its keys to be locked is shown when it is done.
    let waits = command.flags.contains(&"skip_monitor") && !call.is_in_memory();
    if !monitors.is_any() || command.flags.contains(&"admin") || waits {
        return;
    }
    let source = match call.origin {
        Origin::Script => "lua",
        Origin::Client | Origin::Queued => call.session.admission.client.address(),
    };
    monitors.show(call.now(), source, call.arguments);
}

/// A command whose reply is still to come.
#[derive(Debug)]
pub(in crate::resp) struct Pending {
    begun: Instant,
    command: &'static Command,
    arguments: Trimmed,
    engine: Arc<Engine>,
    timing: Arc<Timing>,
    client: String,
    client_name: Bytes,
}

impl Pending {
    pub(super) fn new(command: &'static Command, call: &Call<'_>) -> Self {
        let client = &call.session.admission.client;
        Self {
            begun: Instant::now(),
            command,
            arguments: Trimmed::of(call.arguments),
            engine: Arc::clone(call.engine),
            timing: Arc::clone(&call.host.timing),
            client: client.address().to_owned(),
            client_name: client.with_state(|state| state.name.clone()),
        }
    }

    /// Its reply is there.
    pub(in crate::resp) fn end(self) {
        let took: Duration = self.begun.elapsed();
        let now = self.engine.now().unix;
        self.timing.histograms.note(self.command, took);
        self.engine.latency().note(Event::Command, took, now);
        if self.timing.slow_log.wants(took) {
            let Self { arguments, client, client_name, .. } = self;
            self.timing.slow_log.keep(arguments, took, now / 1000, &client, client_name);
        }
    }
}

/// Measures the work that answers a command.
pub(super) fn follow(entry: Option<&Entry>, call: &Call<'_>, work: Work) -> Work {
    let Some(command) = entry.and_then(|entry| called(entry.command, call.arguments)) else {
        return work;
    };
    let pending = Pending::new(command, call);
    work.inspect(|_| pending.end()).boxed()
}
