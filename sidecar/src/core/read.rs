//! Hits and misses.

use std::sync::Arc;

use super::{Engine, Moment, Table};
use crate::adapter::{Key, Page, Result, Value};
use crate::cache::Entry;
use crate::cache::store::{Found, NoObject};
use crate::metrics::ClassCounters;

impl Engine {
    /// A copy of the value of `key`, if memory may answer it. Counts a hit; `None` says ask
    /// [`Engine::read`]. For `now` see [`Engine::lend`].
    pub fn cached(&self, key: &[u8], now: Moment) -> Option<Value> {
        self.copy(&self.table.load(), key, now)
    }

    /// The values of `keys`, in their order, from memory or from the storage.
    pub async fn read(self: &Arc<Self>, keys: &[Key]) -> Result<Vec<Option<Value>>> {
        if let Some(values) = self.view().read_many_now(keys) {
            return values.into_iter().collect();
        }
        let table = self.table.load_full();
        let now = self.now();
        let mut values: Vec<Option<Value>> =
            keys.iter().map(|key| self.copy(&table, key, now)).collect();
        let missed: Vec<usize> = (0..keys.len()).filter(|&at| values[at].is_none()).collect();
        match missed.as_slice() {
            [] => {}
            [at] => values[*at] = self.load_one(&table, &keys[*at]).await?,
            several => {
                let keys: Vec<Key> = several.iter().map(|&at| keys[at].clone()).collect();
                let loaded = self.load_several(&table, &keys).await?;
                for (&at, value) in several.iter().zip(loaded) {
                    values[at] = value;
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

    fn copy(&self, table: &Table, key: &[u8], now: Moment) -> Option<Value> {
        let (class, counters) = table.of(key);
        let copy = |found: Found<'_, NoObject>| Entry::copy_of(found).value;
        self.fresh(class, (self.hash(key), key), now, copy).inspect(|_| counters.hits.inc())
    }

    async fn load_one(self: &Arc<Self>, table: &Table, key: &Key) -> Result<Option<Value>> {
        let (_, counters) = table.of(key);
        let stamp = self.cache.stamp(key);
        let engine = Arc::clone(self);
        let owned = key.clone();
        let (joined, landing) = self.flights.join_or_start(key, stamp, move || async move {
            let begun = engine.clock.millis();
            let storage = engine.storage();
            let keys = std::slice::from_ref(&owned);
            let value = engine.health.call("get", || storage.get(keys)).await?.pop().flatten();
            if let Some(value) = &value {
                engine.cache.fill(&owned, stamp, value.clone(), begun);
            }
            Ok(value)
        });
        let result = landing.await;
        match &result {
            Ok(_) if joined => counters.coalesced.inc(),
            result => self.count_load(table, key, counters, result),
        }
        result
    }

    async fn load_several(&self, table: &Table, keys: &[Key]) -> Result<Vec<Option<Value>>> {
        let stamps: Vec<_> = keys.iter().map(|key| self.cache.stamp(key)).collect();
        let begun = self.clock.millis();
        let storage = self.storage();
        let loaded = self.health.call("get", || storage.get(keys)).await;
        for (at, key) in keys.iter().enumerate() {
            let result = loaded.as_ref().map(|values| values.get(at).cloned().flatten());
            if let Ok(Some(value)) = &result {
                self.cache.fill(key, stamps[at], value.clone(), begun);
            }
            self.count_load(table, key, table.of(key).1, &result);
        }
        loaded
    }

    fn count_load<E>(
        &self,
        table: &Table,
        key: &[u8],
        counters: &ClassCounters,
        result: &std::result::Result<Option<Value>, E>,
    ) {
        let bypassed = || {
            let (class, _) = table.of(key);
            class.is_distributed() && !self.coherence.is_live(self.clock.millis())
        };
        match result {
            Err(_) => counters.failed.inc(),
            Ok(_) if bypassed() => counters.bypassed.inc(),
            Ok(Some(_)) => counters.loaded.inc(),
            Ok(None) => counters.absent.inc(),
        }
    }
}
