//! `WarpCluster`: one coherent group of sidecars, with its bus, its storage and its defaults.

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::core::Duration;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::PolicyRules;
use crate::status::WarpClusterStatus;
use crate::warm_up::WarmUp;

/// A coherent group of sidecars: what carries their invalidations, where their data lives, and
/// how the sidecar beside each pod is made.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "warpcache.dev",
    version = "v1alpha1",
    kind = "WarpCluster",
    plural = "warpclusters",
    shortname = "wc",
    category = "warp",
    namespaced,
    status = "WarpClusterStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Bus","type":"string","jsonPath":".status.conditions[?(@.type=='BusReady')].reason"}"#,
    printcolumn = r#"{"name":"Storage","type":"string","jsonPath":".status.conditions[?(@.type=='StorageReady')].reason"}"#,
    printcolumn = r#"{"name":"Sidecars","type":"integer","jsonPath":".status.sidecars.running"}"#,
    printcolumn = r#"{"name":"Current","type":"integer","jsonPath":".status.sidecars.current"}"#,
    printcolumn = r#"{"name":"Hit ratio","type":"string","jsonPath":".status.sidecars.hitRatio"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct WarpClusterSpec {
    /// What carries invalidations between the sidecars. Default: a NATS that the operator runs.
    #[serde(default)]
    pub bus: Bus,
    /// The primary storage, the truth that the sidecars cache. Default: memory, each pod its own.
    #[serde(default)]
    pub storage: Storage,
    /// The container that is injected.
    #[serde(default)]
    pub sidecar: SidecarSpec,
    /// The locks and leases (`WARP.LOCK.*`, `WARP.LEASE.*`) of the cluster.
    #[serde(default)]
    pub locks: LocksSpec,
    /// What holds for a key that no WarpPolicy matches, and for what a matching one leaves out.
    #[serde(default)]
    pub defaults: PolicyRules,
    /// What is read into the caches before anybody asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_up: Option<WarmUp>,
    /// Namespaces, besides the cluster's own, whose pods may use it: names, or `*` for all. The
    /// storage's credentials are copied to each namespace that uses the cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 63)))]
    #[x_kube(validation = Rule::new("self.all(name, name == '*' || name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'))").message("allowedNamespaces takes names of namespaces, or *"))]
    pub allowed_namespaces: Vec<String>,
}

/// The locks and leases of a cluster.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LocksSpec {
    /// The longest TTL that a lock or a lease may be given, such as `30s` or `5m`; whoever holds one
    /// for longer renews it. When the bus has lost its data, nothing is granted for so long.
    #[serde(default = "default_max_ttl")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('1h')").message("maxTtl must be between 1s and 1h"))]
    pub max_ttl: Duration,
}

impl Default for LocksSpec {
    fn default() -> Self {
        Self { max_ttl: default_max_ttl() }
    }
}

fn default_max_ttl() -> Duration {
    std::time::Duration::from_mins(1).into()
}

/// What carries invalidations; exactly one of its fields.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Bus {
    /// NATS with JetStream (server 2.11 or newer).
    Nats(NatsBus),
    /// Redis as the transport.
    Redis(RedisBus),
    /// Apache Kafka.
    Kafka(KafkaBus),
    /// No transport: each sidecar is on its own.
    Memory(MemoryBus),
}

impl Default for Bus {
    fn default() -> Self {
        Self::Nats(NatsBus::default())
    }
}

/// A NATS that the operator runs, or one that exists; exactly one of its fields.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum NatsBus {
    /// The operator runs the servers in the cluster's namespace.
    Managed(ManagedNats),
    /// Servers that exist already.
    External(ExternalNats),
}

impl Default for NatsBus {
    fn default() -> Self {
        Self::Managed(ManagedNats::default())
    }
}

/// NATS servers run by the operator.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ManagedNats {
    /// Servers: 1, or 3 to survive the loss of one.
    #[serde(default = "one")]
    #[x_kube(validation = Rule::new("self == 1 || self == 3").message("replicas must be 1 or 3"))]
    pub replicas: i32,
    /// The volume of each server.
    #[serde(default)]
    pub storage: VolumeSpec,
    /// Resources of each server's container.
    #[serde(default)]
    pub resources: ResourceRequirements,
    /// Image of the servers; NATS 2.11 or newer. Default: the operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

impl Default for ManagedNats {
    fn default() -> Self {
        Self {
            replicas: one(),
            storage: VolumeSpec::default(),
            resources: ResourceRequirements::default(),
            image: None,
        }
    }
}

const fn one() -> i32 {
    1
}

/// A persistent volume.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSpec {
    /// Size in bytes, as a Kubernetes quantity.
    #[serde(default = "one_gibibyte")]
    pub size: Quantity,
    /// StorageClass; the cluster's default when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
}

impl Default for VolumeSpec {
    fn default() -> Self {
        Self { size: one_gibibyte(), storage_class_name: None }
    }
}

fn one_gibibyte() -> Quantity {
    Quantity("1Gi".to_owned())
}

/// NATS servers that exist already.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ExternalNats {
    /// Server URLs, `nats://host:4222` or `tls://host:4222`. A `user:password@`, or a `token@`,
    /// before the host is used where there are no credentials.
    #[schemars(length(max = 16), inner(length(max = 512)))]
    #[x_kube(validation = Rule::new("self.size() > 0").message("at least one URL is needed"))]
    #[x_kube(validation = Rule::new("self.all(url, url.startsWith('nats://') || url.startsWith('tls://'))").message("each URL must start with nats:// or tls://"))]
    pub urls: Vec<String>,
    /// A user's credentials: the text of a `.creds` file, or an NKEY seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretKeyRef>,
}

/// Redis as a bus.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisBus {
    /// Which of Redis' two transports.
    pub transport: RedisTransport,
    /// `redis://host:6379` or `rediss://host:6379`.
    pub url: String,
}

/// Redis' two transports.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum RedisTransport {
    /// PUBLISH and SUBSCRIBE: at most once.
    PubSub,
    /// XADD and XREAD: replayable.
    Streams,
}

/// Kafka as a bus.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaBus {
    /// Bootstrap servers, `host:9092`.
    pub brokers: Vec<String>,
}

/// No transport.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub struct MemoryBus {}

/// The primary storage; exactly one of its fields.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Storage {
    /// The sidecar's own memory: gone with the pod, not shared.
    Memory(MemoryStorage),
    /// A Redis (6 or newer), standalone.
    Redis(RedisStorage),
    /// A table in PostgreSQL (12 or newer).
    Postgres(PostgresStorage),
}

impl Default for Storage {
    fn default() -> Self {
        Self::Memory(MemoryStorage::default())
    }
}

/// The sidecar's own memory.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemoryStorage {
    /// What happens to a write when the memory is full.
    #[serde(default)]
    pub when_full: WhenFull,
}

/// What a full memory does with a write.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum WhenFull {
    /// It refuses the write; nothing is lost.
    #[default]
    Refuse,
    /// It forgets keys that were not used for long.
    Evict,
}

/// A Redis.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RedisStorage {
    /// `redis://[user@]host:6379[/db]`, or `rediss://` for TLS.
    #[x_kube(validation = Rule::new("self.startsWith('redis://') || self.startsWith('rediss://')").message("url must start with redis:// or rediss://"))]
    pub url: String,
    /// The password, when one is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret_ref: Option<SecretKeyRef>,
}

/// A table in PostgreSQL.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PostgresStorage {
    /// The connection URL, `postgres://user:password@host:5432/database`.
    pub url_secret_ref: SecretKeyRef,
    /// The table, which Warp creates when it is missing: `name` or `schema.name`.
    #[serde(default = "default_table")]
    #[x_kube(validation = Rule::new("self.matches('^[a-z_][a-z0-9_]{0,54}([.][a-z_][a-z0-9_]{0,54})?$')").message("table must be a lower-case SQL name, optionally with its schema"))]
    pub table: String,
}

fn default_table() -> String {
    "warp_cache".to_owned()
}

/// A key of a Secret in the cluster's namespace.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The Secret's name.
    pub name: String,
    /// The key in its data.
    pub key: String,
}

/// The container that is injected into pods.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.port != self.metricsPort").message("port and metricsPort must differ"))]
pub struct SidecarSpec {
    /// Its image. Default: the operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Its requests and limits. Default: requests of 10m CPU and memoryLimit + 32Mi; a memory limit
    /// of memoryLimit + 128Mi.
    #[serde(default)]
    pub resources: ResourceRequirements,
    /// Bytes that cached entries may take; with memory storage, the data itself.
    #[serde(default = "default_memory_limit")]
    #[x_kube(validation = Rule::new("type(self) == string && self.matches('^[0-9]+(k|M|G|T|Ki|Mi|Gi|Ti)?$') && quantity(self).compareTo(quantity('1Mi')) >= 0").message("memoryLimit must be a number of bytes such as 64Mi, at least 1Mi"))]
    pub memory_limit: Quantity,
    /// The RESP port on the pod's loopback.
    #[serde(default = "default_port")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 65535").message("port must be 1 to 65535"))]
    pub port: i32,
    /// The port of `/metrics`, `/healthz`, `/readyz` and `/status` on the pod's address.
    #[serde(default = "default_metrics_port")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 65535").message("metricsPort must be 1 to 65535"))]
    pub metrics_port: i32,
    /// How many threads of the sidecar serve clients. More than one is of use only where the pod has
    /// cores to spare.
    #[serde(default = "default_threads")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 64").message("threads must be 1 to 64"))]
    pub threads: i32,
    /// What the sidecar logs, in the syntax of `RUST_LOG`, such as `warp_sidecar=debug,info`.
    /// Default: `info`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// The form of the sidecar's log.
    #[serde(default)]
    pub log_format: LogFormat,
    /// Path of a unix socket that serves RESP too. Its folder is shared with the containers, over
    /// what they have there: it must be two levels deep, such as `/run/warp/warp.sock`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    #[x_kube(validation = Rule::new("self.size() <= 100 && self.matches('^(/[^/]+){3,}$') && !self.matches('/[.][.]?(/|$)') && !self.matches('^/(bin|boot|dev|etc|lib|lib32|lib64|proc|sbin|sys|usr)/') && !self.matches('^/(var|home)/[^/]+/[^/]+$') && !self.matches('^(/var)?/run/(secrets|lock|user)/')").message("unixSocket must be an absolute path of at most 100 characters in a folder that is the socket's alone and two levels deep, such as /run/warp/warp.sock"))]
    pub unix_socket: Option<String>,
}

/// The form of a log.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum LogFormat {
    /// Lines for a person.
    #[default]
    Text,
    /// A JSON object in each line.
    Json,
}

impl Default for SidecarSpec {
    fn default() -> Self {
        Self {
            image: None,
            resources: ResourceRequirements::default(),
            memory_limit: default_memory_limit(),
            port: default_port(),
            metrics_port: default_metrics_port(),
            threads: default_threads(),
            log: None,
            log_format: LogFormat::default(),
            unix_socket: None,
        }
    }
}

fn default_memory_limit() -> Quantity {
    Quantity("64Mi".to_owned())
}

const fn default_port() -> i32 {
    6379
}

const fn default_threads() -> i32 {
    1
}

const fn default_metrics_port() -> i32 {
    8080
}
