//! The labels of everything that the operator makes, by which it finds it again.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};
use warp_crds::{WarpCluster, names};

/// Who made it.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Which of the objects it is, `config` or `nats`.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// [`COMPONENT`] of the compiled configuration and its credentials.
pub const CONFIG: &str = "config";
/// [`COMPONENT`] of a managed NATS.
pub const NATS: &str = "nats";
/// Selects everything that the operator makes.
pub const MANAGED: &str = "app.kubernetes.io/managed-by=warp-operator";

/// The labels of an object of `cluster`.
pub fn of_object(cluster: &WarpCluster, component: &str) -> BTreeMap<String, String> {
    let mut labels = of_pod(cluster, component);
    labels.insert(names::CLUSTER_NAME_LABEL.to_owned(), cluster.name_any());
    labels
        .insert(names::CLUSTER_NAMESPACE_LABEL.to_owned(), cluster.namespace().unwrap_or_default());
    labels
}

/// The labels of a pod of `cluster`: without those that an injected pod has.
pub fn of_pod(cluster: &WarpCluster, component: &str) -> BTreeMap<String, String> {
    [
        (MANAGED_BY, names::FIELD_MANAGER),
        ("app.kubernetes.io/name", "warpcluster"),
        ("app.kubernetes.io/instance", cluster.name_any().as_str()),
        (COMPONENT, component),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// The metadata of an object in the cluster's namespace, which goes when the cluster does.
pub fn owned(cluster: &WarpCluster, name: String, component: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: cluster.namespace(),
        labels: Some(of_object(cluster, component)),
        owner_references: cluster.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..Default::default()
    }
}
