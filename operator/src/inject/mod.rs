//! Whether a pod gets a sidecar, and the patch that gives it one.
//!
//! All of it is pure: JSON of the pod, its namespace and the WarpClusters in, a decision out. The
//! patch is made on the raw JSON that the API server sent, so that fields which this program
//! doesn't know survive.

mod marks;
mod patch;
mod problem;
mod select;
mod sidecar;

use kube::ResourceExt;
use kube::api::ObjectMeta;
use serde_json::Value;
use warp_crds::{WarpCluster, names};

pub use marks::{Marks, UnknownValue, label_job};
pub use patch::{Injection, inject};
pub use problem::Problem;
pub(crate) use select::allows;
pub use sidecar::{METRICS_PORT_NAME, Plan};

/// What every injection depends on besides the pod, its namespace and its WarpCluster.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The operator's own namespace.
    pub operator_namespace: String,
    /// Namespaces that the webhook isn't asked for, besides Kubernetes' and the operator's.
    pub excluded_namespaces: Vec<String>,
    /// The sidecar's image where the WarpCluster names none.
    pub sidecar_image: String,
    /// `imagePullPolicy` of the sidecar; Kubernetes' default when left out.
    pub image_pull_policy: Option<String>,
}

impl Settings {
    /// Whether pods of `namespace` are never injected, whatever they ask for.
    pub fn excludes(&self, namespace: &str) -> bool {
        namespace == "kube-system"
            || namespace == self.operator_namespace
            || self.excluded_namespaces.iter().any(|excluded| excluded == namespace)
    }
}

/// What becomes of a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// It gets a sidecar.
    Inject(Box<Plan>),
    /// It is let alone.
    Skip(Skip),
    /// It was to get a sidecar and can't.
    Refuse {
        /// Why, and what to do.
        problem: Problem,
        /// Whether the pod itself asks for its sidecar: then it must not start without one.
        /// Otherwise its namespace asks, and the pod starts with a warning.
        explicit: bool,
    },
}

/// Why a pod is let alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// Neither the pod nor its namespace asks, or the pod asks not to.
    NotAsked,
    /// The namespace is Kubernetes', the operator's or excluded.
    ExcludedNamespace,
    /// The pod has the node's network, where the sidecar's ports could be anyone's.
    HostNetwork,
    /// The pod is the API server's image of one that a kubelet runs from a file.
    Mirror,
}

/// Decides on a pod that is about to be created in `namespace`.
///
/// `pod` is the raw object; its `metadata.namespace` may be missing. `clusters` are all that exist.
pub fn decide(
    pod: &Value,
    namespace: &ObjectMeta,
    clusters: &[&WarpCluster],
    settings: &Settings,
) -> Decision {
    let namespace_name = namespace.name.as_deref().unwrap_or_default();
    let label = |name: &str| pod["metadata"]["labels"][name].as_str();
    let annotation = |name: &str| pod["metadata"]["annotations"][name].as_str();
    let explicit = label(names::INJECT) == Some(names::ENABLED);
    let by_namespace = asks(namespace) && label(names::INJECT) != Some(names::DISABLED);
    if !explicit && !by_namespace {
        return Decision::Skip(Skip::NotAsked);
    }
    if settings.excludes(namespace_name) {
        return Decision::Skip(Skip::ExcludedNamespace);
    }
    if pod["spec"]["hostNetwork"] == true {
        return Decision::Skip(Skip::HostNetwork);
    }
    if annotation("kubernetes.io/config.mirror").is_some() {
        return Decision::Skip(Skip::Mirror);
    }
    let reference = annotation(names::CLUSTER)
        .or_else(|| namespace.annotations.as_ref()?.get(names::CLUSTER).map(String::as_str));
    let plan = select::cluster(reference, namespace_name, clusters)
        .map(|cluster| Plan::new(cluster, settings))
        .and_then(|plan| plan.fits(pod).map(|()| plan));
    match plan {
        Ok(plan) => Decision::Inject(Box::new(plan)),
        Err(problem) => Decision::Refuse { problem, explicit },
    }
}

/// Whether a namespace asks for sidecars in its pods.
pub fn asks(namespace: &ObjectMeta) -> bool {
    namespace
        .labels
        .as_ref()
        .and_then(|labels| labels.get(names::INJECT))
        .is_some_and(|value| value == names::ENABLED)
}

/// `NAMESPACE/NAME` of a WarpCluster.
fn full_name(cluster: &WarpCluster) -> String {
    format!("{}/{}", cluster.namespace().unwrap_or_default(), cluster.name_any())
}

#[cfg(test)]
mod tests;
