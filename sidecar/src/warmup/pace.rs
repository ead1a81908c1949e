//! How fast a warm-up goes, and when it has read enough. Pure.

use std::time::Duration;

/// Keys that are read together at most.
const BATCH: u64 = 200;
/// Batches in a second, so that keys come evenly.
const BATCHES: u64 = 10;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// Keys in a second at most.
    pub(super) keys_per_second: u64,
    /// Bytes after which it is enough.
    pub(super) max_bytes: u64,
}

impl Pace {
    /// How many keys are read together.
    pub(super) fn batch(&self) -> usize {
        usize::try_from((self.keys_per_second / BATCHES).clamp(1, BATCH)).unwrap_or(1)
    }

    /// How long to wait, `elapsed` after the begin, before anything more is read when `read` keys
    /// were.
    pub(super) fn wait(&self, read: u64, elapsed: Duration) -> Duration {
        let due = u128::from(read) * 1_000_000_000 / u128::from(self.keys_per_second.max(1));
        let due = Duration::from_nanos(u64::try_from(due).unwrap_or(u64::MAX));
        due.saturating_sub(elapsed)
    }

    /// Whether `bytes` are enough.
    pub(super) fn is_enough(&self, bytes: u64) -> bool {
        bytes >= self.max_bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the storage takes for its batches: at no time more keys were read than the rate
        /// allows, but for the batch of the moment.
        #[test]
        fn never_faster_than_the_rate(
            keys_per_second in 1..5_000u64,
            took in prop::collection::vec(0..200u64, 1..50),
        ) {
            let pace = Pace { keys_per_second, max_bytes: 0 };
            let batch = pace.batch() as u64;
            let (mut elapsed, mut read) = (Duration::ZERO, 0);
            for took in took {
                elapsed += pace.wait(read, elapsed);
                prop_assert!(pace.wait(read, elapsed).is_zero());
                // In billionths of a key, and one nanosecond for what was rounded.
                let allowed = (elapsed.as_nanos() + 1) * u128::from(keys_per_second);
                prop_assert!(u128::from(read) * 1_000_000_000 <= allowed);
                elapsed += Duration::from_millis(took);
                read += batch;
            }
        }

        #[test]
        fn a_batch_is_neither_empty_nor_more_than_a_seconds_keys(keys_per_second in 1..2_000_000u64) {
            let batch = Pace { keys_per_second, max_bytes: 0 }.batch() as u64;
            prop_assert!((1..=keys_per_second.min(BATCH)).contains(&batch));
        }
    }
}
