//! A Redis (6 or newer, standalone or behind one address) as the storage.
//!
//! Warp's own commands share one connection, [`link`], which also tells what others write. What
//! Warp has no meaning for goes over connections of the applications' own, [`relay`].
//!
//! The protocol is spoken here rather than by a client library: a relay hands on raw frames, a
//! broken connection must tell what it had sent, and the feed must be in order with the replies.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use self::commands::Commands;
use self::endpoint::{Endpoint, Purpose};
use self::frame::Reply;
use self::link::{Link, Pipeline};
use super::{
    Access, Applied, Key, Mutation, Page, Result, SettingsError, Storage, StorageError,
    StorageEvent, Value, unix_millis,
};

mod commands;
mod endpoint;
pub(crate) mod frame;
mod link;
mod relay;
mod translate;

pub use commands::KeysWritten;
pub use relay::{Relay, RelayStream};

const KIND: &str = "redis";

/// Where the server is, and how long to wait.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisSettings {
    /// `redis://[user[:password]@]host[:6379][/db]`, or `rediss://` for TLS with the machine's
    /// trusted certificates (or those of `SSL_CERT_FILE`).
    pub url: String,
    /// Instead of the URL's.
    pub password: Option<String>,
    /// For a connection to be ready, name lookup, TLS and login included.
    pub connect_timeout: Duration,
    /// For an answer to Warp's own commands.
    pub timeout: Duration,
    /// Silence after which the server is asked whether it is there.
    pub heartbeat: Duration,
    /// The longest reply that is taken, in bytes.
    pub reply_limit: usize,
}

impl RedisSettings {
    /// 2 s to connect, 5 s for an answer, a heartbeat after 2 s, replies up to 64 MiB.
    pub fn new(url: impl Into<String>, password: Option<String>) -> Self {
        Self {
            url: url.into(),
            password,
            connect_timeout: Duration::from_secs(2),
            timeout: Duration::from_secs(5),
            heartbeat: Duration::from_secs(2),
            reply_limit: 64 * 1024 * 1024,
        }
    }
}

/// Without the URL and the password.
impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSettings").finish_non_exhaustive()
    }
}

/// Keys in a Redis.
#[derive(Debug)]
pub struct RedisAdapter {
    shared: Arc<Shared>,
    events: Mutex<Option<mpsc::Receiver<StorageEvent>>>,
}

/// What the adapter and its relays share.
#[derive(Debug)]
struct Shared {
    endpoint: Arc<Endpoint>,
    link: Link,
    commands: Commands,
    timeout: Duration,
}

impl Shared {
    async fn ask<A: AsRef<[u8]>>(&self, access: Access, args: &[A]) -> Result<Reply> {
        self.link.ask(access, args).await
    }

    /// Whether the server still answers, when something else has waited long; if not, what that
    /// means to it.
    async fn check(&self, waiting: Access) -> Result<()> {
        match self.ask(Access::Read, &["PING"]).await {
            // A refusal (BUSY, LOADING) is an answer.
            Ok(_) | Err(StorageError::Refused(_)) => Ok(()),
            Err(StorageError::Unavailable { cause, .. } | StorageError::Unknown { cause, .. }) => {
                Err(StorageError::no_answer(KIND, waiting, cause))
            }
        }
    }
}

impl RedisAdapter {
    /// An adapter that connects when it is first asked. To be used within a Tokio runtime.
    pub fn connect(settings: RedisSettings) -> std::result::Result<Self, SettingsError> {
        let (timeout, heartbeat) = (settings.timeout, settings.heartbeat);
        let endpoint = Arc::new(Endpoint::new(settings)?);
        let (link, events) = Link::new(Arc::clone(&endpoint), timeout, heartbeat);
        let shared = Shared { endpoint, link, commands: Commands::default(), timeout };
        Ok(Self { shared: Arc::new(shared), events: Mutex::new(Some(events)) })
    }

    /// A connection for one application's commands, which speaks the version of the protocol that
    /// the application does. Its writes are told to every tracking connection, this adapter's too.
    pub async fn open_relay(&self, resp3: bool) -> Result<Relay> {
        match self.shared.endpoint.connect(Purpose::Relay { resp3 }).await {
            Ok(wire) => Ok(Relay::new(Arc::clone(&self.shared), wire)),
            Err(cause) => Err(StorageError::Unavailable { kind: KIND, cause }),
        }
    }

    /// The keys that a command writes, by the server's own table of commands. A script is taken to
    /// write the keys that it is given.
    pub async fn keys_written(&self, args: &[Bytes]) -> KeysWritten {
        self.shared.commands.keys_written(&self.shared.link, args).await
    }
}

fn unexpected() -> StorageError {
    StorageError::Refused("ERR redis: the server's reply isn't of the command's type".to_owned())
}

fn reply_too_long() -> StorageError {
    StorageError::Refused("ERR redis: the reply is longer than the sidecar takes".to_owned())
}

fn with_keys(command: &'static str, keys: &[Key]) -> Vec<Bytes> {
    let mut args = vec![Bytes::from_static(command.as_bytes())];
    args.extend_from_slice(keys);
    args
}

#[async_trait]
impl Storage for RedisAdapter {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Value>>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = Pipeline::default();
        pipeline.add(&["MULTI"]);
        for key in keys {
            pipeline.add(&[b"GET".as_slice(), key]);
            pipeline.add(&[b"PTTL".as_slice(), key]);
        }
        pipeline.add(&["EXEC"]);
        let sent = unix_millis();
        translate::values(self.shared.link.call(Access::Read, pipeline).await?, sent)
    }

    async fn apply(&self, key: &Key, mutation: Mutation) -> Result<Applied> {
        let now = unix_millis();
        let command = translate::command(key, &mutation, now);
        let reply = self.shared.ask(Access::Write, &command).await?;
        translate::applied(mutation, reply, now)
    }

    async fn set_many(&self, pairs: &[(Key, Bytes)]) -> Result<()> {
        if pairs.is_empty() {
            return Ok(());
        }
        let mut args = vec![Bytes::from_static(b"MSET")];
        args.extend(pairs.iter().flat_map(|(key, data)| [key.clone(), data.clone()]));
        self.shared.ask(Access::Write, &args).await.map(drop)
    }

    async fn delete(&self, keys: &[Key]) -> Result<u64> {
        if keys.is_empty() {
            return Ok(0);
        }
        let reply = self.shared.ask(Access::Write, &with_keys("UNLINK", keys)).await?;
        reply.integer().map(i64::cast_unsigned).ok_or_else(unexpected)
    }

    async fn scan(&self, cursor: u64, pattern: Option<&[u8]>, count: usize) -> Result<Page> {
        let (cursor, count) = (cursor.to_string(), count.max(1).to_string());
        let mut args = vec![b"SCAN".as_slice(), cursor.as_bytes(), b"COUNT", count.as_bytes()];
        if let Some(pattern) = pattern {
            args.extend([b"MATCH".as_slice(), pattern]);
        }
        let Reply::Array(parts) = self.shared.ask(Access::Read, &args).await? else {
            return Err(unexpected());
        };
        let [Reply::Text(cursor), Reply::Array(keys)] = parts.as_slice() else {
            return Err(unexpected());
        };
        let cursor = std::str::from_utf8(cursor).ok().and_then(|cursor| cursor.parse().ok());
        Ok(Page {
            cursor: cursor.ok_or_else(unexpected)?,
            keys: keys.iter().filter_map(|key| key.text().cloned()).collect(),
        })
    }

    async fn count(&self) -> Result<u64> {
        let reply = self.shared.ask(Access::Read, &["DBSIZE"]).await?;
        reply.integer().map(i64::cast_unsigned).ok_or_else(unexpected)
    }

    async fn flush(&self) -> Result<()> {
        self.shared.ask(Access::Write, &["FLUSHDB", "ASYNC"]).await.map(drop)
    }

    async fn probe(&self) -> Result<()> {
        self.shared.ask(Access::Read, &["PING"]).await.map(drop)
    }

    fn events(&self) -> Option<mpsc::Receiver<StorageEvent>> {
        self.events.lock().take()
    }

    fn as_redis(&self) -> Option<&RedisAdapter> {
        Some(self)
    }
}
