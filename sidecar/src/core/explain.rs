//! `WARP.EXPLAIN`: what Warp knows of one key, and why it answers as it does.
//!
//! It looks and changes nothing: no use is counted, nothing is loaded.

use warp_crds::policy::Rules;

use super::freshness::judged;
use super::history::{Notes, Why};
use super::{Engine, Moment, Table};
use crate::cache::{Entry, Lent, Millis};
use crate::preset::lifetime::{Copy, Lifetime, Verdict};
use crate::sync_bus::Origin;

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The class that the key belongs to: the policy's name, or `default`.
    pub class: String,
    /// The policy's pattern that matches; `None` is the cluster's defaults.
    pub pattern: Option<String>,
    /// What the policy starts from.
    pub preset: Option<&'static str>,
    /// What the class gets, nothing left out.
    pub rules: Rules,
    /// `memory`, `redis` or `postgres`.
    pub storage: &'static str,
    /// What memory holds.
    pub held: Option<Held>,
    /// The bus.
    pub bus: Bus,
    /// Why the next read would not be a hit; `None` says that it would be.
    pub why_not: Option<Why>,
    /// The last read that was no hit, and what had the key forgotten last.
    pub notes: Notes,
    /// When all this was.
    pub now: Millis,
    /// This sidecar on the bus.
    pub origin: Origin,
}

/// A copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Bytes of the value; `None` says that there is no such key.
    pub bytes: Option<usize>,
    /// The storage's version of the value; 0 where it has none.
    pub version: u64,
    /// Milliseconds until it expires in the storage.
    pub expires_in: Option<Millis>,
    /// Milliseconds since it was read, and since it was read or hit last where hits are noted.
    pub age: Millis,
    /// See `age`.
    pub idle: Millis,
    /// The age at which it isn't answered any more.
    pub fresh_until: Millis,
    /// The age at which it doesn't stand in for the storage any more.
    pub stale_until: Millis,
    /// What would become of it now.
    pub verdict: Verdict,
}

/// What is known of the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bus {
    /// `nats` or `memory`.
    pub kind: &'static str,
    /// Names the order that positions belong to.
    pub epoch: Option<String>,
    /// The last position that was applied.
    pub position: u64,
    /// Milliseconds since the last proof.
    pub proof_age: Option<Millis>,
    /// How old it may be; `None` where a hit needs none.
    pub bound: Option<Millis>,
}

impl Engine {
    /// What is known of `key`.
    pub fn explain(&self, key: &[u8]) -> Explanation {
        let table = self.table.load_full();
        let now = self.now();
        let place = table.place(key);
        let hash = self.hash(key);
        let held = place.cache.peek(hash, key, |found| {
            let copy = judged(hash, found, now.age);
            Held::of(&Entry::copy_of(found), &copy, &place.class.lifetime, now)
        });
        let status = self.coherence.status(now.age);
        Explanation {
            class: place.class.name.clone(),
            pattern: table.classes.pattern_of(key).map(|pattern| pattern.0.clone()),
            preset: place.class.preset.map(warp_crds::policy::Preset::name),
            rules: place.class.rules,
            storage: self.storage.load().kind(),
            held,
            bus: Bus {
                kind: self.bus.load().kind(),
                epoch: status.epoch,
                position: status.position,
                proof_age: status.proof_age_ms,
                bound: place.class.proof_bound,
            },
            why_not: self.miss(&table, key, now),
            notes: self.history.of(hash),
            now: now.age,
            origin: self.origin,
        }
    }

    /// Why the read of `key` that came just now was no hit.
    pub(super) fn why_not(&self, table: &Table, key: &[u8], now: Moment) -> Why {
        // A copy that may be answered came in this moment.
        self.miss(table, key, now).unwrap_or(Why::NotHeld)
    }

    /// Why a read of `key` would not be a hit; `None` says that it would be.
    pub(super) fn miss(&self, table: &Table, key: &[u8], now: Moment) -> Option<Why> {
        let place = table.place(key);
        if !self.is_proven(place.class, now.age) {
            return Some(Why::Unproven);
        }
        let hash = self.hash(key);
        let judge = |found: Lent<'_>| {
            if found.meta.is_expired(now.unix) {
                return Some(Why::Expired);
            }
            match place.class.lifetime.judge(&judged(hash, found, now.age)) {
                Verdict::Fresh | Verdict::Due => None,
                Verdict::Stale | Verdict::Ended => Some(Why::Ended),
            }
        };
        place.cache.peek(hash, key, judge).unwrap_or(Some(Why::NotHeld))
    }
}

impl Held {
    fn of(entry: &Entry, copy: &Copy, lifetime: &Lifetime, now: Moment) -> Self {
        let value = entry.value.as_ref();
        let expires_at = value.and_then(|value| value.expires_at);
        Self {
            bytes: value.map(|value| value.data.len()),
            version: value.map_or(0, |value| value.version),
            expires_in: expires_at.map(|at| at.saturating_sub(now.unix)),
            age: copy.age,
            idle: copy.idle,
            fresh_until: lifetime.fresh_until(copy),
            stale_until: lifetime.stale_until_of(copy),
            verdict: lifetime.judge(copy),
        }
    }
}
