//! Follows what is written to all locks, and finds out what was missed: the first thing in a new
//! connection, and now and then.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::MissedTickBehavior;
use tracing::{debug, warn};

use super::standing::NotYet;
use super::truth::Truth;
use super::{Locks, Reason};
use crate::sync_bus::{Space, Watched};

/// Between two looks for locks whose holders are gone.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After so many of them the bus is asked whether it has lost its data.
const LOOKS: u32 = 3;

/// Runs until the bus is exchanged.
pub(super) async fn run(locks: Weak<Locks>, truth: Arc<Truth>) {
    let mut watched = truth.registers().watch();
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Whether the epoch was asked for since the last time that something may have been missed.
    let mut joined = false;
    let mut looks = 0;
    loop {
        tokio::select! {
            told = watched.recv() => match told {
                Ok(Watched::Written { space: Space::Lock, name, register }) => {
                    if let Err(error) = truth.locks.note(&name, Some(&register)) {
                        debug!(name = %name.escape_ascii(), error, "a lock can't be read");
                    }
                }
                Ok(Watched::Written { .. }) => {}
                Ok(Watched::Joined) | Err(RecvError::Lagged(_)) => {
                    joined = false;
                    ticks.reset_immediately();
                }
                Err(RecvError::Closed) => return,
            },
            _ = ticks.tick() => {
                let Some(locks) = locks.upgrade() else { return };
                looks += 1;
                if !joined {
                    joined = locks.join(&truth).await;
                } else if looks % LOOKS == 0 {
                    joined = locks.ask(&truth).await;
                }
                if joined && truth.standing.settled().is_none() {
                    let settled = truth.standing.settle(truth.registers(), locks.longest()).await;
                    joined = !matches!(settled, Err(NotYet::Away(_)));
                }
                truth.tidy(LOOK_EVERY.mul_f64(rand::random_range(0.5..3.0))).await;
            }
        }
    }
}

impl Locks {
    /// Finds out what was missed: whether the data is another, and what is held. Whether that could
    /// be done.
    async fn join(&self, truth: &Truth) -> bool {
        if !self.ask(truth).await {
            return false;
        }
        // So that the time of those who are gone by now begins to pass.
        let Ok(missing) = truth.locks.read_all().await else { return false };
        for name in missing {
            // What fails is found out when it matters.
            let _ = truth.locks.read(&name).await;
        }
        true
    }

    /// Finds out whether the data is another. Whether that could be done.
    async fn ask(&self, truth: &Truth) -> bool {
        if let Err(error) = truth.standing.ask(truth.registers()).await {
            debug!(%error, "locks can't be had at the moment");
            return false;
        }
        if let Some(epoch) = truth.standing.take_loss() {
            warn!(epoch, "the bus has lost its data: all locks are lost");
            self.lose_all(Reason::DataLost, Some(epoch));
        }
        true
    }
}
