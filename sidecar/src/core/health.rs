//! Whether the storage answers: known from every call, and from a probe when there is none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::adapter::{Result, Storage, StorageError, unix_millis};
use crate::metrics::{Metrics, latency};

/// Between two probes while the storage answers, and while it doesn't.
const PROBE_WELL: Duration = Duration::from_secs(5);
const PROBE_ILL: Duration = Duration::from_millis(500);

/// Pauses before a call that never reached the storage is tried again.
const RETRIES: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(100)];

/// See the module.
#[derive(Debug)]
pub(super) struct Health {
    error: Mutex<Option<String>>,
    /// The storage has just failed.
    failed: Notify,
    metrics: Arc<Metrics>,
}

impl Health {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        metrics.storage_up.set(1);
        Self { error: Mutex::default(), failed: Notify::new(), metrics }
    }

    /// The last error, while it lasts.
    pub(super) fn error(&self) -> Option<String> {
        self.error.lock().clone()
    }

    /// Calls the storage, times it, learns from it, and tries again what certainly did nothing.
    /// While the storage is known to be away the first refusal is the answer: retries would only
    /// hold back the application.
    pub(super) async fn call<T, F: Future<Output = Result<T>>>(
        &self,
        operation: &'static str,
        ask: impl Fn() -> F,
    ) -> Result<T> {
        let mut pauses = RETRIES.iter();
        loop {
            let result = self.timed(operation, ask()).await;
            let was_well = self.error.lock().is_none();
            let pause = match &result {
                Err(StorageError::Unavailable { .. }) if was_well => pauses.next(),
                _ => None,
            };
            let Some(pause) = pause else {
                self.learn(&result);
                return result;
            };
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
        }
    }

    /// The same for a call that can't be made twice.
    pub(super) async fn once<T>(
        &self,
        operation: &'static str,
        asked: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let result = self.timed(operation, asked).await;
        self.learn(&result);
        result
    }

    async fn timed<T>(
        &self,
        operation: &'static str,
        asked: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let begun = Instant::now();
        let result = asked.await;
        let took = begun.elapsed();
        self.metrics.storage_seconds.with_label_values(&[operation]).observe(took.as_secs_f64());
        self.metrics.latency.note(latency::Event::Storage, took, unix_millis());
        result
    }

    /// Asks the storage whether it answers, for ever.
    pub(super) async fn probe(&self, storage: Arc<dyn Storage>) {
        loop {
            self.learn(&storage.probe().await);
            if self.error.lock().is_none() {
                // Copies may stand in for the storage as long as it is thought to be away, so one
                // that fails but once is asked again soon.
                let _ = tokio::time::timeout(PROBE_WELL, self.failed.notified()).await;
            }
            if self.error.lock().is_some() {
                tokio::time::sleep(PROBE_ILL).await;
            }
        }
    }

    fn learn<T>(&self, result: &Result<T>) {
        if let Err(error) = result {
            self.metrics.storage_error(error);
        }
        let away = match result {
            // A refusal is an answer.
            Ok(_) | Err(StorageError::Refused(_)) => None,
            Err(error) => Some(error.to_string()),
        };
        let mut known = self.error.lock();
        match (known.is_some(), &away) {
            (false, Some(error)) => {
                warn!(%error, "the storage is away; hits go on");
                self.failed.notify_one();
            }
            (true, None) => info!("the storage is back"),
            _ => {}
        }
        self.metrics.storage_up.set(i64::from(away.is_none()));
        *known = away;
    }
}
