//! Follows what is written to all leases, ends those that nobody keeps alive, and finds out what was
//! missed: the first thing in a new connection, and now and then.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::MissedTickBehavior;
use tracing::{debug, warn};

use super::{Ending, Leases, Truth};
use crate::sync_bus::observed::Record as _;
use crate::sync_bus::tenure::{Boot, others_end};
use crate::sync_bus::{RegisterError, Space, Watched};

/// Between two looks for leases that nobody keeps alive.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// After so many of them the bus is asked whether it has lost its data.
const LOOKS: u32 = 6;

/// Runs until the bus is exchanged.
pub(super) async fn run(leases: Weak<Leases>, truth: Arc<Truth>) {
    let mut watched = truth.registers().watch();
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut joined = false;
    let mut looks = 0;
    loop {
        tokio::select! {
            told = watched.recv() => match told {
                Ok(Watched::Written { space: Space::Lease, name, register }) => {
                    if let Err(error) = truth.note(&name, Some(&register)) {
                        debug!(name = %name.escape_ascii(), error, "a lease can't be read");
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
                let Some(leases) = leases.upgrade() else { return };
                looks += 1;
                if !joined {
                    joined = leases.join(&truth).await;
                } else if looks % LOOKS == 0 {
                    let asked = truth.registers().epoch().await;
                    let epoch = leases.epoch.load(Ordering::Relaxed);
                    joined = asked.is_ok_and(|asked| asked.number == epoch);
                }
                if joined {
                    leases.look(&truth, LOOK_EVERY.mul_f64(rand::random_range(0.0..3.0))).await;
                }
            }
        }
    }
}

impl Leases {
    /// Ends what nobody has kept alive, and finishes what nobody has finished, where no other pod
    /// has done it for `slack`.
    async fn look(&self, truth: &Truth, slack: Duration) {
        let now = Boot::now();
        for (name, seen) in truth.all() {
            let Some((_, patience)) = seen.record.sign() else { continue };
            if now < others_end(seen.since.after(slack), patience) {
                continue;
            }
            let _ending = Ending::new(self, &name);
            // Whoever writes it first goes on.
            match truth.write(&name, seen.revision, &seen.record.overdue()).await {
                Ok(seen) => {
                    if let Err(error) = self.finish(truth, &name, &seen).await {
                        warn!(%error, "the keys of a lease that has ended can't be removed yet");
                    }
                }
                Err(RegisterError::Crossed) => drop(self.read(truth, &name).await),
                // It is tried again.
                Err(_) => {}
            }
        }
    }

    /// Finds out what was missed; whether that could be done.
    async fn join(&self, truth: &Truth) -> bool {
        let Ok(now) = truth.registers().epoch().await else { return false };
        let before = self.epoch.load(Ordering::Relaxed);
        let known = truth.all();
        let Ok(missing) = truth.read_all().await else { return false };
        let lost = before != 0 && before != now.number;
        if lost {
            warn!(
                epoch = now.number,
                "the bus has lost its data: leases that live are written again"
            );
        }
        for (name, seen) in known.into_iter().filter(|(name, _)| missing.contains(name)) {
            let lives = Boot::now() < others_end(seen.since, seen.record.ttl());
            if let Some(beaten) = seen.record.beaten().filter(|_| lost && lives) {
                // Another pod may be first.
                let _ = truth.write(&name, 0, &beaten).await;
            } else {
                let _ = truth.read(&name).await;
            }
        }
        self.epoch.store(now.number, Ordering::Relaxed);
        true
    }
}
