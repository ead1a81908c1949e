//! Leases: groups of keys that live as long as somebody keeps their lease alive, in all pods of a
//! cluster.
//!
//! A lease is a register of the bus (`record`): its TTL, its signs of life and its keys. Any pod may
//! keep it alive, attach keys or revoke it, and every pod watches all leases: *a lease ends when no
//! pod has seen a sign of life for its TTL*, by `sync_bus::tenure`'s rule, whichever pods are gone by
//! then (`follow`). It ends in two steps: first its record says so, from when on nothing brings it back and
//! every pod forgets its copies of the keys; then whoever wrote that removes the keys from the
//! storage. Should he be gone before he has, another does it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;
use warp_crds::status::LeasesStatus;

use self::record::{End, Record, TooManyKeys};
use crate::adapter::{Key, StorageError};
use crate::metrics::Metrics;
use crate::sync_bus::observed::{self, Observed};
use crate::sync_bus::tenure::{Boot, own_end};
use crate::sync_bus::{RegisterError, Registers, Space};

mod follow;
mod record;

/// The longest TTL where nobody chose another.
const LONGEST: Duration = Duration::from_mins(1);
/// The shortest one that leaves time to keep a lease alive.
pub const SHORTEST: Duration = Duration::from_millis(100);
/// A lease is kept alive so many times within its TTL.
const BEATS: u32 = 3;
/// The pause after somebody else was first, or where the bus is away.
const AGAIN: Duration = Duration::from_millis(20);
/// How often somebody else may be first.
const TRIES: u32 = 50;

/// What leases do to keys.
pub trait Keys: Send + Sync + 'static {
    /// Removes keys from the storage, and from all pods; how many there were.
    fn remove(&self, keys: Vec<Key>) -> BoxFuture<'static, Result<u64, StorageError>>;

    /// Forgets what this pod has of keys that somebody removes.
    fn forget(&self, keys: Vec<Key>);
}

/// Why something isn't done with a lease.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// There is no such lease, or it has begun to end.
    #[error("there is no such lease")]
    Gone,
    /// The bus can't be asked.
    #[error("{0}")]
    Down(String),
    /// The bus has no leases.
    #[error("bus {0} has no leases; use nats")]
    Unsupported(&'static str),
    /// The TTL is longer than the cluster allows.
    #[error(
        "the TTL must be {} to {} ms (spec.locks.maxTtl); a lease that is to live longer is kept \
         alive",
        SHORTEST.as_millis(), .0.as_millis()
    )]
    Ttl(Duration),
    /// Its keys take too much room.
    #[error("the keys of a lease may take about 380 kB; use several leases")]
    Full,
    /// The lease has ended, and its keys couldn't be removed yet.
    #[error("the lease has ended, and its keys are removed as soon as that can be done: {0}")]
    Storage(StorageError),
}

impl From<RegisterError> for LeaseError {
    fn from(error: RegisterError) -> Self {
        Self::Down(error.to_string())
    }
}

/// Who keeps a lease alive.
pub struct Owner {
    /// His connection is gone.
    pub gone: CancellationToken,
    /// Called with the lease and the reason when it has ended all the same.
    pub on_loss: Box<dyn Fn(u64, &'static str) + Send + Sync>,
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner").finish_non_exhaustive()
    }
}

/// What is known of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Its TTL.
    pub ttl: Duration,
    /// How long it lives if nothing is heard of it, counted from when this pod has seen its last sign
    /// of life.
    pub left: Duration,
    /// Its keys.
    pub keys: Vec<Key>,
}

type Truth = Observed<Record>;
type Seen = observed::Seen<Record>;

/// See the module.
pub struct Leases {
    longest: AtomicU64,
    bus: Mutex<Bus>,
    keys: Mutex<Option<Arc<dyn Keys>>>,
    /// The epoch of the bus's data as it was last seen; 0 is not yet.
    epoch: AtomicU64,
    /// Those that are kept alive here, who are told of their end.
    kept: Mutex<HashMap<u64, oneshot::Sender<End>>>,
    /// Those that end here, whose keys are removed and not only forgotten.
    ending: Mutex<HashSet<Bytes>>,
    ended: AtomicU64,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Bus {
    kind: &'static str,
    truth: Option<Arc<Truth>>,
    _follower: Option<AbortOnDropHandle<()>>,
}

impl fmt::Debug for Leases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leases").field("bus", &self.bus).finish_non_exhaustive()
    }
}

impl Leases {
    /// Without a bus yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            longest: AtomicU64::new(millis(LONGEST)),
            bus: Mutex::new(Bus { kind: "none", truth: None, _follower: None }),
            keys: Mutex::default(),
            epoch: AtomicU64::new(0),
            kept: Mutex::default(),
            ending: Mutex::default(),
            ended: AtomicU64::new(0),
            metrics,
        }
    }

    /// Changes the longest TTL that is granted.
    pub fn set_longest(&self, longest: Duration) {
        self.longest.store(millis(longest), Ordering::Relaxed);
    }

    /// Leases are those of this bus from now on, and this is what they do to keys. Needs a tokio
    /// runtime.
    pub fn exchange(
        self: &Arc<Self>,
        kind: &'static str,
        registers: Option<Arc<dyn Registers>>,
        keys: Option<Arc<dyn Keys>>,
    ) {
        *self.keys.lock() = keys;
        let truth = registers.map(|registers| {
            let leases = Arc::downgrade(self);
            let on_change = move |name: &Bytes, before: &Record, after: &Record| {
                if before.is_alive()
                    && !after.is_alive()
                    && let Some(leases) = leases.upgrade()
                {
                    leases.on_end(name, before, after.ends.unwrap_or(End::Expired));
                }
            };
            Arc::new(Observed::new(registers, Space::Lease, Box::new(on_change)))
        });
        let follower = truth.as_ref().map(|truth| {
            let follow = follow::run(Arc::downgrade(self), Arc::clone(truth));
            AbortOnDropHandle::new(tokio::spawn(follow))
        });
        self.epoch.store(0, Ordering::Relaxed);
        self.kept.lock().clear();
        *self.bus.lock() = Bus { kind, truth, _follower: follower };
    }

    fn truth(&self) -> Result<Arc<Truth>, LeaseError> {
        let bus = self.bus.lock();
        bus.truth.clone().ok_or(LeaseError::Unsupported(bus.kind))
    }

    /// A new lease, which `owner` keeps alive if he is given.
    pub async fn grant(
        self: &Arc<Self>,
        ttl: Duration,
        owner: Option<Owner>,
    ) -> Result<u64, LeaseError> {
        let longest = Duration::from_millis(self.longest.load(Ordering::Relaxed));
        if !(SHORTEST..=longest).contains(&ttl) {
            return Err(LeaseError::Ttl(longest));
        }
        let truth = self.truth()?;
        // Within the 63 bits that a client counts in.
        let id = rand::random_range(1..=u64::MAX >> 1);
        truth.write(&name(id), 0, &Record::new(ttl)).await.map_err(LeaseError::from)?;
        self.metrics.lease_granted.inc();
        if let Some(owner) = owner {
            let leases = Arc::clone(self);
            tokio::spawn(async move { leases.keep(&truth, id, &owner).await });
        }
        Ok(id)
    }

    /// Keeps a lease alive until its owner is gone or it has ended.
    async fn keep(&self, truth: &Truth, id: u64, owner: &Owner) {
        let (told, mut end) = oneshot::channel();
        self.kept.lock().insert(id, told);
        let mut pause = SHORTEST / BEATS;
        loop {
            tokio::select! {
                () = owner.gone.cancelled() => break,
                end = &mut end => {
                    // Nobody tells any more when it belonged to a bus that was exchanged.
                    (owner.on_loss)(id, end.map_or("exchanged", End::word));
                    break;
                }
                () = sleep(pause) => {}
            }
            pause = match self.change(truth, id, |record| Ok(record.beaten())).await {
                Ok((seen, _)) => seen.record.ttl() / BEATS,
                Err(LeaseError::Gone) => {
                    // It may have ended before it was told here.
                    (owner.on_loss)(id, end.try_recv().unwrap_or(End::Expired).word());
                    break;
                }
                // It may have time yet.
                Err(_) => AGAIN * 10,
            };
        }
        self.kept.lock().remove(&id);
    }

    /// Has `keys` live as long as the lease; how many of them weren't its before.
    pub async fn attach(&self, id: u64, keys: &[Key]) -> Result<u64, LeaseError> {
        let mut added = 0;
        self.change(&*self.truth()?, id, |record| {
            let Some(new) = record.with(keys) else { return Ok(None) };
            let new = new.map_err(|TooManyKeys| LeaseError::Full)?;
            added = new.keys.len() - record.keys.len();
            Ok(Some(new))
        })
        .await?;
        Ok(added as u64)
    }

    /// Has `keys` live on without the lease.
    pub async fn detach(&self, id: u64, keys: &[Key]) -> Result<(), LeaseError> {
        self.change(&*self.truth()?, id, |record| Ok(record.without(keys))).await.map(drop)
    }

    /// Whether the lease lives, as the bus has it.
    pub async fn is_alive(&self, id: u64) -> Result<bool, LeaseError> {
        Ok(self.read(&*self.truth()?, &name(id)).await?.record.is_alive())
    }

    /// Shows a sign of life; how long the lease lives at least, counted from when that was asked.
    pub async fn keep_alive(&self, id: u64) -> Result<Duration, LeaseError> {
        let (seen, sent) = self.change(&*self.truth()?, id, |record| Ok(record.beaten())).await?;
        Ok(Boot::now().until(own_end(sent, seen.record.ttl())))
    }

    /// Ends a lease and removes its keys; how many there were.
    pub async fn revoke(&self, id: u64) -> Result<u64, LeaseError> {
        let truth = self.truth()?;
        let name = name(id);
        let _ending = Ending::new(self, &name);
        let (seen, _) = self.change(&truth, id, |record| Ok(record.ended(End::Revoked))).await?;
        self.finish(&truth, &name, &seen).await.map_err(LeaseError::Storage)
    }

    /// What the bus knows of a lease.
    pub async fn info(&self, id: u64) -> Result<Info, LeaseError> {
        let seen = self.read(&*self.truth()?, &name(id)).await?;
        if !seen.record.is_alive() {
            return Err(LeaseError::Gone);
        }
        let ttl = seen.record.ttl();
        let left = Boot::now().until(own_end(seen.since, ttl));
        Ok(Info { ttl, left, keys: seen.record.keys.iter().cloned().collect() })
    }

    /// All leases that this pod knows of.
    pub fn list(&self) -> Result<Vec<u64>, LeaseError> {
        let mut ids: Vec<u64> = alive(&*self.truth()?).filter_map(|(name, _)| id(&name)).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// As `/status` shows them.
    pub fn status(&self) -> LeasesStatus {
        LeasesStatus {
            known: self.list().map_or(0, |ids| ids.len() as u64),
            kept: self.kept.lock().len() as u64,
            ended: self.ended.load(Ordering::Relaxed),
        }
    }

    fn effects(&self) -> Option<Arc<dyn Keys>> {
        self.keys.lock().clone()
    }

    /// A lease has begun to end.
    fn on_end(&self, name: &Bytes, record: &Record, end: End) {
        if let Some(told) = id(name).and_then(|id| self.kept.lock().remove(&id)) {
            // Who waits no longer is gone.
            let _ = told.send(end);
        }
        let ends_here = self.ending.lock().contains(name);
        if let (Some(effects), Ok(truth), false) = (self.effects(), self.truth(), ends_here) {
            let keys = ending_with(&truth, record);
            if !keys.is_empty() {
                effects.forget(keys);
            }
        }
    }

    /// Removes the keys of a lease that ends, and then what is left of it.
    async fn finish(&self, truth: &Truth, name: &Bytes, seen: &Seen) -> Result<u64, StorageError> {
        let keys = ending_with(truth, &seen.record);
        let mut removed = 0;
        if let Some(effects) = self.effects().filter(|_| !keys.is_empty()) {
            removed = effects.remove(keys).await?;
        }
        self.ended.fetch_add(1, Ordering::Relaxed);
        let end = seen.record.ends.unwrap_or(End::Expired);
        self.metrics.lease_ended.with_label_values(&[end.word()]).inc();
        self.metrics.lease_keys_removed.inc_by(removed);
        // If it isn't written, another finds that there is nothing left to do.
        if let Err(error) = truth.write(name, seen.revision, &Record::default()).await {
            debug!(%error, "a lease that has ended is still there");
        }
        Ok(removed)
    }

    /// The record as the bus has it. *What the bus knows nothing of because it has lost its data
    /// isn't noted*: it is written again.
    async fn read(&self, truth: &Truth, name: &Bytes) -> Result<Seen, LeaseError> {
        let register = truth.registers().read(Space::Lease, name).await;
        let register = register.map_err(LeaseError::from)?;
        if register.is_none() {
            let epoch = truth.registers().epoch().await.map_err(LeaseError::from)?.number;
            let known = self.epoch.load(Ordering::Relaxed);
            if known != 0 && epoch != known {
                return Err(LeaseError::Down("the bus has new data; try again".to_owned()));
            }
        }
        truth.note(name, register.as_ref()).map_err(LeaseError::Down)
    }

    /// Changes a lease's record; what was written, and a time from before it was sent. `None` is
    /// said of one that is gone.
    async fn change(
        &self,
        truth: &Truth,
        id: u64,
        mut change: impl FnMut(&Record) -> Result<Option<Record>, LeaseError>,
    ) -> Result<(Seen, Boot), LeaseError> {
        let name = name(id);
        let mut seen = match truth.newer(&name, 0) {
            Some(seen) => seen,
            None => self.read(truth, &name).await?,
        };
        for _ in 0..TRIES {
            let sent = Boot::now();
            let new = change(&seen.record)?.ok_or(LeaseError::Gone)?;
            if new == *seen.record {
                let now = self.read(truth, &name).await?;
                if now.revision == seen.revision {
                    return Ok((seen, sent));
                }
                seen = now;
                continue;
            }
            match truth.write(&name, seen.revision, &new).await {
                Ok(seen) => return Ok((seen, sent)),
                Err(RegisterError::Crossed) => {
                    sleep(AGAIN.mul_f64(rand::random_range(0.0..1.0))).await;
                    seen = self.read(truth, &name).await?;
                }
                Err(error) => return Err(LeaseError::from(error)),
            }
        }
        Err(LeaseError::Down(format!("others changed the lease {TRIES} times in a row")))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The name of a lease's register.
fn name(id: u64) -> Bytes {
    id.to_string().into()
}

fn id(name: &Bytes) -> Option<u64> {
    std::str::from_utf8(name).ok()?.parse().ok()
}

fn alive(truth: &Truth) -> impl Iterator<Item = (Bytes, Seen)> {
    truth.all().into_iter().filter(|(_, seen)| seen.record.is_alive())
}

/// The keys that end with a lease: what lives with another too lives on.
fn ending_with(truth: &Truth, record: &Record) -> Vec<Key> {
    let mut keys = record.keys.clone();
    for (_, other) in alive(truth) {
        keys.retain(|key| !other.record.keys.contains(key));
    }
    keys.into_iter().collect()
}

/// That a lease ends here.
struct Ending<'a> {
    leases: &'a Leases,
    name: &'a Bytes,
}

impl<'a> Ending<'a> {
    fn new(leases: &'a Leases, name: &'a Bytes) -> Self {
        leases.ending.lock().insert(name.clone());
        Self { leases, name }
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.leases.ending.lock().remove(self.name);
    }
}
