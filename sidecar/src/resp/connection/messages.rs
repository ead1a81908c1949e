//! How what a client is told unasked gets among its replies: from the Redis behind Warp, and from
//! its inbox.
//!
//! *No message from the inbox overtakes the reply to a command that was taken before it came.* In
//! RESP2 it would be read as that reply; and an invalidation of what is still being read has to
//! come after what is read.

use super::{Connection, End, Turn};
use crate::resp::messages;

/// About how many bytes of messages are taken at a time. They may wait for a reply.
const AT_A_TIME: usize = 64 * 1024;

impl Connection {
    /// Hands on messages, while the client reads them.
    pub(in crate::resp) fn take_messages(&mut self, turn: &mut Turn) -> Result<(), End> {
        self.take_from_storage(turn)?;
        self.take_from_inbox(turn)
    }

    fn is_listening(&self) -> bool {
        !(self.closing || self.draining || self.ended)
    }

    fn take_from_storage(&mut self, turn: &mut Turn) -> Result<(), End> {
        while self.is_listening()
            && let Some(subscription) = &mut self.subscription
        {
            if turn.waiting() >= self.common.settings.output_soft {
                self.waits_for_output = true;
                break;
            }
            let was_subscribed = subscription.is_subscribed();
            match subscription.next() {
                Ok(None) => break,
                Err(_) if subscription.is_idle() => self.subscription = None,
                Err(error) => return Err(End::Subscription(error)),
                Ok(Some(frame)) => {
                    turn.out.extend_from_slice(&frame);
                    if subscription.is_subscribed() != was_subscribed {
                        self.publish_state();
                    }
                }
            }
        }
        Ok(())
    }

    fn take_from_inbox(&mut self, turn: &mut Turn) -> Result<(), End> {
        self.session.inbox.check().map_err(|overflow| End::Slow(overflow.0))?;
        while self.is_listening() {
            while let Some((behind, _)) = self.messages.front() {
                let idle = self.line.is_empty() && self.held.is_none();
                if *behind > self.first && !idle {
                    return Ok(());
                }
                if turn.waiting() >= self.common.settings.output_soft {
                    self.waits_for_output = true;
                    return Ok(());
                }
                if let Some((_, message)) = self.messages.pop_front() {
                    let protocol = self.session.protocol;
                    let subscribed = self.is_subscribed();
                    if let Some(reply) = messages::written(message, protocol, subscribed) {
                        reply.encode(protocol, &mut turn.out);
                    }
                }
            }
            let taken = self.session.inbox.take(AT_A_TIME);
            let taken = taken.map_err(|overflow| End::Slow(overflow.0))?;
            if taken.is_empty() {
                break;
            }
            let behind = self.first + self.line.len() as u64 + u64::from(self.held.is_some());
            self.messages.extend(taken.into_iter().map(|message| (behind, message)));
        }
        Ok(())
    }

    /// Whether the client is subscribed to anything, here or at the Redis behind Warp.
    pub(super) fn is_subscribed(&self) -> bool {
        self.session.is_subscribed()
            || self.subscription.as_ref().is_some_and(|line| line.is_subscribed())
    }
}
