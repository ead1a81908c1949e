//! A connection's own line to the Redis behind Warp, for the commands that Warp has no meaning
//! for.
//!
//! It is opened with the first such command and kept, since transactions live on it. What a
//! command may have written is forgotten by the core before its reply is handed back.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use super::command::failure;
use super::reply::{Protocol, Reply};
use super::transaction::{Step, Transaction};
use crate::adapter::{KeysWritten, Relay, RelayStream, Result, Storage, StorageError};
use crate::core::Engine;
use crate::sync_bus::Scope;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Link {
    open: Option<Open>,
    /// What is going on there.
    pub(super) transaction: Transaction,
}

#[derive(Debug)]
struct Open {
    relay: Relay,
    protocol: Protocol,
    /// The storage that it leads to.
    storage: Arc<dyn Storage>,
}

/// What came of commands.
#[derive(Debug)]
pub(super) struct Relayed {
    /// The line, to be used for the next commands.
    pub(super) link: Link,
    /// A reply for each command; fewer if they were given up because nobody waits any more.
    pub(super) replies: Vec<Reply>,
    /// Whether something was lost with the line: a transaction, whose other commands mustn't run
    /// outside it, or replies.
    pub(super) broken: bool,
}

impl Link {
    /// Sends `commands` at once and waits for their replies, which are in the form of `protocol`.
    /// A first command that [`may_wait`] is given up when `gone` is cancelled, any other is carried
    /// through.
    pub(super) async fn call(
        mut self,
        engine: Arc<Engine>,
        commands: Vec<Vec<Bytes>>,
        protocol: Protocol,
        gone: CancellationToken,
    ) -> Relayed {
        let storage = engine.storage();
        let waits = commands.first().is_some_and(|command| may_wait(&command[0]));
        let scopes =
            || join_all(commands.iter().map(|command| scope_written(storage.as_ref(), command)));
        let both = async { tokio::join!(self.exchange(&storage, &commands, protocol), scopes()) };
        let (answers, scopes) = tokio::select! {
            both = both => both,
            () = gone.cancelled(), if waits => {
                // Redis may have given what nobody takes any more.
                for scope in scopes().await {
                    touch(&engine, scope).await;
                }
                return Relayed { link: Self::default(), replies: Vec::new(), broken: true };
            }
        };
        let in_transaction = self.transaction.is_open();
        let mut replies = Vec::with_capacity(commands.len());
        let mut lost = false;
        for ((command, answer), scope) in commands.iter().zip(answers).zip(scopes) {
            let step = Step::of(&command[0]);
            // What has no reply may have been done, unless it wasn't sent.
            let raw = answer.as_deref().unwrap_or_default();
            let written = self.transaction.observe(step, raw, scope);
            if !matches!(answer, Err(StorageError::Unavailable { .. })) {
                touch(&engine, written).await;
            }
            lost |= !matches!(answer, Ok(_) | Err(StorageError::Refused(_)));
            replies.push(answer.map_or_else(|error| failure(&error), Reply::Raw));
        }
        let link = if lost { Self::default() } else { self };
        Relayed { link, replies, broken: lost && in_transaction }
    }

    /// The reply to each command, or why there is none.
    async fn exchange(
        &mut self,
        storage: &Arc<dyn Storage>,
        commands: &[Vec<Bytes>],
        protocol: Protocol,
    ) -> Vec<Result<Bytes>> {
        let relay = match self.send(storage, commands, protocol).await {
            Ok(relay) => relay,
            Err(error) => return vec![Err(error); commands.len()],
        };
        let mut answers = Vec::with_capacity(commands.len());
        for command in commands {
            let answer = relay.receive_one(command).await;
            let lost = answer.as_ref().err().and_then(|error| match error {
                StorageError::Refused(_) => None,
                StorageError::Unavailable { kind, cause }
                | StorageError::Unknown { kind, cause } => {
                    Some(StorageError::Unknown { kind, cause: cause.clone() })
                }
            });
            answers.push(answer);
            if let Some(error) = lost {
                answers.resize(commands.len(), Err(error));
                break;
            }
        }
        answers
    }

    /// Sends `commands` on a line that is fit for them.
    async fn send(
        &mut self,
        storage: &Arc<dyn Storage>,
        commands: &[Vec<Bytes>],
        protocol: Protocol,
    ) -> Result<&mut Relay> {
        let in_transaction = self.transaction.is_open();
        match self.open.take().filter(|open| Arc::ptr_eq(&open.storage, storage)) {
            Some(mut open) => match open.send(commands, protocol).await {
                Ok(()) => return Ok(&mut self.open.insert(open).relay),
                // The server has closed it, maybe because it was idle.
                Err(StorageError::Unavailable { .. }) if !in_transaction => {}
                Err(error) => return Err(error),
            },
            None if in_transaction => {
                return Err(unavailable(storage.as_ref(), "the storage was exchanged"));
            }
            None => {}
        }
        let relay = open(storage.as_ref(), protocol).await?;
        let mut open = Open { relay, protocol, storage: Arc::clone(storage) };
        open.send(commands, protocol).await?;
        Ok(&mut self.open.insert(open).relay)
    }
}

impl Open {
    /// Sends `commands`. If it is unavailable, none of them was sent.
    async fn send(&mut self, commands: &[Vec<Bytes>], protocol: Protocol) -> Result<()> {
        if self.protocol != protocol {
            let version = Bytes::from(protocol.number().to_string());
            self.relay.send_one(&[Bytes::from_static(b"HELLO"), version]).await?;
            self.protocol = protocol;
        }
        for (at, command) in commands.iter().enumerate() {
            self.relay.send(command).await.map_err(|error| match error {
                StorageError::Unavailable { kind, cause } if at > 0 => {
                    StorageError::Unknown { kind, cause }
                }
                error => error,
            })?;
        }
        Ok(())
    }
}

/// A line for what Redis sends unasked: the messages of channels, or what MONITOR shows.
pub(super) async fn open_stream(engine: &Engine, protocol: Protocol) -> Result<RelayStream> {
    Ok(open(engine.storage().as_ref(), protocol).await?.into_stream())
}

async fn open(storage: &dyn Storage, protocol: Protocol) -> Result<Relay> {
    match storage.as_redis() {
        Some(redis) => redis.open_relay(protocol == Protocol::Resp3).await,
        None => Err(unavailable(storage, "the storage was exchanged for one that is no Redis")),
    }
}

fn unavailable(storage: &dyn Storage, cause: &str) -> StorageError {
    StorageError::Unavailable { kind: storage.kind(), cause: cause.to_owned() }
}

async fn scope_written(storage: &dyn Storage, arguments: &[Bytes]) -> Option<Scope> {
    match storage.as_redis()?.keys_written(arguments).await {
        KeysWritten::None => None,
        KeysWritten::Keys(keys) => Some(Scope::Keys(keys)),
        KeysWritten::Unknown => Some(Scope::Everything),
    }
}

async fn touch(engine: &Arc<Engine>, scope: Option<Scope>) {
    if let Some(scope) = scope {
        engine.touched(scope).await;
    }
}

/// Whether a command may wait for another client, for as long as that takes.
pub(super) fn may_wait(name: &[u8]) -> bool {
    const WAITING: [&str; 12] = [
        "BLPOP",
        "BRPOP",
        "BRPOPLPUSH",
        "BLMOVE",
        "BLMPOP",
        "BZPOPMIN",
        "BZPOPMAX",
        "BZMPOP",
        "XREAD",
        "XREADGROUP",
        "WAIT",
        "WAITAOF",
    ];
    WAITING.iter().any(|waiting| waiting.as_bytes().eq_ignore_ascii_case(name))
}
