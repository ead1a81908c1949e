//! The way to a lock: read, write what the rules say, wait for a change, and again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use super::held::{abandon, give_up};
use super::rules::{Asker, Step, step};
use super::standing::NotYet;
use super::truth::{Seen, Truth};
use super::{LockError, Owner, Reason};
use crate::sync_bus::RegisterError;
use crate::sync_bus::tenure::{Boot, own_end};

/// A watch is a hint: who waits looks himself at least so often.
const LOOK_AGAIN: Duration = Duration::from_secs(4);
/// The pause after somebody else was first.
const CROSSED: Duration = Duration::from_millis(5);
/// The pause where the bus is away.
const AWAY: Duration = Duration::from_millis(200);

/// A lock as it was granted.
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) epoch: u64,
    pub(super) seen: Seen,
    /// From before the grant was sent.
    pub(super) sent: Boot,
}

/// One question for one lock.
#[derive(Debug)]
pub(super) struct Acquisition<'a> {
    pub(super) truth: &'a Arc<Truth>,
    pub(super) name: &'a Bytes,
    pub(super) asker: Asker,
    pub(super) owner: &'a Owner,
    /// Until when it may wait.
    pub(super) until: Boot,
    /// The longest TTL.
    pub(super) longest: Duration,
}

impl Acquisition<'_> {
    /// The lock, or none if somebody else has it for as long as it may wait.
    pub(super) async fn run(&self) -> Result<Option<Granted>, LockError> {
        let mut trace = Trace::default();
        loop {
            let epoch = self.epoch().await?;
            let Some((seen, sent)) = self.take(&mut trace).await? else { return Ok(None) };
            // *A grant counts only in the epoch that it was asked for in*: what stands in a stream
            // that was made anew meanwhile knows nothing of those who hold locks in the old one.
            let asked = self.truth.standing.ask(self.truth.registers()).await;
            let now = asked.map_err(LockError::from)?;
            if now != epoch {
                let given_up = give_up(self.truth, self.name, self.asker.id).await;
                given_up.map_err(LockError::from)?;
                continue;
            }
            if Boot::now() >= own_end(sent, self.asker.ttl) {
                return Err(LockError::Lost(Reason::Expired));
            }
            trace.is_wanted();
            return Ok(Some(Granted { epoch, seen, sent }));
        }
    }

    /// The epoch, as soon as grants may be given in it.
    async fn epoch(&self) -> Result<u64, LockError> {
        let (registers, standing) = (self.truth.registers(), &self.truth.standing);
        loop {
            if let Some(epoch) = standing.settled() {
                return Ok(epoch);
            }
            let asked = match standing.ask(registers).await {
                Ok(_) => standing.settle(registers, self.longest).await,
                Err(error) => Err(NotYet::Away(error)),
            };
            let (pause, error) = match asked {
                Ok(()) => continue,
                Err(NotYet::Away(error)) => (AWAY, LockError::from(error)),
                Err(NotYet::Settling(left)) => (left, LockError::Settling(left)),
            };
            if self.gone() || Boot::now().after(pause) > self.until {
                return Err(error);
            }
            sleep(pause).await;
        }
    }

    /// Whether nobody waits for the answer.
    fn gone(&self) -> bool {
        self.owner.gone.is_cancelled()
    }

    async fn take(&self, trace: &mut Trace) -> Result<Option<(Seen, Boot)>, LockError> {
        let Self { truth, name, asker, .. } = self;
        // When a write was sent that may have made him the holder.
        let mut unanswered = None;
        let mut seen = None;
        loop {
            if self.gone() {
                return Ok(None);
            }
            let now = match seen.take() {
                Some(seen) => seen,
                None => match truth.locks.read(name).await {
                    Ok(seen) => seen,
                    Err(error) => {
                        self.pause(error).await?;
                        continue;
                    }
                },
            };
            if now.record.holds(asker.id).is_some() {
                // Who never asked for it can't count on it.
                let sent = unanswered.unwrap_or(Boot::at(Duration::ZERO));
                return Ok(Some((now, sent)));
            }
            let sent = Boot::now();
            let (record, takes) = match step(&now.record, asker, now.since, sent) {
                Step::Take(record) => (record, true),
                Step::Change(record) => (record, false),
                Step::Refused => return Ok(None),
                Step::Full => return Err(LockError::Full),
                Step::Wait(_) if sent >= self.until => return Ok(None),
                Step::Wait(end) => {
                    self.wait(now.revision, end).await;
                    seen = truth.locks.newer(name, now.revision);
                    continue;
                }
            };
            if takes || record.awaits(asker.id) {
                trace.0 = Some((Arc::clone(truth), (*name).clone(), asker.id));
            }
            match truth.locks.write(name, now.revision, &record).await {
                // Who comes to know of it so late that it is over already has nothing.
                Ok(seen) if takes && seen.record.holds(asker.id).is_none() => {
                    return Err(LockError::Lost(Reason::Expired));
                }
                Ok(seen) if takes => return Ok(Some((seen, sent))),
                Ok(changed) => seen = Some(changed),
                Err(RegisterError::Crossed) => {
                    sleep(CROSSED.mul_f64(rand::random_range(0.2..2.0))).await;
                }
                Err(error) => {
                    if takes && matches!(error, RegisterError::Unknown(_)) {
                        unanswered.get_or_insert(sent);
                    }
                    self.pause(error).await?;
                }
            }
        }
    }

    /// Waits for a change of what `revision` names, and for nothing longer than until `end`.
    async fn wait(&self, revision: u64, end: Boot) {
        let now = Boot::now();
        let most = now.until(end).min(now.until(self.until));
        let most = most.min(LOOK_AGAIN.mul_f64(rand::random_range(0.75..1.0)));
        tokio::select! {
            () = self.truth.locks.changed(self.name, revision) => {}
            // A little later, so that the time has surely come.
            () = sleep(most + Duration::from_millis(1)) => {}
            () = self.owner.gone.cancelled() => {}
        }
    }

    /// The bus is away: he who waits waits for it too.
    async fn pause(&self, error: RegisterError) -> Result<(), LockError> {
        if !self.asker.waits || Boot::now().after(AWAY) > self.until {
            return Err(LockError::from(error));
        }
        sleep(AWAY.mul_f64(rand::random_range(0.5..1.0))).await;
        Ok(())
    }
}

/// What was written for the question, which is taken out again unless the lock was granted.
#[derive(Debug, Default)]
struct Trace(Option<(Arc<Truth>, Bytes, u64)>);

impl Trace {
    fn is_wanted(&mut self) {
        self.0 = None;
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if let Some((truth, name, id)) = self.0.take()
            // Outside of a runtime everything ends.
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(abandon(truth, name, id));
        }
    }
}
