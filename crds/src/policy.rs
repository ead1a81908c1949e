//! `WarpPolicy`: which consistency a class of keys gets.

use kube::core::Duration;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pattern::KeyPattern;
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

/// What a class of keys gets. A field that is left out comes from `preset`, then from the
/// cluster's defaults, then from [`Rules::BUILT_IN`].
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRules {
    /// The consistency of a hit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// How long a value may be answered from memory after it was read from storage, such as
    /// `30s` or `5m`. It doesn't shorten the life of the value in storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1ms') && duration(self) <= duration('8760h')").message("ttl must be between 1ms and 8760h"))]
    pub ttl: Option<Duration>,
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

/// A named set of rules.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum Preset {
    /// EventualDistributed, 5 minutes: data read far more often than written.
    ReadMostly,
    /// EventualDistributed, 30 minutes: a user's session, which any pod may be asked for next.
    Session,
    /// StrongLocal, 30 seconds: data that only its own pod writes, or that may be old.
    PodLocal,
}

impl Preset {
    /// The rules that the name stands for.
    pub const fn rules(self) -> Rules {
        const fn minutes(m: u64) -> std::time::Duration {
            std::time::Duration::from_secs(m * 60)
        }
        match self {
            Self::ReadMostly => Rules { mode: Mode::EventualDistributed, ttl: minutes(5) },
            Self::Session => Rules { mode: Mode::EventualDistributed, ttl: minutes(30) },
            Self::PodLocal => {
                Rules { mode: Mode::StrongLocal, ttl: std::time::Duration::from_secs(30) }
            }
        }
    }
}

/// [`PolicyRules`] with nothing left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The consistency of a hit.
    pub mode: Mode,
    /// How long a value may be answered from memory after it was read from storage.
    pub ttl: std::time::Duration,
}

impl Rules {
    /// What holds where nobody said anything.
    pub const BUILT_IN: Self =
        Self { mode: Mode::EventualDistributed, ttl: std::time::Duration::from_mins(1) };
}

impl PolicyRules {
    /// Fills what is left out: from the preset, else from `base`.
    pub fn resolve(&self, base: Rules) -> Rules {
        let base = self.preset.map_or(base, Preset::rules);
        Rules {
            mode: self.mode.unwrap_or(base.mode),
            // Validation refuses a negative duration, whose sign is lost here.
            ttl: self.ttl.map_or(base.ttl, Into::into),
        }
    }
}
