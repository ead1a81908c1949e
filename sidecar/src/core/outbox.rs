//! Invalidations on their way to the bus.
//!
//! Keys that are written while a message is on its way go out together in the next one: under load
//! one message for many keys, and no delay when idle. A message is tried until the bus has it;
//! a writer waits for that only for a while.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tracing::warn;

use crate::adapter::{Key, unix_millis};
use crate::metrics::{Metrics, latency};
use crate::sync_bus::{Invalidation, Origin, Scope, SyncBus};

/// Keys beyond which "everything" says it shorter: a cut-off writer's memory is bounded.
const MOST_KEYS: usize = 100_000;
const SHORTEST_BACKOFF: Duration = Duration::from_millis(50);
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub struct Outbox {
    origin: Origin,
    queue: Mutex<Queue>,
    wake: Notify,
    /// The last position that the bus has given one of them.
    acknowledged: AtomicU64,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Queue {
    everything: bool,
    keys: HashSet<Key>,
    waiting: Vec<oneshot::Sender<()>>,
    /// Keys of the message that is on its way.
    sending: usize,
}

impl Queue {
    fn pending(&self) -> usize {
        self.sending + self.keys.len() + usize::from(self.everything)
    }

    fn take(&mut self) -> Option<(Scope, Vec<oneshot::Sender<()>>)> {
        let keys = std::mem::take(&mut self.keys);
        let scope = match (std::mem::take(&mut self.everything), keys.is_empty()) {
            (true, _) => Scope::Everything,
            (false, false) => Scope::Keys(keys.into_iter().collect()),
            (false, true) => return None,
        };
        self.sending = match &scope {
            Scope::Everything => 1,
            Scope::Keys(keys) => keys.len(),
        };
        Some((scope, std::mem::take(&mut self.waiting)))
    }
}

impl Outbox {
    /// An empty one, whose messages carry `origin`.
    pub fn new(origin: Origin, metrics: Arc<Metrics>) -> Self {
        let acknowledged = AtomicU64::new(0);
        Self { origin, queue: Mutex::default(), wake: Notify::new(), acknowledged, metrics }
    }

    /// Queues `scope`; the receiver gets a value when the bus has acknowledged it.
    pub fn announce(&self, scope: Scope) -> oneshot::Receiver<()> {
        let (done, acknowledged) = oneshot::channel();
        {
            let mut queue = self.queue.lock();
            match scope {
                Scope::Everything => queue.everything = true,
                Scope::Keys(keys) => queue.keys.extend(keys),
            }
            if queue.everything || queue.keys.len() > MOST_KEYS {
                queue.everything = true;
                queue.keys.clear();
            }
            queue.waiting.push(done);
            self.show(&queue);
        }
        self.wake.notify_one();
        acknowledged
    }

    /// Invalidations that the bus hasn't acknowledged, in keys.
    pub fn pending(&self) -> usize {
        self.queue.lock().pending()
    }

    /// The position of the last one that the bus has acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Acquire)
    }

    /// Positions count anew: what was acknowledged says nothing any more.
    pub fn forget_acknowledged(&self) {
        self.acknowledged.store(0, Ordering::Release);
    }

    /// Publishes for ever; `bus` gives the bus of the moment.
    pub async fn run(&self, bus: impl Fn() -> Arc<dyn SyncBus> + Send + Sync) {
        let mut sequence = 0;
        loop {
            let Some((scope, waiting)) = self.queue.lock().take() else {
                self.wake.notified().await;
                continue;
            };
            sequence += 1;
            let message = Invalidation { origin: self.origin, sequence, scope };
            self.publish(&message, &bus).await;
            for done in waiting {
                // A writer that waits no longer is no fault.
                let _ = done.send(());
            }
            let mut queue = self.queue.lock();
            queue.sending = 0;
            self.show(&queue);
        }
    }

    async fn publish(&self, message: &Invalidation, bus: &(impl Fn() -> Arc<dyn SyncBus> + Sync)) {
        let begun = Instant::now();
        let mut backoff = SHORTEST_BACKOFF;
        let mut failed = false;
        let position = loop {
            let error = match bus().publish(message).await {
                Ok(position) => break position,
                Err(error) => error,
            };
            if !failed {
                warn!(%error, "an invalidation waits for the bus; peers may serve its keys until their TTL");
                failed = true;
            }
            tokio::time::sleep(backoff.mul_f64(rand::random_range(0.5..1.0))).await;
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
        };
        // Not the greatest so far: in another epoch positions begin anew.
        self.acknowledged.store(position, Ordering::Release);
        let took = begun.elapsed();
        self.metrics.bus_publish_seconds.observe(took.as_secs_f64());
        self.metrics.latency.note(latency::Event::Bus, took, unix_millis());
    }

    fn show(&self, queue: &Queue) {
        self.metrics.bus_pending.set(i64::try_from(queue.pending()).unwrap_or(i64::MAX));
    }
}
