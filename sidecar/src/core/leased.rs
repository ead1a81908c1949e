//! What leases do to keys: the core's own writes, in every pod.

use std::sync::{Arc, Weak};

use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::Engine;
use super::history::Cause;
use crate::adapter::{Key, Result};
use crate::lease::Keys;
use crate::sync_bus::Scope;

/// The keys of an engine, which leases don't keep alive.
#[derive(Debug)]
pub(super) struct Leased(pub(super) Weak<Engine>);

impl Keys for Leased {
    fn remove(&self, keys: Vec<Key>) -> BoxFuture<'static, Result<u64>> {
        let engine = self.0.upgrade();
        async move {
            match engine {
                Some(engine) => engine.delete(&keys).await,
                None => Ok(0),
            }
        }
        .boxed()
    }

    /// In memory every pod has keys of its own.
    fn forget(&self, keys: Vec<Key>) {
        let Some(engine) = self.0.upgrade() else { return };
        if engine.view().delete_now(&keys).is_none() {
            engine.forget(&Scope::Keys(keys), Cause::Lease);
        }
    }
}

impl Engine {
    /// Locks and leases are those of the bus of the moment.
    pub(super) fn exchange_registers(self: &Arc<Self>) {
        let bus = self.bus();
        self.locks.exchange(bus.kind(), bus.registers());
        let keys = Arc::new(Leased(Arc::downgrade(self)));
        self.leases.exchange(bus.kind(), bus.registers(), Some(keys));
    }

    /// There are no locks and no leases any more.
    pub(super) fn drop_registers(&self) {
        self.locks.exchange("none", None);
        self.leases.exchange("none", None, None);
    }
}
