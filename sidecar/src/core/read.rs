//! Hits and misses.
//!
//! A miss waits for the storage as long as its class allows. If the storage fails, or takes longer,
//! the copy that stands in for it is answered where there is one ([`Engine::stand_in`]); the load
//! goes on behind the answer, and what it brings is cached under the guard of every load.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};

use super::flight::Landing;
use super::freshness::is_failure;
use super::history::{Outcome, Why};
use super::{Engine, Moment, Table};
use crate::adapter::{Key, Page, Result, StorageError, Value};
use crate::cache::{Entry, Filling, Millis, Stamp};

/// How a read's answer came.
struct Answered {
    values: Vec<Option<Value>>,
    /// From copies, not from the storage.
    stand_in: bool,
}

impl Engine {
    /// A copy of the value of `key`, if memory may answer it. Counts a hit; `None` says ask
    /// [`Engine::read`]. For `now` see [`Engine::lend`].
    pub fn cached(&self, key: &[u8], now: Moment) -> Option<Value> {
        self.copy(&self.table.load(), key, now)?.value
    }

    /// The values of `keys`, in their order, from memory or from the storage.
    pub async fn read(self: &Arc<Self>, keys: &[Key]) -> Result<Vec<Option<Value>>> {
        if let Some(values) = self.view().read_many_now(keys) {
            return values.into_iter().collect();
        }
        let table = self.table.load_full();
        let now = self.now();
        let mut values = Vec::with_capacity(keys.len());
        let mut missed = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            let copy = self.copy(&table, key, now);
            if copy.is_none() {
                missed.push((at, self.why_not(&table, key, now)));
            }
            values.push(copy.and_then(|copy| copy.value));
        }
        match missed.as_slice() {
            [] => {}
            [(at, why)] => values[*at] = self.load_one(&table, &keys[*at], *why).await?,
            several => {
                let whys: Vec<Why> = several.iter().map(|(_, why)| *why).collect();
                let keys: Vec<Key> = several.iter().map(|(at, _)| keys[*at].clone()).collect();
                let loaded = self.load_several(&table, keys, &whys).await?;
                for ((at, _), value) in several.iter().zip(loaded) {
                    values[*at] = value;
                }
            }
        }
        Ok(values)
    }

    /// A page of keys, from the storage.
    pub async fn scan(&self, cursor: u64, pattern: Option<&[u8]>, count: usize) -> Result<Page> {
        if let Some(page) = self.view().scan_now(cursor, pattern, None, count) {
            return Ok(page);
        }
        let storage = self.storage();
        self.health.call("scan", || storage.scan(cursor, pattern, count)).await
    }

    /// How many keys the storage has.
    pub async fn count(&self) -> Result<u64> {
        if let Some(count) = self.view().count_now() {
            return Ok(count);
        }
        let storage = self.storage();
        self.health.call("count", || storage.count()).await
    }

    /// What memory says of `key`, if it may be answered: its value, or that there is none.
    fn copy(&self, table: &Table, key: &[u8], now: Moment) -> Option<Entry> {
        let place = table.place(key);
        self.fresh(&place, (self.hash(key), key), now, Entry::copy_of).inspect(|copy| {
            let counters = place.counters;
            if copy.value.is_some() { counters.hits.inc() } else { counters.negative.inc() }
        })
    }

    /// Loads `key`, whose reader took `stamp`, or joins the load that is under way at the same stamp;
    /// whether it joined, and what comes of it.
    pub(super) fn fly(
        self: &Arc<Self>,
        key: &Key,
        stamp: Stamp,
    ) -> (bool, Shared<BoxFuture<'static, Landing>>) {
        let engine = Arc::clone(self);
        let owned = key.clone();
        self.flights.join_or_start(key, stamp, move || async move {
            let keys = [owned];
            Ok(engine.load(&keys, &[stamp]).await?.pop().flatten())
        })
    }

    /// Asks the storage for `keys`, and enters what it says if nothing crossed it.
    pub(super) async fn load(&self, keys: &[Key], stamps: &[Stamp]) -> Result<Vec<Option<Value>>> {
        let begun = self.clock.millis();
        let storage = self.storage();
        let loaded = self.health.call("get", || storage.get(keys)).await?;
        for ((key, stamp), value) in keys.iter().zip(stamps).zip(&loaded) {
            self.enter_read(key, *stamp, value.as_ref(), begun);
        }
        Ok(loaded)
    }

    /// *What an invalidation crossed isn't entered*, a value as little as that there is none. And
    /// *what the storage no longer has is kept nowhere*, so that it can't stand in for it later.
    fn enter_read(&self, key: &Key, stamp: Stamp, value: Option<&Value>, at: Millis) {
        let table = self.table.load();
        let place = table.place(key);
        let lifetime = &place.class.lifetime;
        if value.is_none() && !lifetime.keeps_absent() {
            place.cache.drop_absent(key, stamp);
            return;
        }
        let (notes_use, compares) = (lifetime.is_sliding(), lifetime.is_adaptive());
        let filling = Filling { value, at, notes_use, compares };
        place.cache.fill(key, stamp, filling);
    }

    async fn load_one(
        self: &Arc<Self>,
        table: &Table,
        key: &Key,
        why: Why,
    ) -> Result<Option<Value>> {
        let keys = std::slice::from_ref(key);
        let mut joined = false;
        let fly = || {
            let stamp = table.place(key).cache.stamp(key);
            let (has_joined, landing) = self.fly(key, stamp);
            joined = has_joined;
            landing.map(|landed| landed.map(|value| vec![value]))
        };
        let result = self.answer(table, keys, fly).await;
        self.count_read(table, key, why, joined, 0, &result);
        Ok(result?.values.pop().flatten())
    }

    async fn load_several(
        self: &Arc<Self>,
        table: &Table,
        keys: Vec<Key>,
        whys: &[Why],
    ) -> Result<Vec<Option<Value>>> {
        let load = || {
            let stamps: Vec<_> = keys.iter().map(|key| table.place(key).cache.stamp(key)).collect();
            let (engine, keys) = (Arc::clone(self), keys.clone());
            async move { engine.load(&keys, &stamps).await }
        };
        let result = self.answer(table, &keys, load).await;
        for ((at, key), why) in keys.iter().enumerate().zip(whys) {
            self.count_read(table, key, *why, false, at, &result);
        }
        Ok(result?.values)
    }

    /// The values of `keys` by `load`, or by what stands in for all of them: at once where the
    /// storage is known to be away, else when `load` fails or takes longer than a class allows.
    async fn answer<F>(
        &self,
        table: &Table,
        keys: &[Key],
        load: impl FnOnce() -> F,
    ) -> Result<Answered>
    where
        F: Future<Output = Result<Vec<Option<Value>>>> + Send + 'static,
    {
        let from_storage = |values| Answered { values, stand_in: false };
        let stand_ins = || self.stand_ins(table, keys);
        let has_stand_ins = stand_ins().is_some();
        if has_stand_ins
            && self.health.error().is_some()
            && let Some(answered) = stand_ins()
        {
            return Ok(answered);
        }
        let patience = |has_stand_in| {
            keys.iter().filter_map(|key| table.of(key).0.patience(has_stand_in)).min()
        };
        let (first, at_most) = (patience(has_stand_ins), patience(false));
        if first.is_none() {
            return match load().await {
                Err(error) if is_failure(&error) => stand_ins().ok_or(error),
                loaded => loaded.map(from_storage),
            };
        }
        // It goes on when nobody waits for it any longer.
        let mut loading = tokio::spawn(load());
        let mut waited = Duration::ZERO;
        for patience in [first, at_most] {
            let landed = match patience {
                Some(patience) => {
                    let more = patience.saturating_sub(waited);
                    waited = patience;
                    tokio::time::timeout(more, &mut loading).await.ok()
                }
                None => Some((&mut loading).await),
            };
            match landed.map(|ended| ended.unwrap_or_else(|error| Err(broken(&error)))) {
                Some(Err(error)) if is_failure(&error) => return stand_ins().ok_or(error),
                Some(loaded) => return loaded.map(from_storage),
                None => {
                    if let Some(answered) = stand_ins() {
                        return Ok(answered);
                    }
                }
            }
        }
        let cause = format!("no answer within the class's hardTimeout, {waited:?}");
        Err(StorageError::Unavailable { kind: self.storage.load().kind(), cause })
    }

    /// What stands in for the storage, if something does for each of `keys`. *Looked up when it is
    /// answered, not before*: an invalidation may have come while the storage was waited for.
    fn stand_ins(&self, table: &Table, keys: &[Key]) -> Option<Answered> {
        let now = self.now();
        let stand_in = |key: &Key| self.stand_in(&table.place(key), key, now).map(Some);
        let values = keys.iter().map(stand_in).collect::<Option<_>>()?;
        Some(Answered { values, stand_in: true })
    }

    fn count_read(
        &self,
        table: &Table,
        key: &[u8],
        why: Why,
        joined: bool,
        at: usize,
        result: &Result<Answered>,
    ) {
        let counters = table.of(key).1;
        let (outcome, counter) = match result {
            Err(_) => (Outcome::Failed, &counters.failed),
            Ok(answered) if answered.stand_in => (Outcome::Stale, &counters.stale),
            Ok(_) if joined => (Outcome::Coalesced, &counters.coalesced),
            Ok(answered) => {
                let is_there = answered.values.get(at).is_some_and(Option::is_some);
                let counted = if is_there { &counters.loaded } else { &counters.absent };
                let outcome = if is_there { Outcome::Loaded } else { Outcome::Absent };
                (outcome, if why == Why::Unproven { &counters.bypassed } else { counted })
            }
        };
        counter.inc();
        self.history.missed(self.hash(key), why, outcome, self.clock.millis());
    }
}

fn broken(error: &tokio::task::JoinError) -> StorageError {
    StorageError::Unavailable { kind: "storage", cause: error.to_string() }
}
