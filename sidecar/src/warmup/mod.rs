//! Warm-up: reads keys into the cache before anybody asks, at the start and by a schedule.
//!
//! It goes through its sources one after the other, at a bounded rate and up to a bounded number of
//! bytes, passes over what memory holds already, and enters what it reads under the guard of every
//! read. A storage that fails is waited for; where it was left off it goes on. What keys there are is said
//! by the storage, which key gets what by the policies: here is only the order and the pace.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::{info, warn};
use warp_crds::cron::Schedule;
use warp_crds::quantity;
use warp_crds::status::WarmUpStatus;
use warp_crds::warm_up::{WarmUp, WarmUpSource};

use crate::adapter::{Key, Result, StorageError, UnixMillis, unix_millis};
use crate::core::{Engine, Warmed};
use crate::metrics::Metrics;

mod pace;

use pace::Pace;

/// Keys that a storage is asked for together.
const PAGE: usize = 500;
/// Pauses before a storage that failed is asked again.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Between two looks at whether the bus is joined.
const JOIN: Duration = Duration::from_secs(1);

/// What is to be done, as a cluster says it.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    sources: Vec<WarmUpSource>,
    schedule: Option<Schedule>,
    on_start: bool,
    pace: Pace,
    readiness: Duration,
}

impl Plan {
    /// The plan of a spec that validation has accepted, in a sidecar of so much memory.
    pub fn of(spec: &WarmUp, cache_limit: usize) -> Self {
        let bytes = spec.max_bytes.as_ref().and_then(|bytes| quantity::bytes(bytes).ok());
        Self {
            sources: spec.from.clone(),
            schedule: spec.schedule.as_deref().and_then(|schedule| schedule.parse().ok()),
            on_start: spec.on_start,
            pace: Pace {
                keys_per_second: u64::try_from(spec.keys_per_second).unwrap_or(1),
                max_bytes: bytes.unwrap_or(cache_limit as u64 / 2),
            },
            readiness: spec.readiness_timeout.map_or(Duration::ZERO, Into::into),
        }
    }

    /// How long a start waits for it.
    pub fn readiness(&self) -> Duration {
        if self.on_start { self.readiness } else { Duration::ZERO }
    }
}

/// Does what a plan says.
#[derive(Debug)]
pub struct Warmer {
    plan: Plan,
    engine: Arc<Engine>,
    metrics: Arc<Metrics>,
    progress: Mutex<WarmUpStatus>,
}

impl Warmer {
    /// Nothing is done yet.
    pub fn new(plan: Plan, engine: Arc<Engine>, metrics: Arc<Metrics>) -> Self {
        Self { plan, engine, metrics, progress: Mutex::default() }
    }

    /// How it is going, for `/status`.
    pub fn status(&self) -> WarmUpStatus {
        self.progress.lock().clone()
    }

    /// Whether one warm-up has been done.
    pub fn is_done(&self) -> bool {
        self.progress.lock().done > 0
    }

    /// Warms up for ever; `starts` says whether the sidecar does.
    pub async fn run(&self, starts: bool) {
        if starts && self.plan.on_start {
            self.warm_up().await;
        }
        let Some(schedule) = self.plan.schedule else { return };
        loop {
            let Some(pause) = until_next(&schedule, unix_millis()) else {
                warn!("the schedule of the warm-up has no time in years; it isn't done again");
                return;
            };
            tokio::time::sleep(pause).await;
            self.warm_up().await;
        }
    }

    async fn warm_up(&self) {
        // What is read before the bus is joined has to be forgotten again.
        while !self.engine.join(JOIN).await {}
        let begun = Instant::now();
        {
            let mut progress = self.progress.lock();
            let (done, error) = (progress.done, progress.error.take());
            *progress = WarmUpStatus { running: true, done, error, ..WarmUpStatus::default() };
        }
        self.metrics.warmup_running.set(1);
        let mut run = Run { read: 0, begun, refused: None };
        for source in &self.plan.sources {
            if self.warm_from(source, &mut run).await.is_break() {
                break;
            }
        }
        self.metrics.warmup_running.set(0);
        let mut progress = self.progress.lock();
        progress.running = false;
        progress.done += 1;
        progress.error = run.refused;
        info!(
            loaded = progress.loaded,
            held = progress.held,
            bytes = progress.bytes,
            seconds = begun.elapsed().as_secs_f32(),
            "warmed up"
        );
    }

    async fn warm_from(&self, source: &WarmUpSource, run: &mut Run) -> ControlFlow<()> {
        let mut cursor = 0;
        loop {
            let asked = match source {
                WarmUpSource::Pattern(pattern) => {
                    let pattern = Some(pattern.0.as_bytes());
                    let page = self.insist(|| self.engine.scan(cursor, pattern, PAGE));
                    page.await.map(|page| (page.cursor, page.keys))
                }
                WarmUpSource::Query(query) => {
                    let keys = self.insist(|| self.engine.keys_of(query));
                    keys.await.map(|keys| (0, keys))
                }
            };
            let (next, keys) = match asked {
                Ok(found) => found,
                Err(refusal) => {
                    // The next source may do better.
                    warn!(error = %refusal, "the storage refuses a source of the warm-up");
                    run.refused = Some(refusal);
                    return ControlFlow::Continue(());
                }
            };
            for keys in keys.chunks(self.plan.pace.batch()) {
                self.warm_batch(keys, run).await?;
            }
            if next == 0 {
                return ControlFlow::Continue(());
            }
            cursor = next;
        }
    }

    async fn warm_batch(&self, keys: &[Key], run: &mut Run) -> ControlFlow<()> {
        let pace = self.plan.pace;
        tokio::time::sleep(pace.wait(run.read, run.begun.elapsed())).await;
        let warm = self.insist(|| self.engine.warm(keys.to_vec()));
        let warmed = match warm.await {
            Ok(warmed) => warmed,
            Err(refusal) => {
                run.refused = Some(refusal);
                Warmed::default()
            }
        };
        // What is held already costs the storage nothing.
        run.read += warmed.loaded + warmed.absent;
        self.metrics.warmup_keys.inc_by(warmed.loaded);
        self.metrics.warmup_bytes.inc_by(warmed.bytes);
        let mut progress = self.progress.lock();
        progress.loaded += warmed.loaded;
        progress.bytes += warmed.bytes;
        progress.held += warmed.held;
        progress.absent += warmed.absent;
        if pace.is_enough(progress.bytes) {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// Asks until there is an answer, of which a refusal is one. What went wrong is in the status
    /// meanwhile.
    async fn insist<T, F: Future<Output = Result<T>>>(
        &self,
        ask: impl Fn() -> F,
    ) -> std::result::Result<T, String> {
        let mut pause = SHORTEST_PAUSE;
        loop {
            match ask().await {
                Ok(answer) => {
                    self.progress.lock().error = None;
                    return Ok(answer);
                }
                Err(StorageError::Refused(words)) => return Err(words),
                Err(error) => {
                    let text = error.to_string();
                    let before = self.progress.lock().error.replace(text.clone());
                    if before.is_none() {
                        warn!(error = %text, "the warm-up waits for the storage");
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// How far a warm-up has got.
struct Run {
    /// Keys that the storage was asked for.
    read: u64,
    begun: Instant,
    /// What the storage refused.
    refused: Option<String>,
}

/// How long until the schedule's next time.
fn until_next(schedule: &Schedule, now: UnixMillis) -> Option<Duration> {
    let next = schedule.next_after_millis(now)?;
    Some(Duration::from_millis(next.saturating_sub(now)))
}
