//! A bus within one process: for a sidecar on its own, where it keeps the engine the same as with
//! a real bus, and for several engines in one test.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{broadcast, mpsc};
use tokio::time::MissedTickBehavior;
use tokio_util::task::AbortOnDropHandle;

use self::registers::MemoryRegisters;
use super::{BusEvent, ChannelMessage, Invalidation, NotTold, PublishError, Registers, SyncBus};

mod registers;

/// Between two proofs.
const PERIOD: Duration = Duration::from_secs(1);
/// Invalidations kept for a subscriber that lags behind; with more, it is reset.
const KEPT: usize = 1024;
/// Events that wait for a subscriber to take them.
const EVENTS: usize = 64;
/// Messages that wait for a subscriber to take them.
const MESSAGES: usize = 1024;
/// The order lives and dies with the process.
const EPOCH: &str = "memory";

/// One sidecar's end of the bus. Needs a tokio runtime.
#[derive(Debug)]
pub struct MemoryBus {
    order: Arc<Mutex<Order>>,
    events: Mutex<Option<mpsc::Receiver<BusEvent>>>,
    messages: Mutex<Option<mpsc::Receiver<ChannelMessage>>>,
    members: Arc<Members>,
    registers: Arc<MemoryRegisters>,
    _feed: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Order {
    last: u64,
    /// Whether there is anyone to tell but the writer, who applied it himself.
    has_peers: bool,
    sender: broadcast::Sender<(u64, Invalidation)>,
}

/// Where each member's messages go. Empty where there is nobody to tell.
type Members = Mutex<Vec<mpsc::Sender<ChannelMessage>>>;

impl MemoryBus {
    /// A bus that no one else is on.
    pub fn alone() -> Self {
        let (sender, _) = broadcast::channel(KEPT);
        let order = Arc::new(Mutex::new(Order { last: 0, has_peers: false, sender }));
        Self::on(order, Arc::default(), Arc::new(MemoryRegisters::new()))
    }

    /// One bus for `members` sidecars in this process.
    pub fn group(members: usize) -> Vec<Self> {
        let (sender, _) = broadcast::channel(KEPT);
        let order = Arc::new(Mutex::new(Order { last: 0, has_peers: true, sender }));
        let all: Arc<Members> = Arc::default();
        let registers = Arc::new(MemoryRegisters::new());
        let member = |_| {
            let member = Self::on(Arc::clone(&order), Arc::clone(&all), Arc::clone(&registers));
            let (sender, messages) = mpsc::channel(MESSAGES);
            all.lock().push(sender);
            *member.messages.lock() = Some(messages);
            member
        };
        (0..members).map(member).collect()
    }

    fn on(
        order: Arc<Mutex<Order>>,
        members: Arc<Members>,
        registers: Arc<MemoryRegisters>,
    ) -> Self {
        let (sender, events) = mpsc::channel(EVENTS);
        let feed = tokio::spawn(feed(Arc::clone(&order), sender));
        Self {
            order,
            events: Mutex::new(Some(events)),
            messages: Mutex::default(),
            members,
            registers,
            _feed: AbortOnDropHandle::new(feed),
        }
    }
}

#[async_trait]
impl SyncBus for MemoryBus {
    fn kind(&self) -> &'static str {
        "memory"
    }

    async fn publish(&self, invalidation: &Invalidation) -> Result<u64, PublishError> {
        let mut order = self.order.lock();
        order.last += 1;
        if order.has_peers {
            // That no one listens is no fault.
            let _ = order.sender.send((order.last, invalidation.clone()));
        }
        Ok(order.last)
    }

    fn events(&self) -> Option<mpsc::Receiver<BusEvent>> {
        self.events.lock().take()
    }

    fn tell(&self, message: &ChannelMessage) -> Result<(), NotTold> {
        for member in self.members.lock().iter() {
            // One that doesn't take its messages loses them.
            let _ = member.try_send(message.clone());
        }
        Ok(())
    }

    fn messages(&self) -> Option<mpsc::Receiver<ChannelMessage>> {
        self.messages.lock().take()
    }

    fn registers(&self) -> Option<Arc<dyn Registers>> {
        Some(Arc::clone(&self.registers) as Arc<dyn Registers>)
    }
}

/// Tells one member of everything, until it listens no more.
async fn feed(order: Arc<Mutex<Order>>, events: mpsc::Sender<BusEvent>) {
    let join = || {
        let order = order.lock();
        (order.last, order.sender.subscribe())
    };
    let epoch = || EPOCH.to_owned();
    let (mut position, mut messages) = join();
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked = None;
    loop {
        if let Some((as_of, last)) = asked
            && position >= last
        {
            asked = None;
            let proof = BusEvent::Proof { as_of, position: last, epoch: epoch() };
            if events.send(proof).await.is_err() {
                return;
            }
        }
        let event = tokio::select! {
            message = messages.recv() => match message {
                Ok((at, invalidation)) => {
                    position = at;
                    BusEvent::Message { position, replayed: false, invalidation }
                }
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    (position, messages) = join();
                    let reason = format!("the subscriber lagged {missed} invalidations behind");
                    BusEvent::Reset { reason, epoch: epoch(), position }
                }
                Err(broadcast::error::RecvError::Closed) => return,
            },
            _ = ticks.tick() => {
                let as_of = Instant::now();
                let order = order.lock();
                if !order.has_peers {
                    position = order.last;
                }
                asked.get_or_insert((as_of, order.last));
                continue;
            }
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Origin, Scope};
    use super::*;

    fn invalidation(sequence: u64) -> Invalidation {
        Invalidation { origin: Origin(1), sequence, scope: Scope::Everything }
    }

    #[tokio::test]
    async fn a_subscriber_that_lags_too_far_behind_is_reset_and_then_goes_on() {
        let [writer, reader] = <[_; 2]>::try_from(MemoryBus::group(2)).unwrap();
        let mut events = reader.events().unwrap();
        assert!(matches!(events.recv().await, Some(BusEvent::Proof { position: 0, .. })));
        let written = (KEPT + 2 * EVENTS + 10) as u64;
        for sequence in 1..=written {
            // Let the feed fill what the subscriber doesn't take.
            tokio::task::yield_now().await;
            assert_eq!(writer.publish(&invalidation(sequence)).await.unwrap(), sequence);
        }
        let mut last = 0;
        let mut resets = 0;
        while last < written {
            match events.recv().await.unwrap() {
                BusEvent::Message { position, .. } => {
                    assert_eq!(position, last + 1);
                    last = position;
                }
                BusEvent::Reset { position, .. } => {
                    resets += 1;
                    last = position;
                }
                BusEvent::Proof { position, .. } => assert!(position <= last),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(resets, 1);
        writer.publish(&invalidation(0)).await.unwrap();
        let next = loop {
            match events.recv().await.unwrap() {
                BusEvent::Proof { .. } => {}
                other => break other,
            }
        };
        assert!(matches!(next, BusEvent::Message { position, .. } if position == written + 1));
    }
}
