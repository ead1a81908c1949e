//! The coherent core: what a hit, a miss and a write are.
//!
//! - **Hit**: the key's class, the copy's age against the class's rules (`freshness`), and for a
//!   distributed class the bus's last proof against its bound ([`coherence`]). No waiting.
//! - **Miss**: one load for all readers of the moment ([`flight`]), guarded by the cache's stamp:
//!   a load that an invalidation crosses is answered but not cached. Where the storage fails or is
//!   slow, an older copy may stand in.
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
use warp_crds::status::{BusStatus, CacheStatus, ClassStatus, StorageStatus};

use crate::adapter::memory::Keyspace;
use crate::adapter::{Storage, WhenFull};
use crate::cache::store::Hasher;
use crate::cache::{Cache, Millis};
use crate::channels::{Hub, Tracking};
use crate::lease::Leases;
use crate::lock::Locks;
use crate::metrics::latency::Latency;
use crate::metrics::{ClassCounters, Metrics};
use crate::preset::{Class, Classes};
use crate::sync_bus::{Origin, Scope, SyncBus};

mod clock;
pub mod coherence;
mod copies;
mod direct;
mod doubt;
mod events;
mod expiry;
pub mod explain;
pub mod flight;
mod freshness;
mod health;
pub mod history;
mod hit;
mod leased;
pub mod outbox;
mod read;
mod refresh;
mod rooms;
pub mod session;
mod telling;
pub mod transaction;
pub mod turns;
mod warm;
mod write;

use clock::Clock;
pub use clock::Moment;
use coherence::Coherence;
use flight::Flights;
use health::Health;
use history::{Cause, History};
pub use hit::{Lent, View};
use outbox::Outbox;
use refresh::Refresher;
use rooms::Rooms;
pub use transaction::Begun;
use turns::Turns;
pub use warm::Warmed;

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
    hasher: Hasher,
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
    refresher: Refresher,
    history: History,
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

/// The classes with their counters and the rooms of their copies.
#[derive(Debug)]
struct Table {
    classes: Classes,
    counters: Vec<ClassCounters>,
    rooms: Rooms,
    metrics: Arc<Metrics>,
}

/// A class with what belongs to it.
#[derive(Clone, Copy, Debug)]
struct Place<'a> {
    class: &'a Class,
    counters: &'a ClassCounters,
    cache: &'a Cache,
}

impl Table {
    fn new(
        classes: Classes,
        cache_limit: usize,
        before: Option<&Self>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let counters = metrics.of_classes(&classes);
        let before = before.map(|table| (&table.classes, &table.rooms));
        let rooms = Rooms::new(&classes, cache_limit, before);
        Self { classes, counters, rooms, metrics: Arc::clone(metrics) }
    }

    fn of(&self, key: &[u8]) -> (&Class, &ClassCounters) {
        let at = self.classes.index_of(key);
        (&self.classes.all()[at], &self.counters[at])
    }

    #[inline]
    fn place(&self, key: &[u8]) -> Place<'_> {
        self.place_of(self.classes.index_of(key))
    }

    /// What belongs to the class at this place of [`Classes::all`].
    #[inline]
    fn place_of(&self, at: usize) -> Place<'_> {
        let (class, counters) = (&self.classes.all()[at], &self.counters[at]);
        Place { class, counters, cache: self.rooms.of_class(at) }
    }
}

/// What listens to the storage and to the bus of the moment, which ends when they are exchanged; and
/// what goes on for the engine's life.
#[derive(Debug, Default)]
struct Tasks {
    of_storage: Vec<AbortOnDropHandle<()>>,
    of_bus: Vec<AbortOnDropHandle<()>>,
    lasting: Vec<AbortOnDropHandle<()>>,
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
    /// Keys of the memory storage that have an end, and those that were freed because they had
    /// ended, since the start. Of a storage elsewhere nothing is known.
    pub expiring: u64,
    /// See `expiring`.
    pub expired: u64,
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
            hasher: Hasher::of_process(),
            cache_limit: AtomicU64::new(cache_limit as u64),
            cluster,
            origin,
            table: ArcSwap::from_pointee(Table::new(classes, cache_limit, None, &metrics)),
            storage: ArcSwap::from_pointee(storage),
            bus: ArcSwap::from_pointee(bus),
            outbox: Outbox::new(origin, Arc::clone(&metrics)),
            coherence: Coherence::default(),
            health: Health::new(Arc::clone(&metrics)),
            flights: Flights::default(),
            refresher: Refresher::default(),
            history: History::default(),
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
        engine.work();
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

    /// What took long.
    pub fn latency(&self) -> &Latency {
        &self.metrics.latency
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

    /// Asks the memory that the copy of `key` belongs into.
    fn room_of<T>(&self, key: &[u8], ask: impl FnOnce(&Cache) -> T) -> T {
        ask(self.table.load().place(key).cache)
    }

    /// Whether the bus has proven lately enough for hits of `class` that nothing is missed.
    #[inline]
    fn is_proven(&self, class: &Class, now: Millis) -> bool {
        class.proof_bound.is_none_or(|bound| self.coherence.is_proven(bound, now))
    }

    /// Reads and writes go to `storage` from now on; what came from another is forgotten.
    pub fn exchange_storage(self: &Arc<Self>, storage: Arc<dyn Storage>) {
        let before = self.storage.swap(Arc::new(storage));
        if let Some(memory) = before.as_memory() {
            // What they wait for won't come.
            memory.with(Keyspace::abandon_waits);
        }
        self.observe_memory();
        self.forget(&Scope::Everything, Cause::Configuration);
        self.listen_to_storage();
    }

    /// Invalidations go over `bus` from now on. Hits wait for its first proof, and what was cached
    /// before is forgotten: another bus's messages may have been missed meanwhile.
    pub fn exchange_bus(self: &Arc<Self>, bus: Arc<dyn SyncBus>) {
        self.coherence.lose();
        self.outbox.forget_acknowledged();
        self.bus.store(Arc::new(bus));
        self.forget(&Scope::Everything, Cause::Configuration);
        self.listen_to_bus();
    }

    /// Keys get what `classes` says from now on, those already cached too: an entry knows its age,
    /// not its end.
    pub fn exchange_classes(&self, classes: Classes) {
        let before = self.table.load_full();
        let must_forget = classes.must_forget(&before.classes);
        for gone in before.classes.all() {
            if !classes.all().iter().any(|class| class.name == gone.name) {
                self.metrics.drop_class(&gone.name);
            }
        }
        let limit = usize::try_from(self.cache_limit.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        let table = Table::new(classes, limit, Some(&before), &self.metrics);
        self.table.store(Arc::new(table));
        if must_forget {
            // What was cached while the class was StrongLocal was never invalidated by peers; and
            // what a key left in a memory that it no longer belongs to is never invalidated.
            self.forget(&Scope::Everything, Cause::Configuration);
        } else {
            // How long the copies of clients are good was judged by the classes before.
            self.tracking.everything_changed();
        }
    }

    /// Changes the bytes that cached entries may take.
    pub fn set_cache_limit(&self, limit: usize) {
        self.cache_limit.store(limit as u64, Ordering::Relaxed);
        self.table.load().rooms.set_limit(limit);
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
        let (usage, when_full) = self
            .view()
            .usage_now()
            .unwrap_or_else(|| (self.table.load().rooms.usage(), WhenFull::Refuse));
        let ends = self.view().on_keyspace(|keyspace| keyspace.figures()).unwrap_or_default();
        let (hits, misses) = self.metrics.hits_and_misses();
        Figures {
            hits,
            misses,
            entries: usage.entries as u64,
            bytes: usage.bytes as u64,
            limit_bytes: self.cache_limit.load(Ordering::Relaxed),
            evicted: usage.evicted,
            expiring: ends.expiring as u64,
            expired: ends.expired,
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

    /// This sidecar on the bus, as `WARP.EXPLAIN` names it.
    pub fn origin_name(&self) -> String {
        self.origin.to_string()
    }

    /// The classes as `/status` shows them.
    pub fn class_status(&self) -> Vec<ClassStatus> {
        let table = self.table.load();
        let counted = table.classes.all().iter().zip(&table.counters).enumerate();
        counted
            .map(|(at, (class, counters))| ClassStatus {
                name: class.name.clone(),
                preset: class.preset.map(|preset| preset.name().to_owned()),
                rules: class
                    .rules
                    .fields()
                    .into_iter()
                    .map(|(field, text)| (field.to_owned(), text))
                    .collect(),
                hits: counters.hits.get() + counters.coalesced.get(),
                negative_hits: counters.negative.get(),
                stale_hits: counters.stale.get(),
                refreshes: counters.refreshed.get(),
                bytes: table.rooms.usage_of(at).map(|usage| usage.bytes as u64),
            })
            .collect()
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
        let table = self.table.load();
        self.metrics.class_bytes.reset();
        self.metrics.class_quota_bytes.reset();
        for (at, class) in table.classes.all().iter().enumerate() {
            if let Some(usage) = table.rooms.usage_of(at) {
                let label = [class.name.as_str()];
                let bytes = gauge(usage.bytes as u64);
                self.metrics.class_bytes.with_label_values(&label).set(bytes);
                let quota = gauge(class.rules.quota);
                self.metrics.class_quota_bytes.with_label_values(&label).set(quota);
            }
        }
        let (held, waiting) = self.locks.figures();
        self.metrics.lock_held.set(gauge(held));
        self.metrics.lock_waiting.set(gauge(waiting));
        self.metrics.lease_known.set(gauge(self.leases.status().known));
        self.metrics.bus_live.set(i64::from(self.coherence.is_live(self.clock.millis())));
        self.metrics.render()
    }
}
