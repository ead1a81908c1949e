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
//! decides whether that is too old. An entry may also say that the storage has no such key.

use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::adapter::{UnixMillis, Value};

mod annotated;
mod shard;
pub mod store;

pub use annotated::Annotated;
use shard::Shard;
use store::{Found, Hash, Hasher, Text, View};

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

/// What a key's counter was when its reader began, and in which cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    cache: u32,
    counter: u64,
}

/// What is in memory under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value; `None` says that there is no such key.
    pub value: Option<Value>,
    /// When the storage was asked for it.
    pub filled_at: Millis,
    /// When it was filled or hit last; [`Entry::filled_at`] if nobody notes the hits.
    pub used_at: Millis,
}

/// An entry of the cache, lent.
pub type Lent<'a> = Found<'a, Annotated>;

/// What a reader or a writer enters.
#[derive(Clone, Copy, Debug)]
pub struct Filling<'a> {
    /// What the storage has; `None` is no such key.
    pub value: Option<&'a Value>,
    /// When it was asked.
    pub at: Millis,
    /// Whether hits are to be noted.
    pub notes_use: bool,
    /// Whether it is to be noted how many readings in a row have found the same.
    pub compares: bool,
}

impl<'a> Filling<'a> {
    /// A value whose hits nobody notes.
    pub const fn plain(value: &'a Value, at: Millis) -> Self {
        Self { value: Some(value), at, notes_use: false, compares: false }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Cache {
    /// No other cache of the process has it, so that no stamp is good for another one.
    id: u32,
    hasher: Hasher,
    shards: [Mutex<Shard>; SHARDS],
}

impl Cache {
    /// A cache whose entries, their overhead included, take at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        static CACHES: AtomicU32 = AtomicU32::new(0);
        let id = CACHES.fetch_add(1, Ordering::Relaxed);
        let hasher = Hasher::of_process();
        let shard = |_| Mutex::new(Shard::new(hasher.clone(), limit / SHARDS));
        Self { id, shards: std::array::from_fn(shard), hasher }
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
    pub fn with<R>(&self, hash: Hash, key: &[u8], read: impl FnOnce(Lent<'_>) -> R) -> Option<R> {
        self.shard(hash).lock().get(hash, key).map(read)
    }

    /// The entry of `key`, which counts as used.
    pub fn get(&self, key: &[u8]) -> Option<Entry> {
        self.with(self.hash(key), key, Entry::copy_of)
    }

    /// Lends the entry of `key`, which doesn't count as used, to `read`.
    pub fn peek<R>(&self, hash: Hash, key: &[u8], read: impl FnOnce(Lent<'_>) -> R) -> Option<R> {
        self.shard(hash).lock().peek(hash, key).map(read)
    }

    /// To be taken before the storage is asked for `key`.
    pub fn stamp(&self, key: &[u8]) -> Stamp {
        let (hash, shard) = self.place(key);
        self.stamped(&shard.lock(), hash)
    }

    /// Enters what the storage gave to the reader who took `stamp`; whether it did.
    pub fn fill(&self, key: &[u8], stamp: Stamp, filling: Filling<'_>) -> bool {
        let (hash, shard) = self.place(key);
        let mut shard = shard.lock();
        self.stamped(&shard, hash) == stamp && shard.insert(hash, key, filling)
    }

    /// The storage has no such key, as the reader who took `stamp` was told: drops what is here, if
    /// nothing came in between.
    pub fn drop_absent(&self, key: &[u8], stamp: Stamp) {
        let (hash, shard) = self.place(key);
        let mut shard = shard.lock();
        if self.stamped(&shard, hash) == stamp {
            shard.remove(hash, key);
        }
    }

    /// Enters what the storage holds after a write by the writer who took `stamp`; otherwise
    /// forgets the key. Either way it forgets first, so that no reader who began before the write
    /// was done can enter what it read.
    pub fn replace(&self, key: &[u8], stamp: Stamp, filling: Filling<'_>) -> bool {
        let (hash, shard) = self.place(key);
        let mut shard = shard.lock();
        if self.stamped(&shard, hash) != stamp {
            shard.forget(hash, key);
            return false;
        }
        shard.refuse_readers(hash);
        shard.insert(hash, key, filling)
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

    /// Frees entries that `is_over` holds for: looks at about `budget` of them, the next after those that `walk` has come by.
    pub fn retire(
        &self,
        walk: &mut Walk,
        budget: usize,
        is_over: impl Fn(&[u8], Lent<'_>) -> bool,
    ) {
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

    fn stamped(&self, shard: &Shard, hash: Hash) -> Stamp {
        Stamp { cache: self.id, counter: shard.counter(hash) }
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
    pub fn copy_of(found: Lent<'_>) -> Self {
        let origin = found.meta.origin.unwrap_or_default();
        let value = text_of(found).map(|text| Value {
            data: match text {
                Text::Bytes(text) => Bytes::copy_from_slice(text),
                Text::Integer(integer) => Bytes::from(integer.to_string()),
            },
            expires_at: found.meta.expires_at,
            version: origin.version,
        });
        Self { value, filled_at: origin.filled_at, used_at: used_at(found) }
    }
}

/// The string of a lent entry; `None` where it says that there is no such key.
#[inline]
pub fn text_of(found: Lent<'_>) -> Option<Text<'_>> {
    match found.payload {
        View::Bytes(text) => Some(Text::Bytes(text)),
        View::Integer(integer) => Some(Text::Integer(integer)),
        View::Object(annotated) => annotated.text().map(Text::Bytes),
    }
}

/// How many readings in a row have found what a lent entry says, as far as anybody noted it.
pub fn steady(found: Lent<'_>) -> u8 {
    match found.payload {
        View::Object(annotated) => annotated.steady(),
        View::Bytes(_) | View::Integer(_) => 0,
    }
}

/// When a lent entry was filled or hit last, as far as anybody noted it.
pub fn used_at(found: Lent<'_>) -> Millis {
    let filled_at = found.meta.origin.unwrap_or_default().filled_at;
    match found.payload {
        View::Object(annotated) => annotated.used_at().unwrap_or(filled_at),
        View::Bytes(_) | View::Integer(_) => filled_at,
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

    fn plain(value: Value, at: Millis) -> Entry {
        Entry { value: Some(value), filled_at: at, used_at: at }
    }

    #[test]
    fn that_there_is_no_such_key_is_guarded_as_a_value_is() {
        let cache = Cache::new(1 << 20);
        let absent = Filling { value: None, at: 3, notes_use: false, compares: false };
        let crossed = cache.stamp(b"k");
        cache.forget(b"k");
        assert!(!cache.fill(b"k", crossed, absent));
        assert_eq!(cache.get(b"k"), None);
        assert!(cache.fill(b"k", cache.stamp(b"k"), absent));
        let entry = Entry { value: None, filled_at: 3, used_at: 3 };
        assert_eq!(cache.get(b"k"), Some(entry));
        assert!(cache.usage().bytes > 0);
        assert!(cache.replace(b"k", cache.stamp(b"k"), Filling::plain(&value("v"), 4)));
        assert_eq!(cache.get(b"k"), Some(plain(value("v"), 4)));
        cache.drop_absent(b"k", crossed);
        assert!(cache.get(b"k").is_some(), "a reader who was crossed drops nothing");
        cache.drop_absent(b"k", cache.stamp(b"k"));
        assert_eq!(cache.get(b"k"), None);
    }

    #[test]
    fn hits_are_noted_where_that_is_asked_for_and_only_go_forward() {
        let cache = Cache::new(1 << 20);
        let value = value("7");
        let filling = Filling { notes_use: true, ..Filling::plain(&value, 3) };
        assert!(cache.fill(b"k", cache.stamp(b"k"), filling));
        for (at, used_at) in [(9, 9), (5, 9)] {
            cache.with(cache.hash(b"k"), b"k", |found| match found.payload {
                View::Object(annotated) => annotated.note_use(at),
                _ => panic!("hits of a plain string aren't noted"),
            });
            let expected = Entry { value: Some(value.clone()), filled_at: 3, used_at };
            assert_eq!(cache.get(b"k"), Some(expected));
        }
    }

    #[test]
    fn readings_that_find_the_same_are_counted_until_one_finds_another() {
        let cache = Cache::new(1 << 20);
        let read = |text: &str| {
            let value = value(text);
            let filling = Filling { compares: true, ..Filling::plain(&value, 0) };
            assert!(cache.fill(b"k", cache.stamp(b"k"), filling));
            cache.peek(cache.hash(b"k"), b"k", steady).unwrap()
        };
        assert_eq!(["a", "a", "a", "b", "b"].map(read), [0, 1, 2, 0, 1]);
        cache.forget(b"k");
        assert_eq!(read("b"), 0);
    }

    #[test]
    fn no_stamp_is_good_for_another_cache() {
        let [one, other] = [(); 2].map(|()| Cache::new(1 << 20));
        assert!(!other.fill(b"k", one.stamp(b"k"), Filling::plain(&value("v"), 0)));
    }

    #[test]
    fn a_fill_that_crosses_an_invalidation_is_not_cached() {
        let cache = Cache::new(1 << 20);
        let stamp = cache.stamp(b"k");
        cache.forget(b"k");
        assert!(!cache.fill(b"k", stamp, Filling::plain(&value("old"), 0)));
        assert_eq!(cache.get(b"k"), None);
        assert!(cache.fill(b"k", cache.stamp(b"k"), Filling::plain(&value("new"), 7)));
        assert_eq!(cache.get(b"k"), Some(plain(value("new"), 7)));
    }

    #[test]
    fn a_write_refuses_the_fills_of_readers_who_began_before_it_was_done() {
        let cache = Cache::new(1 << 20);
        let writer = cache.stamp(b"k");
        let reader = cache.stamp(b"k");
        assert!(cache.replace(b"k", writer, Filling::plain(&value("written"), 1)));
        assert!(!cache.fill(b"k", reader, Filling::plain(&value("read before"), 0)));
        assert_eq!(cache.get(b"k").unwrap().value, Some(value("written")));
    }

    #[test]
    fn a_write_crossed_by_a_peers_invalidation_leaves_nothing() {
        let cache = Cache::new(1 << 20);
        assert!(cache.fill(b"k", cache.stamp(b"k"), Filling::plain(&value("older"), 0)));
        let writer = cache.stamp(b"k");
        cache.forget(b"k");
        assert!(!cache.replace(b"k", writer, Filling::plain(&value("mine"), 1)));
        assert_eq!(cache.get(b"k"), None);
    }

    #[test]
    fn forgetting_all_refuses_every_present_reader() {
        let cache = Cache::new(1 << 20);
        let stamps: Vec<_> =
            (0..100).map(|i| (format!("k{i}"), cache.stamp(format!("k{i}").as_bytes()))).collect();
        cache.forget_all();
        for (key, stamp) in stamps {
            assert!(!cache.fill(key.as_bytes(), stamp, Filling::plain(&value("x"), 0)));
        }
        assert_eq!(cache.usage().entries, 0);
    }

    #[test]
    fn what_is_kept_beside_a_value_comes_back_with_it() {
        let cache = Cache::new(1 << 20);
        for (data, version) in [("text", 3), ("", 0), ("-12", 7), ("007", u64::MAX)] {
            let value = Value { version, expires_at: Some(5), ..value(data) };
            assert!(cache.fill(b"k", cache.stamp(b"k"), Filling::plain(&value, 9)));
            assert_eq!(cache.get(b"k"), Some(plain(value, 9)));
        }
    }

    #[test]
    fn a_walk_comes_by_all_and_frees_what_is_over() {
        let cache = Cache::new(1 << 22);
        let v = value("v");
        for at in 0..2_000_u64 {
            let key = format!("k{at}");
            assert!(cache.fill(
                key.as_bytes(),
                cache.stamp(key.as_bytes()),
                Filling::plain(&v, at % 2)
            ));
        }
        let mut walk = Walk::default();
        for _ in 0..200 {
            cache.retire(&mut walk, 100, |_, found| {
                found.meta.origin.unwrap_or_default().filled_at == 0
            });
        }
        assert_eq!(cache.usage().entries, 1_000);
        // Where nothing is, a walk ends.
        cache.forget_all();
        cache.retire(&mut walk, usize::MAX, |_, _| true);
    }

    #[test]
    fn a_value_that_is_too_big_leaves_none_behind() {
        let cache = Cache::new(1 << 20);
        assert!(cache.fill(b"k", cache.stamp(b"k"), Filling::plain(&value("small"), 0)));
        let big = value(&"v".repeat(1 << 17));
        assert!(!cache.replace(b"k", cache.stamp(b"k"), Filling::plain(&big, 1)));
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
                run.cache.fill(b"k", run.reader.0.unwrap(), Filling::plain(&read, 0));
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
                run.cache.replace(b"k", run.writer.0.unwrap(), Filling::plain(&written, 0));
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
                assert_eq!(entry.value, Some(value(&run.stored.to_string())));
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
                                cache.fill(&key, cache.stamp(&key), Filling::plain(&entered, 0));
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
            let value = value(&"v".repeat(100));
            cache.fill(key.as_bytes(), cache.stamp(key.as_bytes()), Filling::plain(&value, 0));
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

    fn content(v: u8) -> Option<Value> {
        (!v.is_multiple_of(5)).then(|| value(&v.to_string().repeat(50)))
    }

    proptest! {
        /// Whatever the order and whatever is entered (values, values whose hits are noted, that
        /// there is none): what is read was entered last, by a reader or a writer whom nothing
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
                        let entering = content(v);
                        let filling =
                            Filling { value: entering.as_ref(), at: 0, notes_use: v % 3 == 0, compares: v % 2 == 0 };
                        let is_write = matches!(step, Step::Replace(..));
                        let done = if is_write {
                            cache.replace(&[k], stamp, filling)
                        } else {
                            cache.fill(&[k], stamp, filling)
                        };
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
                        let expected = entered.get(&k).map(|v| content(*v));
                        prop_assert_eq!(Some(found.value), expected);
                    },
                    Step::Limit(to) => { limit = usize::from(to); cache.set_limit(limit); }
                }
                prop_assert!(cache.usage().bytes <= limit);
            }
        }
    }
}
