//! What the server counts for Prometheus. Labels are bounded: commands count under a name of the
//! table, and those that it doesn't have under `other`.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::command::{COMMANDS, Entry};

/// See the module.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Clients that are connected.
    pub connections: IntGauge,
    /// Clients that have been.
    pub connections_total: IntCounter,
    /// Connections closed because what they sent is not RESP.
    pub protocol_errors: IntCounter,
    /// Connections closed because they didn't read their replies.
    pub slow_clients: IntCounter,
    /// By place in the table of commands.
    commands: Vec<IntCounter>,
    other_commands: IntCounter,
}

impl Metrics {
    /// New counters in `registry`. Fails if they are there already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let by_command = IntCounterVec::new(
            Opts::new("warp_resp_commands_total", "Commands received, by name."),
            &["command"],
        )?;
        let connections = IntGauge::new("warp_resp_connections", "Clients that are connected.")?;
        let connections_total =
            IntCounter::new("warp_resp_connections_total", "Clients that have been connected.")?;
        let protocol_errors = IntCounter::new(
            "warp_resp_protocol_errors_total",
            "Connections closed because what they sent is not RESP.",
        )?;
        let slow_clients = IntCounter::new(
            "warp_resp_slow_clients_total",
            "Connections closed because they didn't read their replies.",
        )?;
        registry.register(Box::new(by_command.clone()))?;
        registry.register(Box::new(connections.clone()))?;
        registry.register(Box::new(connections_total.clone()))?;
        registry.register(Box::new(protocol_errors.clone()))?;
        registry.register(Box::new(slow_clients.clone()))?;
        let of = |name: &str| by_command.with_label_values(&[name]);
        Ok(Self {
            connections,
            connections_total,
            protocol_errors,
            slow_clients,
            commands: COMMANDS.iter().map(|entry| of(entry.command.name)).collect(),
            other_commands: of("other"),
        })
    }

    /// Counts what was tallied, and clears it.
    pub(super) fn count(&self, tally: &mut Tally) {
        for place in tally.met.drain(..) {
            let count = std::mem::take(&mut tally.counts[place]);
            self.commands.get(place).unwrap_or(&self.other_commands).inc_by(count);
        }
    }
}

/// Commands that aren't counted for everyone yet: an atomic addition for each would have the
/// processor wait for all that it has begun to fetch.
#[derive(Debug)]
pub(super) struct Tally {
    /// By place in the table of commands; the last is of those that it doesn't have.
    counts: Box<[u64]>,
    /// Places whose count isn't 0.
    met: Vec<usize>,
}

impl Default for Tally {
    fn default() -> Self {
        Self { counts: vec![0; COMMANDS.len() + 1].into(), met: Vec::new() }
    }
}

impl Tally {
    /// Tallies a command, which `entry` is the table's entry of.
    #[inline]
    pub(super) fn count(&mut self, entry: Option<&Entry>) {
        let place = entry.map_or(COMMANDS.len(), |entry| entry.index);
        if self.counts[place] == 0 {
            self.met.push(place);
        }
        self.counts[place] += 1;
    }
}
