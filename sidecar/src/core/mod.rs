//! The coherent core: what a hit, a miss and a write are.
//!
//! - **Hit**: the key's class, its age against the class's TTL, and for a distributed class the
//!   bus's last proof against the bound ([`coherence`]). No waiting.
//! - **Miss**: one load for all readers of the moment ([`flight`]), guarded by the cache's stamp:
//!   a load that an invalidation crosses is answered but not cached.
//! - **Write**: the storage first, then the invalidation to the peers ([`outbox`]), then the local
//!   copy, unless something crossed the write. It goes on when its caller has gone, so that nothing
//!   is stored without being announced.
//! - **In memory**: a storage that is the sidecar's own memory is truth and copy in one, and takes
//!   none of these ways (`direct`).
//!
//! The core asks storage and bus through their traits only, and both can be exchanged while it
//! runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use warp_crds::status::{BusStatus, CacheStatus, StorageStatus};

use crate::adapter::{Storage, WhenFull};
use crate::cache::Cache;
use crate::channels::{Hub, Tracking};
use crate::lease::Leases;
use crate::lock::Locks;
use crate::metrics::{ClassCounters, Metrics};
use crate::preset::{Class, Classes};
use crate::sync_bus::{Origin, Scope, SyncBus};

mod clock;
pub mod coherence;
mod copies;
mod direct;
mod doubt;
mod events;
pub mod flight;
mod health;
mod hit;
mod leased;
pub mod outbox;
mod read;
mod telling;
pub mod transaction;
pub mod turns;
mod write;

use clock::Clock;
pub use clock::Moment;
use coherence::Coherence;
use flight::Flights;
use health::Health;
pub use hit::{Lent, View};
use outbox::Outbox;
pub use transaction::Begun;
use turns::Turns;

/// What an engine is made of.
#[derive(Debug)]
pub struct Parts {
    /// The truth.
    pub storage: Arc<dyn Storage>,
    /// What carries invalidations.
    pub bus: Arc<dyn SyncBus>,
    /// Who this sidecar is on the bus.
    pub origin: Origin,
    /// Which key gets what.
    pub classes: Classes,
    /// Bytes that cached entries may take.
    pub cache_limit: usize,
    /// Name of the cluster, for INFO.
    pub cluster: String,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
}

/// See the module.
#[derive(Debug)]
pub struct Engine {
    clock: Clock,
    cache: Cache,
    cache_limit: AtomicU64,
    cluster: String,
    origin: Origin,
    table: ArcSwap<Table>,
    storage: ArcSwap<Arc<dyn Storage>>,
    bus: ArcSwap<Arc<dyn SyncBus>>,
    outbox: Outbox,
    coherence: Coherence,
    health: Health,
    flights: Flights,
    turns: Turns,
    /// Writes on their way to the storage, and from there to the announcement.
    writes: TaskTracker,
    hub: Arc<Hub>,
    tracking: Arc<Tracking>,
    locks: Arc<Locks>,
    leases: Arc<Leases>,
    metrics: Arc<Metrics>,
    tasks: Mutex<Tasks>,
}

/// The classes with their counters.
#[derive(Debug)]
struct Table {
    classes: Classes,
    counters: Vec<ClassCounters>,
    metrics: Arc<Metrics>,
}

impl Table {
    fn new(classes: Classes, metrics: &Arc<Metrics>) -> Self {
        let counters = metrics.of_classes(&classes);
        Self { classes, counters, metrics: Arc::clone(metrics) }
    }

    fn of(&self, key: &[u8]) -> (&Class, &ClassCounters) {
        let at = self.classes.index_of(key);
        (&self.classes.all()[at], &self.counters[at])
    }
}

/// What listens to the storage and to the bus of the moment, which ends when they are exchanged,
/// what publishes, and what looks through the copies of clients.
#[derive(Debug, Default)]
struct Tasks {
    of_storage: Vec<AbortOnDropHandle<()>>,
    of_bus: Vec<AbortOnDropHandle<()>>,
    publisher: Option<AbortOnDropHandle<()>>,
    copies: Option<AbortOnDropHandle<()>>,
}

/// Figures for INFO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Reads answered from memory.
    pub hits: u64,
    /// Reads that went to storage.
    pub misses: u64,
    /// Entries held.
    pub entries: u64,
    /// Bytes they take, overhead included.
    pub bytes: u64,
    /// Bytes they may take.
    pub limit_bytes: u64,
    /// Entries evicted to make room.
    pub evicted: u64,
    /// Whether a key that was written may be gone to make room for others. What is evicted from
    /// a cache is still in its storage.
    pub when_full: WhenFull,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// The storage's kind.
    pub storage: &'static str,
    /// The bus's kind.
    pub bus: &'static str,
    /// The cluster's name.
    pub cluster: String,
}

impl Engine {
    /// An engine at work: it listens to its storage and its bus and publishes.
    pub fn start(parts: Parts) -> Arc<Self> {
        let Parts { storage, bus, origin, classes, cache_limit, cluster, metrics } = parts;
        let engine = Arc::new(Self {
            clock: Clock::start(),
            cache: Cache::new(cache_limit),
            cache_limit: AtomicU64::new(cache_limit as u64),
            cluster,
            origin,
            table: ArcSwap::from_pointee(Table::new(classes, &metrics)),
            storage: ArcSwap::from_pointee(storage),
            bus: ArcSwap::from_pointee(bus),
            outbox: Outbox::new(origin, Arc::clone(&metrics)),
            coherence: Coherence::default(),
            health: Health::new(Arc::clone(&metrics)),
            flights: Flights::default(),
            turns: Turns::default(),
            writes: TaskTracker::new(),
            hub: Arc::default(),
            tracking: Arc::new(Tracking::new(metrics.channels_invalidations.clone())),
            locks: Arc::new(Locks::new(origin.0, Arc::clone(&metrics))),
            leases: Arc::new(Leases::new(Arc::clone(&metrics))),
            metrics,
            tasks: Mutex::default(),
        });
        engine.observe_memory();
        engine.listen_to_storage();
        engine.listen_to_bus();
        engine.publish();
        engine
    }

    /// The storage of the moment.
    pub fn storage(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.storage.load())
    }

    /// The bus of the moment.
    pub fn bus(&self) -> Arc<dyn SyncBus> {
        Arc::clone(&self.bus.load())
    }

    /// Who is subscribed to what.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Who keeps copies of which keys.
    pub fn tracking(&self) -> &Arc<Tracking> {
        &self.tracking
    }

    /// The locks.
    pub fn locks(&self) -> &Arc<Locks> {
        &self.locks
    }

    /// The leases.
    pub fn leases(&self) -> &Arc<Leases> {
        &self.leases
    }

    /// The time, to be taken after a command was read and before it is executed.
    pub fn now(&self) -> Moment {
        self.clock.moment()
    }

    /// Reads and writes go to `storage` from now on; what came from another is forgotten.
    pub fn exchange_storage(self: &Arc<Self>, storage: Arc<dyn Storage>) {
        self.storage.store(Arc::new(storage));
        self.observe_memory();
        self.forget(&Scope::Everything);
        self.listen_to_storage();
    }

    /// Invalidations go over `bus` from now on. Hits wait for its first proof, and what was cached
    /// before is forgotten: another bus's messages may have been missed meanwhile.
    pub fn exchange_bus(self: &Arc<Self>, bus: Arc<dyn SyncBus>) {
        self.coherence.lose();
        self.bus.store(Arc::new(bus));
        self.forget(&Scope::Everything);
        self.listen_to_bus();
    }

    /// Keys get what `classes` says from now on, those already cached too: an entry knows its age,
    /// not its end.
    pub fn exchange_classes(&self, classes: Classes) {
        let before = self.table.load_full();
        let modes_differ = classes.modes_differ(&before.classes);
        for gone in before.classes.all() {
            if !classes.all().iter().any(|class| class.name == gone.name) {
                self.metrics.drop_class(&gone.name);
            }
        }
        self.table.store(Arc::new(Table::new(classes, &self.metrics)));
        if modes_differ {
            // What was cached while the class was StrongLocal was never invalidated by peers.
            self.forget(&Scope::Everything);
        } else {
            // How long the copies of clients are good was judged by the classes before.
            self.tracking.everything_changed();
        }
    }

    /// Changes the bytes that cached entries may take.
    pub fn set_cache_limit(&self, limit: usize) {
        self.cache_limit.store(limit as u64, Ordering::Relaxed);
        self.cache.set_limit(limit);
    }

    /// Waits until the bus is joined, at most for `patience`; whether it is so. An application that
    /// starts after that finds hits, and its writes are announced at once.
    pub async fn join(&self, patience: Duration) -> bool {
        tokio::time::timeout(patience, self.coherence.joined()).await.is_ok()
    }

    /// Releases the locks of connections, which have ended, waits until every write that has begun is done and the bus has acknowledged every
    /// invalidation, at most for `patience`; whether it is so.
    pub async fn drain(&self, patience: Duration) -> bool {
        self.writes.close();
        let emptied = async {
            self.locks.end().await;
            self.writes.wait().await;
            while self.outbox.pending() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(patience, emptied).await.is_ok()
    }

    /// Figures for INFO.
    pub fn figures(&self) -> Figures {
        let (usage, when_full) =
            self.view().usage_now().unwrap_or_else(|| (self.cache.usage(), WhenFull::Refuse));
        let (hits, misses) = self.metrics.hits_and_misses();
        Figures {
            hits,
            misses,
            entries: usage.entries as u64,
            bytes: usage.bytes as u64,
            limit_bytes: self.cache_limit.load(Ordering::Relaxed),
            evicted: usage.evicted,
            when_full,
            uptime_seconds: self.clock.millis() / 1000,
            storage: self.storage.load().kind(),
            bus: self.bus.load().kind(),
            cluster: self.cluster.clone(),
        }
    }

    /// The bus, the storage and the cache as `/status` shows them.
    pub fn status(&self) -> (BusStatus, StorageStatus, CacheStatus) {
        let figures = self.figures();
        let bus = BusStatus {
            kind: figures.bus.to_owned(),
            pending: self.outbox.pending() as u64,
            replayed: self.metrics.bus_replayed.get(),
            resets: self.metrics.bus_resets.get(),
            ..self.coherence.status(self.clock.millis())
        };
        let error = self.health.error();
        let storage =
            StorageStatus { kind: figures.storage.to_owned(), available: error.is_none(), error };
        let reads = figures.hits + figures.misses;
        #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
        let hit_ratio = (reads > 0).then(|| figures.hits as f64 / reads as f64);
        let cache = CacheStatus {
            entries: figures.entries,
            bytes: figures.bytes,
            limit_bytes: figures.limit_bytes,
            hits: figures.hits,
            misses: figures.misses,
            hit_ratio,
        };
        (bus, storage, cache)
    }

    /// Brings the gauges up to date and gives the text of `/metrics`.
    pub fn render_metrics(&self) -> Result<String, prometheus::Error> {
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let figures = self.figures();
        self.metrics.cache_entries.set(gauge(figures.entries));
        self.metrics.cache_bytes.set(gauge(figures.bytes));
        self.metrics.cache_limit_bytes.set(gauge(figures.limit_bytes));
        // The cache counts by itself; the total is set anew, so that two scrapes at once can't add
        // the same evictions twice for good.
        self.metrics.cache_evictions.reset();
        self.metrics.cache_evictions.inc_by(figures.evicted);
        let (held, waiting) = self.locks.figures();
        self.metrics.lock_held.set(gauge(held));
        self.metrics.lock_waiting.set(gauge(waiting));
        self.metrics.lease_known.set(gauge(self.leases.status().known));
        self.metrics.bus_live.set(i64::from(self.coherence.is_live(self.clock.millis())));
        self.metrics.render()
    }
}
