//! The two clocks of the core: one that only goes forward, for ages, and the wall clock, for the
//! expiries that storages keep. A test holds both still.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::adapter::{UnixMillis, unix_millis};
use crate::cache::Millis;

/// See the module.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    /// Milliseconds of a clock that stands still until it is moved; 0 is the system's clock.
    held: AtomicU64,
}

impl Clock {
    /// The system's clocks.
    pub fn system() -> Self {
        Self { start: Instant::now(), held: AtomicU64::new(0) }
    }

    /// Stands still from now on, `millis` (not 0) after the start and after the Unix epoch.
    pub fn hold_at(&self, millis: Millis) {
        self.held.store(millis, Ordering::Relaxed);
    }

    /// Milliseconds since the start.
    pub fn millis(&self) -> Millis {
        match self.held.load(Ordering::Relaxed) {
            0 => self.millis_of(Instant::now()),
            held => held,
        }
    }

    /// An instant as milliseconds since the start.
    pub fn millis_of(&self, instant: Instant) -> Millis {
        saturating_millis(instant.saturating_duration_since(self.start))
    }

    /// Milliseconds since the Unix epoch.
    pub fn unix_millis(&self) -> UnixMillis {
        match self.held.load(Ordering::Relaxed) {
            0 => unix_millis(),
            held => held,
        }
    }
}

fn saturating_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
