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

use bytes::Bytes;
use parking_lot::Mutex;

use crate::adapter::{UnixMillis, Value};

mod shard;
pub mod store;

use shard::Shard;
use store::{Found, Hash, Hasher, NoObject, View};

/// Shards, each behind a lock of its own.
const SHARDS: usize = 16;

/// Entries that [`Cache::retire`] looks at while it has a shard.
const RETIRED_AT_ONCE: usize = 64;

/// How far a walk through all entries has come; round and round.
#[derive(Clone, Copy, Debug, Default)]
pub struct Walk {
    shard: usize,
    cursor: u64,
}

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
    hasher: Hasher,
    shards: [Mutex<Shard>; SHARDS],
}

impl Cache {
    /// A cache whose entries, their overhead included, take at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        let hasher = Hasher::of_process();
        let shard = |_| Mutex::new(Shard::new(hasher.clone(), limit / SHARDS));
        Self { shards: std::array::from_fn(shard), hasher }
    }

    /// The hash of `key`, for the calls that take one.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> Hash {
        self.hasher.hash(key)
    }

    /// Has the processor fetch what looking up keys of these hashes will read, so that it waits once
    /// for all. For the commands that a client sent together; a few dozen at most.
    #[inline]
    pub fn prefetch(&self, hashes: &[Hash]) {
        // A shard that another thread is at is passed over: its keys are looked up as ever.
        for hash in hashes {
            if let Some(shard) = self.shard(*hash).try_lock() {
                shard.prefetch(*hash);
            }
        }
        for hash in hashes {
            if let Some(shard) = self.shard(*hash).try_lock() {
                shard.prefetch_entry(*hash);
            }
        }
    }

    /// Lends the entry of `key`, which counts as used, to `read`. The shard is locked meanwhile.
    #[inline]
    pub fn with<R>(
        &self,
        hash: Hash,
        key: &[u8],
        read: impl FnOnce(Found<'_, NoObject>) -> R,
    ) -> Option<R> {
        self.shard(hash).lock().get(hash, key).map(read)
    }

    /// The entry of `key`, which counts as used.
    pub fn get(&self, key: &[u8]) -> Option<Entry> {
        self.with(self.hash(key), key, Entry::copy_of)
    }

    /// To be taken before the storage is asked for `key`.
    pub fn stamp(&self, key: &[u8]) -> Stamp {
        let (hash, shard) = self.place(key);
        Stamp(shard.lock().counter(hash))
    }

    /// Enters what the storage gave to the reader who took `stamp`; whether it did.
    #[expect(clippy::needless_pass_by_value, reason = "callers have no further use for it")]
    pub fn fill(&self, key: &[u8], stamp: Stamp, value: Value, filled_at: Millis) -> bool {
        let (hash, shard) = self.place(key);
        let mut shard = shard.lock();
        shard.counter(hash) == stamp.0 && shard.insert(hash, key, &value, filled_at)
    }

    /// Enters what the storage holds after a write by the writer who took `stamp`; otherwise
    /// forgets the key. Either way it forgets first, so that no reader who began before the write
    /// was done can enter what it read.
    #[expect(clippy::needless_pass_by_value, reason = "callers have no further use for it")]
    pub fn replace(&self, key: &[u8], stamp: Stamp, value: Value, filled_at: Millis) -> bool {
        let (hash, shard) = self.place(key);
        let mut shard = shard.lock();
        if shard.counter(hash) != stamp.0 {
            shard.forget(hash, key);
            return false;
        }
        shard.refuse_readers(hash);
        shard.insert(hash, key, &value, filled_at)
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

    /// Frees entries that the storage has forgotten at `now`: looks at about `budget` of them, the
    /// next after those of the last call; how many it freed.
    pub fn expire_some(&self, now: UnixMillis, budget: usize) -> usize {
        self.shards.iter().map(|shard| shard.lock().expire_some(now, budget / SHARDS + 1)).sum()
    }

    /// Frees entries that `is_over` holds for, which is given the key and since when the entry is
    /// there: looks at about `budget` of them, the next after those that `walk` has come by.
    pub fn retire(&self, walk: &mut Walk, budget: usize, is_over: impl Fn(&[u8], Millis) -> bool) {
        let (mut left, mut ends) = (budget, 0);
        while left > 0 && ends <= SHARDS {
            let count = left.min(RETIRED_AT_ONCE);
            walk.cursor = self.shards[walk.shard].lock().retire(walk.cursor, count, &is_over);
            left -= count;
            if walk.cursor == 0 {
                walk.shard = (walk.shard + 1) % SHARDS;
                ends += 1;
            }
        }
    }

    /// The storage has forgotten no entry before this time, by what is known; `None` if it will
    /// forget none.
    pub fn next_end(&self) -> Option<UnixMillis> {
        self.shards.iter().filter_map(|shard| shard.lock().next_end()).min()
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

    fn place(&self, key: &[u8]) -> (Hash, &Mutex<Shard>) {
        let hash = self.hash(key);
        (hash, self.shard(hash))
    }

    #[inline]
    fn shard(&self, hash: Hash) -> &Mutex<Shard> {
        &self.shards[hash.spare() as usize % SHARDS]
    }
}

impl Entry {
    /// A copy of what a cache lends.
    pub fn copy_of(found: Found<'_, NoObject>) -> Self {
        let data = match found.payload {
            View::Bytes(text) => Bytes::copy_from_slice(text),
            View::Integer(integer) => Bytes::from(integer.to_string()),
            View::Object(never) => match *never {},
        };
        let origin = found.meta.origin.unwrap_or_default();
        let value = Value { data, expires_at: found.meta.expires_at, version: origin.version };
        Self { value, filled_at: origin.filled_at }
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
    fn what_is_kept_beside_a_value_comes_back_with_it() {
        let cache = Cache::new(1 << 20);
        for (data, version) in [("text", 3), ("", 0), ("-12", 7), ("007", u64::MAX)] {
            let value = Value { version, expires_at: Some(5), ..value(data) };
            assert!(cache.fill(b"k", cache.stamp(b"k"), value.clone(), 9));
            assert_eq!(cache.get(b"k"), Some(Entry { value, filled_at: 9 }));
        }
    }

    #[test]
    fn a_walk_comes_by_all_and_frees_what_is_over() {
        let cache = Cache::new(1 << 22);
        for at in 0..2_000_u64 {
            let key = format!("k{at}");
            assert!(cache.fill(key.as_bytes(), cache.stamp(key.as_bytes()), value("v"), at % 2));
        }
        let mut walk = Walk::default();
        for _ in 0..200 {
            cache.retire(&mut walk, 100, |_, filled_at| filled_at == 0);
        }
        assert_eq!(cache.usage().entries, 1_000);
        // Where nothing is, a walk ends.
        cache.forget_all();
        cache.retire(&mut walk, usize::MAX, |_, _| true);
    }

    #[test]
    fn a_value_that_is_too_big_leaves_none_behind() {
        let cache = Cache::new(1 << 20);
        assert!(cache.fill(b"k", cache.stamp(b"k"), value("small"), 0));
        let big = value(&"v".repeat(1 << 17));
        assert!(!cache.replace(b"k", cache.stamp(b"k"), big, 1));
        assert_eq!(cache.get(b"k"), None);
    }

    /// What one of several threads does next; each of them is one step under the shard's lock.
    type Act = fn(&mut Run);

    /// A storage with one key, and a cache before it.
    struct Run {
        cache: Cache,
        stored: u8,
        reader: (Option<Stamp>, u8),
        writer: (Option<Stamp>, u8),
    }

    /// Every order of the steps of some threads.
    fn orders(threads: &[&[Act]]) -> Vec<Vec<Act>> {
        if threads.iter().all(|steps| steps.is_empty()) {
            return vec![Vec::new()];
        }
        let mut all = Vec::new();
        for at in 0..threads.len() {
            let Some((first, rest)) = threads[at].split_first() else { continue };
            let mut left = threads.to_vec();
            left[at] = rest;
            all.extend(orders(&left).into_iter().map(|rest| [vec![*first], rest].concat()));
        }
        all
    }

    #[test]
    fn in_no_order_of_a_reader_a_writer_and_a_peer_an_old_value_stays() {
        let reader: &[Act] = &[
            |run| run.reader.0 = Some(run.cache.stamp(b"k")),
            |run| run.reader.1 = run.stored,
            |run| {
                let read = value(&run.reader.1.to_string());
                run.cache.fill(b"k", run.reader.0.unwrap(), read, 0);
            },
        ];
        let writer: &[Act] = &[
            |run| run.writer.0 = Some(run.cache.stamp(b"k")),
            |run| {
                run.stored += 1;
                run.writer.1 = run.stored;
            },
            |run| {
                let written = value(&run.writer.1.to_string());
                run.cache.replace(b"k", run.writer.0.unwrap(), written, 0);
            },
        ];
        // Another pod writes, and then its announcement comes.
        let peer: &[Act] = &[
            |run| run.stored += 1,
            |run| {
                run.cache.forget(b"k");
            },
        ];
        let each = if cfg!(miri) { 40 } else { 1 };
        for order in orders(&[reader, writer, peer]).into_iter().step_by(each) {
            let cache = Cache::new(1 << 20);
            let mut run = Run { cache, stored: 1, reader: (None, 0), writer: (None, 0) };
            order.iter().for_each(|act| act(&mut run));
            if let Some(entry) = run.cache.get(b"k") {
                assert_eq!(entry.value, value(&run.stored.to_string()));
            }
        }
    }

    #[test]
    fn threads_that_meet_find_what_was_entered() {
        let cache = Cache::new(if cfg!(miri) { 40_000 } else { 400_000 });
        let rounds = if cfg!(miri) { 60 } else { 20_000 };
        std::thread::scope(|scope| {
            for thread in 0..3u32 {
                let cache = &cache;
                scope.spawn(move || {
                    for round in 0..rounds {
                        let key = [((round * 7 + thread) % 200) as u8];
                        let entered = value(&"v".repeat(usize::from(key[0]) + 1));
                        match round % 5 {
                            0 => {
                                cache.forget(&key);
                            }
                            1 | 2 => {
                                cache.fill(&key, cache.stamp(&key), entered, 0);
                            }
                            _ => {
                                let hash = cache.hash(&key);
                                cache.prefetch(&[hash]);
                                let is_it = cache.with(hash, &key, |found| {
                                    found.payload == View::Bytes(&entered.data)
                                });
                                assert_ne!(is_it, Some(false));
                            }
                        }
                    }
                });
            }
        });
        assert!(cache.usage().bytes <= 400_000);
    }

    #[test]
    #[cfg_attr(miri, ignore = "a figure, not a bound, and of many keys")]
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
