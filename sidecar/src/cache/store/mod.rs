//! A bounded table of keys: the one structure behind the guarded copies and the memory storage.
//!
//! It has one owner, who locks it if threads meet. Time comes in as a parameter. Every byte that it
//! holds is counted as the allocator rounds it, and the sum is never above the limit, but for an
//! object that grew in the hands of its user (see [`Store::make_room`]).
// Hashes are cut into pieces here; what is cut off is cut off on purpose.
#![allow(clippy::cast_possible_truncation)]

use std::fmt;

use crate::adapter::UnixMillis;

mod entry;
mod eviction;
mod fifo;
mod ghosts;
mod hash;
mod page;
mod payload;
mod prefetch;
mod size;
mod table;

use entry::{Entry, Shape, Slot};
use eviction::Eviction;
use table::{Position, Spot, Table};

pub use hash::{Hash, Hasher};
pub use payload::{
    Found, Meta, NoObject, Origin, Owned, Payload, Text, View, Weigh, canonical_integer,
};
pub use size::allocated;

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
    limit: usize,
    table: Table<O>,
    /// `None` where what doesn't fit is refused.
    eviction: Option<Eviction>,
    /// Bytes of entries and objects.
    entry_bytes: usize,
    expiring: usize,
    evicted: u64,
    expired: u64,
    walk: Walk,
    /// Is told of each key that is freed because it has ended.
    on_end: Option<OnEnd>,
}

/// Is told of keys, under the lock of the store's owner.
pub type OnEnd = Box<dyn Fn(&[u8]) + Send + Sync>;

/// The walk in search of what has expired, round and round.
#[derive(Clone, Copy, Debug)]
struct Walk {
    at: Position,
    /// No entry ends earlier.
    earliest: UnixMillis,
    /// No entry ends earlier that was met, or entered, since this round began.
    earliest_met: UnixMillis,
}

impl Walk {
    const START: Self =
        Self { at: Position::START, earliest: UnixMillis::MAX, earliest_met: UnixMillis::MAX };

    fn note(&mut self, expires_at: UnixMillis) {
        self.earliest = self.earliest.min(expires_at);
        self.earliest_met = self.earliest_met.min(expires_at);
    }
}

/// Entries that a refused insertion looks at, in hope of some that have expired.
const SEARCH: usize = 4096;

/// What an entry costs, an object's own weight included.
fn size<O: Weigh>(entry: &Entry<'_, O>) -> usize {
    let weight = match entry.payload() {
        View::Object(object) => object.weight(),
        View::Bytes(_) | View::Integer(_) => 0,
    };
    entry.cost() + weight
}

impl<O> fmt::Debug for Store<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("limit", &self.limit)
            .field("entries", &self.table.len())
            .finish_non_exhaustive()
    }
}

impl<O: Weigh> Store<O> {
    /// An empty store that takes at most `limit` bytes. All hashes that it is given must come from
    /// `hasher`.
    pub fn new(hasher: Hasher, limit: usize, when_full: WhenFull) -> Self {
        Self {
            limit,
            table: Table::new(hasher),
            eviction: (when_full == WhenFull::Evict).then(Eviction::default),
            entry_bytes: 0,
            expiring: 0,
            evicted: 0,
            expired: 0,
            walk: Walk::START,
            on_end: None,
        }
    }

    /// Has `on_end` told of each key that is freed from now on because it has ended, whoever comes
    /// upon it.
    pub fn on_end(&mut self, on_end: OnEnd) {
        self.on_end = Some(on_end);
    }

    /// The hash of `key`.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> Hash {
        self.table.hasher().hash(key)
    }

    /// Has the processor fetch the line of the table where a key with `hash` is. The first stage of
    /// a batch.
    #[inline]
    pub fn prefetch(&self, hash: Hash) {
        self.table.prefetch(hash.place());
    }

    /// Has the processor fetch the entry that probably is of a key with `hash`. The second stage of
    /// a batch, when the lines of the first have come.
    #[inline]
    pub fn prefetch_entry(&self, hash: Hash) {
        self.table.prefetch_entry(hash.place());
    }

    /// The entry of `key`, which counts as used.
    #[inline]
    pub fn get(&mut self, hash: Hash, key: &[u8], now: UnixMillis) -> Option<Found<'_, O>> {
        self.used(hash, key, now).map(|entry| entry.found())
    }

    /// What is under `key`, which counts as used.
    #[inline]
    pub fn read(&mut self, hash: Hash, key: &[u8], now: UnixMillis) -> Option<View<'_, O>> {
        self.used(hash, key, now).map(|entry| entry.payload())
    }

    #[inline]
    fn used(&mut self, hash: Hash, key: &[u8], now: UnixMillis) -> Option<Entry<'_, O>> {
        let spot = self.live(hash, key, now)?;
        if self.eviction.is_some() {
            self.table.slot_mut(spot).count_use();
        }
        self.table.entry(spot)
    }

    /// The entry of `key`, which doesn't count as used.
    pub fn peek(&self, hash: Hash, key: &[u8], now: UnixMillis) -> Option<Found<'_, O>> {
        let found = self.table.entry(self.table.find(hash.place(), key)?)?.found();
        (!found.meta.is_expired(now)).then_some(found)
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
        let payload = payload.canonical();
        let weight = match &payload {
            Payload::Object(object) => object.weight(),
            Payload::Bytes(_) | Payload::Integer(_) => 0,
        };
        let shape = Shape::new(key.len(), &payload, meta).ok_or(NoRoom)?;
        let bytes = shape.cost::<O>().saturating_add(weight);
        self.make_room_for(hash.place(), key, bytes, 0, now)?;
        if let Some(expires_at) = meta.expires_at {
            self.walk.note(expires_at);
        }
        match self.table.find(hash.place(), key) {
            Some(spot) => self.replace(spot, key, payload, meta),
            None => self.enter(hash.place(), key, payload, meta, bytes),
        }
    }

    fn enter(
        &mut self,
        place: u32,
        key: &[u8],
        payload: Payload<'_, O>,
        meta: Meta,
        bytes: usize,
    ) -> Result<(), NoRoom> {
        let entry = Slot::new(key, payload, meta).ok_or(NoRoom)?;
        self.table.insert(place, entry).map_err(|_| NoRoom)?;
        self.entry_bytes += bytes;
        self.expiring += usize::from(meta.expires_at.is_some());
        let Some(eviction) = &mut self.eviction else { return Ok(()) };
        let marks = eviction.enter(place, bytes);
        if let Some(spot) = self.table.find(place, key) {
            self.table.slot_mut(spot).set_marks(marks);
        }
        let room =
            self.limit.saturating_sub(self.entry_bytes + self.table.cost() + eviction.cost());
        eviction.size_ghosts(self.table.len(), room);
        eviction.sweep(&self.table);
        Ok(())
    }

    fn replace(
        &mut self,
        spot: Spot,
        key: &[u8],
        payload: Payload<'_, O>,
        meta: Meta,
    ) -> Result<(), NoRoom> {
        let Some(entry) = self.table.entry(spot) else { return Ok(()) };
        let (marks, before) = (entry.marks().used(), size(&entry));
        self.expiring -= usize::from(entry.meta().expires_at.is_some());
        let slot = self.table.slot_mut(spot);
        if let Err(payload) = slot.overwrite(payload, meta) {
            *slot = Slot::new(key, payload, meta).ok_or(NoRoom)?;
        }
        slot.set_marks(marks);
        self.expiring += usize::from(meta.expires_at.is_some());
        self.weigh_again(spot, before);
        Ok(())
    }

    /// Accounts for an entry that took `before` bytes.
    fn weigh_again(&mut self, spot: Spot, before: usize) {
        let Some(entry) = self.table.entry(spot) else { return };
        let after = size(&entry);
        self.entry_bytes = self.entry_bytes - before + after;
        if let Some(eviction) = &mut self.eviction {
            eviction.resize(entry.marks(), before, after);
        }
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
        let Some(spot) = self.live(hash, key, now) else { return Ok(None) };
        self.table.slot_mut(spot).count_use();
        let before = self.table.entry(spot).map_or(0, |entry| size(&entry));
        let object = self.table.slot_mut(spot).object_mut().ok_or(NotAnObject)?;
        let result = change(object);
        let is_empty = object.is_empty();
        self.weigh_again(spot, before);
        if is_empty {
            self.remove_at(hash.place(), spot);
        }
        if self.eviction.is_some() {
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
        let Some(spot) = self.live(hash, key, now) else { return Ok(false) };
        if let Some(expires_at) = expires_at {
            self.walk.note(expires_at);
            if self.table.slot_mut(spot).set_end(expires_at) {
                return Ok(true);
            }
        }
        let Some(entry) = self.table.entry(spot) else { return Ok(false) };
        let meta = Meta { expires_at, ..entry.meta() };
        if meta == entry.meta() {
            return Ok(true);
        }
        // The header changes by the eight bytes of the end.
        let grown = size(&entry) + if expires_at.is_some() { 16 } else { 0 };
        self.make_room_for(hash.place(), key, grown, 0, now)?;
        let Some(spot) = self.live(hash, key, now) else { return Ok(false) };
        let Some(entry) = self.table.entry(spot) else { return Ok(false) };
        let (marks, before) = (entry.marks(), size(&entry));
        self.expiring -= usize::from(entry.meta().expires_at.is_some());
        let slot = self.table.slot_mut(spot);
        if let Some((owned, _)) = std::mem::replace(slot, Slot::EMPTY).take() {
            *slot = owned.with_payload(|payload| Slot::new(key, payload, meta)).ok_or(NoRoom)?;
        }
        slot.set_marks(marks);
        self.expiring += usize::from(expires_at.is_some());
        self.weigh_again(spot, before);
        Ok(true)
    }

    /// Removes `key`; whether it was there.
    pub fn remove(&mut self, hash: Hash, key: &[u8], now: UnixMillis) -> bool {
        let spot = self.live(hash, key, now);
        spot.is_some_and(|spot| self.remove_at(hash.place(), spot).is_some())
    }

    /// Removes `key` and gives what was there.
    pub fn take(&mut self, hash: Hash, key: &[u8], now: UnixMillis) -> Option<(Owned<O>, Meta)> {
        let spot = self.live(hash, key, now)?;
        self.remove_at(hash.place(), spot)?.take()
    }

    /// Moves what is under `from`, its end included, to `to`, in place of what is there; whether
    /// there was anything.
    pub fn rename(
        &mut self,
        (from_hash, from): (Hash, &[u8]),
        (to_hash, to): (Hash, &[u8]),
        now: UnixMillis,
    ) -> Result<bool, NoRoom> {
        let Some(spot) = self.live(from_hash, from, now) else { return Ok(false) };
        if from == to {
            return Ok(true);
        }
        let before = self.table.entry(spot).map_or(0, |entry| size(&entry));
        // The header of a longer key may be longer, too, and an allocation is rounded.
        let after = before + to.len().saturating_sub(from.len()) + 32;
        self.make_room_for(to_hash.place(), to, after, before, now)?;
        let Some((owned, meta)) = self.take(from_hash, from, now) else { return Ok(false) };
        owned.with_payload(|payload| self.insert(to_hash, to, payload, meta, now))?;
        Ok(true)
    }

    /// Removes every key. Takes time for each: where that is too long, put a new store in the place
    /// of this one and drop this one elsewhere.
    pub fn clear(&mut self) {
        self.table.clear();
        if let Some(eviction) = &mut self.eviction {
            eviction.release();
        }
        self.entry_bytes = 0;
        self.expiring = 0;
        self.walk = Walk::START;
    }

    /// Frees what has expired and, if the store may, evicts, until `bytes` more fit. To be called
    /// before an object grows by them.
    pub fn make_room(&mut self, bytes: usize, now: UnixMillis) -> Result<(), NoRoom> {
        while self.bytes().saturating_add(bytes) > self.limit {
            self.free_some(now)?;
        }
        Ok(())
    }

    /// Makes room for an entry of `bytes` bytes under `key`, in the table too; `credit` bytes will
    /// have left by then.
    fn make_room_for(
        &mut self,
        place: u32,
        key: &[u8],
        bytes: usize,
        credit: usize,
        now: UnixMillis,
    ) -> Result<(), NoRoom> {
        if bytes > self.limit {
            return Err(NoRoom);
        }
        loop {
            let present = self.table.find(place, key).and_then(|spot| self.table.entry(spot));
            let (less, growth, ticket) = match &present {
                Some(entry) => (size(entry), 0, 0),
                None => (
                    0,
                    self.table.growth(place).unwrap_or(0),
                    self.eviction.as_ref().map_or(0, Eviction::push_cost),
                ),
            };
            let after = self.bytes() + bytes + growth + ticket - less;
            if after.saturating_sub(credit) > self.limit {
                self.free_some(now)?;
            } else if growth > 0 {
                self.table.grow(place);
            } else {
                return Ok(());
            }
        }
    }

    /// Frees an entry or more.
    fn free_some(&mut self, now: UnixMillis) -> Result<(), NoRoom> {
        let Some(eviction) = &mut self.eviction else {
            // The second call begins a round anew if the first came to the end of one.
            let mut search = || self.expire_some(now, SEARCH);
            return if search() + search() > 0 { Ok(()) } else { Err(NoRoom) };
        };
        let Some(victim) = eviction.choose(&mut self.table, self.limit, size) else {
            return if eviction.release() { Ok(()) } else { Err(NoRoom) };
        };
        let gone = self.remove_at(victim.place, victim.spot);
        match gone.as_ref().and_then(Slot::entry) {
            Some(entry) if entry.meta().is_expired(now) => self.count_end(gone.as_ref()),
            _ => self.evicted += 1,
        }
        Ok(())
    }

    /// Takes note of an entry that was freed because it had ended.
    fn count_end(&mut self, gone: Option<&Slot<O>>) {
        self.expired += 1;
        if let (Some(on_end), Some(entry)) = (&self.on_end, gone.and_then(Slot::entry)) {
            on_end(entry.key());
        }
    }

    /// Changes the limit and, if the store may, evicts what is above it.
    pub fn set_limit(&mut self, limit: usize, now: UnixMillis) {
        self.limit = limit;
        // A store that refuses stays above until keys are removed.
        let _ = self.make_room(0, now);
    }

    /// Looks at about `budget` entries, the next after those of the last call, and frees those that
    /// have expired; how many. Returns early at the end of a round, and at once when nothing can have
    /// expired.
    pub fn expire_some(&mut self, now: UnixMillis, budget: usize) -> usize {
        if now < self.walk.earliest {
            return 0;
        }
        let (mut freed, mut looked) = (0, 0);
        while looked < budget {
            let (mut ended, mut met) = (Vec::new(), UnixMillis::MAX);
            looked += 1;
            let next = self.table.visit(self.walk.at, |spot, place, entry| {
                looked += 1;
                match entry.meta().expires_at {
                    Some(at) if at <= now => ended.push((spot, place)),
                    Some(at) => met = met.min(at),
                    None => {}
                }
            });
            self.walk.earliest_met = self.walk.earliest_met.min(met);
            for (spot, place) in &ended {
                let gone = self.unlink(*place, *spot);
                self.count_end(gone.as_ref());
            }
            if let Some((_, place)) = ended.first() {
                self.table.tidy(*place);
            }
            freed += ended.len();
            let Some(next) = next else {
                let earliest = self.walk.earliest_met;
                self.walk = Walk { earliest, ..Walk::START };
                break;
            };
            self.walk.at = next;
        }
        freed
    }

    /// No entry ends before this time, by what is known; `None` if none ends at all. To know it
    /// better takes another round of [`Store::expire_some`].
    pub fn next_end(&self) -> Option<UnixMillis> {
        (self.expiring > 0).then_some(self.walk.earliest)
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
        let Ok(position) = u32::try_from(cursor) else { return 0 };
        let mut position = Position::new(position);
        let (mut shown, mut looked) = (0, 0);
        // Where little is found the page stays short, so that it doesn't take long.
        while shown < count.max(1) && looked < count.saturating_mul(2).max(64) {
            looked += 1;
            let next = self.table.visit(position, |_, _, entry| {
                let found = entry.found();
                if !found.meta.is_expired(now) {
                    shown += 1;
                    show(entry.key(), found);
                }
            });
            let Some(next) = next else { return 0 };
            position = next;
        }
        u64::from(position.get())
    }

    /// A live key, chosen by `random`.
    pub fn random_key(&self, random: u64, now: UnixMillis) -> Option<&[u8]> {
        let start = Position::new((random >> 32) as u32);
        let (mut position, mut wrapped) = (start, false);
        loop {
            let mut keys = Vec::new();
            let next = self.table.visit(position, |_, _, entry| {
                keys.extend((!entry.meta().is_expired(now)).then(|| entry.key()));
            });
            if !keys.is_empty() {
                return Some(keys[random as usize % keys.len()]);
            }
            if wrapped && (next.is_none() || position > start) {
                return None;
            }
            wrapped |= next.is_none();
            position = next.unwrap_or(Position::START);
        }
    }

    /// How many keys there are, those included that have expired and weren't met since.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most bytes that it may take.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.entry_bytes + self.table.cost() + self.eviction.as_ref().map_or(0, Eviction::cost)
    }

    /// What it holds.
    pub fn figures(&self) -> Figures {
        Figures {
            entries: self.len(),
            expiring: self.expiring,
            bytes: self.bytes(),
            evicted: self.evicted,
            expired: self.expired,
        }
    }

    /// Where the entry of `key` is; one that has expired is freed.
    #[inline]
    fn live(&mut self, hash: Hash, key: &[u8], now: UnixMillis) -> Option<Spot> {
        let spot = self.table.find(hash.place(), key)?;
        if self.table.entry(spot)?.expires_at().is_some_and(|at| at <= now) {
            self.end(hash.place(), spot);
            return None;
        }
        Some(spot)
    }

    #[cold]
    fn end(&mut self, place: u32, spot: Spot) {
        let gone = self.remove_at(place, spot);
        self.count_end(gone.as_ref());
    }

    fn remove_at(&mut self, place: u32, spot: Spot) -> Option<Slot<O>> {
        let gone = self.unlink(place, spot)?;
        self.table.tidy(place);
        if let Some(eviction) = &mut self.eviction {
            eviction.sweep(&self.table);
        }
        Some(gone)
    }

    /// Takes an entry out, and leaves all others where they are.
    fn unlink(&mut self, place: u32, spot: Spot) -> Option<Slot<O>> {
        let gone = self.table.remove(place, spot);
        let entry = gone.entry()?;
        let bytes = size(&entry);
        self.entry_bytes -= bytes;
        self.expiring -= usize::from(entry.meta().expires_at.is_some());
        if let Some(eviction) = &mut self.eviction {
            eviction.leave(entry.marks(), bytes);
        }
        Some(gone)
    }
}

#[cfg(test)]
mod histories;
#[cfg(any(test, fuzzing))]
pub(crate) mod model;
#[cfg(test)]
mod tests;
