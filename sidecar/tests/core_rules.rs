//! The core's rules under faults: what it answers and what it keeps when storage and bus misbehave.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use support::doubles::{ScriptedBus, ScriptedStorage};
use warp_crds::manifest;
use warp_sidecar::adapter::{
    Key, Mutation, SetCondition, SetExpiry, StorageError, StorageEvent, Value,
};
use warp_sidecar::core::{Engine, Parts};
use warp_sidecar::metrics::Metrics;
use warp_sidecar::preset::Classes;
use warp_sidecar::sync_bus::{BusEvent, Invalidation, Origin, Scope};

mod support;

const POLICIES: &str = "
apiVersion: warpcache.dev/v1alpha1
kind: WarpCluster
metadata: {name: c}
spec: {defaults: {ttl: 60s}}
---
apiVersion: warpcache.dev/v1alpha1
kind: WarpPolicy
metadata: {name: local}
spec: {clusterRef: {name: c}, match: ['local:*'], mode: StrongLocal, ttl: 60s}
";

struct Pod {
    engine: Arc<Engine>,
    storage: Arc<ScriptedStorage>,
    bus: Arc<ScriptedBus>,
}

impl Pod {
    /// A pod whose bus is live.
    async fn new() -> Self {
        let (storage, bus) = (ScriptedStorage::new(), ScriptedBus::new());
        let engine = Engine::start(Parts {
            storage: storage.clone(),
            bus: bus.clone(),
            origin: Origin(1),
            classes: classes(POLICIES),
            cache_limit: 1 << 20,
            cluster: "c".to_owned(),
            metrics: Arc::new(Metrics::new().unwrap()),
        });
        let pod = Self { engine, storage, bus };
        pod.bus.prove().await;
        pod.until("the bus is live", |engine| engine.status().0.live).await;
        pod
    }

    async fn until(&self, what: &str, holds: impl Fn(&Engine) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !holds(&self.engine) {
            assert!(Instant::now() < deadline, "never came: {what}; {:?}", self.engine.status());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn read(&self, key: &'static str) -> Result<Option<Bytes>, StorageError> {
        let values = self.engine.read(&[Key::from(key)]).await?;
        Ok(values.into_iter().next().flatten().map(|value| value.data))
    }

    fn cached(&self, key: &'static str) -> Option<Bytes> {
        self.engine.cached(key.as_bytes(), self.engine.now()).map(|Value { data, .. }| data)
    }

    async fn tell_written_elsewhere(&self, key: &'static str) {
        let scope = Scope::Keys(vec![Key::from(key)]);
        let invalidation = Invalidation { origin: Origin(2), sequence: 1, scope };
        let before = self.engine.status().0.position;
        let position = before + 1;
        self.bus.tell(BusEvent::Message { position, replayed: false, invalidation }).await;
        self.until("the message is applied", |engine| engine.status().0.position == position).await;
    }
}

fn classes(text: &str) -> Classes {
    Classes::compile(&manifest::parse(text).unwrap())
}

fn set(data: &'static str) -> Mutation {
    let data = Bytes::from(data);
    Mutation::Set { data, condition: SetCondition::Always, expiry: SetExpiry::Clear, get: false }
}

fn down() -> StorageError {
    StorageError::Unavailable { kind: "scripted", cause: "down".to_owned() }
}

#[tokio::test]
async fn a_value_read_once_is_a_hit_until_a_peer_writes_it() {
    let pod = Pod::new().await;
    pod.storage.put_behind("k", "one");
    assert_eq!(pod.read("k").await, Ok(Some(Bytes::from("one"))));
    assert_eq!(pod.cached("k"), Some(Bytes::from("one")));
    pod.storage.put_behind("k", "two");
    pod.tell_written_elsewhere("k").await;
    assert_eq!(pod.cached("k"), None);
    assert_eq!(pod.read("k").await, Ok(Some(Bytes::from("two"))));
}

#[tokio::test]
async fn a_read_that_an_invalidation_crosses_is_answered_and_not_cached() {
    let pod = Pod::new().await;
    pod.storage.put_behind("k", "old");
    pod.storage.close();
    let calls = pod.storage.calls.load(Ordering::SeqCst);
    let engine = Arc::clone(&pod.engine);
    let reading = tokio::spawn(async move { engine.read(&[Key::from("k")]).await });
    while pod.storage.calls.load(Ordering::SeqCst) == calls {
        tokio::task::yield_now().await;
    }
    pod.storage.put_behind("k", "new");
    pod.tell_written_elsewhere("k").await;
    pod.storage.open();
    assert_eq!(reading.await.unwrap().unwrap()[0].as_ref().unwrap().data, "old");
    assert_eq!(pod.cached("k"), None);
    assert_eq!(pod.read("k").await, Ok(Some(Bytes::from("new"))));
}

#[tokio::test]
async fn a_write_is_stored_announced_and_then_a_hit() {
    let pod = Pod::new().await;
    pod.engine.write(&Key::from("k"), set("v")).await.unwrap();
    assert_eq!(pod.cached("k"), Some(Bytes::from("v")));
    let published = pod.bus.published.lock().clone();
    assert_eq!(published.len(), 1);
    assert_eq!(published[0].scope, Scope::Keys(vec![Key::from("k")]));
    assert_eq!(published[0].origin, Origin(1));
}

#[tokio::test]
async fn a_pod_local_class_announces_nothing_and_needs_no_bus() {
    let pod = Pod::new().await;
    pod.engine.exchange_bus(ScriptedBus::new());
    pod.engine.write(&Key::from("local:k"), set("v")).await.unwrap();
    pod.engine.write(&Key::from("k"), set("v")).await.unwrap();
    assert_eq!(pod.cached("local:k"), Some(Bytes::from("v")));
    assert_eq!(pod.cached("k"), None, "a distributed hit needs a live bus");
    let announced: Vec<_> = pod.bus.published.lock().iter().map(|m| m.scope.clone()).collect();
    assert!(!announced.contains(&Scope::Keys(vec![Key::from("local:k")])));
}

#[tokio::test]
async fn a_write_goes_on_when_its_caller_has_gone() {
    let pod = Pod::new().await;
    pod.storage.close();
    let calls = pod.storage.calls.load(Ordering::SeqCst);
    let engine = Arc::clone(&pod.engine);
    let writing = tokio::spawn(async move { engine.write(&Key::from("k"), set("v")).await });
    while pod.storage.calls.load(Ordering::SeqCst) == calls {
        tokio::task::yield_now().await;
    }
    writing.abort();
    assert!(writing.await.unwrap_err().is_cancelled());
    pod.storage.open();
    let bus = Arc::clone(&pod.bus);
    pod.until("the write is announced", move |_| bus.published.lock().len() == 1).await;
}

#[tokio::test]
async fn a_refusing_bus_delays_a_write_a_second_at_most_and_gets_the_message_later() {
    let pod = Pod::new().await;
    *pod.bus.refuses.lock() = true;
    let begun = Instant::now();
    pod.engine.write(&Key::from("k"), set("v")).await.unwrap();
    pod.engine.write(&Key::from("l"), set("v")).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(8));
    assert_eq!(pod.engine.status().0.pending, 2);
    *pod.bus.refuses.lock() = false;
    assert!(pod.engine.drain(Duration::from_secs(10)).await);
    let published = pod.bus.published.lock().clone();
    let keys: Vec<_> = published.into_iter().map(|message| message.scope).collect();
    assert_eq!(keys, ["k", "l"].map(|key| Scope::Keys(vec![Key::from(key)])));
}

#[tokio::test]
async fn without_a_proof_for_the_bound_hits_stop_and_come_back_with_one() {
    let pod = Pod::new().await;
    pod.storage.put_behind("k", "v");
    pod.read("k").await.unwrap();
    assert!(pod.cached("k").is_some());
    pod.until("the proof is too old", |engine| !engine.status().0.live).await;
    assert_eq!(pod.cached("k"), None);
    pod.bus.prove().await;
    pod.until("the bus is live", |engine| engine.status().0.live).await;
    assert!(pod.cached("k").is_some(), "nothing was missed, so the copy holds");
}

#[tokio::test]
async fn what_was_read_before_the_bus_was_joined_is_read_again() {
    let pod = Pod::new().await;
    pod.storage.put_behind("k", "before");
    let bus = ScriptedBus::new();
    pod.engine.exchange_bus(bus.clone());
    assert_eq!(pod.read("k").await, Ok(Some(Bytes::from("before"))));
    // A peer's write whose message went by before this pod knew the bus's order.
    pod.storage.put_behind("k", "after");
    bus.prove().await;
    pod.until("the bus is live", |engine| engine.status().0.live).await;
    assert_eq!(pod.read("k").await, Ok(Some(Bytes::from("after"))));
}

#[tokio::test]
async fn lost_positions_flush_the_cache() {
    let pod = Pod::new().await;
    pod.storage.put_behind("k", "v");
    pod.read("k").await.unwrap();
    let (reason, epoch) = ("stream recreated".to_owned(), "f".to_owned());
    pod.bus.tell(BusEvent::Reset { reason, epoch, position: 0 }).await;
    pod.until("the reset is applied", |engine| engine.status().0.resets == 1).await;
    assert_eq!(pod.cached("k"), None);
}

#[tokio::test]
async fn what_others_do_to_the_storage_is_forgotten() {
    let pod = Pod::new().await;
    for (event, key) in
        [(StorageEvent::Changed(vec![Key::from("k")]), "k"), (StorageEvent::AnythingChanged, "l")]
    {
        pod.storage.put_behind(key, "v");
        pod.read(key).await.unwrap();
        pod.storage.feed.send(event).await.unwrap();
        pod.until("it is forgotten", move |engine| {
            engine.cached(key.as_bytes(), engine.now()).is_none()
        })
        .await;
    }
}

#[tokio::test]
async fn what_never_reached_the_storage_is_tried_again() {
    let pod = Pod::new().await;
    pod.storage.fail_next(down());
    pod.storage.fail_next(down());
    pod.engine.write(&Key::from("k"), set("v")).await.unwrap();
    assert_eq!(pod.read("k").await, Ok(Some(Bytes::from("v"))));
    for _ in 0..3 {
        pod.storage.fail_next(down());
    }
    assert_eq!(pod.read("l").await, Err(down()));
    assert!(!pod.engine.status().1.available);
    assert_eq!(pod.read("k").await, Ok(Some(Bytes::from("v"))), "hits go on");
    assert_eq!(pod.read("l").await, Ok(None), "recovery alone");
    assert!(pod.engine.status().1.available);
}

#[tokio::test]
async fn a_write_without_an_answer_is_forgotten_announced_and_not_repeated() {
    let pod = Pod::new().await;
    pod.engine.write(&Key::from("k"), set("old")).await.unwrap();
    let unknown = StorageError::Unknown { kind: "scripted", cause: "timeout".to_owned() };
    pod.storage.fail_next(unknown.clone());
    let calls = pod.storage.calls.load(Ordering::SeqCst);
    assert_eq!(pod.engine.write(&Key::from("k"), set("new")).await, Err(unknown));
    assert_eq!(pod.storage.calls.load(Ordering::SeqCst), calls + 1);
    assert_eq!(pod.cached("k"), None);
    assert_eq!(pod.bus.published.lock().len(), 2);
}

#[tokio::test]
async fn readers_of_one_moment_ask_the_storage_once() {
    let pod = Pod::new().await;
    pod.storage.put_behind("k", "v");
    pod.storage.close();
    let calls = pod.storage.calls.load(Ordering::SeqCst);
    let readers: Vec<_> = (0..50)
        .map(|_| {
            let engine = Arc::clone(&pod.engine);
            tokio::spawn(async move { engine.read(&[Key::from("k")]).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    pod.storage.open();
    for reader in readers {
        assert_eq!(reader.await.unwrap().unwrap()[0].as_ref().unwrap().data, "v");
    }
    assert_eq!(pod.storage.calls.load(Ordering::SeqCst), calls + 1);
}

#[tokio::test]
async fn a_changed_ttl_holds_for_what_is_cached_and_a_changed_mode_flushes() {
    let pod = Pod::new().await;
    pod.storage.put_behind("k", "v");
    pod.storage.put_behind("local:k", "v");
    pod.read("k").await.unwrap();
    pod.read("local:k").await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    pod.engine.exchange_classes(classes(
        &POLICIES.replace("defaults: {ttl: 60s}", "defaults: {ttl: 10ms}"),
    ));
    assert_eq!(pod.cached("k"), None);
    assert!(pod.cached("local:k").is_some());
    pod.engine.exchange_classes(classes(&POLICIES.replace("StrongLocal", "EventualDistributed")));
    assert_eq!(pod.cached("local:k"), None);
}
