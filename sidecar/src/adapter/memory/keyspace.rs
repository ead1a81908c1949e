//! The keys of the memory storage: what is under each, of which type, and until when.
//!
//! Plain and synchronous: who uses it has it locked, and nothing here waits. What a key holds is
//! read as the type that the command is about, else it is refused; a collection that is left empty
//! goes with its key.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::WhenFull;
use super::collection::{Collection, Kind, Typed};
use super::waiting::Waiting;
use crate::adapter::mutation::Change;
use crate::adapter::{Applied, Current, Mutation, SetCondition, StorageError, UnixMillis, Value};
use crate::cache::store::{
    Figures, Found, Hash, Hasher, Meta, NoRoom, Owned, Payload, Store, Text, View,
};

/// Why something isn't done. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The key holds another type.
    #[error("WRONGTYPE Operation against a key holding the wrong kind of value")]
    WrongType,
    /// The memory is full.
    #[error("OOM command not allowed when used memory > 'maxmemory'.")]
    NoRoom,
}

impl From<NoRoom> for Refusal {
    fn from(NoRoom: NoRoom) -> Self {
        Self::NoRoom
    }
}

impl From<Refusal> for StorageError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal.to_string())
    }
}

/// What a write has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written<'a> {
    /// This key.
    Key(&'a [u8]),
    /// All keys.
    Everything,
}

/// Is told of every write and of every key that ends, under the keyspace's lock: it neither waits nor
/// comes back here.
pub type Observer = Arc<dyn Fn(Written<'_>) + Send + Sync>;

/// How many entries a write looks at for what has expired.
const SWEEP: usize = 16;
/// The same for a count of the keys, which is to be right where there are few.
const COUNT_SWEEP: usize = 1024;

/// See the module.
pub struct Keyspace {
    store: Store<Collection>,
    when_full: WhenFull,
    now: UnixMillis,
    watched: HashMap<Box<[u8]>, Watched, RandomState>,
    last_version: u64,
    observer: Option<Observer>,
    pub(super) waiting: Waiting,
}

/// A key whose writes somebody wants to know of.
#[derive(Debug)]
struct Watched {
    by: usize,
    version: u64,
}

impl Keyspace {
    pub(super) fn new(limit: usize, when_full: WhenFull) -> Self {
        Self {
            store: Store::new(Hasher::of_process(), limit, when_full),
            when_full,
            now: 0,
            watched: HashMap::default(),
            last_version: 0,
            observer: None,
            waiting: Waiting::default(),
        }
    }

    /// It is now that time.
    pub(super) fn set_now(&mut self, now: UnixMillis) {
        self.now = now;
    }

    /// The time of this moment's work.
    pub fn now(&self) -> UnixMillis {
        self.now
    }

    pub(super) fn observe(&mut self, observer: Observer) {
        self.observer = Some(observer);
        self.observe_ends();
    }

    fn observe_ends(&mut self) {
        if let Some(observer) = self.observer.clone() {
            self.store.on_end(Box::new(move |key| observer(Written::Key(key))));
        }
    }

    fn find(&mut self, key: &[u8]) -> Option<Found<'_, Collection>> {
        self.store.get(self.store.hash(key), key, self.now)
    }

    fn peek(&self, key: &[u8]) -> Option<Found<'_, Collection>> {
        self.store.peek(self.store.hash(key), key, self.now)
    }

    /// Has the processor fetch what looking up keys of these hashes will read.
    #[inline]
    pub fn prefetch(&self, hashes: &[Hash]) {
        hashes.iter().for_each(|hash| self.store.prefetch(*hash));
        hashes.iter().for_each(|hash| self.store.prefetch_entry(*hash));
    }

    /// Shows the string under `key`, whose hash is `hash`.
    #[inline]
    pub fn lend<T>(
        &mut self,
        hash: Hash,
        key: &[u8],
        show: impl FnOnce(Text<'_>) -> T,
    ) -> Result<Option<T>, Refusal> {
        match self.store.read(hash, key, self.now) {
            Some(payload) => payload.text().map(show).map(Some).ok_or(Refusal::WrongType),
            None => Ok(None),
        }
    }

    /// Puts a string under `key`, whose hash is `hash`, in place of what is there.
    #[inline]
    pub fn overwrite(
        &mut self,
        hash: Hash,
        key: &[u8],
        text: &[u8],
        expires_at: Option<UnixMillis>,
    ) -> Result<(), Refusal> {
        self.expire_some(SWEEP);
        let meta = Meta { expires_at, origin: None };
        self.store.insert(hash, key, Payload::Bytes(text), meta, self.now)?;
        self.wrote(key);
        Ok(())
    }

    /// See [`super::MemoryAdapter::set_limit`].
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.store.set_limit(limit, self.now);
    }

    /// Whether `key` is there.
    pub fn contains(&mut self, key: &[u8]) -> bool {
        self.find(key).is_some()
    }

    /// The type of what is under `key`.
    pub fn kind(&self, key: &[u8]) -> Option<Kind> {
        self.peek(key).map(|found| match found.payload {
            View::Bytes(_) | View::Integer(_) => Kind::String,
            View::Object(collection) => collection.kind(),
        })
    }

    /// When `key` ends: `None` if there is no such key, `Some(None)` if it stays.
    pub fn expires_at(&self, key: &[u8]) -> Option<Option<UnixMillis>> {
        self.peek(key).map(|found| found.meta.expires_at)
    }

    /// The string under `key`.
    pub fn string(&mut self, key: &[u8]) -> Result<Option<Cow<'_, [u8]>>, Refusal> {
        self.find(key).map(|found| text(found.payload)).transpose()
    }

    /// The string under `key` with its expiry.
    pub fn value(&mut self, key: &[u8]) -> Result<Option<Value>, Refusal> {
        let Some(Found { payload, meta }) = self.find(key) else {
            return Ok(None);
        };
        let data = match text(payload)? {
            Cow::Borrowed(text) => Bytes::copy_from_slice(text),
            Cow::Owned(text) => text.into(),
        };
        Ok(Some(Value { data, expires_at: meta.expires_at, version: 0 }))
    }

    /// The collection under `key`.
    pub fn collection<C: Typed>(&mut self, key: &[u8]) -> Result<Option<&C>, Refusal> {
        self.find(key).map(|found| typed(found.payload)).transpose()
    }

    /// The same, which doesn't count as used: for commands that look at several keys at once.
    pub fn peek_collection<C: Typed>(&self, key: &[u8]) -> Result<Option<&C>, Refusal> {
        self.peek(key).map(|found| typed(found.payload)).transpose()
    }

    /// A collection of any type; none for a string.
    pub fn any_collection(&self, key: &[u8]) -> Option<&Collection> {
        match self.peek(key)?.payload {
            View::Object(collection) => Some(collection),
            View::Bytes(_) | View::Integer(_) => None,
        }
    }

    /// Puts a string under `key`, in place of what is there.
    pub fn put_string(
        &mut self,
        key: &[u8],
        text: &[u8],
        expires_at: Option<UnixMillis>,
    ) -> Result<(), Refusal> {
        self.put(key, Payload::Bytes(text), expires_at)
    }

    /// Puts a collection under `key`, in place of what is there; an empty one is no key.
    pub fn put_collection(
        &mut self,
        key: &[u8],
        collection: impl Into<Collection>,
    ) -> Result<(), Refusal> {
        let collection = collection.into();
        if collection.is_empty() {
            self.remove(key);
            return Ok(());
        }
        self.put(key, Payload::Object(collection), None)
    }

    fn put(
        &mut self,
        key: &[u8],
        payload: Payload<'_, Collection>,
        expires_at: Option<UnixMillis>,
    ) -> Result<(), Refusal> {
        let meta = Meta { expires_at, origin: None };
        self.store.insert(self.store.hash(key), key, payload, meta, self.now)?;
        self.wrote(key);
        Ok(())
    }

    /// Changes the collection under `key`, or a new one. If `change` fails it has changed nothing.
    pub fn change<C: Typed, T, E: From<Refusal>>(
        &mut self,
        key: &[u8],
        change: impl FnOnce(&mut C) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut change = Some(change);
        let found = self.change_found(key, |collection: &mut C| match change.take() {
            Some(change) => change(collection),
            None => Err(Refusal::WrongType.into()),
        })?;
        match (found, change) {
            (Some(result), _) => Ok(result),
            (None, Some(change)) => {
                let mut collection = C::default();
                let result = change(&mut collection)?;
                if !collection.is_empty() {
                    let payload = Payload::Object(collection.into_collection());
                    self.put(key, payload, None).map_err(E::from)?;
                }
                Ok(result)
            }
            (None, None) => Err(Refusal::WrongType.into()),
        }
    }

    /// Changes the collection under `key`; nothing if there is none.
    pub fn change_found<C: Typed, T, E: From<Refusal>>(
        &mut self,
        key: &[u8],
        change: impl FnOnce(&mut C) -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        let hash = self.store.hash(key);
        let changed = self
            .store
            .with_object(hash, key, self.now, |collection| C::of_mut(collection).map(change));
        match changed {
            Ok(None) => Ok(None),
            Ok(Some(Some(result))) => {
                let result = result?;
                self.wrote(key);
                Ok(Some(result))
            }
            Ok(Some(None)) | Err(_) => Err(Refusal::WrongType.into()),
        }
    }

    /// Removes `key`; whether it was there.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        let removed = self.store.remove(self.store.hash(key), key, self.now);
        if removed {
            self.wrote(key);
        }
        removed
    }

    /// Gives `key` another end, which may be past, or none; whether the key is there.
    pub fn set_expiry(&mut self, key: &[u8], at: Option<UnixMillis>) -> Result<bool, Refusal> {
        if at.is_some_and(|at| at <= self.now) {
            return Ok(self.remove(key));
        }
        let there = self.store.set_expiry(self.store.hash(key), key, at, self.now)?;
        if there {
            self.wrote(key);
        }
        Ok(there)
    }

    /// Moves what is under `from` to `to`, in place of what is there; whether there was anything.
    pub fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<bool, Refusal> {
        let (from_hash, to_hash) = (self.store.hash(from), self.store.hash(to));
        let moved = self.store.rename((from_hash, from), (to_hash, to), self.now)?;
        if moved {
            self.wrote(from);
            self.wrote(to);
        }
        Ok(moved)
    }

    /// Copies what is under `from`, its end included, to `to`, in place of what is there; whether
    /// there was anything.
    pub fn copy(&mut self, from: &[u8], to: &[u8]) -> Result<bool, Refusal> {
        let Some(Found { payload, meta }) = self.peek(from) else {
            return Ok(false);
        };
        let copied = match payload {
            View::Bytes(text) => Owned::Bytes(text.into()),
            View::Integer(number) => Owned::Integer(number),
            View::Object(collection) => Owned::Object(collection.clone()),
        };
        copied.with_payload(|payload| self.put(to, payload, meta.expires_at))?;
        Ok(true)
    }

    /// Does `mutation` to `key`.
    pub fn apply(&mut self, key: &[u8], mutation: &Mutation) -> Result<Applied, StorageError> {
        self.expire_some(SWEEP);
        if self.any_collection(key).is_some() {
            return self.apply_to_collection(key, mutation);
        }
        let before = self.value(key)?;
        let mut effect = mutation.apply(before.as_ref(), self.now)?;
        match &mut effect.change {
            Change::Nothing => {}
            Change::Remove => drop(self.remove(key)),
            Change::Put { data, expires_at } => {
                // The caller's bytes may be a slice of a greater buffer, which the reply must not
                // hold on to.
                if let Mutation::Set { .. } = mutation {
                    *data = Bytes::copy_from_slice(data);
                }
                self.put_string(key, data, *expires_at)?;
            }
        }
        Ok(effect.stored(before, 0))
    }

    /// What a mutation does to a key that holds no string: only a SET without GET and an expiry
    /// take it as it is.
    fn apply_to_collection(
        &mut self,
        key: &[u8],
        mutation: &Mutation,
    ) -> Result<Applied, StorageError> {
        let expires_at = self.expires_at(key).flatten();
        let done = match mutation {
            Mutation::Set { get: false, condition: SetCondition::IfAbsent, .. } => false,
            Mutation::Set { data, get: false, expiry, .. } => {
                match expiry.resolve(expires_at) {
                    Some(at) if at <= self.now => drop(self.remove(key)),
                    at => self.put_string(key, data, at)?,
                }
                true
            }
            Mutation::Expire { at, condition } => {
                let holds = condition.holds(expires_at, *at);
                if holds {
                    self.set_expiry(key, *at)?;
                }
                holds
            }
            Mutation::Set { get: true, .. }
            | Mutation::Delete
            | Mutation::GetExpire { .. }
            | Mutation::Add(_)
            | Mutation::Append(_) => return Err(Refusal::WrongType.into()),
        };
        Ok(Applied { done, previous: None, number: 0, current: Current::Unknown })
    }

    /// Sets all of `pairs`, or none.
    pub fn put_strings<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        pairs: &[(K, V)],
    ) -> Result<(), Refusal> {
        self.expire_some(SWEEP);
        if let [(key, data)] = pairs {
            return self.put_string(key.as_ref(), data.as_ref(), None);
        }
        // More than it will take, since some may be there already: near the limit all is refused
        // rather than a part done.
        let bytes = pairs.iter().map(|(key, data)| entry_size(key.as_ref(), data.as_ref())).sum();
        self.make_room(bytes)?;
        for (key, data) in pairs {
            self.put_string(key.as_ref(), data.as_ref(), None)?;
        }
        Ok(())
    }

    /// Has room for about `bytes` more, or refuses.
    pub fn make_room(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.expire_some(SWEEP);
        Ok(self.store.make_room(bytes, self.now)?)
    }

    /// Looks at about `budget` entries, the next after those of the last call, and frees those that
    /// have ended; how many.
    pub fn expire_some(&mut self, budget: usize) -> usize {
        self.store.expire_some(self.now, budget)
    }

    /// No key ends before this time, by what is known; `None` if none ends at all.
    pub fn next_end(&self) -> Option<UnixMillis> {
        self.store.next_end()
    }

    /// Shows about `count` keys with their types; the cursor of the next page.
    pub fn scan(&self, cursor: u64, count: usize, mut show: impl FnMut(&[u8], Kind)) -> u64 {
        self.store.scan(cursor, count, self.now, |key, found| {
            let kind = match found.payload {
                View::Bytes(_) | View::Integer(_) => Kind::String,
                View::Object(collection) => collection.kind(),
            };
            show(key, kind);
        })
    }

    /// A key, chosen by `random`.
    pub fn random_key(&self, random: u64) -> Option<&[u8]> {
        self.store.random_key(random, self.now)
    }

    /// How many keys there are. Where there are many, some that have expired may be counted.
    pub fn count(&mut self) -> usize {
        // The second begins a round anew if the first came to the end of one.
        for _ in 0..2 {
            if self.store.figures().expiring > 0 {
                self.expire_some(COUNT_SWEEP);
            }
        }
        self.store.len()
    }

    /// What happens when the limit is reached.
    pub fn when_full(&self) -> WhenFull {
        self.when_full
    }

    /// What it holds.
    pub fn figures(&self) -> Figures {
        self.store.figures()
    }

    /// About how many bytes a key and what is under it take.
    pub fn bytes_of(&self, key: &[u8]) -> Option<usize> {
        let payload = match self.peek(key)?.payload {
            View::Bytes(text) => text.len(),
            View::Integer(_) => 0,
            View::Object(collection) => collection.bytes(),
        };
        Some(entry_size(key, &[]) + payload)
    }

    /// The name of Redis' encoding of what is under `key`.
    pub fn encoding(&self, key: &[u8]) -> Option<&'static str> {
        /// The longest string that Redis keeps in one piece with its head.
        const EMBEDDED: usize = 44;
        Some(match self.peek(key)?.payload {
            View::Integer(_) => "int",
            View::Bytes(text) if text.len() <= EMBEDDED => "embstr",
            View::Bytes(_) => "raw",
            View::Object(collection) => collection.encoding(),
        })
    }

    /// Forgets every key. What they held is given back, to be dropped where nobody waits for it.
    pub(super) fn flush(&mut self) -> impl Sized + use<> {
        if let Some(observer) = &self.observer {
            observer(Written::Everything);
        }
        for (key, watched) in &mut self.watched {
            // One that isn't there isn't touched. One that has expired is seen, as before all time.
            if self.store.peek(self.store.hash(key), key, 0).is_some() {
                self.last_version += 1;
                watched.version = self.last_version;
            }
        }
        let fresh = Store::new(Hasher::of_process(), self.store.limit(), self.when_full);
        let gone = std::mem::replace(&mut self.store, fresh);
        self.observe_ends();
        gone
    }

    /// From now on [`Keyspace::version`] knows of the writes to `key`, until as many calls of
    /// [`Keyspace::unwatch`]; its version now.
    pub fn watch(&mut self, key: &[u8]) -> u64 {
        let version = self.last_version;
        let watched = self.watched.entry(key.into()).or_insert_with(|| Watched { by: 0, version });
        watched.by += 1;
        watched.version
    }

    /// Ends one [`Keyspace::watch`].
    pub fn unwatch(&mut self, key: &[u8]) {
        if let Some(watched) = self.watched.get_mut(key) {
            watched.by -= 1;
            if watched.by == 0 {
                self.watched.remove(key);
            }
        }
    }

    /// The version of a watched key: another one after each write.
    pub fn version(&self, key: &[u8]) -> Option<u64> {
        self.watched.get(key).map(|watched| watched.version)
    }

    /// *Every write comes by here.*
    fn wrote(&mut self, key: &[u8]) {
        if let Some(observer) = &self.observer {
            observer(Written::Key(key));
        }
        if !self.waiting.is_empty() {
            self.waiting.wrote(key);
        }
        if self.watched.is_empty() {
            return;
        }
        self.last_version += 1;
        if let Some(watched) = self.watched.get_mut(key) {
            watched.version = self.last_version;
        }
    }
}

impl fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyspace").field("figures", &self.figures()).finish_non_exhaustive()
    }
}

/// About what a string takes under its key.
fn entry_size(key: &[u8], data: &[u8]) -> usize {
    /// What an entry takes besides the bytes of both.
    const OVERHEAD: usize = 40;
    key.len() + data.len() + OVERHEAD
}

fn text(payload: View<'_, Collection>) -> Result<Cow<'_, [u8]>, Refusal> {
    match payload {
        View::Bytes(text) => Ok(Cow::Borrowed(text)),
        View::Integer(number) => Ok(Cow::Owned(number.to_string().into_bytes())),
        View::Object(_) => Err(Refusal::WrongType),
    }
}

fn typed<C: Typed>(payload: View<'_, Collection>) -> Result<&C, Refusal> {
    match payload {
        View::Object(collection) => C::of(collection).ok_or(Refusal::WrongType),
        View::Bytes(_) | View::Integer(_) => Err(Refusal::WrongType),
    }
}
