//! What the bus and the storage tell, applied to the cache. Each listener applies one event at a
//! time, in order, so that a proof comes after everything it proves.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::Engine;
use super::history::Cause;
use crate::adapter::StorageEvent;
use crate::sync_bus::{BusEvent, Scope};

impl Engine {
    pub(super) fn listen_to_storage(self: &Arc<Self>) {
        let storage = self.storage();
        let mut tasks = Vec::new();
        if let Some(events) = storage.events() {
            let engine = Arc::downgrade(self);
            tasks.push(spawn(listen(events, move |event| {
                engine.upgrade().is_some_and(|engine| {
                    engine.on_storage_event(event);
                    true
                })
            })));
        }
        let engine = Arc::clone(self);
        tasks.push(spawn(async move { engine.health.probe(storage).await }));
        self.tasks.lock().of_storage = tasks;
    }

    pub(super) fn listen_to_bus(self: &Arc<Self>) {
        let mut tasks = Vec::new();
        if let Some(events) = self.bus().events() {
            let engine = Arc::downgrade(self);
            tasks.push(spawn(listen(events, move |event| {
                engine.upgrade().is_some_and(|engine| {
                    engine.on_bus_event(event);
                    true
                })
            })));
        }
        if let Some(messages) = self.bus().messages() {
            let engine = Arc::downgrade(self);
            tasks.push(spawn(listen(messages, move |message| {
                engine.upgrade().is_some_and(|engine| {
                    engine.on_channel_message(&message);
                    true
                })
            })));
        }
        self.tasks.lock().of_bus = tasks;
        self.exchange_registers();
    }

    /// What goes on for the engine's life. There is one publisher: a message that is on its way goes
    /// on over the next bus.
    pub(super) fn work(self: &Arc<Self>) {
        let engine = Arc::clone(self);
        let publisher = spawn(async move { engine.outbox.run(|| engine.bus()).await });
        let copies = spawn(Arc::clone(self).end_copies());
        let refreshes = spawn(Arc::clone(self).refresh_copies());
        let expiry = spawn(Arc::clone(self).expire());
        self.tasks.lock().lasting = vec![publisher, copies, refreshes, expiry];
    }

    /// Ends what the engine started, so that it can be dropped.
    pub fn stop(&self) {
        *self.tasks.lock() = super::Tasks::default();
        self.drop_registers();
    }

    fn on_storage_event(&self, event: StorageEvent) {
        let scope = match event {
            StorageEvent::Changed(keys) => Scope::Keys(keys),
            StorageEvent::AnythingChanged => Scope::Everything,
        };
        self.forget(&scope, Cause::Storage);
    }

    fn on_bus_event(&self, event: BusEvent) {
        match event {
            BusEvent::Message { position, replayed, invalidation } => {
                // The own ones were applied by the write itself.
                if invalidation.origin != self.origin {
                    let cause = Cause::Peer(invalidation.origin, position);
                    self.forget(&invalidation.scope, cause);
                }
                self.coherence.applied(position);
                self.metrics.bus_messages.inc();
                if replayed {
                    self.metrics.bus_replayed.inc();
                }
            }
            BusEvent::Gap { from, to } => {
                info!(from, to, "invalidations were missed; fetching them");
                self.metrics.bus_gaps.inc();
                self.coherence.behind(to);
            }
            BusEvent::Behind { end } => self.coherence.behind(end),
            BusEvent::Proof { as_of, position, epoch } => {
                if !self.coherence.has_joined() {
                    // What was read until now may have been written since, before the position
                    // that is joined at: those messages never come.
                    self.forget(&Scope::Everything, Cause::Joined);
                }
                let was_live = self.coherence.is_live(self.clock.millis());
                self.coherence.proven(self.clock.millis_of(as_of), position, epoch);
                if !was_live && self.coherence.is_live(self.clock.millis()) {
                    info!(position, "the bus is live");
                }
            }
            BusEvent::Reset { reason, epoch, position } => {
                warn!(%reason, "invalidations may be lost; the cache is flushed");
                self.metrics.bus_resets.inc();
                self.forget(&Scope::Everything, Cause::Reset);
                self.outbox.forget_acknowledged();
                self.coherence.restarted(position, epoch, self.clock.millis());
            }
            BusEvent::Down { error } => {
                warn!(%error, "the bus is away; distributed classes will be read from storage");
                self.coherence.failed(error);
            }
        }
    }
}

async fn listen<E>(mut events: mpsc::Receiver<E>, mut apply: impl FnMut(E) -> bool) {
    while let Some(event) = events.recv().await {
        if !apply(event) {
            return;
        }
    }
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(task))
}
