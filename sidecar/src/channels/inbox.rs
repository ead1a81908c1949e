//! The messages that wait for one connection to take them.
//!
//! Any thread puts, the connection takes. It is woken once for all messages that it has not taken
//! yet, so that a burst costs one wake-up. *What waits is bounded*: at more than the limit
//! everything is dropped, nothing more is taken in, and the connection learns that it was too slow.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// Something that a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// It came on a channel that the client is subscribed to.
    Published {
        /// The channel.
        channel: Bytes,
        /// What was published.
        payload: Bytes,
    },
    /// It came on a channel that a pattern of the client's matches.
    Matched {
        /// The pattern.
        pattern: Bytes,
        /// The channel.
        channel: Bytes,
        /// What was published.
        payload: Bytes,
    },
    /// It came on a sharded channel that the client is subscribed to.
    Sharded {
        /// The channel.
        channel: Bytes,
        /// What was published.
        payload: Bytes,
    },
    /// What the client has kept of these keys is old.
    Invalidated {
        /// The keys; `None` is every key.
        keys: Option<Arc<[Bytes]>>,
        /// Whether another client read them, who has his invalidations sent here.
        redirected: bool,
    },
    /// A command that a client has had executed, as MONITOR shows it: the bytes of a reply.
    Monitored(Bytes),
    /// The client that the invalidations were to go to is gone.
    RedirectionBroken {
        /// Who that was.
        to: u64,
    },
    /// What the client held is his no more.
    Lost(Box<Loss>),
}

/// What a client lost, as he is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// `warp.lock.lost` and the like.
    pub kind: &'static str,
    /// What it is called.
    pub name: Bytes,
    /// What names the holding.
    pub token: Vec<u64>,
    /// Why, in a word.
    pub reason: &'static str,
}

impl Message {
    /// About the bytes that it takes.
    fn weight(&self) -> usize {
        /// Besides the texts.
        const OVERHEAD: usize = 64;
        OVERHEAD
            + match self {
                Self::Published { channel, payload } | Self::Sharded { channel, payload } => {
                    channel.len() + payload.len()
                }
                Self::Matched { pattern, channel, payload } => {
                    pattern.len() + channel.len() + payload.len()
                }
                Self::Invalidated { keys: Some(keys), .. } => {
                    keys.iter().map(|key| key.len() + OVERHEAD).sum()
                }
                Self::Monitored(line) => line.len(),
                Self::Lost(loss) => loss.name.len() + OVERHEAD,
                Self::Invalidated { keys: None, .. } | Self::RedirectionBroken { .. } => 0,
            }
    }
}

/// More waited than may, and it is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} bytes of messages were not taken")]
pub struct Overflow(pub usize);

/// See the module.
pub struct Inbox {
    id: u64,
    limit: usize,
    wake: Box<dyn Fn() + Send + Sync>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Message>,
    bytes: usize,
    /// The connection knows that there is something to take.
    woken: bool,
    overflown: Option<Overflow>,
}

impl Inbox {
    /// That of the client `id`. It holds `limit` bytes at most; `wake` tells the connection that
    /// there is something to take.
    pub fn new(id: u64, limit: usize, wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self { id, limit, wake: Box::new(wake), waiting: Mutex::default() }
    }

    /// Whose it is.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Adds a message.
    pub fn put(&self, message: Message) {
        let mut waiting = self.waiting.lock();
        if waiting.overflown.is_some() {
            return;
        }
        waiting.bytes += message.weight();
        let overflows = waiting.bytes > self.limit;
        if overflows {
            waiting.overflown = Some(Overflow(waiting.bytes));
            waiting.messages = VecDeque::new();
        } else {
            waiting.messages.push_back(message);
        }
        // One that waits for its client to read may not take anything for long.
        let wakes = !std::mem::replace(&mut waiting.woken, true) || overflows;
        drop(waiting);
        if wakes {
            (self.wake)();
        }
    }

    /// Fails if more waited than may.
    pub fn check(&self) -> Result<(), Overflow> {
        self.waiting.lock().overflown.map_or(Ok(()), Err)
    }

    /// The next messages, of about `most` bytes; none when all are taken, and only then there will
    /// be a wake-up again.
    pub fn take(&self, most: usize) -> Result<Vec<Message>, Overflow> {
        let mut waiting = self.waiting.lock();
        if let Some(overflow) = waiting.overflown {
            return Err(overflow);
        }
        let mut taken = Vec::new();
        let mut bytes = 0;
        while bytes < most
            && let Some(message) = waiting.messages.pop_front()
        {
            bytes += message.weight();
            taken.push(message);
        }
        waiting.bytes -= bytes;
        if taken.is_empty() {
            waiting.woken = false;
        }
        Ok(taken)
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;

    use super::{Inbox, Message};

    fn message(text: &str) -> Message {
        Message::Published { channel: Bytes::from_static(b"c"), payload: text.to_owned().into() }
    }

    fn inbox(limit: usize) -> (Inbox, Arc<AtomicUsize>) {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&wakes);
        let wake = move || {
            counted.fetch_add(1, Ordering::Relaxed);
        };
        (Inbox::new(1, limit, wake), wakes)
    }

    #[test]
    fn who_has_not_taken_all_is_not_woken_again() {
        let (inbox, wakes) = inbox(1 << 20);
        inbox.put(message("a"));
        inbox.put(message("b"));
        assert_eq!(inbox.take(1), Ok(vec![message("a")]));
        inbox.put(message("c"));
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
        assert_eq!(inbox.take(1 << 20), Ok(vec![message("b"), message("c")]));
        assert_eq!(inbox.take(1 << 20), Ok(vec![]));
        inbox.put(message("d"));
        assert_eq!(wakes.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn who_lets_it_run_over_learns_of_it_and_holds_nothing() {
        let (inbox, wakes) = inbox(1000);
        for _ in 0..100 {
            inbox.put(message("a message"));
        }
        assert_eq!(wakes.load(Ordering::Relaxed), 2, "for the first and for the end");
        let overflow = inbox.take(1).unwrap_err();
        assert_eq!(inbox.check(), Err(overflow));
        assert!(overflow.0 > 1000 && overflow.0 < 1100, "{overflow}");
    }

    #[test]
    fn what_was_taken_makes_room() {
        let (inbox, _) = inbox(1000);
        for _ in 0..100 {
            inbox.put(message("a message"));
            assert_eq!(inbox.take(1).unwrap().len(), 1);
        }
    }
}
