//! The pod's memory: a bounded map from keys to values with the guard that keeps it coherent.
//!
//! A value may enter only if nothing was forgotten since its reader began. A reader takes a
//! [`Stamp`] before it asks the storage and gives it back with the value; every forgetting moves
//! the counter behind the stamp, under the same lock that the entering takes. So:
//!
//! *No fill crosses an invalidation*: if `forget(k)` comes after `stamp(k)` and before
//! `fill(k, stamp, …)`, the fill does nothing.
//!
//! The cache knows neither classes nor time to live; it says how old an entry is, and the core
//! decides whether that is too old.

use std::hash::BuildHasher;

use bytes::Bytes;
use foldhash::fast::RandomState;
use parking_lot::Mutex;

use crate::adapter::Value;

mod shard;
pub mod store;

use shard::Shard;

/// Shards, each behind a lock of its own.
const SHARDS: usize = 16;

/// Milliseconds of a monotonic clock.
pub type Millis = u64;

/// What a key's counter was when its reader began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(u64);

/// A value in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Value,
    /// When the storage was asked for it.
    pub filled_at: Millis,
}

/// See the module.
#[derive(Debug)]
pub struct Cache {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

impl Cache {
    /// A cache whose entries, their overhead included, take at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            hasher: RandomState::default(),
            shards: std::array::from_fn(|_| Mutex::new(Shard::new(limit / SHARDS))),
        }
    }

    /// The entry of `key`, which counts as used.
    pub fn get(&self, key: &[u8]) -> Option<Entry> {
        let (hash, shard) = self.place(key);
        shard.lock().get(hash, key)
    }

    /// To be taken before the storage is asked for `key`.
    pub fn stamp(&self, key: &[u8]) -> Stamp {
        let (hash, shard) = self.place(key);
        Stamp(shard.lock().counter(hash))
    }

    /// Enters what the storage gave to the reader who took `stamp`; whether it did.
    pub fn fill(&self, key: &[u8], stamp: Stamp, value: Value, filled_at: Millis) -> bool {
        let (hash, shard) = self.place(key);
        let mut shard = shard.lock();
        shard.counter(hash) == stamp.0 && shard.insert(hash, key, &Entry { value, filled_at })
    }

    /// Enters what the storage holds after a write by the writer who took `stamp`; otherwise
    /// forgets the key. Either way it forgets first, so that no reader who began before the write
    /// was done can enter what it read.
    pub fn replace(&self, key: &[u8], stamp: Stamp, value: Value, filled_at: Millis) -> bool {
        let (hash, shard) = self.place(key);
        let mut shard = shard.lock();
        let unchanged = shard.counter(hash) == stamp.0;
        shard.forget(hash, key);
        unchanged && shard.insert(hash, key, &Entry { value, filled_at })
    }

    /// Forgets `key`, and refuses what its present readers will bring; whether it was there.
    pub fn forget(&self, key: &[u8]) -> bool {
        let (hash, shard) = self.place(key);
        shard.lock().forget(hash, key)
    }

    /// Forgets every key, and refuses what the present readers will bring.
    pub fn forget_all(&self) {
        for shard in &self.shards {
            shard.lock().forget_all();
        }
    }

    /// Changes the limit, and makes room if it shrank.
    pub fn set_limit(&self, limit: usize) {
        for shard in &self.shards {
            shard.lock().set_limit(limit / SHARDS);
        }
    }

    /// Entries, the bytes they take, and those evicted since the start.
    pub fn usage(&self) -> Usage {
        self.shards.iter().fold(Usage::default(), |sum, shard| {
            let shard = shard.lock().usage();
            Usage {
                entries: sum.entries + shard.entries,
                bytes: sum.bytes + shard.bytes,
                evicted: sum.evicted + shard.evicted,
            }
        })
    }

    fn place(&self, key: &[u8]) -> (u64, &Mutex<Shard>) {
        let hash = self.hasher.hash_one(key);
        // The table takes the low bits and the highest seven; these lie between.
        let at = (hash >> 40) as usize % SHARDS;
        (hash, &self.shards[at])
    }
}

/// What a cache holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Entries.
    pub entries: usize,
    /// Bytes, overhead included.
    pub bytes: usize,
    /// Entries that had to make room since the start.
    pub evicted: u64,
}

/// A copy that keeps nothing else alive: what comes from a connection's buffer would hold the
/// whole buffer.
fn owned(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn value(text: &str) -> Value {
        Value { data: Bytes::copy_from_slice(text.as_bytes()), expires_at: None, version: 0 }
    }

    #[test]
    fn a_fill_that_crosses_an_invalidation_is_not_cached() {
        let cache = Cache::new(1 << 20);
        let stamp = cache.stamp(b"k");
        cache.forget(b"k");
        assert!(!cache.fill(b"k", stamp, value("old"), 0));
        assert_eq!(cache.get(b"k"), None);
        assert!(cache.fill(b"k", cache.stamp(b"k"), value("new"), 7));
        assert_eq!(cache.get(b"k"), Some(Entry { value: value("new"), filled_at: 7 }));
    }

    #[test]
    fn a_write_refuses_the_fills_of_readers_who_began_before_it_was_done() {
        let cache = Cache::new(1 << 20);
        let writer = cache.stamp(b"k");
        let reader = cache.stamp(b"k");
        assert!(cache.replace(b"k", writer, value("written"), 1));
        assert!(!cache.fill(b"k", reader, value("read before"), 0));
        assert_eq!(cache.get(b"k").unwrap().value, value("written"));
    }

    #[test]
    fn a_write_crossed_by_a_peers_invalidation_leaves_nothing() {
        let cache = Cache::new(1 << 20);
        assert!(cache.fill(b"k", cache.stamp(b"k"), value("older"), 0));
        let writer = cache.stamp(b"k");
        cache.forget(b"k");
        assert!(!cache.replace(b"k", writer, value("mine"), 1));
        assert_eq!(cache.get(b"k"), None);
    }

    #[test]
    fn forgetting_all_refuses_every_present_reader() {
        let cache = Cache::new(1 << 20);
        let stamps: Vec<_> =
            (0..100).map(|i| (format!("k{i}"), cache.stamp(format!("k{i}").as_bytes()))).collect();
        cache.forget_all();
        for (key, stamp) in stamps {
            assert!(!cache.fill(key.as_bytes(), stamp, value("x"), 0));
        }
        assert_eq!(cache.usage().entries, 0);
    }

    #[test]
    fn hot_keys_survive_a_scan() {
        let cache = Cache::new(1 << 20);
        let fill = |key: &str| {
            cache.fill(key.as_bytes(), cache.stamp(key.as_bytes()), value(&"v".repeat(100)), 0);
        };
        for i in 0..500 {
            fill(&format!("hot{i}"));
        }
        for i in 0..100_000 {
            let hot = format!("hot{}", i % 500);
            if cache.get(hot.as_bytes()).is_none() {
                fill(&hot);
            }
            fill(&format!("scan{i}"));
        }
        let kept = (0..500).filter(|i| cache.get(format!("hot{i}").as_bytes()).is_some()).count();
        assert!(kept > 450, "{kept} of 500 hot keys are left");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Begin(u8),
        Fill(u8, u8),
        Replace(u8, u8),
        Forget(u8),
        ForgetAll,
        Get(u8),
        Limit(u16),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..20u8).prop_map(Step::Begin),
            4 => (0..20u8, any::<u8>()).prop_map(|(k, v)| Step::Fill(k, v)),
            2 => (0..20u8, any::<u8>()).prop_map(|(k, v)| Step::Replace(k, v)),
            2 => (0..20u8).prop_map(Step::Forget),
            1 => Just(Step::ForgetAll),
            4 => (0..20u8).prop_map(Step::Get),
            1 => (0..60_000u16).prop_map(Step::Limit),
        ]
    }

    proptest! {
        /// Whatever the order: what is read was entered last, by a reader or a writer whom nothing
        /// crossed; and the bytes never exceed the limit.
        #[test]
        fn only_uncrossed_values_are_ever_read(steps in prop::collection::vec(step(), 1..300)) {
            let mut limit = 40_000;
            let cache = Cache::new(limit);
            let mut stamps: HashMap<u8, (Stamp, bool)> = HashMap::new();
            let mut entered: HashMap<u8, u8> = HashMap::new();
            for step in steps {
                match step {
                    Step::Begin(k) => { stamps.insert(k, (cache.stamp(&[k]), true)); }
                    Step::Fill(k, v) | Step::Replace(k, v) => {
                        let Some((stamp, fresh)) = stamps.get(&k).copied() else { continue };
                        let data = value(&v.to_string().repeat(50));
                        let is_write = matches!(step, Step::Replace(..));
                        let done = if is_write { cache.replace(&[k], stamp, data, 0) } else { cache.fill(&[k], stamp, data, 0) };
                        prop_assert!(fresh || !done, "a crossed value was entered");
                        if is_write { entered.remove(&k); stamps.insert(k, (stamp, false)); }
                        if done { entered.insert(k, v); }
                    }
                    Step::Forget(k) => {
                        cache.forget(&[k]);
                        entered.remove(&k);
                        if let Some((_, fresh)) = stamps.get_mut(&k) { *fresh = false; }
                    }
                    Step::ForgetAll => {
                        cache.forget_all();
                        entered.clear();
                        stamps.values_mut().for_each(|(_, fresh)| *fresh = false);
                    }
                    Step::Get(k) => if let Some(found) = cache.get(&[k]) {
                        let expected = entered.get(&k).map(|v| value(&v.to_string().repeat(50)));
                        prop_assert_eq!(Some(found.value), expected);
                    },
                    Step::Limit(to) => { limit = usize::from(to); cache.set_limit(limit); }
                }
                prop_assert!(cache.usage().bytes <= limit);
            }
        }
    }
}
