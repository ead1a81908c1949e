//! What fills a sidecar's cache before anybody asks: `spec.warmUp` of a `WarpCluster`.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use kube::core::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pattern::KeyPattern;

/// Reads keys from storage into the cache, at the start of each sidecar and by a schedule. What
/// memory holds already is passed over.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.onStart || has(self.schedule)").message("warmUp must have onStart or a schedule"))]
pub struct WarmUp {
    /// Where the keys come from, one source after the other.
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.size() > 0 && self.size() <= 16").message("from takes 1 to 16 sources"))]
    pub from: Vec<WarmUpSource>,
    /// Whether a sidecar that starts is warmed up.
    #[serde(default = "yes")]
    pub on_start: bool,
    /// When it is done again: minute, hour, day, month and day of the week as cron writes them, in
    /// UTC, such as `*/15 * * * *`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^ *[^ ]+( +[^ ]+){4} *$')").message("schedule must have five fields: minute, hour, day, month and day of the week"))]
    pub schedule: Option<String>,
    /// How many keys are read in a second at most.
    #[serde(default = "thousand")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 1000000").message("keysPerSecond must be 1 to 1000000"))]
    pub keys_per_second: i32,
    /// Bytes of keys and values after which it ends. Default: half of `sidecar.memoryLimit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("type(self) == string && self.matches('^[0-9]+(k|M|G|T|Ki|Mi|Gi|Ti)?$') && quantity(self).compareTo(quantity('1')) >= 0").message("maxBytes must be a number of bytes such as 16Mi, at least 1"))]
    pub max_bytes: Option<Quantity>,
    /// How long a starting sidecar, and with it the application, waits to be ready until the warm-up
    /// is done. Default: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('0s') && duration(self) <= duration('10m')").message("readinessTimeout must be between 0s (none) and 10m"))]
    pub readiness_timeout: Option<Duration>,
}

/// Where keys to be read come from; exactly one of its fields.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum WarmUpSource {
    /// The storage's keys that match this pattern, in no order.
    Pattern(KeyPattern),
    /// The keys that a query on a PostgreSQL storage gives: a SELECT of one column, `bytea` or text,
    /// in its order. It may only read.
    Query(String),
}

const fn yes() -> bool {
    true
}

const fn thousand() -> i32 {
    1000
}

/// The longest that readiness waits.
pub const LONGEST_READINESS: std::time::Duration = std::time::Duration::from_mins(10);
