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

    /// Counts a command, which `entry` is the table's entry of.
    pub(super) fn count(&self, entry: Option<&Entry>) {
        match entry {
            Some(entry) => self.commands[entry.index].inc(),
            None => self.other_commands.inc(),
        }
    }
}
