//! How long who has written a register may count on it, and when others may take him for gone,
//! without any two clocks that agree.
//!
//! The writer counts from *before* he sent the write, an observer from *after* he has seen it, each
//! by his own clock, and no message carries a time. *The writer's end comes before every observer's*
//! as long as no clock runs faster or slower than a true one by more than a tenth: the writer gives
//! up a tenth before the TTL is over and the observer waits a tenth longer. A tenth is more than
//! NTP daemons slew a clock by (chrony's most is a twelfth), and a thousand times more than a quartz
//! is wrong. The rule is that of C. Gray and D. Cheriton, "Leases", 1989.
//!
//! The clock is `CLOCK_BOOTTIME`: it goes on while the machine sleeps, and nobody sets it.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};

/// A time by this machine's clock, since it was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Boot(Duration);

impl Boot {
    /// Now.
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
        let nanos = u32::try_from(now.tv_nsec).unwrap_or_default();
        Self(Duration::new(seconds, nanos))
    }

    /// A time of a test's or a model's own clock.
    pub const fn at(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// The time from `self` to `later`; nothing if that is earlier.
    pub const fn until(self, later: Self) -> Duration {
        later.0.saturating_sub(self.0)
    }

    /// So much later.
    #[must_use]
    pub const fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

/// The most that a clock may be wrong: one part in so many.
const DRIFT: u32 = 10;
/// What is left of so many parts then.
const REST: u32 = DRIFT - 1;

/// Until when who sent a write at `sent` may count on it.
pub fn own_end(sent: Boot, ttl: Duration) -> Boot {
    sent.after(ttl / DRIFT * REST)
}

/// From when on others may take a writer for gone whose last write they saw at `seen`.
pub fn others_end(seen: Boot, ttl: Duration) -> Boot {
    seen.after(ttl + ttl / DRIFT)
}

/// Since when each of some registers has shown the same sign of life, as far as this sidecar has
/// seen it.
#[derive(Debug)]
pub struct Sightings<S> {
    seen: HashMap<Bytes, (S, Boot)>,
}

impl<S> Default for Sightings<S> {
    fn default() -> Self {
        Self { seen: HashMap::new() }
    }
}

impl<S: PartialEq> Sightings<S> {
    /// Notes that `name` shows `sign` at `now`; since when it has.
    ///
    /// *A sign that was missed in between only delays:* who shows the same again has shown it all
    /// along, since signs of life don't come back.
    pub fn see(&mut self, name: &Bytes, sign: S, now: Boot) -> Boot {
        match self.seen.get(name) {
            Some((before, since)) if *before == sign => *since,
            _ => {
                self.seen.insert(name.clone(), (sign, now));
                now
            }
        }
    }

    /// There is nothing any more that could show a sign.
    pub fn forget(&mut self, name: &[u8]) {
        self.seen.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Boot {
        Boot::at(Duration::from_millis(millis))
    }

    #[test]
    fn the_writer_ends_first_on_the_slowest_clock_and_the_observer_last_on_the_fastest() {
        let ttl = Duration::from_secs(10);
        let own = at(0).until(own_end(at(0), ttl)).as_secs_f64();
        let others = at(0).until(others_end(at(0), ttl)).as_secs_f64();
        // In true seconds.
        assert!(own / 0.9 <= 10.0 && 10.0 <= others / 1.1);
    }

    #[test]
    fn time_counts_from_the_first_time_that_a_sign_was_seen() {
        let mut sightings = Sightings::default();
        let name = Bytes::from_static(b"n");
        assert_eq!(sightings.see(&name, 1, at(5)), at(5));
        assert_eq!(sightings.see(&name, 1, at(9)), at(5));
        assert_eq!(sightings.see(&name, 2, at(11)), at(11));
        sightings.forget(&name);
        assert_eq!(sightings.see(&name, 2, at(20)), at(20));
    }

    #[test]
    fn the_clock_goes_forward() {
        let before = Boot::now();
        std::thread::sleep(Duration::from_millis(2));
        assert!(before.until(Boot::now()) >= Duration::from_millis(2));
    }
}
