//! A sidecar's server over a storage of the test's choice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use warp_crds::manifest;
use warp_crds::policy::Mode;
use warp_sidecar::adapter::{MemoryAdapter, Storage, WhenFull, unix_millis};
use warp_sidecar::core::{Engine, Parts};
use warp_sidecar::metrics::Metrics;
use warp_sidecar::preset::Classes;
use warp_sidecar::resp::{self, Server, Settings};
use warp_sidecar::sync_bus::{NatsBus, NatsSettings, Origin, SyncBus, Timings};

use crate::client::Client;
use crate::doubles::ScriptedBus;
use crate::servers::redis::Redis;

pub struct Pod {
    pub engine: Arc<Engine>,
    pub address: SocketAddr,
    pub stop: CancellationToken,
    pub served: JoinHandle<std::io::Result<()>>,
    pub metrics: resp::Metrics,
    _stop_when_dropped: DropGuard,
}

impl Pod {
    /// Memory for all of it.
    pub fn of_memory() -> Self {
        Self::start(memory(), Settings::default())
    }

    pub fn with_settings(settings: Settings) -> Self {
        Self::start(memory(), settings)
    }

    pub fn start_with_drain(storage: Arc<dyn Storage>, drain: Duration) -> Self {
        Self::start(storage, Settings { drain, ..Settings::default() })
    }

    pub fn start(storage: Arc<dyn Storage>, settings: Settings) -> Self {
        Self::on(ScriptedBus::new(), Origin(1), storage, settings)
    }

    pub fn on(
        bus: Arc<dyn SyncBus>,
        origin: Origin,
        storage: Arc<dyn Storage>,
        settings: Settings,
    ) -> Self {
        Self::of_mode(Mode::StrongLocal, bus, origin, storage, settings)
    }

    pub fn of_mode(
        mode: Mode,
        bus: Arc<dyn SyncBus>,
        origin: Origin,
        storage: Arc<dyn Storage>,
        settings: Settings,
    ) -> Self {
        let mut manifests = manifest::standalone();
        manifests.cluster.spec.defaults.mode = Some(mode);
        let engine = Engine::start(Parts {
            storage,
            bus,
            origin,
            classes: Classes::compile(&manifests),
            cache_limit: 64 << 20,
            cluster: "test".to_owned(),
            metrics: Arc::new(Metrics::new().unwrap()),
        });
        let settings = Settings { tcp: Some("127.0.0.1:0".parse().unwrap()), ..settings };
        let server = Server::bind(settings).unwrap();
        let address = server.tcp_address().unwrap();
        let stop = CancellationToken::new();
        let metrics = resp::Metrics::new(&Registry::new()).unwrap();
        let served = tokio::spawn(server.run(Arc::clone(&engine), metrics.clone(), stop.clone()));
        let stop_when_dropped = stop.clone().drop_guard();
        Self { engine, address, stop, served, metrics, _stop_when_dropped: stop_when_dropped }
    }

    /// A client of the pod and one of `redis`, both of which speak `protocol`.
    pub async fn client_beside(&self, redis: &Redis, protocol: &str) -> (Client, Client) {
        let mut warp = self.client().await;
        let mut redis = Client::connect(([127, 0, 0, 1], redis.port).into()).await;
        for client in [&mut warp, &mut redis] {
            client.ask(&format!("HELLO {protocol}")).await;
        }
        (warp, redis)
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.address).await
    }
}

/// The tenant of [`impatient_bus`].
pub const TENANT: &str = "default_main";

/// A bus on the NATS at `url` that soon notices what becomes of it.
pub fn impatient_bus(url: String) -> Arc<dyn SyncBus> {
    let timings = Timings {
        ping_interval: Duration::from_millis(200),
        connect_timeout: Duration::from_millis(500),
        longest_backoff: Duration::from_millis(200),
        ..Timings::default()
    };
    let settings = NatsSettings::new(vec![url], TENANT.to_owned());
    let settings = NatsSettings { create_stream: true, timings, ..settings };
    Arc::new(NatsBus::start(settings).unwrap())
}

pub fn memory() -> Arc<dyn Storage> {
    Arc::new(MemoryAdapter::new(256 << 20, WhenFull::Refuse, unix_millis))
}
