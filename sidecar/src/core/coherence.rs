//! What is known of how current the cache is.
//!
//! A hit of a distributed class is answered only while the last proof of the bus is younger than
//! [`BOUND`]: *a value from memory is never older than the bound, plus what a writer cut off from
//! the bus has not yet been able to publish*. A proof's age counts from before the bus was asked,
//! by this process's clock, so neither a slow network nor a stopped process stretches it.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use warp_crds::status::BusStatus;

use crate::cache::Millis;

/// How old a proof may be, in milliseconds: three of the bus's periods.
pub const BOUND: Millis = 3_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Coherence {
    /// The last proof's time plus 1; 0 before the first.
    proven: AtomicU64,
    seen: Mutex<Seen>,
    joined: Notify,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    epoch: Option<String>,
    position: u64,
    end: u64,
    error: Option<String>,
}

impl Coherence {
    /// Whether hits of distributed classes may be answered.
    pub fn is_live(&self, now: Millis) -> bool {
        self.proof_age(now).is_some_and(|age| age <= BOUND)
    }

    /// Whether the bus's order is known. Until then messages about what was read may have been
    /// missed without a trace.
    pub fn has_joined(&self) -> bool {
        self.seen.lock().epoch.is_some()
    }

    /// Waits until it is so.
    pub async fn joined(&self) {
        loop {
            let proven = self.joined.notified();
            if self.has_joined() {
                return;
            }
            proven.await;
        }
    }

    /// All invalidations acknowledged before `as_of` are applied.
    pub fn proven(&self, as_of: Millis, end: u64, epoch: String) {
        // Proofs come in order; an older one must not take back a newer one's time.
        self.proven.fetch_max(as_of + 1, Ordering::Release);
        *self.seen.lock() = Seen { epoch: Some(epoch), position: end, end, error: None };
        self.joined.notify_waiters();
    }

    /// The invalidation at `position` is applied.
    pub fn applied(&self, position: u64) {
        let mut seen = self.seen.lock();
        seen.position = seen.position.max(position);
        seen.end = seen.end.max(position);
    }

    /// Invalidations up to `end` exist and aren't applied.
    pub fn behind(&self, end: u64) {
        let mut seen = self.seen.lock();
        seen.end = seen.end.max(end);
    }

    /// Positions count anew; the caller has forgotten everything cached.
    pub fn restarted(&self, position: u64, epoch: String) {
        *self.seen.lock() = Seen { epoch: Some(epoch), position, end: position, error: None };
    }

    /// The bus can't be asked.
    pub fn failed(&self, error: String) {
        self.seen.lock().error = Some(error);
    }

    /// Nothing is known any more; hits stop until the next proof.
    pub fn lose(&self) {
        self.proven.store(0, Ordering::Release);
        *self.seen.lock() = Seen::default();
    }

    /// The part of `/status` that is known here.
    pub fn status(&self, now: Millis) -> BusStatus {
        let seen = self.seen.lock().clone();
        BusStatus {
            live: self.is_live(now),
            epoch: seen.epoch,
            position: seen.position,
            lag: seen.end.saturating_sub(seen.position),
            proof_age_ms: self.proof_age(now),
            error: seen.error,
            ..BusStatus::default()
        }
    }

    fn proof_age(&self, now: Millis) -> Option<Millis> {
        let proven = self.proven.load(Ordering::Acquire).checked_sub(1)?;
        Some(now.saturating_sub(proven))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_stop_when_the_proof_is_older_than_the_bound() {
        let coherence = Coherence::default();
        assert!(!coherence.is_live(0), "nothing is proven at the start");
        coherence.proven(0, 4, "e".to_owned());
        assert!(coherence.is_live(BOUND) && !coherence.is_live(BOUND + 1));
        coherence.proven(5_000, 4, "e".to_owned());
        coherence.proven(100, 4, "e".to_owned());
        assert!(coherence.is_live(5_000 + BOUND), "a late old proof takes nothing back");
        coherence.lose();
        assert!(!coherence.is_live(5_000));
    }

    #[test]
    fn the_lag_is_what_exists_and_is_not_applied() {
        let coherence = Coherence::default();
        coherence.proven(0, 10, "e".to_owned());
        coherence.behind(15);
        coherence.applied(12);
        let status = coherence.status(0);
        assert_eq!((status.position, status.lag), (12, 3));
    }
}
