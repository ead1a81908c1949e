//! What the kernel tells of a running process: the CPU that it has used, and the memory it holds.

use std::time::Duration;

use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

use crate::failure::{Failure, Outcome, Trying, read};

/// A process's CPU clock: all its threads, those that have ended too, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuClock(ClockId);

impl CpuClock {
    pub(crate) fn of(pid: u32) -> Outcome<Self> {
        let pid = i32::try_from(pid)
            .map(Pid::from_raw)
            .map_err(|_| Failure::Other(format!("{pid} is no process")))?;
        clock_getcpuclockid(pid).map(Self).trying(|| format!("the CPU clock of process {pid}"))
    }

    pub(crate) fn now(self) -> Outcome<Duration> {
        self.0.now().map(Duration::from).trying(|| "a CPU clock".to_owned())
    }
}

/// The bytes of memory that a process holds.
pub(crate) fn resident(pid: u32) -> Outcome<u64> {
    let path = format!("/proc/{pid}/status");
    let status = read(path.as_ref())?;
    let kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes
        .map(|kilobytes| kilobytes * 1024)
        .ok_or_else(|| Failure::Other(format!("{path} has no VmRSS")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_counts_what_this_process_computes() {
        let clock = CpuClock::of(std::process::id()).unwrap();
        let before = clock.now().unwrap();
        let digits: usize = (0..10_000).map(|number: u32| number.to_string().len()).sum();
        assert_eq!(digits, 38_890);
        assert!(clock.now().unwrap() > before);
    }

    #[test]
    fn memory_that_is_written_is_resident() {
        let before = resident(std::process::id()).unwrap();
        let block = vec![1_u8; 64 << 20];
        let after = resident(std::process::id()).unwrap();
        assert!(after >= before + (60 << 20), "{before} {after} {}", block.len());
    }
}
