//! Registers: small records that all sidecars of a cluster read and change by compare-and-swap.
//! They are what locks and leases are made of, and know nothing of either.
//!
//! *Revisions come from one order and only grow*, also beyond the end of all the data: who made a
//! later write than another has a greater revision. *A write that names the revision it has seen is
//! done only if that is the last.* A change is told to who watches, if nothing is in the way; a
//! watch is a hint and never the truth.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::broadcast;

/// What a register is for. Each space has names of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// Locks.
    Lock,
    /// Leases.
    Lease,
    /// What is known of the registers themselves.
    Mark,
}

impl Space {
    /// The word that names it on the bus.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Lease => "lease",
            Self::Mark => "mark",
        }
    }

    /// The space that `word` names.
    pub(super) fn of(word: &str) -> Option<Self> {
        [Self::Lock, Self::Lease, Self::Mark].into_iter().find(|space| space.word() == word)
    }
}

/// What a register holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// Names the write that it comes from.
    pub revision: u64,
    /// What was written.
    pub value: Bytes,
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watched {
    /// A register was written.
    Written {
        /// Its space.
        space: Space,
        /// Its name.
        name: Bytes,
        /// What it holds since.
        register: Register,
    },
    /// Until now writes may have been missed; from now on they are told.
    Joined,
}

/// Names the order that revisions belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Another one, always a greater, says that all registers were lost.
    pub number: u64,
    /// Whether there may be somebody who counts on what he wrote in an order before it.
    pub has_forerunners: bool,
}

/// Why a register wasn't read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// Somebody else has written it since the revision that was named. Nothing was done.
    #[error("somebody else was first")]
    Crossed,
    /// The bus wasn't reached. Nothing was done.
    #[error("{0}")]
    Unavailable(String),
    /// No answer came: a write may or may not have been done.
    #[error("{0}")]
    Unknown(String),
    /// The bus refuses it, and will again. Nothing was done.
    #[error("{0}")]
    Refused(String),
}

/// The registers of a bus.
#[async_trait]
pub trait Registers: Send + Sync + fmt::Debug {
    /// The order that revisions belong to.
    async fn epoch(&self) -> Result<Epoch, RegisterError>;

    /// What the register holds, if anything.
    async fn read(&self, space: Space, name: &[u8]) -> Result<Option<Register>, RegisterError>;

    /// Writes `value` if the last revision is `expected`, where 0 is that there is none; the new
    /// revision. After `kept_for` the register may be forgotten, if it is given.
    async fn write(
        &self,
        space: Space,
        name: &[u8],
        expected: u64,
        value: Bytes,
        kept_for: Option<Duration>,
    ) -> Result<u64, RegisterError>;

    /// All registers of a space, each as it was at some time since the call.
    async fn all(&self, space: Space) -> Result<Vec<(Bytes, Register)>, RegisterError>;

    /// What is written from now on. One who falls behind misses some, and learns of it.
    fn watch(&self) -> broadcast::Receiver<Watched>;
}
