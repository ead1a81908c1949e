//! Locks that are held by one client at a time, in all pods of a cluster, with fencing tokens.
//!
//! The truth is a register of the bus for each lock (`record`), which changes by compare-and-swap
//! alone (`rules`); a holder is taken for gone by `sync_bus::tenure`'s rule, which needs no clocks
//! that agree. A token is the epoch of the bus's data and the revision that granted the lock: *each
//! grant has a greater token than all before it*, also when the bus has lost its data (`standing`).
//!
//! What a lock can't do is stop a client who goes on after he has lost it: he may be paused
//! between his last look and what he does. For that there is the token: who is written to refuses an
//! older one than he has seen (in PostgreSQL, `warp_fence`).
//!
//! The division: `acquire` is the way to a lock, `held` what becomes of it, `truth` what is known of
//! all locks, `follow` keeps that up to date.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use parking_lot::Mutex;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use warp_crds::status::LocksStatus;

use self::acquire::Acquisition;
use self::held::Held;
use self::record::Record;
use self::rules::Asker;
use self::truth::Truth;
use crate::metrics::Metrics;
use crate::sync_bus::tenure::Boot;
use crate::sync_bus::{RegisterError, Registers};

mod acquire;
mod follow;
mod held;
#[cfg(test)]
mod model;
mod record;
mod rules;
mod standing;
mod truth;

/// The longest TTL where nobody chose another.
const LONGEST: Duration = Duration::from_mins(1);
/// The shortest one that leaves time to renew.
pub const SHORTEST: Duration = Duration::from_millis(100);
/// The longest name in bytes.
pub const LONGEST_NAME: usize = 512;

/// Names a grant. Later grants have greater ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// The bus's data: another number, always a greater, when it was lost.
    pub epoch: u64,
    /// The place of the grant among all that was written there.
    pub sequence: u64,
}

/// Why a lock isn't held any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Its TTL passed without a renewal.
    #[error("its TTL has passed")]
    Expired,
    /// It stands otherwise at the bus.
    #[error("it was given to another")]
    Taken,
    /// It belonged to another bus.
    #[error("the bus was exchanged")]
    Exchanged,
    /// The bus doesn't know of it any more.
    #[error("the bus has lost its data")]
    DataLost,
    /// It was released.
    #[error("it was released")]
    Released,
    /// It was lost or released before, or was never granted here.
    #[error("this sidecar holds no such grant, or no longer")]
    Unknown,
}

impl Reason {
    /// In one word, for a push and a metric.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Taken => "taken",
            Self::Exchanged => "exchanged",
            Self::DataLost => "data-lost",
            Self::Released => "released",
            Self::Unknown => "unknown",
        }
    }
}

/// Why a lock isn't granted, renewed or released.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// It isn't held.
    #[error("the lock isn't held: {0}")]
    Lost(Reason),
    /// The bus can't be asked. Nothing is granted without it.
    #[error("{0}")]
    Down(String),
    /// Those who held locks when the bus lost its data may count on them for so long.
    #[error(
        "the bus has no data of before: locks that somebody may still hold end in {} ms",
        .0.as_millis()
    )]
    Settling(Duration),
    /// The bus has no locks.
    #[error("bus {0} has no locks; use nats")]
    Unsupported(&'static str),
    /// The TTL is longer than the cluster allows.
    #[error(
        "the TTL must be {} to {} ms (spec.locks.maxTtl); who holds a lock for longer renews it",
        SHORTEST.as_millis(), .0.as_millis()
    )]
    Ttl(Duration),
    /// Too many wait for it.
    #[error("{} wait for this lock already", rules::MOST_WAITING)]
    Full,
}

impl From<RegisterError> for LockError {
    fn from(error: RegisterError) -> Self {
        Self::Down(error.to_string())
    }
}

/// That a lock was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Which one.
    pub name: Bytes,
    /// The grant.
    pub token: Token,
    /// Why.
    pub reason: Reason,
}

/// Whose a lock is.
pub struct Owner {
    /// His connection is gone.
    pub gone: CancellationToken,
    /// Whether the lock is renewed while the connection lives, and released when it ends.
    pub keeps: bool,
    /// Called when the lock is lost before it is released.
    pub on_loss: Box<dyn Fn(&Lost) + Send + Sync>,
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner").field("keeps", &self.keeps).finish_non_exhaustive()
    }
}

/// What is known of a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// The last grant, while somebody holds it.
    pub token: Option<Token>,
    /// Its TTL.
    pub ttl: Duration,
    /// How often it was renewed.
    pub renewals: u64,
    /// How long it counts as held, if it is held through this sidecar.
    pub left: Option<Duration>,
    /// How many wait for it.
    pub waiting: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Locks {
    /// This run of the sidecar.
    pod: u64,
    longest: AtomicU64,
    bus: Mutex<Bus>,
    held: Mutex<HashMap<(Bytes, Token), Arc<Held>>>,
    waiting: AtomicU64,
    lost: AtomicU64,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Bus {
    kind: &'static str,
    truth: Option<Arc<Truth>>,
    _follower: Option<AbortOnDropHandle<()>>,
}

impl Locks {
    /// Without a bus yet. `pod` names this run of the sidecar.
    pub fn new(pod: u64, metrics: Arc<Metrics>) -> Self {
        Self {
            pod,
            longest: AtomicU64::new(millis(LONGEST)),
            bus: Mutex::new(Bus { kind: "none", truth: None, _follower: None }),
            held: Mutex::default(),
            waiting: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            metrics,
        }
    }

    /// Changes the longest TTL that is granted.
    pub fn set_longest(&self, longest: Duration) {
        self.longest.store(millis(longest), Ordering::Relaxed);
    }

    /// The longest TTL that is granted.
    pub fn longest(&self) -> Duration {
        Duration::from_millis(self.longest.load(Ordering::Relaxed))
    }

    /// Locks are those of this bus from now on; what was held at another is lost. Needs a tokio
    /// runtime.
    pub fn exchange(self: &Arc<Self>, kind: &'static str, registers: Option<Arc<dyn Registers>>) {
        let truth = registers.map(|registers| Arc::new(Truth::new(registers)));
        let follower = truth.as_ref().map(|truth| {
            let follow = follow::run(Arc::downgrade(self), Arc::clone(truth));
            AbortOnDropHandle::new(tokio::spawn(follow))
        });
        *self.bus.lock() = Bus { kind, truth, _follower: follower };
        self.lose_all(Reason::Exchanged, None);
    }

    fn truth(&self) -> Result<Arc<Truth>, LockError> {
        let bus = self.bus.lock();
        bus.truth.clone().ok_or(LockError::Unsupported(bus.kind))
    }

    /// Whether that bus is still the one.
    fn is_of(&self, truth: &Arc<Truth>) -> bool {
        self.bus.lock().truth.as_ref().is_some_and(|now| Arc::ptr_eq(now, truth))
    }

    /// The lock for `ttl`, if it is free, or will be within `wait`.
    pub async fn acquire(
        self: &Arc<Self>,
        name: Bytes,
        ttl: Duration,
        wait: Duration,
        owner: Owner,
    ) -> Result<Option<Token>, LockError> {
        self.check(ttl)?;
        let truth = self.truth()?;
        let asker = Asker { id: rand::random(), pod: self.pod, ttl, waits: !wait.is_zero() };
        let (until, longest) = (Boot::now().after(wait), self.longest());
        let acquisition =
            Acquisition { truth: &truth, name: &name, asker, owner: &owner, until, longest };
        let granted = {
            let _waiting = asker.waits.then(|| Waiting::new(self));
            acquisition.run().await
        };
        let result = match &granted {
            Ok(Some(_)) => "granted",
            Ok(None) => "refused",
            Err(_) => "failed",
        };
        self.metrics.lock_requests.with_label_values(&[result]).inc();
        let Some(granted) = granted? else { return Ok(None) };
        let token = Token { epoch: granted.epoch, sequence: granted.seen.record.grant() };
        let held = (granted.seen, ttl, granted.sent);
        let held = Arc::new(Held::new(name, token, asker.id, (truth, owner), held));
        self.held.lock().insert((held.name.clone(), token), Arc::clone(&held));
        let (locks, kept) = (Arc::downgrade(self), Arc::clone(&held));
        tokio::spawn(async move {
            kept.keep().await;
            let Some(locks) = locks.upgrade() else { return };
            locks.held.lock().remove(&(kept.name.clone(), kept.token));
            if let Some(reason) = kept.lost() {
                locks.count_loss(reason);
            }
        });
        if !self.is_of(held.truth()) {
            return Err(held.lose(Reason::Exchanged));
        }
        if held.is_unwanted() {
            // Who isn't there any more never learned that he has it.
            held.release().await?;
            return Ok(None);
        }
        Ok(Some(token))
    }

    fn check(&self, ttl: Duration) -> Result<(), LockError> {
        let longest = self.longest();
        if (SHORTEST..=longest).contains(&ttl) { Ok(()) } else { Err(LockError::Ttl(longest)) }
    }

    fn held(&self, name: &Bytes, token: Token) -> Result<Arc<Held>, LockError> {
        let held = self.held.lock().get(&(name.clone(), token)).cloned();
        held.ok_or(LockError::Lost(Reason::Unknown))
    }

    /// Gives a lock its TTL again, or another one; how long it counts as held then.
    pub async fn renew(
        &self,
        name: &Bytes,
        token: Token,
        ttl: Option<Duration>,
    ) -> Result<Duration, LockError> {
        ttl.map_or(Ok(()), |ttl| self.check(ttl))?;
        self.held(name, token)?.renew(ttl).await
    }

    /// Releases a lock.
    pub async fn release(&self, name: &Bytes, token: Token) -> Result<(), LockError> {
        let held = self.held(name, token)?;
        let released = held.release().await;
        if let Err(LockError::Down(_)) = released {
            held.abandon();
        }
        released
    }

    /// What the bus knows of a lock.
    pub async fn info(&self, name: &Bytes) -> Result<Info, LockError> {
        let truth = self.truth()?;
        let epoch = match truth.standing.epoch() {
            Some(epoch) => epoch,
            None => truth.standing.ask(truth.registers()).await.map_err(LockError::from)?,
        };
        let seen = truth.locks.read(name).await.map_err(LockError::from)?;
        let Record { holder, queue } = &*seen.record;
        let token = holder.map(|holder| Token { epoch, sequence: holder.grant });
        let held = token.and_then(|token| self.held(name, token).ok());
        Ok(Info {
            token,
            ttl: holder.map_or(Duration::ZERO, |holder| holder.ttl()),
            renewals: holder.map_or(0, |holder| holder.beat),
            left: held.and_then(|held| held.left().ok()),
            waiting: queue.len(),
        })
    }

    /// Releases what is held for connections, all of which have ended, and waits until that is done.
    pub async fn end(&self) {
        let kept = || -> Vec<_> {
            let held = self.held.lock();
            held.values().filter(|held| held.is_kept()).cloned().collect()
        };
        // What can't be released ends by itself.
        join_all(kept().iter().map(|held| held.release())).await;
        while !kept().is_empty() {
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// All that are held are lost, except those of `epoch`.
    fn lose_all(&self, reason: Reason, epoch: Option<u64>) {
        let held: Vec<_> = self.held.lock().values().cloned().collect();
        for held in held.into_iter().filter(|held| Some(held.token.epoch) != epoch) {
            held.lose(reason);
        }
    }

    fn count_loss(&self, reason: Reason) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        self.metrics.lock_lost.with_label_values(&[reason.word()]).inc();
    }

    /// How many are held through this sidecar, and how many of its clients wait.
    pub fn figures(&self) -> (u64, u64) {
        (self.held.lock().len() as u64, self.waiting.load(Ordering::Relaxed))
    }

    /// As `/status` shows them.
    pub fn status(&self) -> LocksStatus {
        let (held, waiting) = self.figures();
        let lost = self.lost.load(Ordering::Relaxed);
        let (epoch, error) = match self.truth() {
            Err(error) => (None, Some(error.to_string())),
            Ok(truth) => {
                let new = || "nothing is granted yet: the bus's data is new".to_owned();
                let unsettled = truth.standing.settled().is_none().then(new);
                (truth.standing.epoch(), truth.standing.error().or(unsettled))
            }
        };
        LocksStatus { available: error.is_none(), error, epoch, held, waiting, lost }
    }
}

/// Counts who waits.
struct Waiting<'a>(&'a Locks);

impl<'a> Waiting<'a> {
    fn new(locks: &'a Locks) -> Self {
        locks.waiting.fetch_add(1, Ordering::Relaxed);
        Self(locks)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
