//! The clock of ages: it only goes forward. Expiries, which storages keep, go by the wall clock;
//! see `adapter::unix_millis`.

use std::time::{Duration, Instant};

use crate::cache::Millis;

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
