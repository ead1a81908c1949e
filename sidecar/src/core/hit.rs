//! The way of a hit: what memory answers, without waiting and without a copy.
//!
//! A turn of the event loop executes many commands. It looks once at what they all go by, the
//! [`View`], and has the processor fetch what their keys need together.

use std::sync::Arc;

use super::{Engine, Moment, Table};
use crate::adapter::{Storage, StorageError, UnixMillis};
use crate::cache::store::{Found, Hash, NoObject, Text};

/// The storage and the classes of a moment.
#[derive(Clone, Debug)]
pub struct View {
    pub(super) storage: Arc<Arc<dyn Storage>>,
    pub(super) table: Arc<Table>,
}

/// What became of asking memory for a string.
#[derive(Debug)]
pub enum Lent<T> {
    /// It was shown.
    Hit(T),
    /// There is none, and memory is where it would be.
    Absent,
    /// There is something else.
    Refused(StorageError),
    /// Memory doesn't know; the storage does.
    Ask,
}

impl View {
    /// The same classes over another storage.
    #[must_use]
    pub fn over(&self, storage: Arc<dyn Storage>) -> Self {
        Self { storage: Arc::new(storage), table: Arc::clone(&self.table) }
    }

    /// The storage.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// Whether the storage is a Redis, which knows more commands and more types than Warp.
    pub fn is_redis(&self) -> bool {
        self.storage.as_redis().is_some()
    }

    /// The name of the class that `key` belongs to.
    pub fn class_of(&self, key: &[u8]) -> &str {
        &self.table.of(key).0.name
    }
}

impl Engine {
    /// What commands go by from now on.
    pub fn view(&self) -> View {
        View { storage: self.storage.load_full(), table: self.table.load_full() }
    }

    /// Brings a view up to date.
    #[inline]
    pub fn refresh(&self, view: &mut View) {
        let (storage, table) = (self.storage.load(), self.table.load());
        if !Arc::ptr_eq(&storage, &view.storage) || !Arc::ptr_eq(&table, &view.table) {
            *view = View { storage: Arc::clone(&storage), table: Arc::clone(&table) };
        }
    }

    /// The hash of a key, for the calls that take one.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> Hash {
        self.cache.hash(key)
    }

    /// Has the processor fetch what commands on keys of these hashes will read.
    #[inline]
    pub fn prefetch(&self, view: &View, hashes: &[Hash], now: Moment) {
        match view.storage.as_memory() {
            Some(memory) => memory.with_at(now.unix, |keyspace| keyspace.prefetch(hashes)),
            None => self.cache.prefetch(hashes),
        }
    }

    /// Shows the string under `key`, if memory has it, and counts the hit.
    ///
    /// `now` may have been taken once for many commands, but not before they were read: what a
    /// stopped process was sent meanwhile must be judged by the time at which it goes on.
    #[inline]
    pub fn lend<T>(
        &self,
        view: &View,
        (hash, key): (Hash, &[u8]),
        now: Moment,
        show: impl FnOnce(Text<'_>) -> T,
    ) -> Lent<T> {
        if let Some(memory) = view.storage.as_memory() {
            let (_, counters) = view.table.of(key);
            return match memory.with_at(now.unix, |keyspace| keyspace.lend(hash, key, show)) {
                Ok(Some(shown)) => {
                    counters.hits.inc();
                    Lent::Hit(shown)
                }
                Ok(None) => {
                    counters.absent.inc();
                    Lent::Absent
                }
                Err(refusal) => {
                    counters.failed.inc();
                    Lent::Refused(refusal.into())
                }
            };
        }
        let shown = self.hit(&view.table, (hash, key), now, |found| found.payload.text().map(show));
        shown.flatten().map_or(Lent::Ask, Lent::Hit)
    }

    /// Shows the copy of `key` if it may be answered, and counts the hit: *the class's bus has proven
    /// that nothing is missed, the copy is younger than the class's TTL, and it hasn't expired*.
    #[inline]
    pub(super) fn hit<T>(
        &self,
        table: &Table,
        (hash, key): (Hash, &[u8]),
        now: Moment,
        show: impl FnOnce(Found<'_, NoObject>) -> T,
    ) -> Option<T> {
        let (class, counters) = table.of(key);
        if class.is_distributed() && !self.coherence.is_live(now.age) {
            return None;
        }
        let shown = self.cache.with(hash, key, |found| {
            let filled_at = found.meta.origin.unwrap_or_default().filled_at;
            let fresh = now.age.saturating_sub(filled_at) < class.ttl_millis()
                && !found.meta.is_expired(now.unix);
            fresh.then(|| show(found))
        });
        shown.flatten().inspect(|_| counters.hits.inc())
    }

    /// Puts a string under `key`, whatever is there, where the storage is memory.
    #[inline]
    pub fn put_now(
        &self,
        view: &View,
        (hash, key): (Hash, &[u8]),
        now: Moment,
        text: &[u8],
        expires_at: Option<UnixMillis>,
    ) -> Option<Result<(), StorageError>> {
        let memory = view.storage.as_memory()?;
        let put =
            memory.with_at(now.unix, |keyspace| keyspace.overwrite(hash, key, text, expires_at));
        Some(put.map_err(Into::into))
    }
}
