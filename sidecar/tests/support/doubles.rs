//! A storage and a bus that do as a test tells them, for the core's rules under faults.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};
use warp_crds::pattern::glob_match;
use warp_sidecar::adapter::{
    Applied, Current, Key, Mutation, Page, Result, Storage, StorageError, StorageEvent, UnixMillis,
    Value,
};
use warp_sidecar::sync_bus::{
    BusEvent, ChannelMessage, Invalidation, NotTold, PublishError, SyncBus,
};

/// Strings in a map. Every call waits at the gate, and fails while failures are queued.
#[derive(Debug)]
pub struct ScriptedStorage {
    pub values: Mutex<HashMap<Key, Bytes>>,
    pub gate: Semaphore,
    pub failures: Mutex<VecDeque<StorageError>>,
    /// When what is read expires.
    pub expires_at: Mutex<Option<UnixMillis>>,
    /// With what every call and probe fails.
    pub away: Mutex<Option<StorageError>>,
    pub calls: AtomicU64,
    version: AtomicU64,
    events: Mutex<Option<mpsc::Receiver<StorageEvent>>>,
    pub feed: mpsc::Sender<StorageEvent>,
}

impl ScriptedStorage {
    pub fn new() -> Arc<Self> {
        let (feed, events) = mpsc::channel(16);
        Arc::new(Self {
            values: Mutex::default(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            failures: Mutex::default(),
            expires_at: Mutex::default(),
            away: Mutex::default(),
            calls: AtomicU64::new(0),
            version: AtomicU64::new(0),
            events: Mutex::new(Some(events)),
            feed,
        })
    }

    /// Calls wait from now on until `open`.
    pub fn close(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub fn open(&self) {
        self.gate.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    pub fn fail_next(&self, error: StorageError) {
        self.failures.lock().push_back(error);
    }

    pub fn put_behind(&self, key: &'static str, data: &'static str) {
        self.values.lock().insert(Key::from(key), Bytes::from(data));
    }

    async fn enter(&self) -> Result<()> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let _pass = self.gate.acquire().await;
        let away = self.away.lock().clone();
        self.failures.lock().pop_front().or(away).map_or(Ok(()), Err)
    }
}

#[async_trait]
impl Storage for ScriptedStorage {
    fn kind(&self) -> &'static str {
        "scripted"
    }

    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Value>>> {
        // What is read is what was there when the call came, however late the answer is.
        let found: Vec<_> = {
            let values = self.values.lock();
            let version = self.version.load(Ordering::SeqCst);
            let expires_at = *self.expires_at.lock();
            let value = |data: &Bytes| Value { data: data.clone(), expires_at, version };
            keys.iter().map(|key| values.get(key).map(value)).collect()
        };
        self.enter().await?;
        Ok(found)
    }

    async fn apply(&self, key: &Key, mutation: Mutation) -> Result<Applied> {
        self.enter().await?;
        let Mutation::Set { data, .. } = mutation else {
            return Err(StorageError::Refused("ERR only SET is scripted".to_owned()));
        };
        let mut values = self.values.lock();
        let version = self.version.fetch_add(1, Ordering::SeqCst) + 1;
        let previous = values.insert(key.clone(), data.clone());
        let current = Current::Value(Value { data, expires_at: None, version });
        Ok(Applied { done: true, previous, number: 0, current })
    }

    async fn set_many(&self, pairs: &[(Key, Bytes)]) -> Result<()> {
        self.enter().await?;
        self.values.lock().extend(pairs.iter().cloned());
        Ok(())
    }

    async fn delete(&self, keys: &[Key]) -> Result<u64> {
        self.enter().await?;
        let mut values = self.values.lock();
        Ok(keys.iter().filter(|key| values.remove(*key).is_some()).count() as u64)
    }

    async fn scan(&self, _: u64, pattern: Option<&[u8]>, _: usize) -> Result<Page> {
        self.enter().await?;
        let values = self.values.lock();
        let matching = values.keys().filter(|key| pattern.is_none_or(|it| glob_match(it, key)));
        Ok(Page { cursor: 0, keys: matching.cloned().collect() })
    }

    async fn count(&self) -> Result<u64> {
        Ok(self.values.lock().len() as u64)
    }

    async fn flush(&self) -> Result<()> {
        self.enter().await?;
        self.values.lock().clear();
        Ok(())
    }

    async fn probe(&self) -> Result<()> {
        self.away.lock().clone().map_or(Ok(()), Err)
    }

    fn events(&self) -> Option<mpsc::Receiver<StorageEvent>> {
        self.events.lock().take()
    }
}

/// Events come from the test, and what is published goes to it.
#[derive(Debug)]
pub struct ScriptedBus {
    pub feed: mpsc::Sender<BusEvent>,
    pub published: Mutex<Vec<Invalidation>>,
    pub refuses: Mutex<bool>,
    events: Mutex<Option<mpsc::Receiver<BusEvent>>>,
}

impl ScriptedBus {
    pub fn new() -> Arc<Self> {
        let (feed, events) = mpsc::channel(16);
        Arc::new(Self {
            feed,
            published: Mutex::default(),
            refuses: Mutex::new(false),
            events: Mutex::new(Some(events)),
        })
    }

    pub async fn tell(&self, event: BusEvent) {
        self.feed.send(event).await.unwrap();
    }

    pub async fn prove(&self) {
        let (as_of, epoch) = (Instant::now(), "e".to_owned());
        self.tell(BusEvent::Proof { as_of, position: 0, epoch }).await;
    }
}

#[async_trait]
impl SyncBus for ScriptedBus {
    fn kind(&self) -> &'static str {
        "scripted"
    }

    async fn publish(&self, invalidation: &Invalidation) -> std::result::Result<u64, PublishError> {
        if *self.refuses.lock() {
            return Err(PublishError("told to refuse".to_owned()));
        }
        let mut published = self.published.lock();
        published.push(invalidation.clone());
        Ok(published.len() as u64)
    }

    fn events(&self) -> Option<mpsc::Receiver<BusEvent>> {
        self.events.lock().take()
    }

    fn tell(&self, _: &ChannelMessage) -> std::result::Result<(), NotTold> {
        Err(NotTold)
    }

    fn messages(&self) -> Option<mpsc::Receiver<ChannelMessage>> {
        None
    }
}
