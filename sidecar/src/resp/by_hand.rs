//! A connection that is driven by hand, for tests and fuzzers: bytes in, bytes out, at a time that
//! the caller says. There is no socket and no event loop; the storage is memory, so that nothing is
//! waited for. Each thread has a server and keys of its own.

#![allow(clippy::unwrap_used, reason = "tests end so")]

use std::cell::Cell;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use parking_lot::Mutex;
use prometheus::Registry;
use tokio::runtime::Runtime;
use warp_crds::manifest;

use super::clients::{Clients, Endpoints};
use super::connection::{Common, Connection, Turn};
use super::event_loop::Address;
use super::host::Host;
use super::metrics::Metrics;
use super::reply::Protocol;
use super::script::Running;
use super::settings::Settings;
use crate::adapter::{MemoryAdapter, UnixMillis, WhenFull};
use crate::core::{Engine, Moment, Parts};
use crate::preset::Classes;
use crate::sync_bus::{MemoryBus, Origin};

/// When it begins, in milliseconds.
const START: UnixMillis = 1_000_000_000;
/// What the keys may take; what a fuzzer asks for is to be refused, not to fill the machine.
const MEMORY: usize = 8 << 20;

thread_local! {
    static NOW: Cell<UnixMillis> = const { Cell::new(START) };
    static COMMON: Arc<Common> = common();
}

/// What the engine does beside the commands, which is nothing over memory.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
});

fn common() -> Arc<Common> {
    let _runtime = RUNTIME.enter();
    let storage = MemoryAdapter::new(MEMORY, WhenFull::Refuse, || NOW.get());
    let engine = Engine::start(Parts {
        storage: Arc::new(storage),
        bus: Arc::new(MemoryBus::alone()),
        origin: Origin(1),
        classes: Classes::compile(&manifest::standalone()),
        cache_limit: MEMORY,
        cluster: "by hand".to_owned(),
        metrics: Arc::new(crate::metrics::Metrics::new().unwrap()),
    });
    let settings = Settings::default().within(MEMORY);
    Arc::new(Common {
        engine,
        host: Host {
            clients: Arc::new(Clients::new(settings.max_clients)),
            port: 0,
            unix: None,
            run_id: Host::new_run_id(),
            idle_seconds: 0,
            bulk_limit: settings.request.bulk,
            scripts: Mutex::default(),
            running: Running::default(),
            monitors: Arc::default(),
            timing: Arc::default(),
        },
        metrics: Metrics::new(&Registry::new()).unwrap(),
        runtime: RUNTIME.handle().clone(),
        settings,
    })
}

/// See the module.
#[derive(Debug)]
pub(crate) struct ByHand {
    connection: Connection,
    turn: Turn,
}

impl ByHand {
    /// A connection that speaks `protocol`, to a server without keys.
    pub(crate) fn new(protocol: Protocol) -> Self {
        NOW.set(START);
        COMMON.with(|common| common.engine.view().flush_now());
        Self::connect(protocol)
    }

    /// Another connection in the place of `former`, to the same server.
    pub(crate) fn again(former: Self, protocol: Protocol) -> Self {
        drop(former);
        Self::connect(protocol)
    }

    fn connect(protocol: Protocol) -> Self {
        let common = COMMON.with(Arc::clone);
        let peer = Endpoints { remote: "hand".to_owned(), local: "hand".to_owned(), unix: false };
        let admission = common.host.clients.admit(peer, NOW.get()).unwrap();
        let turn = Turn::new(&common.engine);
        let mut made =
            Self { connection: Connection::new(common, admission, Address::nowhere()), turn };
        if protocol == Protocol::Resp3 {
            made.send(b"HELLO 3\r\n");
        }
        made
    }

    /// The time, in milliseconds.
    pub(crate) fn now() -> UnixMillis {
        NOW.get()
    }

    /// It is now that time, for all connections of the thread.
    pub(crate) fn set_now(now: UnixMillis) {
        NOW.set(now);
    }

    /// Sends bytes, and gives all that is answered to them.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Bytes {
        self.turn.now = Moment { age: NOW.get() - START, unix: NOW.get() };
        self.turn.begin(0);
        self.connection.receive(bytes, &mut self.turn);
        COMMON.with(|common| self.turn.settle(&common.metrics));
        std::mem::take(&mut self.turn.out).into()
    }

    /// Whether it waits for what doesn't come.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.connection.is_idle()
    }

    /// Whether nothing more is read.
    pub(crate) fn is_closing(&self) -> bool {
        !self.connection.wants_input(0)
    }
}
