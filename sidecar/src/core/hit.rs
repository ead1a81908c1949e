//! The way of a hit: what memory answers, without waiting and without a copy.
//!
//! A turn of the event loop executes many commands. It looks once at what they all go by, the
//! [`View`], and has the processor fetch what their keys need together.

use std::cell::Cell;
use std::sync::Arc;

use super::{Engine, Moment, Place, Table};
use crate::adapter::{Storage, StorageError, UnixMillis};
use crate::cache::store::{Hash, Text, View as Payload};
use crate::cache::{self, text_of};

/// The storage and the classes of a moment.
///
/// It counts the hits of its user by itself until [`View::settle`]: an atomic addition for each
/// would have the processor wait for all that it has begun to fetch.
#[derive(Debug)]
pub struct View {
    pub(super) storage: Arc<Arc<dyn Storage>>,
    pub(super) table: Arc<Table>,
    /// The storage's kind whose keys are in the storage for the time of a transaction.
    scratch_of: Option<&'static str>,
    run: Cell<Run>,
}

/// Hits that are not counted yet, one behind the other in the class of this place.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    class: usize,
    hits: u64,
}

impl Clone for View {
    fn clone(&self) -> Self {
        let view = Self::new(Arc::clone(&self.storage), Arc::clone(&self.table));
        view.scratch_of(self.scratch_of)
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.settle();
    }
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
    fn new(storage: Arc<Arc<dyn Storage>>, table: Arc<Table>) -> Self {
        Self { storage, table, scratch_of: None, run: Cell::default() }
    }

    /// Lets everyone know of the hits so far.
    pub fn settle(&self) {
        let Run { class, hits } = self.run.take();
        if hits > 0 {
            self.table.counters[class].hits.inc_by(hits);
        }
    }

    #[inline]
    fn count_hit(&self, class: usize) {
        if self.run.get().class != class {
            self.settle();
        }
        self.run.set(Run { class, hits: self.run.get().hits + 1 });
    }

    fn scratch_of(mut self, kind: Option<&'static str>) -> Self {
        self.scratch_of = kind;
        self
    }

    /// The same classes over the memory of a transaction of this view's storage.
    #[must_use]
    pub(super) fn over_scratch(&self, scratch: Arc<dyn Storage>) -> Self {
        let view = Self::new(Arc::new(scratch), Arc::clone(&self.table));
        view.scratch_of(Some(self.storage.kind()))
    }

    /// Whether the keys are in memory for the time of a transaction only: those that it has locked,
    /// of a storage that has strings.
    pub fn is_scratch(&self) -> bool {
        self.scratch_of.is_some()
    }

    /// The kind of the storage that has the keys for good.
    pub fn kind(&self) -> &'static str {
        self.scratch_of.unwrap_or_else(|| self.storage.kind())
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
        View::new(self.storage.load_full(), self.table.load_full())
    }

    /// Brings a view up to date.
    #[inline]
    pub fn refresh(&self, view: &mut View) {
        let (storage, table) = (self.storage.load(), self.table.load());
        if !Arc::ptr_eq(&storage, &view.storage) || !Arc::ptr_eq(&table, &view.table) {
            *view = View::new(Arc::clone(&storage), Arc::clone(&table));
        }
    }

    /// The hash of a key, for the calls that take one.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> Hash {
        self.hasher.hash(key)
    }

    /// Has the processor fetch what commands on keys of these hashes will read.
    #[inline]
    pub fn prefetch(&self, view: &View, hashes: &[Hash], now: Moment) {
        match view.storage.as_memory() {
            Some(memory) => memory.with_at(now.unix, |keyspace| keyspace.prefetch(hashes)),
            // Copies of a class with a quota are elsewhere, and are read as they come.
            None => view.table.rooms.shared().prefetch(hashes),
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
        let class = view.table.classes.index_of(key);
        if let Some(memory) = view.storage.as_memory() {
            return match memory.with_at(now.unix, |keyspace| keyspace.lend(hash, key, show)) {
                Ok(Some(shown)) => {
                    view.count_hit(class);
                    Lent::Hit(shown)
                }
                Ok(None) => {
                    view.table.counters[class].absent.inc();
                    Lent::Absent
                }
                Err(refusal) => {
                    view.table.counters[class].failed.inc();
                    Lent::Refused(refusal.into())
                }
            };
        }
        let place = view.table.place_of(class);
        match self.fresh(&place, (hash, key), now, |found| text_of(found).map(show)) {
            Some(Some(shown)) => {
                view.count_hit(class);
                Lent::Hit(shown)
            }
            Some(None) => {
                place.counters.negative.inc();
                Lent::Absent
            }
            None => Lent::Ask,
        }
    }

    /// Shows the copy of `key`, which is of the class at `place`, if it may be answered: *the class's
    /// bus has proven that nothing is missed, the copy is younger than the class's rules allow, and it
    /// hasn't expired*. The copy may say that there is no such key.
    #[inline]
    pub(super) fn fresh<T>(
        &self,
        place: &Place<'_>,
        (hash, key): (Hash, &[u8]),
        now: Moment,
        show: impl FnOnce(cache::Lent<'_>) -> T,
    ) -> Option<T> {
        if !self.is_proven(place.class, now.age) {
            return None;
        }
        let shown = place.cache.with(hash, key, |found| {
            let filled_at = found.meta.origin.unwrap_or_default().filled_at;
            let is_plain = now.age.saturating_sub(filled_at) < place.class.lifetime.plain
                && !matches!(found.payload, Payload::Object(_))
                && !found.meta.is_expired(now.unix);
            let answered = is_plain || self.look_closer(place, (hash, key), found, now);
            answered.then(|| show(found))
        });
        shown.flatten()
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
