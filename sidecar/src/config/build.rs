//! The storage and the bus that a configuration asks for. Neither needs to be reachable yet.

use std::sync::Arc;

use warp_crds::cluster::{self, Bus, NatsBus as NatsSpec, SecretKeyRef, Storage as StorageSpec};
use warp_crds::nats::Credentials;
use warp_crds::{WarpCluster, names, quantity};

use super::{ConfigError, Loaded};
use crate::adapter::{
    MemoryAdapter, PostgresAdapter, PostgresSettings, RedisAdapter, RedisSettings, SettingsError,
    Storage, WhenFull, unix_millis,
};
use crate::sync_bus::{MemoryBus, NatsBus, NatsSettings, SyncBus};

/// Bytes that cached entries may take.
pub(super) fn cache_limit(loaded: &Loaded) -> usize {
    memory_limit(&loaded.manifests.cluster)
}

/// The same of a cluster.
pub(super) fn memory_limit(cluster: &WarpCluster) -> usize {
    // Validation refused what isn't bytes; an unreadable one is none at all here.
    let bytes = quantity::bytes(&cluster.spec.sidecar.memory_limit).unwrap_or(0);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// What a storage is made of; a new one is made when it differs.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum StoragePlan {
    Memory { limit: usize, when_full: WhenFull },
    Redis(RedisSettings),
    Postgres(PostgresSettings),
}

impl StoragePlan {
    pub(super) fn of(loaded: &Loaded) -> Result<Self, ConfigError> {
        Ok(match &loaded.manifests.cluster.spec.storage {
            StorageSpec::Memory(memory) => Self::Memory {
                limit: cache_limit(loaded),
                when_full: match memory.when_full {
                    cluster::WhenFull::Refuse => WhenFull::Refuse,
                    cluster::WhenFull::Evict => WhenFull::Evict,
                },
            },
            StorageSpec::Redis(redis) => {
                let password = redis.password_secret_ref.as_ref();
                let password = password.map(|at| loaded.secrets.get(at)).transpose()?;
                Self::Redis(RedisSettings::new(redis.url.clone(), password))
            }
            StorageSpec::Postgres(postgres) => {
                let url = loaded.secrets.get(&postgres.url_secret_ref)?;
                Self::Postgres(PostgresSettings::new(url, postgres.table.clone()))
            }
        })
    }

    /// Whether it differs from `before` only in what a storage takes over in its place, so that it
    /// keeps what it holds.
    pub(super) fn is_adjustment_of(&self, before: &Self) -> bool {
        match (self, before) {
            (Self::Memory { when_full, .. }, Self::Memory { when_full: was, .. }) => {
                when_full == was
            }
            _ => self == before,
        }
    }

    /// Has `storage`, whose plan this is an adjustment of, take it over.
    pub(super) fn adjust(&self, storage: &dyn Storage) {
        if let (Self::Memory { limit, .. }, Some(memory)) = (self, storage.as_memory()) {
            memory.set_limit(*limit);
        }
    }

    pub(super) fn build(self) -> Result<Arc<dyn Storage>, ConfigError> {
        let refused = |error: SettingsError| ConfigError::Storage(error.to_string());
        Ok(match self {
            Self::Memory { limit, when_full } => {
                Arc::new(MemoryAdapter::new(limit, when_full, unix_millis))
            }
            Self::Redis(settings) => Arc::new(RedisAdapter::connect(settings).map_err(refused)?),
            Self::Postgres(settings) => {
                Arc::new(PostgresAdapter::connect_lazy(settings).map_err(refused)?)
            }
        })
    }
}

/// What a bus is made of; a new one is made when it differs.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum BusPlan {
    Memory,
    Nats(Box<NatsSettings>),
}

impl BusPlan {
    pub(super) fn of(loaded: &Loaded, nats_url: Option<&str>) -> Result<Self, ConfigError> {
        let cluster = &loaded.manifests.cluster;
        let Bus::Nats(nats) = &cluster.spec.bus else {
            // Validation refused the kinds that aren't built.
            return Ok(Self::Memory);
        };
        let credentials = |at: &SecretKeyRef| {
            let text = loaded.secrets.get(at)?;
            Credentials::read(text.as_bytes()).map_err(|error| ConfigError::Bus(error.to_string()))
        };
        let (urls, credentials, create_stream) = match (nats, nats_url) {
            (NatsSpec::External(external), _) => {
                let given =
                    external.credentials_secret_ref.as_ref().map(credentials).transpose()?;
                (external.urls.clone(), given.unwrap_or_default(), true)
            }
            (NatsSpec::Managed(_), Some(url)) => (vec![url.to_owned()], Credentials::None, true),
            (NatsSpec::Managed(_), None) => {
                let name = cluster.metadata.name.clone().unwrap_or_default();
                let namespace = cluster.metadata.namespace.clone().unwrap_or_default();
                let seed = SecretKeyRef {
                    name: names::nats_object(&name),
                    key: names::NATS_SIDECAR_SEED.to_owned(),
                };
                let given = credentials(&seed).map_err(|error| {
                    ConfigError::Bus(format!("{error}. A managed NATS is run by the operator; without one, start a nats-server with JetStream and give --nats-url"))
                })?;
                (vec![names::nats_url(&namespace, &name)], given, false)
            }
        };
        let tenant = names::tenant(cluster);
        let settings = NatsSettings::new(urls, tenant);
        Ok(Self::Nats(Box::new(NatsSettings { credentials, create_stream, ..settings })))
    }

    pub(super) fn build(self) -> Result<Arc<dyn SyncBus>, ConfigError> {
        Ok(match self {
            Self::Memory => Arc::new(MemoryBus::alone()),
            Self::Nats(settings) => Arc::new(
                NatsBus::start(*settings).map_err(|error| ConfigError::Bus(error.to_string()))?,
            ),
        })
    }
}
