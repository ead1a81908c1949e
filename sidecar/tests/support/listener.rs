//! The reading end of a bus in tests: collects what it says and checks what always holds.

#![allow(dead_code, reason = "no test uses all of it")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::timeout;
use warp_sidecar::sync_bus::{BusEvent, Invalidation, Origin, Scope, SyncBus};

/// More than anything takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub(crate) struct Listener {
    events: mpsc::Receiver<BusEvent>,
    /// The last position that is told or given up; `None` before the first proof.
    pub(crate) position: Option<u64>,
    /// By what was last proven.
    pub(crate) proof: Option<(Instant, u64, String)>,
    /// Messages, in order, with their positions.
    pub(crate) messages: Vec<(u64, Invalidation)>,
    /// Positions that came as replayed.
    pub(crate) replayed: Vec<u64>,
    pub(crate) gaps: Vec<(u64, u64)>,
    /// The last positions that were said to be on their way.
    pub(crate) behind: Vec<u64>,
    pub(crate) resets: Vec<String>,
    pub(crate) downs: Vec<String>,
}

impl Listener {
    pub(crate) fn to(bus: &dyn SyncBus) -> Self {
        Self {
            events: bus.events().expect("the first to ask"),
            position: None,
            proof: None,
            messages: Vec::new(),
            replayed: Vec::new(),
            gaps: Vec::new(),
            behind: Vec::new(),
            resets: Vec::new(),
            downs: Vec::new(),
        }
    }

    /// Takes the next event; whether there was one.
    pub(crate) async fn next(&mut self) -> bool {
        let event = timeout(PATIENCE, self.events.recv())
            .await
            .unwrap_or_else(|_| panic!("nothing happens; so far: {self:?}"));
        let Some(event) = event else { return false };
        match event {
            BusEvent::Message { position, replayed, invalidation } => {
                let last = self.position.expect("a proof comes before the first message");
                assert_eq!(position, last + 1, "positions come one after the other");
                self.position = Some(position);
                self.messages.push((position, invalidation));
                if replayed {
                    self.replayed.push(position);
                }
            }
            BusEvent::Gap { from, to } => self.gaps.push((from, to)),
            BusEvent::Behind { end } => self.behind.push(end),
            BusEvent::Proof { as_of, position, epoch } => {
                let told = *self.position.get_or_insert(position);
                assert!(position <= told, "{position} is proven and {told} was told");
                assert!(as_of <= Instant::now());
                if let Some((before, _, _)) = self.proof {
                    assert!(before <= as_of, "proofs come in order");
                }
                self.proof = Some((as_of, position, epoch));
            }
            BusEvent::Reset { reason, position, .. } => {
                self.position = Some(position);
                self.resets.push(reason);
            }
            BusEvent::Down { error } => self.downs.push(error),
        }
        true
    }

    /// Takes events until `enough`.
    pub(crate) async fn until(&mut self, enough: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !enough(self) {
            assert!(begun.elapsed() < PATIENCE, "it doesn't come about; so far: {self:?}");
            assert!(self.next().await, "the events have ended");
        }
    }

    /// Takes events until all that was acknowledged by now is proven to be told.
    pub(crate) async fn until_current(&mut self) {
        let now = Instant::now();
        self.until(|listener| listener.proof.as_ref().is_some_and(|(as_of, ..)| *as_of > now))
            .await;
    }

    /// Takes what comes for a while.
    pub(crate) async fn listen_for(&mut self, time: Duration) {
        let _ = timeout(time, async { while self.next().await {} }).await;
    }

    pub(crate) fn epoch(&self) -> &str {
        self.proof.as_ref().map_or("", |(_, _, epoch)| epoch)
    }

    /// The sequences that `origin` was heard to say, in order.
    pub(crate) fn sequences(&self, origin: Origin) -> Vec<u64> {
        let of_origin = self.messages.iter().filter(|(_, told)| told.origin == origin);
        of_origin.map(|(_, told)| told.sequence).collect()
    }
}

/// The `sequence`th invalidation of `origin`, of a key that names it.
pub(crate) fn invalidation(origin: Origin, sequence: u64) -> Invalidation {
    let key = format!("key:{sequence}").into();
    Invalidation { origin, sequence, scope: Scope::Keys(vec![key]) }
}

/// Publishes it until it is acknowledged; its position.
pub(crate) async fn publish(bus: &Arc<dyn SyncBus>, invalidation: &Invalidation) -> u64 {
    let begun = Instant::now();
    loop {
        match bus.publish(invalidation).await {
            Ok(position) => return position,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
