//! The names that operator and sidecar agree on: labels, annotations, derived objects, paths.

use kube::ResourceExt;

use crate::WarpCluster;

/// On a pod or a namespace as a label, on a workload as an annotation: `enabled` or `disabled`.
pub const INJECT: &str = "warpcache.dev/inject";
/// On a pod, a namespace or a workload as an annotation: `NAME` or `NAMESPACE/NAME` of the WarpCluster to use.
pub const CLUSTER: &str = "warpcache.dev/cluster";
/// On an injected pod as a label: the name of its WarpCluster.
pub const CLUSTER_NAME_LABEL: &str = "warpcache.dev/cluster-name";
/// On an injected pod as a label: the namespace of its WarpCluster.
pub const CLUSTER_NAMESPACE_LABEL: &str = "warpcache.dev/cluster-namespace";
/// On an injected pod as an annotation: the hash of the configuration that its kubelet was last told of.
pub const CONFIG_HASH: &str = "warpcache.dev/config-hash";
/// On an injected pod as an annotation: the hash of what was injected, by which it is known when
/// something else would be injected now.
pub const SIDECAR_HASH: &str = "warpcache.dev/sidecar-hash";
/// The container's name.
pub const SIDECAR_CONTAINER: &str = "warp-sidecar";
/// The one field manager of the operator's server-side applies.
pub const FIELD_MANAGER: &str = "warp-operator";

/// The value of [`INJECT`] that asks for a sidecar.
pub const ENABLED: &str = "enabled";
/// The value of [`INJECT`] that forbids one.
pub const DISABLED: &str = "disabled";

/// Where the compiled configuration is mounted, and its file's name.
pub const CONFIG_DIR: &str = "/etc/warp/config";
/// The compiled configuration within [`CONFIG_DIR`] and within its ConfigMap.
pub const CONFIG_FILE: &str = "warp.yaml";
/// Where the credentials are mounted; a file for each, named by [`secret_file`].
pub const SECRETS_DIR: &str = "/etc/warp/secrets";

/// The ConfigMap, and the Secret beside it, that carry a cluster's configuration to the pods of a
/// namespace. A `.` can't be in a namespace's name, so no two clusters share it.
pub fn config_object(cluster_namespace: &str, cluster: &str) -> String {
    format!("warp.{cluster_namespace}.{cluster}")
}

/// The file below [`SECRETS_DIR`] that holds one key of one Secret. `_` can't be in a Secret's
/// name, so no two keys share a file.
pub fn secret_file(secret: &str, key: &str) -> String {
    format!("{secret}_{key}")
}

/// The name shared by the objects of a managed NATS.
pub fn nats_object(cluster: &str) -> String {
    format!("{cluster}-nats")
}

/// The client URL of a managed NATS.
pub fn nats_url(cluster_namespace: &str, cluster: &str) -> String {
    format!("nats://{}.{cluster_namespace}.svc:4222", nats_object(cluster))
}

/// The key, in the Secret named [`nats_object`], of the NKEY seed of the sidecars' NATS user.
pub const NATS_SIDECAR_SEED: &str = "sidecar.nk";

/// What sets a cluster's subjects and stream apart from every other's on a shared NATS. A `.` would
/// split a subject; names can't contain the `_` that stands for it, so no two clusters share one.
pub fn tenant(cluster: &WarpCluster) -> String {
    format!("{}_{}", cluster.namespace().unwrap_or_default(), cluster.name_any()).replace('.', "_")
}

/// The JetStream stream of a tenant's invalidations.
pub fn invalidation_stream(tenant: &str) -> String {
    format!("WARP_INV_{tenant}")
}

/// The subject that a sidecar publishes invalidations to; the stream captures it.
pub fn invalidation_subject(tenant: &str) -> String {
    format!("warp.{tenant}.inv")
}

/// The subject that the stream republishes stored invalidations to; the sidecars subscribe to it.
pub fn republish_subject(tenant: &str) -> String {
    format!("warp.{tenant}.rp")
}

/// Below this subject a tenant's sidecars get their replies. It lies below the client's usual
/// `_INBOX`, so that a user who may subscribe to that needs nothing more.
pub fn sidecar_inbox(tenant: &str) -> String {
    format!("_INBOX.warp.{tenant}.sidecar")
}

/// Below this subject the operator gets the replies about a tenant's stream, apart from where the
/// sidecars may listen.
pub fn operator_inbox(tenant: &str) -> String {
    format!("_INBOX.warp.{tenant}.operator")
}

/// The subject that the sidecars publish the messages of channels to, and subscribe to. No stream
/// captures it.
pub fn message_subject(tenant: &str) -> String {
    format!("warp.{tenant}.msg")
}

/// The JetStream stream of a tenant's registers: small records that are changed by
/// compare-and-swap, which locks and leases are made of.
pub fn register_stream(tenant: &str) -> String {
    format!("WARP_REG_{tenant}")
}

/// Below this subject a sidecar writes registers; the stream captures it.
pub fn register_subject(tenant: &str) -> String {
    format!("warp.{tenant}.reg")
}

/// Below this subject the stream republishes stored registers; the sidecars subscribe to it.
pub fn register_republish_subject(tenant: &str) -> String {
    format!("warp.{tenant}.regrp")
}
