//! The text of INFO: Redis' sections with Warp's figures, and a section of Warp's own.

use std::fmt::Write as _;

use super::Call;
use super::arguments::is;
use super::connection::REDIS_VERSION;
use crate::adapter::WhenFull;

/// A part of INFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Server,
    Clients,
    Memory,
    Persistence,
    Stats,
    Replication,
    Cpu,
    Cluster,
    Keyspace,
    Warp,
}

impl Section {
    const ALL: [Self; 10] = [
        Self::Server,
        Self::Clients,
        Self::Memory,
        Self::Persistence,
        Self::Stats,
        Self::Replication,
        Self::Cpu,
        Self::Cluster,
        Self::Keyspace,
        Self::Warp,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::Server => "Server",
            Self::Clients => "Clients",
            Self::Memory => "Memory",
            Self::Persistence => "Persistence",
            Self::Stats => "Stats",
            Self::Replication => "Replication",
            Self::Cpu => "CPU",
            Self::Cluster => "Cluster",
            Self::Keyspace => "Keyspace",
            Self::Warp => "Warp",
        }
    }

    /// Those that INFO's arguments name, each once and in Redis' order; no argument, `default`,
    /// `all` and `everything` are all of them. A name that isn't known is none.
    pub(super) fn asked_for(arguments: &[&[u8]]) -> Vec<Self> {
        let everything = ["DEFAULT", "ALL", "EVERYTHING"];
        let all = arguments.is_empty()
            || arguments.iter().any(|asked| everything.iter().any(|name| is(asked, name)));
        let asked = |section: &Self| {
            all || arguments.iter().any(|name| is(name, &section.title().to_ascii_uppercase()))
        };
        Self::ALL.into_iter().filter(asked).collect()
    }
}

/// The text of `sections`.
pub(super) fn text(sections: &[Section], call: &Call<'_>) -> String {
    let mut text = String::new();
    for section in sections {
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        text.push_str("# ");
        text.push_str(section.title());
        text.push_str("\r\n");
        for (name, value) in lines(*section, call) {
            // Writing to a string can't fail.
            let _ = write!(text, "{name}:{value}\r\n");
        }
    }
    text
}

fn lines(section: Section, call: &Call<'_>) -> Vec<(&'static str, String)> {
    // The commands before this one count, too.
    call.view.settle();
    let figures = call.engine.figures();
    let clients = &call.host.clients;
    let blocked = call.view.on_keyspace(|keyspace| keyspace.waits()).unwrap_or_default();
    let same = str::to_owned;
    match section {
        Section::Server => vec![
            ("redis_version", same(REDIS_VERSION)),
            ("redis_mode", same("standalone")),
            ("os", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
            ("arch_bits", usize::BITS.to_string()),
            ("process_id", std::process::id().to_string()),
            ("run_id", call.host.run_id.clone()),
            ("tcp_port", call.host.port.to_string()),
            ("server_time_usec", (call.now() * 1000).to_string()),
            ("uptime_in_seconds", figures.uptime_seconds.to_string()),
            ("uptime_in_days", (figures.uptime_seconds / 86_400).to_string()),
            ("warp_version", same(env!("CARGO_PKG_VERSION"))),
        ],
        Section::Clients => vec![
            ("connected_clients", clients.len().to_string()),
            ("cluster_connections", same("0")),
            ("maxclients", clients.limit().to_string()),
            ("blocked_clients", blocked.to_string()),
            ("tracking_clients", call.engine.tracking().clients().to_string()),
        ],
        Section::Memory => {
            let resident = resident_bytes();
            vec![
                ("used_memory", figures.bytes.to_string()),
                ("used_memory_human", human(figures.bytes)),
                ("used_memory_rss", resident.to_string()),
                ("used_memory_rss_human", human(resident)),
                ("maxmemory", figures.limit_bytes.to_string()),
                ("maxmemory_human", human(figures.limit_bytes)),
                ("maxmemory_policy", same(eviction_policy(figures.when_full))),
            ]
        }
        Section::Persistence => vec![
            ("loading", same("0")),
            ("async_loading", same("0")),
            ("rdb_changes_since_last_save", same("0")),
            ("rdb_bgsave_in_progress", same("0")),
            ("aof_enabled", same("0")),
        ],
        Section::Stats => {
            let [channels, patterns, shards] = call.engine.subscribed_to();
            // What leaves a cache is no key that is gone.
            let evicted = match figures.when_full {
                WhenFull::Evict => figures.evicted,
                WhenFull::Refuse => 0,
            };
            vec![
                ("total_connections_received", clients.admitted().to_string()),
                ("total_commands_processed", clients.commands().to_string()),
                ("rejected_connections", clients.refused().to_string()),
                ("expired_keys", figures.expired.to_string()),
                ("evicted_keys", evicted.to_string()),
                ("keyspace_hits", figures.hits.to_string()),
                ("keyspace_misses", figures.misses.to_string()),
                ("pubsub_channels", channels.to_string()),
                ("pubsub_patterns", patterns.to_string()),
                ("pubsubshard_channels", shards.to_string()),
                ("tracking_total_keys", call.engine.tracking().keys().to_string()),
            ]
        }
        Section::Replication => vec![
            ("role", same("master")),
            ("connected_slaves", same("0")),
            ("master_replid", call.host.run_id.clone()),
            ("master_repl_offset", same("0")),
        ],
        Section::Cpu => {
            let (system, user) = cpu_seconds();
            vec![("used_cpu_sys", format!("{system:.6}")), ("used_cpu_user", format!("{user:.6}"))]
        }
        Section::Cluster => vec![("cluster_enabled", same("0"))],
        // DBSIZE asks the storage; INFO is what clients send first and mustn't depend on it.
        Section::Keyspace if figures.entries == 0 => Vec::new(),
        Section::Keyspace => {
            vec![(
                "db0",
                format!("keys={},expires={},avg_ttl=0", figures.entries, figures.expiring),
            )]
        }
        Section::Warp => vec![
            ("cluster", figures.cluster.clone()),
            ("storage", same(figures.storage)),
            ("bus", same(figures.bus)),
            ("cache_entries", figures.entries.to_string()),
            ("cache_bytes", figures.bytes.to_string()),
            ("cache_limit_bytes", figures.limit_bytes.to_string()),
        ],
    }
}

/// The name of Redis' policy that is nearest.
pub(super) fn eviction_policy(when_full: WhenFull) -> &'static str {
    match when_full {
        WhenFull::Refuse => "noeviction",
        WhenFull::Evict => "allkeys-lfu",
    }
}

/// A size as Redis writes it for people: `1.50M`.
fn human(bytes: u64) -> String {
    let mut unit = 0;
    let mut hundredths = u128::from(bytes) * 100;
    while hundredths >= 102_400 && unit < 4 {
        hundredths /= 1024;
        unit += 1;
    }
    let name = ['B', 'K', 'M', 'G', 'T'][unit];
    if unit == 0 {
        format!("{bytes}B")
    } else {
        format!("{}.{:02}{name}", hundredths / 100, hundredths % 100)
    }
}

/// Bytes of the process in memory; 0 where the system doesn't say. See proc(5).
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 =
        statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    pages * 4096
}

/// Seconds of CPU in the system and in the program; 0 where the system doesn't say. See proc(5):
/// the 14th and 15th field, in hundredths, counted behind the name in brackets.
fn cpu_seconds() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(") ").map(|(_, fields)| fields).unwrap_or_default();
    let mut ticks = fields.split(' ').skip(11).map(|field| field.parse().unwrap_or(0.0) / 100.0);
    let user = ticks.next().unwrap_or_default();
    (ticks.next().unwrap_or_default(), user)
}

#[cfg(test)]
mod tests {
    use super::{Section, cpu_seconds, human, resident_bytes};

    #[test]
    fn sections_are_asked_for_by_name() {
        let asked = |names: &[&'static str]| {
            Section::asked_for(&names.iter().map(|name| name.as_bytes()).collect::<Vec<_>>())
        };
        assert_eq!(asked(&["cpu", "Server", "nothing"]), [Section::Server, Section::Cpu]);
        assert_eq!(asked(&["nothing"]), []);
        assert_eq!(asked(&[]).len(), Section::ALL.len());
        assert_eq!(asked(&["everything"]), asked(&[]));
    }

    #[test]
    fn sizes_are_written_for_people() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.00K"),
            (1_572_864, "1.50M"),
            (1 << 50, "1024.00T"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }

    #[test]
    fn the_process_is_measured() {
        assert!(resident_bytes() > 100_000);
        let (system, user) = cpu_seconds();
        assert!(system >= 0.0 && user >= 0.0);
    }
}
