//! Where it was measured, as the page tells.

use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_mib: u64,
    pub(crate) kernel: String,
    /// Processes that wanted a core in the minute before.
    pub(crate) load_before: f64,
}

impl Machine {
    /// What `/proc` says; what it doesn't say stays empty.
    pub(crate) fn read() -> Self {
        let file = |name: &str| std::fs::read_to_string(name).unwrap_or_default();
        let (processor, memory, kernel, load) = (
            file("/proc/cpuinfo"),
            file("/proc/meminfo"),
            file("/proc/sys/kernel/osrelease"),
            file("/proc/loadavg"),
        );
        let word = |text: &str| text.split_whitespace().next().unwrap_or_default().to_owned();
        Self {
            processor: value(&processor, "model name").to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: word(value(&memory, "MemTotal")).parse().unwrap_or(0) / 1024,
            kernel: kernel.trim().to_owned(),
            load_before: word(&load).parse().unwrap_or(0.0),
        }
    }
}

/// What follows `name` and a colon.
fn value<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.map_or("", |rest| rest.trim_start_matches([' ', '\t', ':']))
}
