//! Whether a copy may be answered that isn't plainly young: copies that are due for a refresh, that a
//! sliding TTL or a jitter speaks of, that say "no such key", and those that stand in for a
//! storage that fails.

use super::{Engine, Moment, Place};
use crate::adapter::{StorageError, Value};
use crate::cache::store::{Hash, View};
use crate::cache::{Entry, Lent, Millis, steady, used_at};
use crate::preset::lifetime::{Copy, Verdict};

/// A copy as its class's rules look at it.
pub(super) fn judged(hash: Hash, found: Lent<'_>, now: Millis) -> Copy {
    let filled_at = found.meta.origin.unwrap_or_default().filled_at;
    Copy {
        age: now.saturating_sub(filled_at),
        idle: now.saturating_sub(used_at(found)),
        is_absent: matches!(found.payload, View::Object(annotated) if annotated.text().is_none()),
        steady: steady(found),
        draw: draw(hash, filled_at),
    }
}

/// The copy's own number: another one for each key, fill and process.
fn draw(hash: Hash, filled_at: Millis) -> u16 {
    // The multiplier of Knuth's MMIX; its high bits depend on all bits of the sum.
    let mixed = (hash.bits() ^ filled_at).wrapping_mul(6_364_136_223_846_793_005);
    (mixed >> 48) as u16
}

/// Whether an older copy may be answered in place of this failure. A refusal is an answer.
pub(super) fn is_failure(error: &StorageError) -> bool {
    !matches!(error, StorageError::Refused(_))
}

impl Engine {
    /// Whether a copy may be answered, as a hit on it: what [`Lifetime::plain`] doesn't decide.
    ///
    /// [`Lifetime::plain`]: crate::preset::lifetime::Lifetime::plain
    #[cold]
    pub(super) fn look_closer(
        &self,
        place: &Place<'_>,
        (hash, key): (Hash, &[u8]),
        found: Lent<'_>,
        now: Moment,
    ) -> bool {
        if found.meta.is_expired(now.unix) {
            return false;
        }
        let copy = judged(hash, found, now.age);
        match place.class.lifetime.judge(&copy) {
            Verdict::Fresh => {}
            Verdict::Due => self.refresher.ask_for(key),
            Verdict::Stale | Verdict::Ended => return false,
        }
        if let View::Object(annotated) = found.payload {
            annotated.note_use(now.age);
        }
        true
    }

    /// The copy that stands in for a storage that fails or is slow: *younger than its TTL and the
    /// grace, not expired in the storage, in a distributed class within the bus's proof, and of a
    /// key that wasn't written since as far as this pod knows*: a write, here or elsewhere, has
    /// the copy forgotten, and so has the storage's word that there is no such key.
    pub(super) fn stand_in(&self, place: &Place<'_>, key: &[u8], now: Moment) -> Option<Value> {
        if !place.class.lifetime.has_grace() || !self.is_proven(place.class, now.age) {
            return None;
        }
        let hash = self.hash(key);
        let entry = place.cache.with(hash, key, |found| {
            let verdict = place.class.lifetime.judge(&judged(hash, found, now.age));
            let stands = verdict != Verdict::Ended && !found.meta.is_expired(now.unix);
            stands.then(|| Entry::copy_of(found))
        });
        entry.flatten()?.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::store::Hasher;

    #[test]
    fn chance_spreads_keys_and_fills_evenly() {
        let hasher = Hasher::of_process();
        let hash = |i: u64| hasher.hash(&i.to_le_bytes());
        for draws in [
            (0..4096).map(|i| draw(hash(i), 77)).collect::<Vec<_>>(),
            (0..4096).map(|i| draw(hash(1), i)).collect(),
        ] {
            for quarter in 0..4u16 {
                let found = draws.iter().filter(|draw| **draw >> 14 == quarter).count();
                assert!((700..1350).contains(&found), "{found} of 4096 in quarter {quarter}");
            }
        }
    }
}
