//! A lock that is held through this sidecar: until when it counts as held, its renewal and its end.
//!
//! *After its end by the sidecar's own clock a lock is lost, whatever the bus says later*: who asks
//! then gets an error, and no answer that comes late makes it good again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::rules;
use super::truth::{Seen, Truth};
use super::{LockError, Lost, Owner, Reason, Token};
use crate::sync_bus::RegisterError;
use crate::sync_bus::tenure::{Boot, own_end};

/// A lock is renewed when less than two of so many parts of its TTL are left.
const PARTS: u32 = 3;
/// Between two attempts where the bus is away.
const AGAIN: Duration = Duration::from_millis(200);
/// How long what failed to be released is tried again.
const MOST_TRIES: u32 = 20;

/// See the module.
pub(super) struct Held {
    pub(super) name: Bytes,
    pub(super) token: Token,
    /// Names the holding in the record.
    pub(super) id: u64,
    truth: Arc<Truth>,
    owner: Owner,
    state: Mutex<State>,
    /// One renewal at a time.
    turn: tokio::sync::Mutex<()>,
    /// It is over: released or lost.
    over: CancellationToken,
}

#[derive(Debug)]
struct State {
    seen: Seen,
    ttl: Duration,
    end: Boot,
    lost: Option<Reason>,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut held = f.debug_struct("Held");
        held.field("name", &self.name).field("token", &self.token).finish_non_exhaustive()
    }
}

impl Held {
    /// A lock whose grant was sent at `sent` and written as `seen`.
    pub(super) fn new(
        name: Bytes,
        token: Token,
        id: u64,
        (truth, owner): (Arc<Truth>, Owner),
        (seen, ttl, sent): (Seen, Duration, Boot),
    ) -> Self {
        let state = State { seen, ttl, end: own_end(sent, ttl), lost: None };
        Self {
            name,
            token,
            id,
            truth,
            owner,
            state: Mutex::new(state),
            turn: tokio::sync::Mutex::default(),
            over: CancellationToken::new(),
        }
    }

    /// How long it counts as held from now on.
    pub(super) fn left(&self) -> Result<Duration, LockError> {
        let state = self.state.lock();
        match state.lost {
            Some(reason) => Err(LockError::Lost(reason)),
            None => match Boot::now().until(state.end) {
                Duration::ZERO => Err(LockError::Lost(Reason::Expired)),
                left => Ok(left),
            },
        }
    }

    /// Gives it its TTL again from now on, or another one; how long it counts as held then.
    pub(super) async fn renew(&self, ttl: Option<Duration>) -> Result<Duration, LockError> {
        let _turn = self.turn.lock().await;
        loop {
            self.left()?;
            let (mut seen, ttl) = {
                let state = self.state.lock();
                (state.seen.clone(), ttl.unwrap_or(state.ttl))
            };
            if let Some(newer) = self.truth.locks.newer(&self.name, seen.revision) {
                seen = newer;
            }
            let Some(renewed) = rules::renew(&seen.record, self.id, ttl) else {
                return Err(self.lose(Reason::Taken));
            };
            let sent = Boot::now();
            {
                // *A shorter TTL holds from when it is sent*: it may be written though no answer
                // comes.
                let mut state = self.state.lock();
                state.end = state.end.min(own_end(sent, ttl));
            }
            match self.truth.locks.write(&self.name, seen.revision, &renewed).await {
                Ok(seen) => {
                    // Even if another has come before it: it was expired by then.
                    self.left()?;
                    let mut state = self.state.lock();
                    (state.seen, state.ttl, state.end) = (seen, ttl, own_end(sent, ttl));
                    drop(state);
                    return self.left();
                }
                Err(RegisterError::Crossed | RegisterError::Unknown(_)) => {
                    // Whether an unanswered one was written doesn't matter: the next one is.
                    let seen = self.truth.locks.read(&self.name).await.map_err(LockError::from)?;
                    self.state.lock().seen = seen;
                }
                Err(error) => return Err(LockError::from(error)),
            }
        }
    }

    /// Ends it at once here, and at the bus, if that can be asked.
    pub(super) async fn release(&self) -> Result<(), LockError> {
        self.left()?;
        self.over.cancel();
        self.state.lock().lost = Some(Reason::Released);
        let _turn = self.turn.lock().await;
        give_up(&self.truth, &self.name, self.id).await.map_err(LockError::from)
    }

    /// It is lost; its owner is told.
    pub(super) fn lose(&self, reason: Reason) -> LockError {
        let reason = *self.state.lock().lost.get_or_insert(reason);
        if !self.over.is_cancelled() {
            self.over.cancel();
            (self.owner.on_loss)(&Lost { name: self.name.clone(), token: self.token, reason });
        }
        LockError::Lost(reason)
    }

    /// Why it was lost, unless it was released.
    pub(super) fn lost(&self) -> Option<Reason> {
        self.state.lock().lost.filter(|reason| *reason != Reason::Released)
    }

    /// Whether its owner is gone.
    pub(super) fn is_unwanted(&self) -> bool {
        self.owner.gone.is_cancelled()
    }

    /// Whether it lives and ends with its owner's connection.
    pub(super) const fn is_kept(&self) -> bool {
        self.owner.keeps
    }

    pub(super) const fn truth(&self) -> &Arc<Truth> {
        &self.truth
    }

    /// Has it taken out of the record as soon as the bus can be asked.
    pub(super) fn abandon(&self) {
        tokio::spawn(abandon(Arc::clone(&self.truth), self.name.clone(), self.id));
    }

    /// Renews it if that was asked for, ends it with its owner's connection then, and notices its
    /// end.
    pub(super) async fn keep(&self) {
        loop {
            let (end, due) = {
                let state = self.state.lock();
                let due = if self.owner.keeps { state.ttl / PARTS * 2 } else { Duration::ZERO };
                (state.end, due)
            };
            let left = Boot::now().until(end);
            if left.is_zero() {
                self.lose(Reason::Expired);
                return;
            }
            tokio::select! {
                () = self.over.cancelled() => return,
                () = self.owner.gone.cancelled(), if self.owner.keeps => {
                    if self.release().await.is_err() {
                        self.abandon();
                    }
                    return;
                }
                () = sleep(left.saturating_sub(due)) => {}
            }
            if self.owner.keeps && self.left().is_ok() {
                let left = Boot::now().until(end);
                // What isn't answered by the end makes no difference any more.
                let renewed = tokio::time::timeout(left, self.renew(None)).await;
                if let Ok(Err(LockError::Down(_))) = renewed {
                    sleep(AGAIN.min(Boot::now().until(end))).await;
                }
            }
        }
    }
}

/// Takes `id` out of a lock's record, whether it holds the lock or waits for it.
pub(super) async fn give_up(truth: &Truth, name: &Bytes, id: u64) -> Result<(), RegisterError> {
    loop {
        let seen = truth.locks.read(name).await?;
        let Some(without) = rules::without(&seen.record, id) else { return Ok(()) };
        match truth.locks.write(name, seen.revision, &without).await {
            Ok(_) => return Ok(()),
            // An unanswered one is looked at again.
            Err(RegisterError::Crossed | RegisterError::Unknown(_)) => {}
            Err(error) => return Err(error),
        }
    }
}

/// The same, as often as it takes for a while. What is left of it then, others tidy up.
pub(super) async fn abandon(truth: Arc<Truth>, name: Bytes, id: u64) {
    for _ in 0..MOST_TRIES {
        if give_up(&truth, &name, id).await.is_ok() {
            return;
        }
        sleep(AGAIN.mul_f64(rand::random_range(1.0..3.0))).await;
    }
}
