//! The short way of a storage that is the sidecar's own memory.
//!
//! Such a storage is truth and copy in one: nobody else has it, so there is nothing to cache, to
//! join, to announce or to wait for. *Whether the short way is taken is decided here alone*: each
//! function answers at once over such a storage, and nothing over any other. A read counts as a hit
//! if the key is there, and else as absent.

use super::{Moment, View};
use crate::adapter::memory::{Keyspace, Refusal};
use crate::adapter::{
    Applied, MemoryAdapter, Mutation, Page, Result, StorageError, Value, WhenFull,
};
use crate::cache::Usage;

impl View {
    /// Works on the keys of the moment, which nobody else does meanwhile.
    pub fn on_keyspace<T>(&self, work: impl FnOnce(&mut Keyspace) -> T) -> Option<T> {
        self.in_memory(|memory| memory.with(work))
    }

    /// The same, unless a script or a transaction has the keys.
    pub(super) fn on_keyspace_if_free<T>(
        &self,
        work: impl FnOnce(&mut Keyspace) -> T,
    ) -> Option<T> {
        self.in_memory(|memory| memory.with_if_free(work)).flatten()
    }

    /// Does `work`, which began at `now`, while nobody else touches the keys. `work` calls what it
    /// likes of the functions here and executes whole commands: so scripts and transactions are
    /// atomic.
    pub fn exclusively<T>(&self, now: Moment, work: impl FnOnce() -> T) -> Option<T> {
        self.in_memory(|memory| memory.exclusively(now.unix, work))
    }

    /// The value of `key`.
    pub fn read_now(&self, key: &[u8]) -> Option<Result<Option<Value>>> {
        self.on_keyspace(|keyspace| self.counted(key, keyspace.value(key)))
    }

    /// The values of `keys`, in their order, all of one moment.
    pub fn read_many_now<K: AsRef<[u8]>>(&self, keys: &[K]) -> Option<Vec<Result<Option<Value>>>> {
        self.on_keyspace(|keyspace| {
            let keys = keys.iter().map(AsRef::as_ref);
            keys.map(|key| self.counted(key, keyspace.value(key))).collect()
        })
    }

    fn counted(
        &self,
        key: &[u8],
        result: std::result::Result<Option<Value>, Refusal>,
    ) -> Result<Option<Value>> {
        let counters = self.table.of(key).1;
        match &result {
            Ok(Some(_)) => counters.hits.inc(),
            Ok(None) => counters.absent.inc(),
            Err(_) => counters.failed.inc(),
        }
        self.noted(result.map_err(StorageError::from))
    }

    /// A refusal is counted as that of any storage.
    fn noted<T>(&self, result: Result<T>) -> Result<T> {
        result.inspect_err(|error| self.table.metrics.storage_error(error))
    }

    /// Does `mutation` to `key`.
    pub fn write_now(&self, key: &[u8], mutation: &Mutation) -> Option<Result<Applied>> {
        self.in_memory(|memory| self.noted(memory.apply_now(key, mutation)))
    }

    /// Sets all of `pairs`, or none.
    pub fn write_many_now<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        pairs: &[(K, V)],
    ) -> Option<Result<()>> {
        self.in_memory(|memory| self.noted(memory.set_many_now(pairs)))
    }

    /// Deletes `keys`; how many there were.
    pub fn delete_now<K: AsRef<[u8]>>(&self, keys: &[K]) -> Option<u64> {
        self.in_memory(|memory| memory.delete_now(keys))
    }

    /// A page of keys of a type, or of any.
    pub fn scan_now(
        &self,
        cursor: u64,
        pattern: Option<&[u8]>,
        kind: Option<&str>,
        count: usize,
    ) -> Option<Page> {
        self.in_memory(|memory| memory.scan_now(cursor, pattern, kind, count))
    }

    /// How many keys there are.
    pub fn count_now(&self) -> Option<u64> {
        self.in_memory(MemoryAdapter::count_now)
    }

    /// What it holds, and whether keys make room for others.
    pub(super) fn usage_now(&self) -> Option<(Usage, WhenFull)> {
        self.on_keyspace(|keyspace| {
            let held = keyspace.figures();
            let usage = Usage { entries: held.entries, bytes: held.bytes, evicted: held.evicted };
            (usage, keyspace.when_full())
        })
    }

    /// Deletes every key.
    pub fn flush_now(&self) -> Option<()> {
        self.in_memory(MemoryAdapter::flush_now)
    }

    fn in_memory<T>(&self, work: impl FnOnce(&MemoryAdapter) -> T) -> Option<T> {
        self.storage.as_memory().map(work)
    }
}
