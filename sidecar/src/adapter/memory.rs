//! The sidecar's own memory as the storage: gone with the pod, shared with nobody.
//!
//! One lock around plain collections: a call holds it for a lookup or two and never waits. Expired
//! keys are invisible at once; their memory is freed a few at a time by later writes.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use warp_crds::pattern::glob_match;

use super::mutation::Change;
use super::{Applied, Key, Mutation, Page, Result, Storage, StorageError, UnixMillis, Value};

/// What an entry takes besides its key and its string: its places in the three collections, with
/// the slack that they keep, and the headers of two allocations.
const ENTRY_OVERHEAD: usize = 256;

/// How many expired keys a write frees. It frees more than it can add, so that they don't pile up.
const SWEEP: usize = 16;

/// Keys in memory, up to a number of bytes.
#[derive(Debug)]
pub struct MemoryAdapter {
    limit_bytes: usize,
    clock: fn() -> UnixMillis,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Key, Entry, RandomState>,
    /// By the id that a key gets when it appears: the order of a scan, which later writes leave as
    /// it is.
    by_id: BTreeMap<u64, Key>,
    /// What expires, soonest first.
    expiring: BTreeSet<(UnixMillis, u64)>,
    bytes: usize,
    last_id: u64,
    last_version: u64,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    value: Value,
}

impl MemoryAdapter {
    /// Holds at most `limit_bytes`, overhead included; `clock` says when keys expire.
    pub fn new(limit_bytes: usize, clock: fn() -> UnixMillis) -> Self {
        Self { limit_bytes, clock, state: Mutex::default() }
    }

    /// Refuses what would grow the state by `growth` bytes beyond the limit.
    fn make_room(&self, state: &mut State, growth: isize, now: UnixMillis) -> Result<()> {
        let fits = |state: &State| {
            growth <= 0 || state.bytes.saturating_add_signed(growth) <= self.limit_bytes
        };
        while !fits(state) {
            if state.sweep(now, SWEEP) == 0 {
                return Err(StorageError::Refused(
                    "OOM command not allowed when used memory > 'maxmemory'.".to_owned(),
                ));
            }
        }
        Ok(())
    }
}

impl State {
    fn live(&self, key: &[u8], now: UnixMillis) -> Option<&Value> {
        self.entries.get(key).map(|entry| &entry.value).filter(|value| !value.is_expired(now))
    }

    /// By how many bytes storing `data` under `key` grows the state.
    fn growth(&self, key: &[u8], data: &[u8]) -> isize {
        let old = self.entries.get(key).map_or(0, |entry| size(key, &entry.value.data));
        size(key, data).cast_signed() - old.cast_signed()
    }

    /// Stores copies, so that what is counted is what is held: the caller's bytes are slices of
    /// greater buffers.
    fn put(&mut self, key: &[u8], data: &[u8], expires_at: Option<UnixMillis>) -> Value {
        self.last_version += 1;
        let value =
            Value { data: Bytes::copy_from_slice(data), expires_at, version: self.last_version };
        self.bytes = self.bytes.saturating_add_signed(self.growth(key, data));
        let id = if let Some(entry) = self.entries.get_mut(key) {
            if let Some(at) = entry.value.expires_at {
                self.expiring.remove(&(at, entry.id));
            }
            entry.value = value.clone();
            entry.id
        } else {
            self.last_id += 1;
            let (id, key) = (self.last_id, Bytes::copy_from_slice(key));
            self.by_id.insert(id, key.clone());
            self.entries.insert(key, Entry { id, value: value.clone() });
            id
        };
        if let Some(at) = expires_at {
            self.expiring.insert((at, id));
        }
        value
    }

    fn remove(&mut self, key: &[u8]) {
        if let Some(Entry { id, value }) = self.entries.remove(key) {
            self.by_id.remove(&id);
            if let Some(at) = value.expires_at {
                self.expiring.remove(&(at, id));
            }
            self.bytes -= size(key, &value.data);
        }
    }

    /// Frees up to `most` expired keys; how many it freed.
    fn sweep(&mut self, now: UnixMillis, most: usize) -> usize {
        let due: Vec<u64> =
            self.expiring.range(..=(now, u64::MAX)).map(|(_, id)| *id).take(most).collect();
        for id in &due {
            if let Some(key) = self.by_id.get(id).cloned() {
                self.remove(&key);
            }
        }
        due.len()
    }
}

fn size(key: &[u8], data: &[u8]) -> usize {
    key.len() + data.len() + ENTRY_OVERHEAD
}

#[async_trait]
impl Storage for MemoryAdapter {
    fn kind(&self) -> &'static str {
        "memory"
    }

    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Value>>> {
        let (now, state) = ((self.clock)(), self.state.lock());
        Ok(keys.iter().map(|key| state.live(key, now).cloned()).collect())
    }

    async fn apply(&self, key: &Key, mutation: Mutation) -> Result<Applied> {
        let (now, mut state) = ((self.clock)(), self.state.lock());
        let state = &mut *state;
        state.sweep(now, SWEEP);
        let before = state.live(key, now).cloned();
        let mut effect = mutation.apply(before.as_ref(), now)?;
        match &mut effect.change {
            Change::Nothing => {}
            Change::Remove => state.remove(key),
            Change::Put { data, expires_at } => {
                self.make_room(state, state.growth(key, data), now)?;
                *data = state.put(key, data, *expires_at).data;
            }
        }
        Ok(effect.stored(before, state.last_version))
    }

    async fn set_many(&self, pairs: &[(Key, Bytes)]) -> Result<()> {
        let (now, mut state) = ((self.clock)(), self.state.lock());
        state.sweep(now, SWEEP);
        let last: HashMap<&Key, &Bytes, RandomState> =
            pairs.iter().map(|(key, data)| (key, data)).collect();
        let growth = last.iter().map(|(key, data)| state.growth(key, data)).sum();
        self.make_room(&mut state, growth, now)?;
        for (key, data) in last {
            state.put(key, data, None);
        }
        Ok(())
    }

    async fn delete(&self, keys: &[Key]) -> Result<u64> {
        let (now, mut state) = ((self.clock)(), self.state.lock());
        let mut deleted = 0;
        for key in keys {
            deleted += u64::from(state.live(key, now).is_some());
            state.remove(key);
        }
        Ok(deleted)
    }

    async fn scan(&self, cursor: u64, pattern: Option<&[u8]>, count: usize) -> Result<Page> {
        let (now, state) = ((self.clock)(), self.state.lock());
        let mut rest = state.by_id.range(cursor.saturating_add(1)..);
        let mut page = Page { cursor: 0, keys: Vec::new() };
        let mut last = cursor;
        for (id, key) in rest.by_ref().take(count.max(1)) {
            last = *id;
            let wanted = pattern.is_none_or(|pattern| glob_match(pattern, key));
            if wanted && state.live(key, now).is_some() {
                page.keys.push(key.clone());
            }
        }
        if rest.next().is_some() {
            page.cursor = last;
        }
        Ok(page)
    }

    async fn count(&self) -> Result<u64> {
        let (now, state) = ((self.clock)(), self.state.lock());
        let expired = state.expiring.range(..=(now, u64::MAX)).count();
        Ok((state.entries.len() - expired) as u64)
    }

    async fn flush(&self) -> Result<()> {
        let mut state = self.state.lock();
        // The numbers go on, so that versions and a scan's cursor keep their meaning.
        *state =
            State { last_id: state.last_id, last_version: state.last_version, ..State::default() };
        Ok(())
    }

    async fn probe(&self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::adapter::{SetCondition, SetExpiry};

    const KEY: Key = Bytes::from_static(b"key");

    fn set(data: impl Into<Bytes>, expiry: SetExpiry) -> Mutation {
        Mutation::Set { data: data.into(), condition: SetCondition::Always, expiry, get: false }
    }

    fn noon() -> UnixMillis {
        1_000
    }

    #[tokio::test]
    async fn a_write_beyond_the_limit_is_refused_and_changes_nothing() {
        let adapter = MemoryAdapter::new(2 * ENTRY_OVERHEAD, noon);
        adapter.apply(&KEY, set("old", SetExpiry::Clear)).await.unwrap();
        let long = Bytes::from(vec![b'x'; 2 * ENTRY_OVERHEAD]);
        let pairs = [(Bytes::from_static(b"other"), Bytes::new()), (KEY, long.clone())];
        for refused in [
            adapter.apply(&KEY, set(long, SetExpiry::Clear)).await.unwrap_err(),
            adapter.set_many(&pairs).await.unwrap_err(),
        ] {
            assert_eq!(
                refused.to_string(),
                "OOM command not allowed when used memory > 'maxmemory'."
            );
        }
        assert_eq!(adapter.get(&[KEY]).await.unwrap()[0].as_ref().unwrap().data, "old");
        assert_eq!(adapter.count().await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_full_memory_takes_what_does_not_grow_it() {
        let adapter = MemoryAdapter::new(ENTRY_OVERHEAD + 10, noon);
        adapter.apply(&KEY, set("1234567", SetExpiry::Clear)).await.unwrap();
        adapter.apply(&KEY, set("7654321", SetExpiry::Clear)).await.unwrap();
        adapter.apply(&KEY, set("1", SetExpiry::Clear)).await.unwrap();
        assert_eq!(adapter.delete(&[KEY]).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn the_bytes_counted_return_to_nothing() {
        let adapter = MemoryAdapter::new(1 << 20, noon);
        for at in 0..50_u8 {
            let key = Bytes::from(vec![at; usize::from(at)]);
            adapter.apply(&key, set(vec![at; 30], SetExpiry::At(5_000))).await.unwrap();
            adapter.apply(&key, Mutation::Append(Bytes::from_static(b"tail"))).await.unwrap();
            adapter.apply(&key, set(vec![at; 3], SetExpiry::Keep)).await.unwrap();
            adapter.delete(&[key]).await.unwrap();
        }
        let state = adapter.state.lock();
        assert_eq!((state.bytes, state.by_id.len(), state.expiring.len()), (0, 0, 0));
    }

    static NOW: AtomicU64 = AtomicU64::new(0);

    #[tokio::test]
    async fn room_is_made_of_what_has_expired() {
        NOW.store(100, Ordering::Relaxed);
        let adapter =
            MemoryAdapter::new(101 * (ENTRY_OVERHEAD + 4), || NOW.load(Ordering::Relaxed));
        for at in 0..100_u32 {
            let key = Bytes::copy_from_slice(&at.to_be_bytes());
            adapter.apply(&key, set("", SetExpiry::At(200))).await.unwrap();
        }
        let big = set(vec![0; 60 * ENTRY_OVERHEAD], SetExpiry::Clear);
        adapter.apply(&KEY, big.clone()).await.unwrap_err();
        NOW.store(200, Ordering::Relaxed);
        assert_eq!(adapter.count().await.unwrap(), 0, "expired keys are gone at once");
        adapter.apply(&KEY, big).await.unwrap();
        assert_eq!(adapter.count().await.unwrap(), 1);
    }

    #[tokio::test]
    async fn what_is_kept_is_no_slice_of_the_callers_buffer() {
        let adapter = MemoryAdapter::new(1 << 20, noon);
        let buffer = Bytes::from(vec![b'k'; 1000]);
        let (key, data) = (buffer.slice(0..1), buffer.slice(1..2));
        adapter.apply(&key, set(data, SetExpiry::Clear)).await.unwrap();
        let state = adapter.state.lock();
        let (key, entry) = state.entries.iter().next().unwrap();
        let range = buffer.as_ptr_range();
        assert!(!range.contains(&key.as_ptr()) && !range.contains(&entry.value.data.as_ptr()));
    }
}
