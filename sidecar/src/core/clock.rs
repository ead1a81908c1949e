//! The clock of ages: it only goes forward. Expiries, which storages keep, go by the wall clock;
//! see `adapter::unix_millis`.

use std::time::{Duration, Instant};

use crate::adapter::{UnixMillis, unix_millis};
use crate::cache::Millis;

/// A time by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The clock of ages: milliseconds since the engine's start.
    pub age: Millis,
    /// The wall clock, which expiries go by.
    pub unix: UnixMillis,
}

/// The clock of ages, which begins with the engine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that begins now.
    pub(super) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Now.
    pub(super) fn moment(&self) -> Moment {
        Moment { age: self.millis(), unix: unix_millis() }
    }

    /// Milliseconds since the start.
    pub(super) fn millis(&self) -> Millis {
        self.millis_of(Instant::now())
    }

    /// An instant as milliseconds since the start.
    pub(super) fn millis_of(&self, instant: Instant) -> Millis {
        saturating_millis(instant.saturating_duration_since(self.start))
    }
}

fn saturating_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
