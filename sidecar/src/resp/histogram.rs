//! How long each command took, in powers of two of microseconds: LATENCY HISTOGRAM.
//!
//! Commands are counted that are measured; see `command/timing`.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::command::{COMMANDS, Command};

/// The last is for everything that took longer than about a minute.
const BUCKETS: usize = 27;

/// The place of each command and subcommand, by its full name.
static PLACES: LazyLock<HashMap<&'static str, usize, foldhash::fast::RandomState>> =
    LazyLock::new(|| {
        let all = COMMANDS.iter().flat_map(|entry| {
            std::iter::once(entry.command.name)
                .chain(entry.command.subcommands.iter().map(|subcommand| subcommand.name))
        });
        all.zip(0..).collect()
    });

/// See the module.
#[derive(Debug)]
pub struct Histograms(Vec<Histogram>);

#[derive(Debug, Default)]
struct Histogram([AtomicU64; BUCKETS]);

impl Default for Histograms {
    fn default() -> Self {
        Self(PLACES.iter().map(|_| Histogram::default()).collect())
    }
}

impl Histograms {
    /// Counts a call.
    pub fn note(&self, command: &Command, took: Duration) {
        if let Some(histogram) = PLACES.get(command.name).and_then(|place| self.0.get(*place)) {
            histogram.0[bucket(took)].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often `command` took no longer than so many microseconds: an item for each power of two
    /// at which the count grows. Nothing if it was never measured.
    pub fn of(&self, command: &Command) -> Vec<(u64, u64)> {
        let Some(histogram) = PLACES.get(command.name).and_then(|place| self.0.get(*place)) else {
            return Vec::new();
        };
        let mut sum = 0;
        let counted = histogram.0.iter().zip(0..).filter_map(|(count, power)| {
            let count = count.load(Ordering::Relaxed);
            sum += count;
            (count > 0).then_some((1 << power, sum))
        });
        counted.collect()
    }
}

/// The first power of two that isn't less.
fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    let power = u64::BITS - (micros - 1).leading_zeros();
    (power as usize).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Histograms, bucket};
    use crate::resp::command::find;

    #[test]
    fn a_call_counts_where_it_took_no_longer() {
        for (micros, power) in [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (1 << 40, 26)] {
            assert_eq!(bucket(Duration::from_micros(micros)), power, "{micros}");
        }
    }

    #[test]
    fn counts_add_up() {
        let histograms = Histograms::default();
        let keys = find(b"keys").unwrap().command;
        assert_eq!(histograms.of(keys), []);
        for micros in [3, 4, 1, 100] {
            histograms.note(keys, Duration::from_micros(micros));
        }
        assert_eq!(histograms.of(keys), [(1, 1), (4, 3), (128, 4)]);
    }
}
