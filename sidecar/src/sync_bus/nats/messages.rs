//! The messages of channels over plain NATS, without a stream: at most once, in the order of each
//! publisher.
//!
//! Who publishes never waits. What NATS doesn't take at once waits in a queue that is bounded in
//! bytes; what finds no room there is lost, as is what waits when the connection ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_nats::{Client, Subscriber};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::super::{ChannelMessage, NotTold, wire_message};

/// Bytes that may wait for NATS.
const MOST_WAITING: usize = 8 << 20;

/// Those of one connection.
#[derive(Debug)]
pub(super) struct Messages {
    queue: mpsc::UnboundedSender<Bytes>,
    waiting: Arc<AtomicUsize>,
    max_payload: usize,
    _sender: AbortOnDropHandle<()>,
    _receiver: AbortOnDropHandle<()>,
}

impl Messages {
    /// Over `client`, on `subject`. What comes of the other sidecars goes to `told`.
    pub(super) async fn open(
        client: Client,
        subject: &str,
        told: mpsc::Sender<ChannelMessage>,
    ) -> Result<Self, async_nats::SubscribeError> {
        let received = client.subscribe(subject.to_owned()).await?;
        let (queue, queued) = mpsc::unbounded_channel();
        let waiting = Arc::default();
        let max_payload = client.max_payload();
        let sending = send(client, subject.to_owned(), queued, Arc::clone(&waiting));
        Ok(Self {
            queue,
            waiting,
            max_payload,
            _sender: AbortOnDropHandle::new(tokio::spawn(sending)),
            _receiver: AbortOnDropHandle::new(tokio::spawn(receive(received, told))),
        })
    }

    /// Sends a message, if there is room for it.
    pub(super) fn send(&self, message: &ChannelMessage) -> Result<(), NotTold> {
        let payload = wire_message::encode(message);
        let length = payload.len();
        if length > self.max_payload {
            return Err(NotTold);
        }
        if self.waiting.fetch_add(length, Ordering::Relaxed) > MOST_WAITING {
            self.waiting.fetch_sub(length, Ordering::Relaxed);
            return Err(NotTold);
        }
        self.queue.send(payload).map_err(|_| NotTold)
    }
}

async fn send(
    client: Client,
    subject: String,
    mut queued: mpsc::UnboundedReceiver<Bytes>,
    waiting: Arc<AtomicUsize>,
) {
    while let Some(payload) = queued.recv().await {
        let length = payload.len();
        if client.publish(subject.clone(), payload).await.is_err() {
            return;
        }
        waiting.fetch_sub(length, Ordering::Relaxed);
    }
}

/// While nobody takes them the client's own queue fills, and drops.
async fn receive(mut received: Subscriber, told: mpsc::Sender<ChannelMessage>) {
    while let Some(message) = received.next().await {
        if let Some(message) = wire_message::decode(&message.payload)
            && told.send(message).await.is_err()
        {
            return;
        }
    }
}
