//! The sidecar's own memory as the storage: gone with the pod, shared with nobody.
//!
//! One lock around a [`Keyspace`] (`exclusive`): a call holds it for its own work and never waits, so
//! that the core may answer from it at once, without a task.

use async_trait::async_trait;
use bytes::Bytes;
use warp_crds::pattern::glob_match;

pub mod collection;
mod exclusive;
mod keyspace;
mod waiting;

use exclusive::Exclusive;
pub use keyspace::{Keyspace, Observer, Refusal, Written};
pub use waiting::{End, Turn, Waiter};

use super::{Applied, Key, Mutation, Page, Result, Storage, UnixMillis, Value};
pub use crate::cache::store::WhenFull;
use collection::Kind;

/// Keys in memory, up to a number of bytes.
#[derive(Debug)]
pub struct MemoryAdapter {
    clock: fn() -> UnixMillis,
    keyspace: Exclusive,
}

impl MemoryAdapter {
    /// Holds at most `limit_bytes`, overhead included; `when_full` says what then; `clock` says
    /// when keys expire.
    pub fn new(limit_bytes: usize, when_full: WhenFull, clock: fn() -> UnixMillis) -> Self {
        Self { clock, keyspace: Exclusive::new(Keyspace::new(limit_bytes, when_full)) }
    }

    /// Works on the keys at the time of the moment. `work` must not ask for them again.
    pub fn with<T>(&self, work: impl FnOnce(&mut Keyspace) -> T) -> T {
        self.keyspace.lend(self.clock, work)
    }

    /// The same, unless somebody else is at the keys.
    pub fn with_if_free<T>(&self, work: impl FnOnce(&mut Keyspace) -> T) -> Option<T> {
        self.keyspace.lend_if_free(self.clock, work)
    }

    /// The same at a time that the caller knows.
    #[inline]
    pub fn with_at<T>(&self, now: UnixMillis, work: impl FnOnce(&mut Keyspace) -> T) -> T {
        self.keyspace.lend(|| now, work)
    }

    /// Does `work`, which began at `now`, while nobody else touches the keys; they don't expire
    /// meanwhile. `work` itself calls what it likes.
    pub fn exclusively<T>(&self, now: UnixMillis, work: impl FnOnce() -> T) -> T {
        self.keyspace.hold(now, work)
    }

    /// Has `observer` told of every write from now on, in the place of who was before.
    pub fn observe(&self, observer: Observer) {
        self.with(|keyspace| keyspace.observe(observer));
    }

    /// Changes the most bytes that it may hold. Where nothing makes room, what is above them stays
    /// until it is removed.
    pub fn set_limit(&self, limit_bytes: usize) {
        self.with(|keyspace| keyspace.set_limit(limit_bytes));
    }

    /// The string under `key`.
    pub fn get_now(&self, key: &[u8]) -> Result<Option<Value>> {
        Ok(self.with(|keyspace| keyspace.value(key))?)
    }

    /// Does `mutation` to `key`.
    pub fn apply_now(&self, key: &[u8], mutation: &Mutation) -> Result<Applied> {
        self.with(|keyspace| keyspace.apply(key, mutation))
    }

    /// Sets all of `pairs`, or none.
    pub fn set_many_now<K: AsRef<[u8]>, V: AsRef<[u8]>>(&self, pairs: &[(K, V)]) -> Result<()> {
        Ok(self.with(|keyspace| keyspace.put_strings(pairs))?)
    }

    /// Deletes `keys`; how many there were.
    pub fn delete_now<K: AsRef<[u8]>>(&self, keys: &[K]) -> u64 {
        self.with(|keyspace| keys.iter().map(|key| u64::from(keyspace.remove(key.as_ref()))).sum())
    }

    /// A page of about `count` keys that match `pattern` and are of the type `kind`.
    pub fn scan_now(
        &self,
        cursor: u64,
        pattern: Option<&[u8]>,
        kind: Option<&str>,
        count: usize,
    ) -> Page {
        let mut keys = Vec::new();
        let show = |key: &[u8], found: Kind| {
            let wanted = kind.is_none_or(|kind| found.name().eq_ignore_ascii_case(kind))
                && pattern.is_none_or(|pattern| glob_match(pattern, key));
            if wanted {
                keys.push(Bytes::copy_from_slice(key));
            }
        };
        let cursor = self.with(|keyspace| keyspace.scan(cursor, count, show));
        Page { cursor, keys }
    }

    /// How many keys there are.
    pub fn count_now(&self) -> u64 {
        self.with(Keyspace::count) as u64
    }

    /// Deletes every key.
    pub fn flush_now(&self) {
        // Dropped when the lock is free again.
        let gone = self.with(Keyspace::flush);
        drop(gone);
    }
}

#[async_trait]
impl Storage for MemoryAdapter {
    fn kind(&self) -> &'static str {
        "memory"
    }

    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Value>>> {
        let values = |keyspace: &mut Keyspace| keys.iter().map(|key| keyspace.value(key)).collect();
        let values: std::result::Result<_, Refusal> = self.with(values);
        Ok(values?)
    }

    async fn apply(&self, key: &Key, mutation: Mutation) -> Result<Applied> {
        self.apply_now(key, &mutation)
    }

    async fn set_many(&self, pairs: &[(Key, Bytes)]) -> Result<()> {
        self.set_many_now(pairs)
    }

    async fn delete(&self, keys: &[Key]) -> Result<u64> {
        Ok(self.delete_now(keys))
    }

    async fn scan(&self, cursor: u64, pattern: Option<&[u8]>, count: usize) -> Result<Page> {
        Ok(self.scan_now(cursor, pattern, None, count))
    }

    async fn count(&self) -> Result<u64> {
        Ok(self.count_now())
    }

    async fn flush(&self) -> Result<()> {
        self.flush_now();
        Ok(())
    }

    async fn probe(&self) -> Result<()> {
        Ok(())
    }

    fn as_memory(&self) -> Option<&MemoryAdapter> {
        Some(self)
    }
}

#[cfg(test)]
mod tests;
