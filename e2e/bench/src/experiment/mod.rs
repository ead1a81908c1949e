//! The measurements. Each starts a server anew, so that none finds what another left, and gives the
//! figures of one repetition.

use std::path::Path;
use std::time::Duration;

use crate::cells::Experiment;
use crate::cores::{Cores, Sharing};
use crate::failure::Outcome;
use crate::generator::{Dialect, Endpoint, Expiry, Generator, Keys, Script, Until, Workload};
use crate::peer::Peer;
use crate::results::Figures;
use crate::server::{Server, Start, Transport};

mod footprint;
mod hit_ratio;
mod load;
mod startup;

/// How much is measured: the whole, or just enough to see that all works.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Of one point under load.
    pub(crate) time: Duration,
    /// Before it.
    pub(crate) warm_up: Duration,
    /// Keys under load.
    pub(crate) keys: u32,
    /// Keys of the hit ratio's test, and the reads that fill and that are counted.
    pub(crate) zipf_keys: u32,
    pub(crate) zipf_reads: u32,
    /// Entries of the memory's test.
    pub(crate) entries: u32,
    /// Starts in a repetition.
    pub(crate) starts: u32,
    /// How long a server is left alone before it counts as idle.
    pub(crate) idle: Duration,
}

impl Pace {
    pub(crate) fn full(time: Duration) -> Self {
        Self {
            time,
            warm_up: time / 4,
            keys: 100_000,
            zipf_keys: 1_000_000,
            zipf_reads: 2_000_000,
            entries: 500_000,
            starts: 5,
            idle: Duration::from_millis(500),
        }
    }

    pub(crate) fn quick() -> Self {
        Self {
            time: Duration::from_millis(50),
            warm_up: Duration::from_millis(10),
            keys: 1_000,
            zipf_keys: 20_000,
            zipf_reads: 20_000,
            entries: 5_000,
            starts: 1,
            idle: Duration::from_millis(10),
        }
    }
}

/// One server's turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn<'a> {
    pub(crate) peer: Peer,
    pub(crate) program: &'a Path,
    pub(crate) cores: Cores,
    pub(crate) pace: Pace,
    /// The same for all servers of a repetition, another in the next.
    pub(crate) seed: u64,
}

impl Experiment {
    /// Does it once.
    pub(crate) fn measure(&self, turn: Turn<'_>) -> Outcome<Figures> {
        turn.cores.settle(Sharing::Apart)?;
        match self {
            Self::Load(load) => load::measure(*load, turn),
            Self::HitRatio => hit_ratio::measure(turn),
            Self::Footprint => footprint::measure(turn),
            Self::Startup => startup::measure(turn),
        }
    }
}

impl Turn<'_> {
    fn start(self, transport: Transport, memory_mib: u32) -> Outcome<Server> {
        let Self { peer, program, cores, .. } = self;
        Server::start(Start { peer, program, transport, memory_mib }, cores)
    }

    fn dialect(self, value_size: usize, expiry: Expiry) -> Dialect {
        Dialect::new(self.peer.protocol(), value_size, expiry)
    }
}

/// Writes each of the first `count` keys once.
pub(crate) fn fill(to: &Endpoint, dialect: Dialect, count: u32) -> Outcome {
    let mut script = Script::new(dialect, Workload::Set, Keys::each(count));
    let run = Generator::connect(to, 4, 64)?.run(&mut script, Until::Drawn(count.into()));
    run.map(drop).map_err(|failure| failure.within("filling"))
}
