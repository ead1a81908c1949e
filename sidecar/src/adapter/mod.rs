//! The primary storage behind the cache: the truth. One module for each kind.
//!
//! An adapter answers from its storage alone. It keeps no copy, and it knows nothing of classes,
//! of the bus or of RESP; what a command means is said by [`Mutation`].

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

pub mod memory;
mod mutation;
mod postgres;
pub(crate) mod redis;

pub use memory::{MemoryAdapter, WhenFull};
pub use mutation::{Applied, Change, Current, ExpireCondition, Mutation, SetCondition, SetExpiry};
pub use postgres::{PostgresAdapter, PostgresSettings, PostgresTransaction};
pub use redis::{KeysWritten, RedisAdapter, RedisSettings, Relay, RelayStream};

/// A key: any bytes, at most 512 MiB as in Redis.
pub type Key = Bytes;

/// Milliseconds since the Unix epoch.
pub type UnixMillis = u64;

/// What time it is, by the system's clock.
pub fn unix_millis() -> UnixMillis {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// A string and what the storage knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The string.
    pub data: Bytes,
    /// When the storage forgets it; `None` is never.
    pub expires_at: Option<UnixMillis>,
    /// Grows with each write of the key where the storage has versions, and is 0 where it hasn't.
    pub version: u64,
}

impl Value {
    /// Whether the storage has forgotten it at `now`.
    pub fn is_expired(&self, now: UnixMillis) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// Why the storage didn't do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// It wasn't reached, so nothing was done. Safe to try again.
    #[error("{kind} can't be reached: {cause}")]
    Unavailable {
        /// `memory`, `redis` or `postgres`.
        kind: &'static str,
        /// The client's or the server's words.
        cause: String,
    },
    /// It was asked and no answer came: a write may or may not have been done.
    #[error("{kind} gave no answer: {cause}")]
    Unknown {
        /// `memory`, `redis` or `postgres`.
        kind: &'static str,
        /// The client's or the server's words.
        cause: String,
    },
    /// It refused, in the words of a Redis error (`WRONGTYPE …`, `ERR …`, `OOM …`) for the client.
    /// Nothing was done.
    #[error("{0}")]
    Refused(String),
}

/// What a call leaves open when its answer doesn't come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// Nothing.
    Read,
    /// Whether it was done.
    Write,
}

impl StorageError {
    /// It was sent, and no answer came.
    fn no_answer(kind: &'static str, access: Access, cause: impl Into<String>) -> Self {
        let cause = cause.into();
        match access {
            Access::Read => Self::Unavailable { kind, cause },
            Access::Write => Self::Unknown { kind, cause },
        }
    }
}

/// Settings that no storage can be made from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The URL. The message leaves the URL itself out, which may hold a password.
    #[error("the storage's URL can't be used: {cause}; write it as {form}")]
    Url {
        /// How it is written.
        form: &'static str,
        /// What is wrong with it.
        cause: String,
    },
}

/// What every call gives.
pub type Result<T> = std::result::Result<T, StorageError>;

/// Something that happened to the storage behind Warp's back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageEvent {
    /// Another client wrote these keys.
    Changed(Vec<Key>),
    /// Any key may have changed unseen: the feed was away, or another client flushed everything.
    AnythingChanged,
}

/// One page of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Where the next page starts; 0 when there is none.
    pub cursor: u64,
    /// Keys; one may come twice, as in Redis' SCAN.
    pub keys: Vec<Key>,
}

/// A primary storage.
///
/// Every call is atomic in the storage, and linearizable as far as the storage is. A call has its
/// own bounded time and ends with an error rather than hang.
#[async_trait]
pub trait Storage: Send + Sync + fmt::Debug {
    /// `memory`, `redis` or `postgres`.
    fn kind(&self) -> &'static str;

    /// The values of `keys`, in their order; `None` where there is none or it has expired. The
    /// values own their bytes: none keeps a greater buffer alive.
    ///
    /// Where a key holds another type than a string (in a Redis), the whole call is refused with
    /// `WRONGTYPE`.
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Value>>>;

    /// Does `mutation` to `key`.
    async fn apply(&self, key: &Key, mutation: Mutation) -> Result<Applied>;

    /// Sets all of `pairs`, without expiry, or none. A key that comes twice gets its last value.
    async fn set_many(&self, pairs: &[(Key, Bytes)]) -> Result<()>;

    /// Deletes `keys`; how many there were.
    async fn delete(&self, keys: &[Key]) -> Result<u64>;

    /// A page of about `count` keys that match the glob `pattern`. A key that is there from the
    /// first page to the last is given at least once.
    async fn scan(&self, cursor: u64, pattern: Option<&[u8]>, count: usize) -> Result<Page>;

    /// How many keys there are.
    async fn count(&self) -> Result<u64>;

    /// Deletes every key.
    async fn flush(&self) -> Result<()>;

    /// Succeeds when the storage answers.
    async fn probe(&self) -> Result<()>;

    /// How long after a call without an answer ([`StorageError::Unknown`]) a storage that answers
    /// others may still do it, if it tells nobody of it by [`Storage::events`].
    fn settles_within(&self) -> Duration {
        Duration::ZERO
    }

    /// The feed of [`StorageEvent`]s where the storage has one; the first caller gets it.
    fn events(&self) -> Option<mpsc::Receiver<StorageEvent>> {
        None
    }

    /// The storage as a Redis that takes commands which Warp has no meaning for, where it is one.
    fn as_redis(&self) -> Option<&RedisAdapter> {
        None
    }

    /// The storage as a PostgreSQL, which has transactions over several keys, where it is one.
    fn as_postgres(&self) -> Option<&PostgresAdapter> {
        None
    }

    /// The storage as the sidecar's own memory, which is asked without waiting, where it is that.
    fn as_memory(&self) -> Option<&MemoryAdapter> {
        None
    }
}
