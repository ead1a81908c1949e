//! What is known of how current the cache is.
//!
//! A hit of a distributed class is answered only while the last proof of the bus is younger than
//! the class's bound ([`BOUND`] where it says none): *a value from memory is never older than the
//! bound, plus what a writer cut off from the bus has not yet been able to publish*. A proof's age counts from before the bus was asked,
//! by this process's clock, so neither a slow network nor a stopped process stretches it.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use warp_crds::policy::Rules;
use warp_crds::status::BusStatus;

use crate::cache::Millis;

/// How old a proof may be where no class says otherwise, in milliseconds.
pub const BOUND: Millis = Rules::PROOF_BOUND.as_secs() * 1000;

/// See the module.
#[derive(Debug, Default)]
pub struct Coherence {
    /// The last proof's time plus 1; 0 before the first.
    proven: AtomicU64,
    seen: Mutex<Seen>,
    /// Something of it has changed.
    moved: Notify,
}

/// How far this pod has got on the bus.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// Names the order that positions belong to; `None` before the bus is joined.
    pub epoch: Option<String>,
    /// The last position that is applied.
    pub position: u64,
    /// As of when the last proof was.
    pub proven: Option<Millis>,
    /// When positions began to count anew here; 0 if they haven't.
    pub since: Millis,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    epoch: Option<String>,
    position: u64,
    end: u64,
    error: Option<String>,
    /// When positions began to count anew.
    since: Millis,
}

impl Coherence {
    /// Whether hits of distributed classes may be answered that say nothing of their own.
    pub fn is_live(&self, now: Millis) -> bool {
        self.is_proven(BOUND, now)
    }

    /// Whether hits may be answered of a class whose bound is `bound`.
    #[inline]
    pub fn is_proven(&self, bound: Millis, now: Millis) -> bool {
        self.proof_age(now).is_some_and(|age| age <= bound)
    }

    /// Whether the bus's order is known. Until then messages about what was read may have been
    /// missed without a trace.
    pub fn has_joined(&self) -> bool {
        self.seen.lock().epoch.is_some()
    }

    /// Waits until it is so.
    pub async fn joined(&self) {
        loop {
            let proven = self.moved.notified();
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
        let mut seen = self.seen.lock();
        let since = seen.since;
        *seen = Seen { epoch: Some(epoch), position: end, end, error: None, since };
        drop(seen);
        self.moved.notify_waiters();
    }

    /// The invalidation at `position` is applied.
    pub fn applied(&self, position: u64) {
        let mut seen = self.seen.lock();
        seen.position = seen.position.max(position);
        seen.end = seen.end.max(position);
        drop(seen);
        self.moved.notify_waiters();
    }

    /// How far this pod has got.
    pub fn reached(&self) -> Reached {
        // The proof first: what is seen is then at least what it proves.
        let proven = self.proven.load(Ordering::Acquire).checked_sub(1);
        let seen = self.seen.lock();
        Reached { epoch: seen.epoch.clone(), position: seen.position, proven, since: seen.since }
    }

    /// Done when this pod has got further than at the call.
    pub fn moved(&self) -> Notified<'_> {
        self.moved.notified()
    }

    /// Invalidations up to `end` exist and aren't applied.
    pub fn behind(&self, end: u64) {
        let mut seen = self.seen.lock();
        seen.end = seen.end.max(end);
    }

    /// Positions count anew since `now`; the caller has forgotten everything cached.
    pub fn restarted(&self, position: u64, epoch: String, now: Millis) {
        let epoch = Some(epoch);
        *self.seen.lock() = Seen { epoch, position, end: position, error: None, since: now };
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
        assert_eq!(BOUND, 3_000);
        assert!(
            !coherence.is_proven(Millis::MAX, 0) && !coherence.is_live(0),
            "nothing is proven at the start"
        );
        coherence.proven(0, 4, "e".to_owned());
        assert!(coherence.is_live(BOUND) && !coherence.is_live(BOUND + 1));
        assert!(coherence.is_proven(9_000, 9_000) && !coherence.is_proven(1_500, 1_501));
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
