//! An engine over a storage of the test's choice, and a bus that does as it is told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use warp_crds::manifest;
use warp_sidecar::adapter::{Key, Mutation, SetCondition, SetExpiry, Storage, StorageError, Value};
use warp_sidecar::core::{Engine, Parts};
use warp_sidecar::metrics::Metrics;
use warp_sidecar::preset::Classes;
use warp_sidecar::sync_bus::{BusEvent, Invalidation, Origin, Scope};

use super::doubles::{ScriptedBus, ScriptedStorage};

pub const POLICIES: &str = "
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

pub struct Pod<S> {
    pub engine: Arc<Engine>,
    pub storage: Arc<S>,
    pub bus: Arc<ScriptedBus>,
}

impl Pod<ScriptedStorage> {
    pub async fn new() -> Self {
        Self::over(ScriptedStorage::new()).await
    }

    /// A pod with these rules for all keys.
    pub async fn with(rules: &str) -> Self {
        let pod = Self::new().await;
        pod.engine.exchange_classes(classes(&policies(rules)));
        pod
    }
}

impl<S: Storage + 'static> Pod<S> {
    /// A pod whose bus is live.
    pub async fn over(storage: Arc<S>) -> Self {
        let bus = ScriptedBus::new();
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

    pub async fn until(&self, what: &str, holds: impl Fn(&Engine) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !holds(&self.engine) {
            assert!(Instant::now() < deadline, "never came: {what}; {:?}", self.engine.status());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub async fn read(&self, key: &'static str) -> Result<Option<Bytes>, StorageError> {
        let values = self.engine.read(&[Key::from(key)]).await?;
        Ok(values.into_iter().next().flatten().map(|value| value.data))
    }

    pub fn cached(&self, key: &'static str) -> Option<Bytes> {
        self.engine.cached(key.as_bytes(), self.engine.now()).map(|Value { data, .. }| data)
    }

    pub async fn tell_written_elsewhere(&self, key: &'static str) {
        let scope = Scope::Keys(vec![Key::from(key)]);
        let invalidation = Invalidation { origin: Origin(2), sequence: 1, scope };
        let before = self.engine.status().0.position;
        let position = before + 1;
        self.bus.tell(BusEvent::Message { position, replayed: false, invalidation }).await;
        self.until("the message is applied", |engine| engine.status().0.position == position).await;
    }
}

/// A cluster with these rules for all keys.
pub fn policies(rules: &str) -> String {
    format!(
        "{{apiVersion: warpcache.dev/v1alpha1, kind: WarpCluster, metadata: {{name: c}}, spec: {{defaults: {{{rules}}}}}}}"
    )
}

pub fn classes(text: &str) -> Classes {
    Classes::compile(&manifest::parse(text).unwrap())
}

pub fn set(data: &'static str) -> Mutation {
    let data = Bytes::from(data);
    Mutation::Set { data, condition: SetCondition::Always, expiry: SetExpiry::Clear, get: false }
}

pub fn down() -> StorageError {
    StorageError::Unavailable { kind: "scripted", cause: "down".to_owned() }
}
