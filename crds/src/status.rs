//! Status of the kinds, and what a sidecar says of itself at `/status`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator saw of a WarpCluster.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WarpClusterStatus {
    /// The newest generation that was looked at; each condition names the one that it speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, BusReady, StorageReady, SidecarsCurrent and Degraded.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// Hash of the compiled configuration that the sidecars are to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_hash: Option<String>,
    /// The sidecars, as they answered.
    #[serde(default)]
    pub sidecars: SidecarsSummary,
}

/// The sidecars of a cluster, as they answered.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SidecarsSummary {
    /// Pods that carry a sidecar and are running.
    #[serde(default)]
    pub running: i32,
    /// Of these, those that answered.
    #[serde(default)]
    pub reachable: i32,
    /// Of these, those that run the configuration named by `configHash`.
    #[serde(default)]
    pub current: i32,
    /// Of these, those whose bus is live.
    #[serde(default)]
    pub bus_connected: i32,
    /// Of these, those whose storage answers.
    #[serde(default)]
    pub storage_connected: i32,
    /// Hits of all of them since each started.
    #[serde(default)]
    pub hits: i64,
    /// Misses of all of them since each started.
    #[serde(default)]
    pub misses: i64,
    /// hits / (hits + misses), with three decimals; absent before the first read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hit_ratio: Option<String>,
    /// Locks that are held through them.
    #[serde(default)]
    pub locks_held: i64,
    /// Leases that live, as far as any of them knows.
    #[serde(default)]
    pub leases: i64,
    /// Pods that should carry a sidecar and don't (made while the webhook was away).
    #[serde(default)]
    pub missing: i32,
    /// Pods whose sidecar was injected otherwise than it would be now; they need a rollout.
    #[serde(default)]
    pub outdated: i32,
}

/// What the operator saw of a WarpPolicy.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WarpPolicyStatus {
    /// The generation that the rest speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Accepted and Programmed.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// The body of a sidecar's `GET /status`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SidecarStatus {
    /// Version of the sidecar's program.
    pub version: String,
    /// [`crate::manifest::hash`] of the configuration that is applied.
    pub config_hash: String,
    /// Why the configuration on disk was refused, while it is.
    pub config_error: Option<String>,
    /// The bus.
    pub bus: BusStatus,
    /// The storage.
    pub storage: StorageStatus,
    /// The cache.
    pub cache: CacheStatus,
    /// The classes of keys, the default class last.
    #[serde(default)]
    pub classes: Vec<ClassStatus>,
    /// The sidecar's name on the bus, as `WARP.EXPLAIN` shows it.
    #[serde(default)]
    pub origin: String,
    /// The warm-up, where one is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_up: Option<WarmUpStatus>,
    /// The locks. One that an older version says nothing of is none.
    #[serde(default)]
    pub locks: LocksStatus,
    /// The leases.
    #[serde(default)]
    pub leases: LeasesStatus,
    /// Seconds since the start.
    pub uptime_seconds: u64,
}

/// A sidecar's view of the bus.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BusStatus {
    /// `nats` or `memory`.
    pub kind: String,
    /// Whether the cache is known to be no older than its bound.
    pub live: bool,
    /// The stream's epoch.
    pub epoch: Option<String>,
    /// The last position that was applied.
    pub position: u64,
    /// Positions published but not yet applied, at the last proof.
    pub lag: u64,
    /// Milliseconds since the last proof of being current.
    pub proof_age_ms: Option<u64>,
    /// Invalidations that could not be published yet.
    pub pending: u64,
    /// Positions missed on the live path and replayed from the stream, in all.
    pub replayed: u64,
    /// Flushes because positions were lost, in all.
    pub resets: u64,
    /// The last error, while it lasts.
    pub error: Option<String>,
}

/// A sidecar's view of the storage.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct StorageStatus {
    /// `memory`, `redis` or `postgres`.
    pub kind: String,
    /// Whether the last operation or probe succeeded.
    pub available: bool,
    /// The last error, while it lasts.
    pub error: Option<String>,
}

/// A sidecar's cache.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CacheStatus {
    /// Entries held.
    pub entries: u64,
    /// Bytes they take, overhead included.
    pub bytes: u64,
    /// Bytes they may take.
    pub limit_bytes: u64,
    /// Reads answered from memory since the start.
    pub hits: u64,
    /// Reads that went to storage since the start.
    pub misses: u64,
    /// hits / (hits + misses); absent before the first read.
    pub hit_ratio: Option<f64>,
}

/// A class of keys in a sidecar.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ClassStatus {
    /// Its policy's name, or `default`.
    pub name: String,
    /// What its policy starts from.
    pub preset: Option<String>,
    /// What it gets, nothing left out, each rule by its name in a policy.
    pub rules: BTreeMap<String, String>,
    /// Reads answered from memory with a value since the start.
    pub hits: u64,
    /// Reads answered from memory: there is no such key.
    pub negative_hits: u64,
    /// Reads answered with an older copy that stood in for the storage.
    pub stale_hits: u64,
    /// Copies read anew before they ended.
    pub refreshes: u64,
    /// Bytes that its copies take of its quota; absent where it has none.
    pub bytes: Option<u64>,
}

/// How a sidecar's warm-up is going: the one under way, or the last one.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct WarmUpStatus {
    /// Whether one is under way.
    pub running: bool,
    /// How many have been done since the start.
    pub done: u64,
    /// Keys that it has read.
    pub loaded: u64,
    /// Bytes of these keys and their values.
    pub bytes: u64,
    /// Keys that memory had already.
    pub held: u64,
    /// Keys that the storage didn't have any more, or not as strings.
    pub absent: u64,
    /// Why it waits for the storage, while it does.
    pub error: Option<String>,
}

/// The locks as a sidecar sees them.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LocksStatus {
    /// Whether locks can be had at the moment.
    pub available: bool,
    /// Why not.
    pub error: Option<String>,
    /// The epoch of their tokens.
    pub epoch: Option<u64>,
    /// Locks that are held through this sidecar.
    pub held: u64,
    /// Its clients that wait for one.
    pub waiting: u64,
    /// Locks that were lost before they were released, in all.
    pub lost: u64,
}

/// The leases as a sidecar sees them.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LeasesStatus {
    /// Leases of the cluster that it knows of.
    pub known: u64,
    /// Those that it keeps alive for connections of its own.
    pub kept: u64,
    /// Leases whose keys it has removed, in all.
    pub ended: u64,
}
