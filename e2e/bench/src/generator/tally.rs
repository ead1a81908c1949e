//! What a run of the generator counts.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::dialect::Reply;
use crate::failure::{Failure, Outcome};

/// Latencies up to this are told apart.
const SLOWEST: Duration = Duration::from_secs(20);

/// See the module.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) stored: u64,
    /// Nanoseconds from the sending of a batch to each of its replies.
    pub(crate) latency: Histogram<u64>,
}

impl Tally {
    pub(crate) fn new() -> Outcome<Self> {
        let slowest = u64::try_from(SLOWEST.as_nanos()).unwrap_or(u64::MAX);
        let latency = Histogram::new_with_bounds(100, slowest, 2)
            .map_err(|error| Failure::Other(format!("no histogram: {error}")))?;
        Ok(Self { hits: 0, misses: 0, stored: 0, latency })
    }

    pub(crate) fn count(&mut self, reply: Reply) {
        match reply {
            Reply::Hit => self.hits += 1,
            Reply::Miss => self.misses += 1,
            Reply::Stored => self.stored += 1,
        }
    }

    /// `replies` came `after` their batch was sent.
    pub(crate) fn time(&mut self, after: Duration, replies: usize) {
        let nanos = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        self.latency.saturating_record_n(nanos, u64::try_from(replies).unwrap_or(u64::MAX));
    }

    pub(crate) fn operations(&self) -> u64 {
        self.hits + self.misses + self.stored
    }
}
