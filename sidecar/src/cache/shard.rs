//! One shard: a store of copies, and the counters of the guard.

use super::store::{Hash, Hasher, Meta, Origin, Payload, Store, WhenFull};
use super::{Annotated, Entry, Filling, Lent, Usage, steady};
use crate::adapter::Value;

/// Keys that share a counter are forgotten by the guard together; more counters, fewer refused fills.
const COUNTERS: usize = 256;

/// A copy's end is the core's affair, which knows the time: to the shard no copy has ended.
const NO_TIME: u64 = 0;

#[derive(Debug)]
pub(super) struct Shard {
    counters: Box<[u64; COUNTERS]>,
    store: Store<Annotated>,
}

impl Shard {
    pub(super) fn new(hasher: Hasher, limit: usize) -> Self {
        Self {
            counters: Box::new([0; COUNTERS]),
            store: Store::new(hasher, limit, WhenFull::Evict),
        }
    }

    #[inline]
    pub(super) fn prefetch(&self, hash: Hash) {
        self.store.prefetch(hash);
    }

    #[inline]
    pub(super) fn prefetch_entry(&self, hash: Hash) {
        self.store.prefetch_entry(hash);
    }

    pub(super) fn counter(&self, hash: Hash) -> u64 {
        self.counters[counter_of(hash)]
    }

    #[inline]
    pub(super) fn get(&mut self, hash: Hash, key: &[u8]) -> Option<Lent<'_>> {
        self.store.get(hash, key, NO_TIME)
    }

    pub(super) fn peek(&self, hash: Hash, key: &[u8]) -> Option<Lent<'_>> {
        self.store.peek(hash, key, NO_TIME)
    }

    /// Enters or replaces; false when there is no room for it, and then nothing is left.
    pub(super) fn insert(&mut self, hash: Hash, key: &[u8], filling: Filling<'_>) -> bool {
        let Filling { value, at, notes_use, compares } = filling;
        let payload = match value {
            Some(value) if notes_use || compares => {
                let steady = if compares { self.steady_with(hash, key, value) } else { 0 };
                Payload::Object(Annotated::text_of(&value.data, notes_use.then_some(at), steady))
            }
            Some(value) => Payload::Bytes(value.data.as_ref()),
            None => Payload::Object(Annotated::absent()),
        };
        let version = value.map_or(0, |value| value.version);
        let origin = Some(Origin { version, filled_at: at });
        let meta = Meta { expires_at: value.and_then(|value| value.expires_at), origin };
        let entered = self.store.insert(hash, key, payload, meta, NO_TIME).is_ok();
        if !entered {
            self.store.remove(hash, key, NO_TIME);
        }
        entered
    }

    /// How many readings in a row have found `value`, besides the first, this one included.
    fn steady_with(&self, hash: Hash, key: &[u8], value: &Value) -> u8 {
        let Some(found) = self.peek(hash, key) else { return 0 };
        let before = Entry::copy_of(found).value;
        let is_same = before
            .is_some_and(|before| (before.version, &before.data) == (value.version, &value.data));
        if is_same { steady(found).saturating_add(1) } else { 0 }
    }

    /// Removes, and refuses nobody.
    pub(super) fn remove(&mut self, hash: Hash, key: &[u8]) -> bool {
        self.store.remove(hash, key, NO_TIME)
    }

    /// Refuses what the present readers of `key` will bring.
    pub(super) fn refuse_readers(&mut self, hash: Hash) {
        self.counters[counter_of(hash)] += 1;
    }

    pub(super) fn forget(&mut self, hash: Hash, key: &[u8]) -> bool {
        self.refuse_readers(hash);
        self.remove(hash, key)
    }

    pub(super) fn forget_all(&mut self) {
        self.counters.iter_mut().for_each(|counter| *counter += 1);
        self.store.clear();
    }

    pub(super) fn expire_some(&mut self, now: u64, budget: usize) -> usize {
        self.store.expire_some(now, budget)
    }

    /// Looks at about `count` entries, those after `cursor`, and frees those that `is_over` holds for;
    /// the next cursor, which is 0 at the end.
    pub(super) fn retire(
        &mut self,
        cursor: u64,
        count: usize,
        is_over: impl Fn(&[u8], Lent<'_>) -> bool,
    ) -> u64 {
        let mut over: Vec<Box<[u8]>> = Vec::new();
        let next = self.store.scan(cursor, count, NO_TIME, |key, found| {
            if is_over(key, found) {
                over.push(key.into());
            }
        });
        for key in over {
            self.store.remove(self.store.hash(&key), &key, NO_TIME);
        }
        next
    }

    pub(super) fn next_end(&self) -> Option<u64> {
        self.store.next_end()
    }

    pub(super) fn set_limit(&mut self, limit: usize) {
        self.store.set_limit(limit, NO_TIME);
    }

    pub(super) fn usage(&self) -> Usage {
        let figures = self.store.figures();
        Usage { entries: figures.entries, bytes: figures.bytes, evicted: figures.evicted }
    }
}

fn counter_of(hash: Hash) -> usize {
    (hash.spare() >> 16) as usize % COUNTERS
}
