//! What one connection has chosen for itself. Plain state: the commands change it, the connection
//! obeys it.

use std::sync::Arc;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::clients::{Admission, Tracks};
use super::monitor::Monitoring;
use super::queue::Queue;
use super::reply::Protocol;
use crate::channels::{Hub, Inbox, Kind, Mode, Subscriber, Tracker};

/// See the module.
#[derive(Debug)]
pub struct Session {
    /// The connection's place among the server's clients.
    pub admission: Admission,
    /// The form of replies from now on.
    pub protocol: Protocol,
    /// Whether replies are sent.
    pub replies: Replies,
    /// Set by QUIT: nothing is read any more, and the connection closes behind its replies.
    pub closing: bool,
    /// The full name of the command that ran last.
    pub last_command: Option<&'static str>,
    /// What it has queued, and what it watches, where Warp itself executes that.
    pub queue: Queue,
    /// Set by RESET: what the connection has open at the storage is to be given up.
    pub reset: bool,
    /// What it is told without having asked.
    pub inbox: Arc<Inbox>,
    /// Cancelled when nobody waits for its replies any more.
    pub gone: CancellationToken,
    /// Its subscriptions, if it ever had any here.
    subscriber: Option<Box<Subscriber>>,
    /// CLIENT TRACKING, while it is on.
    pub tracker: Option<Box<Tracker>>,
    /// MONITOR, while it is on.
    pub monitoring: Option<Monitoring>,
}

/// CLIENT REPLY.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replies {
    /// Every reply is sent.
    #[default]
    On,
    /// None is.
    Off,
    /// That of the next command isn't.
    SkipNext,
}

impl Session {
    /// That of a new connection.
    pub fn new(admission: Admission, inbox: Arc<Inbox>, gone: CancellationToken) -> Self {
        admission.client.set_inbox(&inbox);
        Self {
            admission,
            protocol: Protocol::default(),
            replies: Replies::default(),
            closing: false,
            last_command: None,
            queue: Queue::default(),
            reset: false,
            inbox,
            gone,
            subscriber: None,
            tracker: None,
            monitoring: None,
        }
    }

    /// Whether the next command's reply is to be left out; asked once for each command.
    pub fn take_skip(&mut self) -> bool {
        let skip = self.replies == Replies::SkipNext;
        if skip {
            self.replies = Replies::On;
        }
        skip
    }

    /// Its subscriptions at `hub`, to be added to.
    pub fn subscriber(&mut self, hub: &Arc<Hub>) -> &mut Subscriber {
        let inbox = &self.inbox;
        self.subscriber
            .get_or_insert_with(|| Box::new(Subscriber::new(Arc::clone(hub), Arc::clone(inbox))))
    }

    /// Whether it is subscribed to anything here.
    pub fn is_subscribed(&self) -> bool {
        self.subscriber.as_ref().is_some_and(|subscriber| !subscriber.is_empty())
    }

    /// What it is subscribed to here.
    pub fn subscribed_to(&self, kind: Kind) -> Vec<Bytes> {
        let names = self.subscriber.as_ref().map(|subscriber| subscriber.names(kind));
        names.into_iter().flatten().cloned().collect()
    }

    /// To how many channels, patterns and sharded channels it is subscribed here.
    pub fn subscriptions(&self) -> [usize; 3] {
        self.subscriber.as_ref().map_or([0; 3], |subscriber| {
            [Kind::Channel, Kind::Pattern, Kind::Shard].map(|kind| subscriber.names(kind).len())
        })
    }

    /// Ends a subscription.
    pub fn unsubscribe(&mut self, kind: Kind, name: &Bytes) {
        if let Some(subscriber) = &mut self.subscriber {
            subscriber.unsubscribe(kind, name);
        }
    }

    /// Ends all that it is told without having asked.
    pub fn stop_listening(&mut self) {
        self.subscriber = None;
        self.tracker = None;
        self.monitoring = None;
        self.admission.client.with_state(|state| state.monitors = false);
        self.publish_subscriptions();
        self.publish_tracking();
    }

    /// Lets others see what it is subscribed to.
    pub fn publish_subscriptions(&self) {
        let subscriptions = self.subscriptions();
        self.admission.client.with_state(|state| state.subscriptions = subscriptions);
    }

    /// Lets others see whether it tracks.
    pub fn publish_tracking(&self) {
        let tracks = self.tracker.as_ref().map(|tracker| Tracks {
            broadcast: matches!(tracker.options().mode, Mode::Broadcast(_)),
            redirected_to: tracker.options().redirection.as_ref().map(|redirection| redirection.to),
        });
        self.admission.client.with_state(|state| state.tracks = tracks);
    }

    /// Lets others see which command ran last.
    pub fn publish_last_command(&self) {
        self.admission.client.with_state(|state| state.last_command = self.last_command);
    }
}
