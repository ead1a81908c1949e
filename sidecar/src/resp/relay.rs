//! A connection's own line to the Redis behind Warp, for the commands that Warp has no meaning
//! for.
//!
//! It is opened with the first such command and kept, since transactions live on it. What a
//! command may have written is forgotten by the core before its reply is handed back.

use std::sync::Arc;

use bytes::Bytes;
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

/// What came of a command.
#[derive(Debug)]
pub(super) struct Relayed {
    /// The line, to be used for the next command.
    pub(super) link: Link,
    /// The reply; `None` if the command was given up because nobody waits for it any more.
    pub(super) reply: Option<Reply>,
    /// Whether a transaction was lost with the line. Its other commands mustn't run outside it.
    pub(super) broken: bool,
}

impl Link {
    /// Sends a command and waits for its reply, which is in the form of `protocol`. A command that
    /// may wait for long is given up when `gone` is cancelled; any other is carried through.
    pub(super) async fn call(
        mut self,
        engine: Arc<Engine>,
        arguments: Vec<Bytes>,
        protocol: Protocol,
        gone: CancellationToken,
    ) -> Relayed {
        let step = Step::of(&arguments[0]);
        let in_transaction = self.transaction.is_open();
        let storage = engine.storage();
        let both = async {
            tokio::join!(
                self.send(&storage, &arguments, protocol),
                scope_written(storage.as_ref(), &arguments)
            )
        };
        let (answer, scope) = tokio::select! {
            both = both => both,
            () = gone.cancelled(), if may_wait(&arguments[0]) => {
                // Redis may have given what nobody takes any more.
                touch(&engine, scope_written(storage.as_ref(), &arguments).await).await;
                return Relayed { link: Self::default(), reply: None, broken: true };
            }
        };
        match answer {
            Ok(reply) => {
                touch(&engine, self.transaction.observe(step, &reply, scope)).await;
                Relayed { link: self, reply: Some(Reply::Raw(reply)), broken: false }
            }
            Err(error) => {
                if matches!(error, StorageError::Unknown { .. }) {
                    // Redis may have done it.
                    touch(&engine, self.transaction.observe(step, b"", scope)).await;
                }
                let reply = Some(failure(&error));
                Relayed { link: Self::default(), reply, broken: in_transaction }
            }
        }
    }

    async fn send(
        &mut self,
        storage: &Arc<dyn Storage>,
        arguments: &[Bytes],
        protocol: Protocol,
    ) -> Result<Bytes> {
        if let Some(open) = &mut self.open {
            let is_current = Arc::ptr_eq(&open.storage, storage);
            if is_current && open.protocol != protocol {
                let version = Bytes::from(protocol.number().to_string());
                open.relay.send_one(&[Bytes::from_static(b"HELLO"), version]).await?;
                open.protocol = protocol;
            }
            let answer = match is_current {
                true => open.relay.send_one(arguments).await,
                false => Err(unavailable(storage.as_ref(), "the storage was exchanged")),
            };
            // The server may have closed it while it was idle.
            if self.transaction.is_open() || !matches!(answer, Err(StorageError::Unavailable { .. }))
            {
                return answer;
            }
        }
        let relay = open(storage.as_ref(), protocol).await?;
        let open = self.open.insert(Open { relay, protocol, storage: Arc::clone(storage) });
        open.relay.send_one(arguments).await
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
fn may_wait(name: &[u8]) -> bool {
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
