//! What all connections of a server share and its commands tell about it.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::clients::Clients;
use super::histogram::Histograms;
use super::monitor::Monitors;
use super::script::{Running, Scripts};
use super::slow_log::SlowLog;

/// See the module.
#[derive(Debug)]
pub struct Host {
    /// Who is connected.
    pub clients: Arc<Clients>,
    /// The TCP port; 0 is none.
    pub port: u16,
    /// The unix socket, if there is one.
    pub unix: Option<PathBuf>,
    /// Names this run of the server: 40 hexadecimal digits.
    pub run_id: String,
    /// Seconds until a silent connection is closed; 0 is never.
    pub idle_seconds: u64,
    /// The longest argument in bytes.
    pub bulk_limit: usize,
    /// The scripts that were loaded.
    pub scripts: Mutex<Scripts>,
    /// The scripts that run.
    pub running: Running,
    /// Who is shown what all clients do.
    pub monitors: Arc<Monitors>,
    /// How long commands took.
    pub timing: Arc<Timing>,
}

/// How long commands took.
#[derive(Debug, Default)]
pub struct Timing {
    /// Those that took long.
    pub slow_log: SlowLog,
    /// All that are measured.
    pub histograms: Histograms,
}

impl Host {
    /// A name for this run of the server.
    pub fn new_run_id() -> String {
        let bytes: [u8; 20] = rand::random();
        hex::encode(bytes)
    }
}
