//! What is published on channels: to the subscribers of this pod at once, and to those of the
//! other pods over the bus, which carries it at most once and is never waited for.

use bytes::Bytes;

use super::Engine;
use crate::channels::Kind;
use crate::sync_bus::ChannelMessage;

impl Engine {
    /// Publishes `payload` on `channel`; how many messages the clients of this pod get.
    pub fn tell(&self, channel: Bytes, payload: Bytes, sharded: bool) -> usize {
        self.metrics.channels_published.inc();
        let message = ChannelMessage { origin: self.origin, sharded, channel, payload };
        let told = self.hand_out(&message);
        if self.bus.load().tell(&message).is_err() {
            self.metrics.channels_lost.inc();
        }
        told
    }

    /// A message has come over the bus.
    pub(super) fn on_channel_message(&self, message: &ChannelMessage) {
        // The own ones were handed out when they were published.
        if message.origin != self.origin {
            self.metrics.channels_received.inc();
            self.hand_out(message);
        }
    }

    fn hand_out(&self, ChannelMessage { sharded, channel, payload, .. }: &ChannelMessage) -> usize {
        if *sharded {
            self.hub.publish_sharded(channel, payload)
        } else {
            self.hub.publish(channel, payload)
        }
    }

    /// How many channels, patterns and sharded channels somebody in this pod is subscribed to.
    pub fn subscribed_to(&self) -> [usize; 3] {
        [Kind::Channel, Kind::Pattern, Kind::Shard].map(|kind| self.hub.count(kind))
    }
}
