//! A bounded table of keys: the one structure behind the guarded copies and the memory storage.
//!
//! It has one owner, who locks it if threads meet. Time comes in as a parameter. Every byte that it
//! holds is counted as the allocator rounds it, and the sum is never above the limit, but for an
//! object that grew in the hands of its user (see [`Store::make_room`]).

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

use crate::adapter::UnixMillis;

mod hash;
mod payload;

pub use hash::{Hash, Hasher};
pub use payload::{Found, Meta, NoObject, Origin, Owned, Payload, View, Weigh, canonical_integer};

/// What happens when the limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Entries make room for newer ones.
    Evict,
    /// What doesn't fit is refused.
    Refuse,
}

/// The store is full; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room is left below the limit")]
pub struct NoRoom;

/// The key holds a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key holds a string")]
pub struct NotAnObject;

/// What a store holds, and what has left it by itself since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Entries, those included that have expired and weren't met since.
    pub entries: usize,
    /// Entries that have an end.
    pub expiring: usize,
    /// Bytes, everything included.
    pub bytes: usize,
    /// Entries that had to make room.
    pub evicted: u64,
    /// Entries that were freed because they had ended.
    pub expired: u64,
}

/// See the module.
pub struct Store<O> {
    hasher: Hasher,
    when_full: WhenFull,
    limit: usize,
    items: BTreeMap<(u32, Box<[u8]>), Item<O>>,
    figures: Figures,
}

struct Item<O> {
    payload: Owned<O>,
    meta: Meta,
}

impl<O: Weigh> Item<O> {
    fn size(&self, key: &[u8]) -> usize {
        40 + key.len()
            + match &self.payload {
                Owned::Bytes(bytes) => bytes.len(),
                Owned::Integer(_) => 0,
                Owned::Object(object) => object.weight(),
            }
    }

    fn found(&self) -> Found<'_, O> {
        let payload = match &self.payload {
            Owned::Bytes(bytes) => View::Bytes(bytes),
            Owned::Integer(integer) => View::Integer(*integer),
            Owned::Object(object) => View::Object(object),
        };
        Found { payload, meta: self.meta }
    }
}

impl<O> fmt::Debug for Store<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("when_full", &self.when_full)
            .field("limit", &self.limit)
            .field("figures", &self.figures)
            .finish_non_exhaustive()
    }
}

impl<O: Weigh> Store<O> {
    /// An empty store that takes at most `limit` bytes. All hashes that it is given must come from
    /// `hasher`.
    pub fn new(hasher: Hasher, limit: usize, when_full: WhenFull) -> Self {
        let items = BTreeMap::new();
        Self { hasher, when_full, limit, items, figures: Figures::default() }
    }

    /// The hash of `key`.
    pub fn hash(&self, key: &[u8]) -> Hash {
        self.hasher.hash(key)
    }

    /// Has the processor fetch the line of the table where a key with `hash` is. The first stage of
    /// a batch.
    pub fn prefetch(&self, _hash: Hash) {}

    /// Has the processor fetch the entry that probably is of a key with `hash`. The second stage of
    /// a batch, when the lines of the first have come.
    pub fn prefetch_entry(&self, _hash: Hash) {}

    /// The entry of `key`, which counts as used.
    pub fn get(&mut self, hash: Hash, key: &[u8], now: UnixMillis) -> Option<Found<'_, O>> {
        self.expire(hash, key, now);
        self.peek(hash, key, now)
    }

    /// The entry of `key`, which doesn't count as used.
    pub fn peek(&self, hash: Hash, key: &[u8], now: UnixMillis) -> Option<Found<'_, O>> {
        let item = self.items.get(&(hash.place(), key.into()))?;
        (!item.meta.is_expired(now)).then(|| item.found())
    }

    /// Puts `payload` under `key`, in place of what is there.
    pub fn insert(
        &mut self,
        hash: Hash,
        key: &[u8],
        payload: Payload<'_, O>,
        meta: Meta,
        now: UnixMillis,
    ) -> Result<(), NoRoom> {
        let payload = match payload.canonical() {
            Payload::Bytes(bytes) => Owned::Bytes(bytes.into()),
            Payload::Integer(integer) => Owned::Integer(integer),
            Payload::Object(object) => Owned::Object(object),
        };
        let item = Item { payload, meta };
        let size = item.size(key);
        let present = self.items.get(&(hash.place(), key.into())).map_or(0, |item| item.size(key));
        self.make_room_beside(size.saturating_sub(present), Some((hash, key)), now)?;
        self.remove_item(hash, key);
        self.figures.bytes += size;
        self.figures.entries += 1;
        self.figures.expiring += usize::from(meta.expires_at.is_some());
        self.items.insert((hash.place(), key.into()), item);
        Ok(())
    }

    /// Lends the object under `key` to `change`, weighs it again, and removes the key if the object
    /// is left empty. The entry counts as used.
    pub fn with_object<R>(
        &mut self,
        hash: Hash,
        key: &[u8],
        now: UnixMillis,
        change: impl FnOnce(&mut O) -> R,
    ) -> Result<Option<R>, NotAnObject> {
        self.expire(hash, key, now);
        let Some(item) = self.items.get_mut(&(hash.place(), key.into())) else { return Ok(None) };
        let before = item.size(key);
        let Owned::Object(object) = &mut item.payload else { return Err(NotAnObject) };
        let result = change(object);
        let is_empty = object.is_empty();
        self.figures.bytes = (self.figures.bytes - before) + item.size(key);
        if is_empty {
            self.remove_item(hash, key);
        }
        if self.when_full == WhenFull::Evict {
            // What can't be evicted is above the limit only if it is the object itself.
            let _ = self.make_room(0, now);
        }
        Ok(Some(result))
    }

    /// Gives `key` another end, or none; whether the key is there.
    pub fn set_expiry(
        &mut self,
        hash: Hash,
        key: &[u8],
        expires_at: Option<UnixMillis>,
        now: UnixMillis,
    ) -> Result<bool, NoRoom> {
        self.expire(hash, key, now);
        let Some(item) = self.items.get_mut(&(hash.place(), key.into())) else { return Ok(false) };
        self.figures.expiring -= usize::from(item.meta.expires_at.is_some());
        self.figures.expiring += usize::from(expires_at.is_some());
        item.meta.expires_at = expires_at;
        Ok(true)
    }

    /// Removes `key`; whether it was there.
    pub fn remove(&mut self, hash: Hash, key: &[u8], now: UnixMillis) -> bool {
        self.expire(hash, key, now);
        self.remove_item(hash, key).is_some()
    }

    /// Removes `key` and gives what was there.
    pub fn take(&mut self, hash: Hash, key: &[u8], now: UnixMillis) -> Option<(Owned<O>, Meta)> {
        self.expire(hash, key, now);
        self.remove_item(hash, key).map(|item| (item.payload, item.meta))
    }

    /// Moves what is under `from`, its end included, to `to`, in place of what is there; whether
    /// there was anything.
    pub fn rename(
        &mut self,
        (from_hash, from): (Hash, &[u8]),
        (to_hash, to): (Hash, &[u8]),
        now: UnixMillis,
    ) -> Result<bool, NoRoom> {
        if from == to {
            return Ok(self.get(from_hash, from, now).is_some());
        }
        self.make_room(to.len(), now)?;
        let Some((payload, meta)) = self.take(from_hash, from, now) else { return Ok(false) };
        payload.with_payload(|payload| self.insert(to_hash, to, payload, meta, now))?;
        Ok(true)
    }

    /// Removes every key. Takes time for each: where that is too long, put a new store in the place
    /// of this one and drop this one elsewhere.
    pub fn clear(&mut self) {
        self.items.clear();
        self.figures = Figures {
            evicted: self.figures.evicted,
            expired: self.figures.expired,
            ..Figures::default()
        };
    }

    /// Frees what has expired and, if the store may, evicts, until `bytes` more fit. To be called
    /// before an object grows by them.
    pub fn make_room(&mut self, bytes: usize, now: UnixMillis) -> Result<(), NoRoom> {
        self.make_room_beside(bytes, None, now)
    }

    fn make_room_beside(
        &mut self,
        bytes: usize,
        beside: Option<(Hash, &[u8])>,
        now: UnixMillis,
    ) -> Result<(), NoRoom> {
        if bytes > self.limit {
            return Err(NoRoom);
        }
        if self.figures.bytes + bytes > self.limit {
            self.expire_some(now, usize::MAX);
        }
        while self.figures.bytes + bytes > self.limit {
            let others = |(place, key): &(u32, Box<[u8]>)| {
                beside.is_none_or(|(hash, beside)| *place != hash.place() || **key != *beside)
            };
            let victim = self.items.keys().find(|key| others(key)).cloned();
            let Some((place, key)) = victim.filter(|_| self.when_full == WhenFull::Evict) else {
                return Err(NoRoom);
            };
            self.remove_at(place, &key);
            self.figures.evicted += 1;
        }
        Ok(())
    }

    /// Changes the limit and, if the store may, evicts what is above it.
    pub fn set_limit(&mut self, limit: usize, now: UnixMillis) {
        self.limit = limit;
        // A store that refuses stays above until keys are removed.
        let _ = self.make_room(0, now);
    }

    /// Looks at about `budget` entries, the next after those of the last call, and frees those that
    /// have expired; how many.
    pub fn expire_some(&mut self, now: UnixMillis, budget: usize) -> usize {
        let expired: Vec<_> = self
            .items
            .iter()
            .take(budget)
            .filter(|(_, item)| item.meta.is_expired(now))
            .map(|(key, _)| key.clone())
            .collect();
        for (place, key) in &expired {
            self.remove_at(*place, key);
        }
        self.figures.expired += expired.len() as u64;
        expired.len()
    }

    /// Shows about `count` live entries, those after `cursor`, and gives the cursor of the next
    /// page; 0 is the first page's, and comes after the last.
    ///
    /// *A key that is there from the first page to the last is shown at least once*, whatever
    /// comes and goes in between. One may be shown twice.
    pub fn scan(
        &self,
        cursor: u64,
        count: usize,
        now: UnixMillis,
        mut show: impl FnMut(&[u8], Found<'_, O>),
    ) -> u64 {
        let Ok(from) = u32::try_from(cursor) else { return 0 };
        let from = (Bound::Included((from, Box::default())), Bound::Unbounded);
        let (mut shown, mut last) = (0, None);
        for ((place, key), item) in self.items.range(from) {
            if shown >= count && last != Some(*place) {
                return u64::from(*place);
            }
            last = Some(*place);
            if !item.meta.is_expired(now) {
                shown += 1;
                show(key, item.found());
            }
        }
        0
    }

    /// A live key, chosen by `random`.
    pub fn random_key(&self, random: u64, now: UnixMillis) -> Option<&[u8]> {
        let from = (Bound::Included(((random >> 32) as u32, Box::default())), Bound::Unbounded);
        let mut items = self.items.range(from).chain(self.items.iter());
        items.find(|(_, item)| !item.meta.is_expired(now)).map(|((_, key), _)| &**key)
    }

    /// How many keys there are, those included that have expired and weren't met since.
    pub fn len(&self) -> usize {
        self.figures.entries
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.figures.entries == 0
    }

    /// The most bytes that it may take.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// What it holds.
    pub fn figures(&self) -> Figures {
        self.figures
    }

    fn expire(&mut self, hash: Hash, key: &[u8], now: UnixMillis) {
        let item = self.items.get(&(hash.place(), key.into()));
        if item.is_some_and(|item| item.meta.is_expired(now)) {
            self.remove_item(hash, key);
            self.figures.expired += 1;
        }
    }

    fn remove_item(&mut self, hash: Hash, key: &[u8]) -> Option<Item<O>> {
        self.remove_at(hash.place(), key)
    }

    fn remove_at(&mut self, place: u32, key: &[u8]) -> Option<Item<O>> {
        let item = self.items.remove(&(place, key.into()))?;
        self.figures.bytes -= item.size(key);
        self.figures.entries -= 1;
        self.figures.expiring -= usize::from(item.meta.expires_at.is_some());
        Some(item)
    }
}

#[cfg(test)]
mod tests;
