//! Who runs on which core. A thread's choice is inherited by what it starts, threads and programs
//! alike: so a server is pinned before its first instruction, whatever threads it makes.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Outcome, Trying};

/// Whether a server has its core for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Sharing {
    /// The generator has another.
    Apart,
    /// The generator takes turns with it, as in a pod with one core.
    Together,
}

/// The two cores that are used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    server: usize,
    generator: usize,
}

impl Cores {
    /// The first two that this process may use.
    pub(crate) fn choose() -> Outcome<Self> {
        let allowed =
            sched_getaffinity(Pid::from_raw(0)).trying(|| "asking for the cores".to_owned())?;
        let mut cores = (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false));
        match (cores.next(), cores.next()) {
            (Some(server), Some(generator)) => Ok(Self { server, generator }),
            _ => Err(Failure::Other(
                "two cores are needed: one for the server, one for the generator".to_owned(),
            )),
        }
    }

    /// Does something, such as starting a program, on the server's core.
    pub(crate) fn on_servers<T>(self, work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        pin(self.server)?;
        let result = work();
        pin(self.generator)?;
        result
    }

    /// Moves the calling thread to where it generates load.
    pub(crate) fn settle(self, sharing: Sharing) -> Outcome {
        match sharing {
            Sharing::Apart => pin(self.generator),
            Sharing::Together => pin(self.server),
        }
    }
}

fn pin(core: usize) -> Outcome {
    let mut set = CpuSet::new();
    set.set(core)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .trying(|| format!("pinning to core {core}"))
}
