//! The bus that carries invalidations between the sidecars of a cluster, and beside them the messages
//! of channels. One module for each kind.
//!
//! A bus orders invalidations by position within an epoch. It tells its subscriber each of them
//! once, in order, and either fills what it missed or says so with [`BusEvent::Reset`]; what a
//! subscriber has been told up to a [`BusEvent::Proof`] is everything that was acknowledged to any
//! publisher before the proof's instant.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::adapter::Key;

mod cursor;
mod memory;
mod nats;
pub mod observed;
mod registers;
pub mod tenure;
mod wire;
mod wire_message;

pub use memory::MemoryBus;
pub use nats::{NatsBus, NatsSettings, SettingsError, Timings};
pub use registers::{Epoch, Register, RegisterError, Registers, Space, Watched};

/// Names one run of one sidecar, so that it knows its own messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Origin(pub u64);

impl Origin {
    /// Of a message that can't be read; no sidecar's own.
    pub const UNKNOWN: Self = Self(0);

    /// A new one, drawn at random.
    pub fn random() -> Self {
        Self(rand::random_range(1..=u64::MAX))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::UNKNOWN => f.write_str("unknown"),
            Self(number) => write!(f, "{number:016x}"),
        }
    }
}

/// What was written, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalidation {
    /// Who wrote.
    pub origin: Origin,
    /// Counts the origin's invalidations from 1. One of many keys may come as several messages
    /// with the same sequence.
    pub sequence: u64,
    /// What must be forgotten.
    pub scope: Scope,
}

/// What a client published on a channel, for the subscribers of the other sidecars.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelMessage {
    /// Whose client it was.
    pub origin: Origin,
    /// Whether the channel is a sharded one.
    pub sharded: bool,
    /// The channel.
    pub channel: Bytes,
    /// What was published.
    pub payload: Bytes,
}

/// A message was not handed to the bus, and is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bus did not take the message")]
pub struct NotTold;

/// What must be forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// These keys.
    Keys(Vec<Key>),
    /// Every key.
    Everything,
}

/// What a bus tells its subscriber.
#[derive(Clone, Debug, PartialEq)]
pub enum BusEvent {
    /// An invalidation. The subscriber's own come too, for the position's sake.
    Message {
        /// Its place in the epoch's order.
        position: u64,
        /// Whether it was missed on the live path and fetched afterwards.
        replayed: bool,
        /// What was written.
        invalidation: Invalidation,
    },
    /// Positions `from..=to` were missed; they follow as replayed messages, or a reset does.
    Gap {
        /// The first missed position.
        from: u64,
        /// The last missed position.
        to: u64,
    },
    /// There are invalidations up to position `end`, which are on their way.
    Behind {
        /// The bus's last position.
        end: u64,
    },
    /// All that was acknowledged before `as_of` has been told. The first one says where the
    /// subscriber joined: what lies before it is never told, so whatever was read from the storage
    /// before it must be forgotten, and a read that began before it must not be cached.
    Proof {
        /// By this process's clock, taken before the bus was asked.
        as_of: Instant,
        /// The bus's last position then.
        position: u64,
        /// Names the order that positions belong to.
        epoch: String,
    },
    /// Positions were lost or start anew: everything cached may be stale.
    Reset {
        /// For the log.
        reason: String,
        /// The epoch from now on.
        epoch: String,
        /// The position from now on.
        position: u64,
    },
    /// The bus can't be asked; said when it begins and when its reason changes. A later proof ends
    /// it.
    Down {
        /// The client's or the server's words.
        error: String,
    },
}

/// Why an invalidation wasn't acknowledged. It may have been stored all the same; publishing it
/// again does no harm.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bus did not acknowledge: {0}")]
pub struct PublishError(pub String);

/// A bus.
#[async_trait]
pub trait SyncBus: Send + Sync + fmt::Debug {
    /// `nats` or `memory`.
    fn kind(&self) -> &'static str;

    /// Publishes and waits until the bus has it for good; its position. It ends within a bounded
    /// time, and doesn't try again by itself.
    async fn publish(&self, invalidation: &Invalidation) -> Result<u64, PublishError>;

    /// The events; the first caller gets them. The bus waits for a slow subscriber rather than
    /// drop an event. They end with the bus.
    fn events(&self) -> Option<mpsc::Receiver<BusEvent>>;

    /// Has the other sidecars told of `message`, at most once: it has no position, isn't
    /// acknowledged and is never told again. It never waits.
    fn tell(&self, message: &ChannelMessage) -> Result<(), NotTold>;

    /// The registers that the sidecars share; `None` where the bus can't have any.
    fn registers(&self) -> Option<Arc<dyn Registers>> {
        None
    }

    /// What the sidecars tell, the own ones' messages perhaps among them, each publisher's in
    /// their order; the first caller gets them. Those that are not taken in time are lost.
    fn messages(&self) -> Option<mpsc::Receiver<ChannelMessage>>;
}
