//! The grid: what is measured, under which name.

use crate::cores::Sharing;
use crate::generator::{Expiry, Workload};
use crate::peer::Peer;
use crate::server::Transport;

/// One measurement, the same for every server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    /// Its name in the results and on the command line.
    pub(crate) id: &'static str,
    /// What the page calls it.
    pub(crate) title: &'static str,
    pub(crate) experiment: Experiment,
    pub(crate) entrants: Entrants,
}

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entrants {
    /// All, and Warp as it is used.
    Everyone,
    /// Warp with a policy and without.
    Warps,
}

/// What is done.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Experiment {
    Load(Load),
    HitRatio,
    Footprint,
    Startup,
}

/// Eight connections in a closed loop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) transport: Transport,
    pub(crate) pipeline: usize,
    pub(crate) workload: Workload,
    pub(crate) expiry: Expiry,
    pub(crate) sharing: Sharing,
}

impl Entrants {
    pub(crate) fn include(self, peer: Peer) -> bool {
        match self {
            Self::Everyone => peer != Peer::WarpUnmatched,
            Self::Warps => matches!(peer, Peer::Warp | Peer::WarpUnmatched),
        }
    }
}

impl Cell {
    const fn load(id: &'static str, title: &'static str, load: Load) -> Self {
        Self { id, title, experiment: Experiment::Load(load), entrants: Entrants::Everyone }
    }

    const fn other(id: &'static str, title: &'static str, experiment: Experiment) -> Self {
        Self { id, title, experiment, entrants: Entrants::Everyone }
    }
}

impl Load {
    /// Reads of entries that have an expiry of their own, on cores apart.
    const fn get(transport: Transport, pipeline: usize) -> Self {
        Self {
            transport,
            pipeline,
            workload: Workload::Get,
            expiry: Expiry::Seconds(3600),
            sharing: Sharing::Apart,
        }
    }

    const fn together(self) -> Self {
        Self { sharing: Sharing::Together, ..self }
    }

    const fn with(self, workload: Workload) -> Self {
        Self { workload, expiry: Expiry::Never, ..self }
    }
}

pub(crate) const TCP_1: &str = "tcp-1";
pub(crate) const TCP_16: &str = "tcp-16";
pub(crate) const TCP_64: &str = "tcp-64";
pub(crate) const UNIX_16: &str = "unix-16";
pub(crate) const UNIX_64: &str = "unix-64";
pub(crate) const SHARED_TCP_1: &str = "shared-tcp-1";
pub(crate) const SHARED_UNIX_1: &str = "shared-unix-1";
pub(crate) const POLICY_16: &str = "policy-16";
pub(crate) const HIT_RATIO: &str = "hit-ratio";
pub(crate) const FOOTPRINT: &str = "footprint";
pub(crate) const STARTUP: &str = "startup";

/// All cells, in the order of the page.
pub(crate) const CELLS: [Cell; 13] = [
    Cell::load(TCP_1, "GET over TCP, unpipelined", Load::get(Transport::Tcp, 1)),
    Cell::load(TCP_16, "GET over TCP, pipelines of 16", Load::get(Transport::Tcp, 16)),
    Cell::load(TCP_64, "GET over TCP, pipelines of 64", Load::get(Transport::Tcp, 64)),
    Cell::load(UNIX_16, "GET over a unix socket, pipelines of 16", Load::get(Transport::Unix, 16)),
    Cell::load(UNIX_64, "GET over a unix socket, pipelines of 64", Load::get(Transport::Unix, 64)),
    Cell::load(
        SHARED_TCP_1,
        "GET over TCP, unpipelined, one core for client and server",
        Load::get(Transport::Tcp, 1).together(),
    ),
    Cell::load(
        SHARED_UNIX_1,
        "GET over a unix socket, unpipelined, one core for client and server",
        Load::get(Transport::Unix, 1).together(),
    ),
    Cell::load(
        "set-tcp-16",
        "SET over TCP, pipelines of 16",
        Load::get(Transport::Tcp, 16).with(Workload::Set),
    ),
    Cell::load(
        "mixed-tcp-16",
        "nine GET to one SET over TCP, pipelines of 16",
        Load::get(Transport::Tcp, 16).with(Workload::Mixed { sets: 10 }),
    ),
    Cell {
        entrants: Entrants::Warps,
        ..Cell::load(
            POLICY_16,
            "GET over TCP, pipelines of 16, with and without a matching policy",
            Load::get(Transport::Tcp, 16),
        )
    },
    Cell::other(HIT_RATIO, "hit ratio in 20 MiB", Experiment::HitRatio),
    Cell::other(FOOTPRINT, "memory for an entry", Experiment::Footprint),
    Cell::other(STARTUP, "start and idle memory", Experiment::Startup),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_cells_share_a_name() {
        let names: BTreeSet<&str> = CELLS.iter().map(|cell| cell.id).collect();
        assert_eq!(names.len(), CELLS.len());
    }
}
