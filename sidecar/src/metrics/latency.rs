//! What took long, and when: Redis' latency monitor. It notes an event that took as long as the
//! threshold or longer; at first the threshold is 0, and nothing is noted.
//!
//! *What is kept is bounded*: of each event a number of samples, the worst of each second.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// Samples that are kept of an event, as in Redis.
const SAMPLES: usize = 160;

/// What can take long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A command that isn't among the quick ones, or that waited for the storage.
    Command,
    /// A quick command, with so many arguments that it was measured.
    FastCommand,
    /// A turn of a thread that serves clients: all that it read and executed at once.
    EventLoop,
    /// Freeing what had ended.
    ExpireCycle,
    /// A call of the storage.
    Storage,
    /// The bus's acknowledgement of an invalidation.
    Bus,
}

impl Event {
    /// All of them, in the order of their names.
    pub const ALL: [Self; 6] = [
        Self::Bus,
        Self::Command,
        Self::EventLoop,
        Self::ExpireCycle,
        Self::FastCommand,
        Self::Storage,
    ];

    /// As LATENCY shows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::FastCommand => "fast-command",
            Self::EventLoop => "event-loop",
            Self::ExpireCycle => "expire-cycle",
            Self::Storage => "storage",
            Self::Bus => "bus",
        }
    }

    /// The one of that name, in letters of any case.
    pub fn of_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.name().as_bytes().eq_ignore_ascii_case(name))
    }
}

/// A second in which an event took long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The Unix second.
    pub at: u64,
    /// The longest of it, in milliseconds.
    pub millis: u64,
}

/// What is kept of one event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// The oldest first.
    pub samples: VecDeque<Sample>,
    /// The longest since it was reset, in milliseconds.
    pub max: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Latency {
    /// Milliseconds; 0 is off.
    threshold: AtomicU64,
    series: Mutex<[Series; Event::ALL.len()]>,
}

impl Latency {
    /// From how many milliseconds on events are noted; 0 is never.
    pub fn threshold(&self) -> u64 {
        self.threshold.load(Ordering::Relaxed)
    }

    /// Changes it.
    pub fn set_threshold(&self, millis: u64) {
        self.threshold.store(millis, Ordering::Relaxed);
    }

    /// An event took so long, and ended at the Unix millisecond `now`.
    #[inline]
    pub fn note(&self, event: Event, took: Duration, now: u64) {
        let threshold = self.threshold();
        if threshold > 0 && took.as_millis() >= u128::from(threshold) {
            self.keep(event, u64::try_from(took.as_millis()).unwrap_or(u64::MAX), now / 1000);
        }
    }

    #[cold]
    fn keep(&self, event: Event, millis: u64, at: u64) {
        let series = &mut self.series.lock()[event as usize];
        series.max = series.max.max(millis);
        match series.samples.back_mut() {
            Some(last) if last.at == at => last.millis = last.millis.max(millis),
            _ => {
                if series.samples.len() == SAMPLES {
                    series.samples.pop_front();
                }
                series.samples.push_back(Sample { at, millis });
            }
        }
    }

    /// What is kept of `event`.
    pub fn series(&self, event: Event) -> Series {
        self.series.lock()[event as usize].clone()
    }

    /// Forgets what is kept of `event`; whether there was anything.
    pub fn reset(&self, event: Event) -> bool {
        !std::mem::take(&mut self.series.lock()[event as usize]).samples.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Event, Latency, SAMPLES, Sample};

    #[test]
    fn nothing_is_noted_unless_a_threshold_is_set_and_reached() {
        let latency = Latency::default();
        latency.note(Event::Storage, Duration::from_secs(9), 1_000);
        latency.set_threshold(10);
        latency.note(Event::Storage, Duration::from_millis(9), 1_000);
        assert!(latency.series(Event::Storage).samples.is_empty());
        latency.note(Event::Storage, Duration::from_millis(10), 1_999);
        let series = latency.series(Event::Storage);
        assert_eq!(series.samples, [Sample { at: 1, millis: 10 }]);
        assert!(latency.reset(Event::Storage) && !latency.reset(Event::Storage));
    }

    #[test]
    fn the_worst_of_each_second_is_kept_and_the_oldest_leave() {
        let latency = Latency::default();
        latency.set_threshold(1);
        for second in 0..SAMPLES as u64 + 10 {
            for millis in [5, 7, 6] {
                latency.note(Event::Command, Duration::from_millis(millis), second * 1_000);
            }
        }
        let series = latency.series(Event::Command);
        assert_eq!((series.samples.len(), series.max), (SAMPLES, 7));
        assert_eq!(series.samples[0], Sample { at: 10, millis: 7 });
    }

    #[test]
    fn events_are_found_by_name() {
        for event in Event::ALL {
            assert_eq!(Event::of_name(event.name().to_uppercase().as_bytes()), Some(event));
        }
        assert_eq!(Event::of_name(b"fork"), None);
    }
}
