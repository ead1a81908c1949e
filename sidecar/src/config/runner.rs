//! The running configuration: applied at the start, and again when the files change.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};
use warp_crds::WarpCluster;
use warp_crds::status::SidecarStatus;

use super::build::{BusPlan, StoragePlan, cache_limit, memory_limit};
use super::{ConfigError, Loaded, Secrets, Source};
use crate::core::{Engine, Parts};
use crate::metrics::Metrics;
use crate::preset::Classes;
use crate::sync_bus::Origin;
use crate::warmup::{Plan, Warmer};

/// Between two looks at the files. A ConfigMap's files change by a renamed link, which file
/// watches see differently on every file system; reading a few kilobytes is seen alike on all.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug)]
pub struct Runner {
    source: Source,
    metrics: Arc<Metrics>,
    engine: OnceLock<Arc<Engine>>,
    serving: OnceLock<Instant>,
    /// Nothing waits for a warm-up any more.
    warm: OnceLock<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    applied: Option<Applied>,
    /// Why what is on disk was refused, while it is.
    error: Option<String>,
}

#[derive(Debug)]
struct Applied {
    hash: String,
    secrets: Secrets,
    cluster: WarpCluster,
    storage: StoragePlan,
    bus: BusPlan,
    warm_up: Option<WarmUp>,
}

/// A warm-up at work.
#[derive(Debug)]
struct WarmUp {
    plan: Plan,
    warmer: Arc<Warmer>,
    _task: AbortOnDropHandle<()>,
}

impl Runner {
    /// Nothing is read yet.
    pub fn new(source: Source, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            source,
            metrics,
            engine: OnceLock::new(),
            serving: OnceLock::new(),
            warm: OnceLock::new(),
            state: Mutex::default(),
        })
    }

    /// The engine, once a configuration was applied.
    pub fn engine(&self) -> Option<&Arc<Engine>> {
        self.engine.get()
    }

    /// The cluster of the applied configuration.
    pub fn cluster(&self) -> Option<WarpCluster> {
        self.state.lock().applied.as_ref().map(|applied| applied.cluster.clone())
    }

    /// The listeners are open.
    pub fn set_serving(&self) {
        self.serving.get_or_init(Instant::now);
    }

    /// Whether a configuration is applied and the listeners are open.
    pub fn is_serving(&self) -> bool {
        self.engine.get().is_some() && self.serving.get().is_some()
    }

    /// Whether it serves, and has been warmed up if that is waited for. Once it was ready, another
    /// plan doesn't take that back.
    pub fn is_ready(&self) -> bool {
        let Some(since) = self.serving.get().filter(|_| self.is_serving()) else { return false };
        let is_warm = || {
            let state = self.state.lock();
            let waited_for = state.applied.as_ref().and_then(|applied| applied.warm_up.as_ref());
            waited_for.is_none_or(|WarmUp { plan, warmer, .. }| {
                warmer.is_done() || since.elapsed() >= plan.readiness()
            })
        };
        if self.warm.get().is_none() && is_warm() {
            self.warm.get_or_init(|| ());
        }
        self.warm.get().is_some()
    }

    /// Why the configuration on disk was refused, while it is.
    pub fn error(&self) -> Option<String> {
        self.state.lock().error.clone()
    }

    /// The text of `/metrics`.
    pub fn metrics(&self) -> Result<String, prometheus::Error> {
        self.engine.get().map_or_else(|| self.metrics.render(), |engine| engine.render_metrics())
    }

    /// The body of `/status`, once a configuration was applied.
    pub fn status(&self) -> Option<SidecarStatus> {
        let engine = self.engine.get()?;
        let (bus, storage, cache) = engine.status();
        let state = self.state.lock();
        Some(SidecarStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config_hash: state.applied.as_ref()?.hash.clone(),
            config_error: state.error.clone(),
            bus,
            storage,
            cache,
            classes: engine.class_status(),
            warm_up: state
                .applied
                .as_ref()
                .and_then(|applied| Some(applied.warm_up.as_ref()?.warmer.status())),
            origin: engine.origin_name(),
            locks: engine.locks().status(),
            leases: engine.leases().status(),
            uptime_seconds: engine.figures().uptime_seconds,
        })
    }

    /// Reads what is there and applies it if it changed. What can't be applied changes nothing.
    pub fn look(&self) -> Result<(), ConfigError> {
        let mut state = self.state.lock();
        let result = self.source.load().and_then(|loaded| match &state.applied {
            Some(Applied { hash, secrets, .. })
                if (hash, secrets) == (&loaded.hash, &loaded.secrets) =>
            {
                Ok(None)
            }
            before => self.apply(loaded, before.as_ref()).map(Some),
        });
        match result {
            Ok(None) => {
                if state.error.take().is_some() {
                    info!("the configuration on disk is the applied one again");
                    self.metrics.config_current.set(1);
                }
                Ok(())
            }
            Ok(Some(mut applied)) => {
                info!(hash = %applied.hash, "configuration applied");
                applied.warm_up = self.warm_up(&applied.cluster, state.applied.as_mut());
                state.applied = Some(applied);
                state.error = None;
                self.metrics.config_read(true);
                Ok(())
            }
            Err(error) => {
                let text = error.to_string();
                if state.error.as_ref() != Some(&text) {
                    if state.applied.is_some() {
                        warn!(error = %text, "configuration refused; the old one stays");
                    } else {
                        warn!(error = %text, "no configuration can be applied yet");
                    }
                    self.metrics.config_read(false);
                    state.error = Some(text);
                }
                Err(error)
            }
        }
    }

    /// Looks at the files until `stop`.
    pub async fn watch(&self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            // A refusal is in the state, for everyone to see.
            let _ = self.look();
        }
    }

    fn apply(&self, loaded: Loaded, before: Option<&Applied>) -> Result<Applied, ConfigError> {
        let storage = StoragePlan::of(&loaded)?;
        let bus = BusPlan::of(&loaded, self.source.nats_url.as_deref())?;
        let classes = Classes::compile(&loaded.manifests);
        if let (Some(engine), Some(before)) = (self.engine.get(), before) {
            // What can fail comes before what is changed.
            let is_another = !storage.is_adjustment_of(&before.storage);
            let new_storage = is_another.then(|| storage.clone().build());
            let new_bus = (bus != before.bus).then(|| bus.clone().build());
            let (new_storage, new_bus) = (new_storage.transpose()?, new_bus.transpose()?);
            engine.exchange_classes(classes);
            engine.set_cache_limit(cache_limit(&loaded));
            match new_storage {
                Some(storage) => engine.exchange_storage(storage),
                None => storage.adjust(engine.storage().as_ref()),
            }
            if let Some(bus) = new_bus {
                engine.exchange_bus(bus);
            }
        } else {
            let parts = Parts {
                storage: storage.clone().build()?,
                bus: bus.clone().build()?,
                origin: Origin::random(),
                classes,
                cache_limit: cache_limit(&loaded),
                cluster: loaded.manifests.cluster.metadata.name.clone().unwrap_or_default(),
                metrics: Arc::clone(&self.metrics),
            };
            self.engine.get_or_init(|| Engine::start(parts));
        }
        if let Some(engine) = self.engine.get() {
            let longest = loaded.manifests.cluster.spec.locks.max_ttl.into();
            engine.locks().set_longest(longest);
            engine.leases().set_longest(longest);
        }
        let Loaded { manifests, secrets, hash } = loaded;
        let cluster = manifests.cluster;
        Ok(Applied { hash, secrets, cluster, storage, bus, warm_up: None })
    }

    /// The warm-up that `cluster` asks for: the one of `before` where nothing changed for it. Only the
    /// first of all warms up a start.
    fn warm_up(&self, cluster: &WarpCluster, before: Option<&mut Applied>) -> Option<WarmUp> {
        let spec = cluster.spec.warm_up.as_ref()?;
        let plan = Plan::of(spec, memory_limit(cluster));
        let starts = before.is_none();
        let running = before.and_then(|before| before.warm_up.take());
        if let Some(running) = running.filter(|running| running.plan == plan) {
            return Some(running);
        }
        let engine = Arc::clone(self.engine.get()?);
        let warmer = Arc::new(Warmer::new(plan.clone(), engine, Arc::clone(&self.metrics)));
        let at_work = Arc::clone(&warmer);
        let task = AbortOnDropHandle::new(tokio::spawn(async move { at_work.run(starts).await }));
        Some(WarmUp { plan, warmer, _task: task })
    }
}
