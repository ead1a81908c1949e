//! `WarpPolicy`: which consistency a class of keys gets, and how its copies live.
//!
//! Here is what can be written; what it comes to is in [`crate::rules`], what a preset's name stands
//! for in [`crate::preset`], and what is refused in [`crate::validation`].

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::core::Duration;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pattern::KeyPattern;
pub use crate::preset::Preset;
pub use crate::rules::Rules;
use crate::status::WarpPolicyStatus;

/// A class of keys and the consistency that it gets.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "warpcache.dev",
    version = "v1alpha1",
    kind = "WarpPolicy",
    plural = "warppolicies",
    shortname = "wp",
    category = "warp",
    namespaced,
    status = "WarpPolicyStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Cluster","type":"string","jsonPath":".spec.clusterRef.name"}"#,
    printcolumn = r#"{"name":"Mode","type":"string","jsonPath":".spec.mode"}"#,
    printcolumn = r#"{"name":"TTL","type":"string","jsonPath":".spec.ttl"}"#,
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.conditions[?(@.type=='Accepted')].status"}"#,
    printcolumn = r#"{"name":"Programmed","type":"string","jsonPath":".status.conditions[?(@.type=='Programmed')].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct WarpPolicySpec {
    /// The WarpCluster, in the policy's namespace, that the policy is for.
    pub cluster_ref: ClusterRef,
    /// Patterns of keys in Redis' glob syntax (`user:*`, `?`, `[a-z]`). Of all the patterns that
    /// match a key, the most specific decides.
    #[serde(rename = "match")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new("self.size() > 0 && self.size() <= 64").message("match takes 1 to 64 patterns"))]
    pub patterns: Vec<KeyPattern>,
    /// What the class gets; what is left out comes from the cluster's defaults.
    #[serde(flatten)]
    pub rules: PolicyRules,
}

/// A WarpCluster by name.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
pub struct ClusterRef {
    /// Its name.
    pub name: String,
}

/// What a class of keys gets. A field that is left out comes from `preset` if one is named, else
/// from the cluster's defaults, else from [`Rules::BUILT_IN`].
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.ttl) || !has(self.slidingTtl) || duration(self.slidingTtl) <= duration(self.ttl)").message("slidingTtl must be at most ttl"))]
#[x_kube(validation = Rule::new("!has(self.ttl) || !has(self.adaptiveTtlMin) || duration(self.adaptiveTtlMin) <= duration(self.ttl)").message("adaptiveTtlMin must be at most ttl"))]
#[x_kube(validation = Rule::new("!has(self.softTimeout) || !has(self.hardTimeout) || duration(self.hardTimeout) == duration('0s') || duration(self.softTimeout) < duration(self.hardTimeout)").message("softTimeout must be less than hardTimeout"))]
pub struct PolicyRules {
    /// The consistency of a hit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// How long a value may be answered from memory after it was read from storage, such as
    /// `30s` or `5m`. It doesn't shorten the life of the value in storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1ms') && duration(self) <= duration('8760h')").message("ttl must be between 1ms and 8760h"))]
    pub ttl: Option<Duration>,
    /// Up to so many percent are taken off each copy's TTL, by chance, so that what was read
    /// together doesn't end together. 0 is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 0 && self <= 90").message("ttlJitterPercent must be 0 to 90"))]
    pub ttl_jitter_percent: Option<i32>,
    /// A copy that isn't read for so long ends before its TTL; each hit begins the time anew.
    /// `0s` is never; at most `ttl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('0s') && duration(self) <= duration('8760h')").message("slidingTtl must be between 0s (none) and 8760h"))]
    pub sliding_ttl: Option<Duration>,
    /// The TTL of a copy adapts to how often its value changes: it begins with this, doubles with each
    /// reading that finds the value unchanged, up to `ttl`, and begins anew when the key was written.
    /// `0s` is that it is always `ttl`; at most `ttl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('0s') && duration(self) <= duration('8760h')").message("adaptiveTtlMin must be between 0s (none) and 8760h"))]
    pub adaptive_ttl_min: Option<Duration>,
    /// How long it is remembered that the storage doesn't have a key. A write of the key by any pod
    /// ends it. `0s` is not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('0s') && duration(self) <= duration('24h')").message("negativeTtl must be between 0s (none) and 24h"))]
    pub negative_ttl: Option<Duration>,
    /// How long after its TTL a copy may still be answered while the storage fails or is slow. Never
    /// a copy of a key that was written since, as far as the pod knows. `0s` is not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('0s') && duration(self) <= duration('8760h')").message("failSafeGrace must be between 0s (none) and 8760h"))]
    pub fail_safe_grace: Option<Duration>,
    /// How long a read waits for the storage where `failSafeGrace` allows an older copy, which is
    /// then answered. What the storage says later is cached. `0s` is until it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('0s') && duration(self) <= duration('5s')").message("softTimeout must be between 0s (none) and 5s"))]
    pub soft_timeout: Option<Duration>,
    /// How long a read waits for the storage at all; then it gets `STORAGEDOWN`. What the storage
    /// says later is cached. `0s` is until the storage's own time is over, which is 5 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('0s') && duration(self) <= duration('5s')").message("hardTimeout must be between 0s (none) and 5s"))]
    pub hard_timeout: Option<Duration>,
    /// A hit on a copy of which so many percent of the TTL have passed has it read anew from
    /// storage, behind the answer. 0 is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 0 && self <= 99").message("eagerRefreshPercent must be 0 to 99"))]
    pub eager_refresh_percent: Option<i32>,
    /// How far a hit may be behind the last write of any pod; a hit that can't be proven to be
    /// within it is read from storage. In EventualDistributed it bounds the age of the bus's last
    /// proof, which comes once a second: at least `1500ms`, by default `3s`. In StrongLocal it bounds the
    /// age of the copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1ms') && duration(self) <= duration('24h')").message("maxStaleness must be between 1ms and 24h"))]
    pub max_staleness: Option<Duration>,
    /// Bytes of the sidecar's memory that are the class's alone, such as `16Mi`: its copies take no
    /// more, and no other class's take of them. At least 1Mi; all quotas together leave 1Mi of
    /// `memoryLimit`. `0` is a place among the classes that have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("type(self) == string && self.matches('^[0-9]+(k|M|G|T|Ki|Mi|Gi|Ti)?$') && (quantity(self).compareTo(quantity('0')) == 0 || quantity(self).compareTo(quantity('1Mi')) >= 0)").message("quota must be a number of bytes such as 16Mi, at least 1Mi, or 0"))]
    pub quota: Option<Quantity>,
    /// A named starting point for the other fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
}

/// The consistency of a hit.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, JsonSchema)]
pub enum Mode {
    /// Consistent within the pod; another pod's write is seen when the TTL has passed. Nothing
    /// goes over the bus.
    StrongLocal,
    /// Every write invalidates the other pods' copies over the bus.
    EventualDistributed,
    /// Linearizable hits.
    StrongDistributed,
}
