//! Write-through: the storage first, then the invalidation, then the local copy.
//!
//! Every write runs in a task of its own, so that it is carried through to the announcement even
//! if the connection that asked for it goes away in the middle.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Engine;
use super::history::Cause;
use crate::adapter::{Applied, Current, Key, Mutation, Result, StorageError, Value};
use crate::cache::{Filling, Millis, Stamp};
use crate::sync_bus::Scope;

/// How long a writer waits for the bus to acknowledge its invalidation. Then the write is answered
/// and the invalidation goes on being tried.
const PATIENCE: Duration = Duration::from_secs(1);

impl Engine {
    /// Does `mutation` to `key`.
    pub async fn write(self: &Arc<Self>, key: &Key, mutation: Mutation) -> Result<Applied> {
        if let Some(result) = self.view().write_now(key, &mutation) {
            return result;
        }
        let (engine, key) = (Arc::clone(self), key.clone());
        self.carried_through(async move {
            let _turn = engine.turns.of([&key]).await;
            let stamp = engine.room_of(&key, |room| room.stamp(&key));
            let begun = engine.clock.millis();
            let storage = engine.storage();
            let result =
                engine.health.call("apply", || storage.apply(&key, mutation.clone())).await;
            if matches!(&result, Ok(applied) if !applied.done) {
                return result;
            }
            engine.settle(&result, || Scope::Keys(vec![key.clone()])).await;
            if let Ok(Applied { current: Current::Value(value), .. }) = &result {
                engine.enter_written(&key, stamp, value, begun);
                engine.tracking.changed([key.as_ref()]);
            } else if may_have_changed(&result) {
                engine.forget(&Scope::Keys(vec![key]), Cause::OwnWrite);
            }
            result
        })
        .await
    }

    /// Sets all of `pairs`, or none.
    pub async fn write_many(self: &Arc<Self>, pairs: &[(Key, Bytes)]) -> Result<()> {
        if let Some(result) = self.view().write_many_now(pairs) {
            return result;
        }
        let (engine, pairs) = (Arc::clone(self), pairs.to_vec());
        self.carried_through(async move {
            let _turns = engine.turns.of(pairs.iter().map(|(key, _)| key)).await;
            let storage = engine.storage();
            let result = engine.health.call("set_many", || storage.set_many(&pairs)).await;
            let keys = || pairs.iter().map(|(key, _)| key.clone()).collect();
            engine.settle_keys(&result, keys).await;
            result
        })
        .await
    }

    /// Deletes `keys`; how many there were.
    pub async fn delete(self: &Arc<Self>, keys: &[Key]) -> Result<u64> {
        if let Some(deleted) = self.view().delete_now(keys) {
            return Ok(deleted);
        }
        let (engine, keys) = (Arc::clone(self), keys.to_vec());
        self.carried_through(async move {
            let _turns = engine.turns.of(&keys).await;
            let storage = engine.storage();
            let result = engine.health.call("delete", || storage.delete(&keys)).await;
            engine.settle_keys(&result, || keys.clone()).await;
            result
        })
        .await
    }

    /// Deletes every key.
    pub async fn flush(self: &Arc<Self>) -> Result<()> {
        if let Some(()) = self.view().flush_now() {
            return Ok(());
        }
        let engine = Arc::clone(self);
        self.carried_through(async move {
            let storage = engine.storage();
            let result = engine.health.call("flush", || storage.flush()).await;
            engine.settle(&result, || Scope::Everything).await;
            if may_have_changed(&result) {
                engine.forget(&Scope::Everything, Cause::OwnWrite);
            }
            result
        })
        .await
    }

    /// The storage was written around the core, by a relayed command: tells the peers and forgets
    /// the local copies.
    pub async fn touched(self: &Arc<Self>, scope: Scope) {
        let engine = Arc::clone(self);
        // The task's only failure is the runtime's end.
        let _ = self
            .writes
            .spawn(async move {
                engine.announce(scope.clone()).await;
                engine.forget(&scope, Cause::OwnWrite);
            })
            .await;
    }

    /// Enters what the storage holds after a write, or forgets the key if something crossed it.
    fn enter_written(&self, key: &Key, stamp: Stamp, value: &Value, at: Millis) {
        let hash = self.hash(key);
        self.history.forgotten(hash, Cause::OwnWrite, self.clock.millis());
        // By the classes of the moment: a copy that has got another place since is forgotten there.
        let table = self.table.load();
        let place = table.place(key);
        let notes_use = place.class.lifetime.is_sliding();
        place.cache.replace(key, stamp, Filling { notes_use, ..Filling::plain(value, at) });
    }

    /// Forgets the local copies, and then has the clients forget theirs. What was known of absent keys
    /// and what stands in for the storage is forgotten with the rest.
    pub(super) fn forget(&self, scope: &Scope, cause: Cause) {
        let at = self.clock.millis();
        let table = self.table.load();
        match scope {
            Scope::Everything => {
                self.history.everything_forgotten(cause, at);
                table.rooms.forget_all();
            }
            Scope::Keys(keys) => {
                for key in keys {
                    self.history.forgotten(self.hash(key), cause, at);
                    table.place(key).cache.forget(key);
                }
            }
        }
        self.tell_changed(scope);
    }

    /// Does `write` in a task of its own, which goes on when its caller has gone, and which
    /// [`Engine::drain`] waits for.
    pub(super) async fn carried_through<T: Send + 'static>(
        &self,
        write: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.writes.spawn(write).await.unwrap_or_else(|error| {
            Err(StorageError::Unknown { kind: "storage", cause: error.to_string() })
        })
    }

    /// Announces and forgets what was written, or may have been.
    pub(super) async fn settle_keys<T>(
        self: &Arc<Self>,
        result: &Result<T>,
        keys: impl Fn() -> Vec<Key>,
    ) {
        self.settle(result, || Scope::Keys(keys())).await;
        if may_have_changed(result) {
            self.forget(&Scope::Keys(keys()), Cause::OwnWrite);
        }
    }

    /// Announces what was written, or may have been.
    async fn settle<T>(self: &Arc<Self>, result: &Result<T>, scope: impl FnOnce() -> Scope) {
        if !may_have_changed(result) {
            return;
        }
        let scope = scope();
        if result.is_err() {
            self.doubt(scope.clone());
        }
        self.announce(scope).await;
    }

    /// Tells the peers, and waits for the bus's acknowledgement if it is to be expected soon.
    pub(super) async fn announce(&self, scope: Scope) {
        let scope = match scope {
            Scope::Everything => Scope::Everything,
            Scope::Keys(mut keys) => {
                let table = self.table.load();
                keys.retain(|key| table.of(key).0.is_distributed());
                if keys.is_empty() {
                    return;
                }
                Scope::Keys(keys)
            }
        };
        let acknowledged = self.outbox.announce(scope);
        let live = self.coherence.is_live(self.clock.millis());
        if !live || tokio::time::timeout(PATIENCE, acknowledged).await.is_err() {
            self.metrics.bus_deferred.inc();
        }
    }
}

/// Whether peers and the local copy must forget what the write was about.
fn may_have_changed<T>(result: &Result<T>) -> bool {
    matches!(result, Ok(_) | Err(StorageError::Unknown { .. }))
}
