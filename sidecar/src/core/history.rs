//! What is remembered of single keys for `WARP.EXPLAIN`: the last read that was no hit, and what had the
//! key forgotten last.
//!
//! It is written where a read goes to the storage and where a key is forgotten, never by a hit:
//! *every read after the last one noted was a hit*, as long as the note is there, or passed through
//! to a Redis, which is read around the core. Notes share a
//! table of fixed size, by their keys' hashes, and a newer one takes an older one's place.

use parking_lot::Mutex;

use crate::cache::Millis;
use crate::cache::store::Hash;
use crate::sync_bus::Origin;

/// Keys that are remembered at most: a few hundred kilobytes.
const PLACES: usize = 4096;

/// Why memory didn't answer a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nothing was there: never read, forgotten, or gone to make room.
    NotHeld,
    /// The bus's last proof was older than the class allows.
    Unproven,
    /// The copy's TTL had passed, or that of "no such key".
    Ended,
    /// The value had expired in the storage.
    Expired,
}

/// How a read was answered that memory didn't answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With the storage's value.
    Loaded,
    /// With another read's answer from the storage.
    Coalesced,
    /// The storage has no such key.
    Absent,
    /// With a copy that stood in for the storage.
    Stale,
    /// With an error.
    Failed,
}

/// What had a key forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A write of this pod.
    OwnWrite,
    /// A write of another pod.
    Peer(Origin, u64),
    /// A write around Warp, or one that may have been, as the storage says.
    Storage,
    /// The bus was joined.
    Joined,
    /// The bus lost invalidations, or counts anew.
    Reset,
    /// The configuration changed.
    Configuration,
    /// The lease that the key was attached to ended.
    Lease,
}

/// Something with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted<T> {
    /// What.
    pub what: T,
    /// When.
    pub at: Millis,
}

/// What is remembered of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// The last read that was no hit.
    pub miss: Option<Noted<(Why, Outcome)>>,
    /// What had it forgotten last.
    pub forgotten: Option<Noted<Cause>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct History {
    places: Box<[Mutex<(u64, Notes)>]>,
    /// What had every key forgotten last.
    everything: Mutex<Option<Noted<Cause>>>,
}

impl Default for History {
    fn default() -> Self {
        let places = std::iter::repeat_with(Mutex::default).take(PLACES).collect();
        Self { places, everything: Mutex::default() }
    }
}

impl History {
    /// A read of the key was no hit.
    pub(super) fn missed(&self, hash: Hash, why: Why, outcome: Outcome, at: Millis) {
        self.note(hash, |notes| notes.miss = Some(Noted { what: (why, outcome), at }));
    }

    /// The key was forgotten.
    pub(super) fn forgotten(&self, hash: Hash, cause: Cause, at: Millis) {
        self.note(hash, |notes| notes.forgotten = Some(Noted { what: cause, at }));
    }

    /// Every key was forgotten.
    pub(super) fn everything_forgotten(&self, cause: Cause, at: Millis) {
        *self.everything.lock() = Some(Noted { what: cause, at });
    }

    /// What is remembered of the key.
    pub(super) fn of(&self, hash: Hash) -> Notes {
        let (bits, notes) = *self.place(hash).lock();
        let notes = if bits == hash.bits() { notes } else { Notes::default() };
        let everything = *self.everything.lock();
        let forgotten = notes.forgotten.into_iter().chain(everything);
        Notes { forgotten: forgotten.max_by_key(|noted| noted.at), ..notes }
    }

    fn note(&self, hash: Hash, note: impl FnOnce(&mut Notes)) {
        let mut place = self.place(hash).lock();
        if place.0 != hash.bits() {
            *place = (hash.bits(), Notes::default());
        }
        note(&mut place.1);
    }

    fn place(&self, hash: Hash) -> &Mutex<(u64, Notes)> {
        &self.places[hash.spare() as usize % PLACES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::store::Hasher;

    #[test]
    fn the_last_of_each_is_remembered_until_another_key_takes_the_place() {
        let history = History::default();
        let hasher = Hasher::of_process();
        let key = hasher.hash(b"k");
        assert_eq!(history.of(key), Notes::default());
        history.missed(key, Why::NotHeld, Outcome::Loaded, 1);
        history.forgotten(key, Cause::OwnWrite, 2);
        history.missed(key, Why::Ended, Outcome::Stale, 3);
        let notes = history.of(key);
        assert_eq!(notes.miss, Some(Noted { what: (Why::Ended, Outcome::Stale), at: 3 }));
        assert_eq!(notes.forgotten, Some(Noted { what: Cause::OwnWrite, at: 2 }));
        history.everything_forgotten(Cause::Reset, 4);
        assert_eq!(history.of(key).forgotten, Some(Noted { what: Cause::Reset, at: 4 }));
        for number in 0..100 * PLACES {
            history.missed(hasher.hash(&number.to_le_bytes()), Why::NotHeld, Outcome::Loaded, 5);
        }
        assert_eq!(history.of(key).miss, None);
    }
}
