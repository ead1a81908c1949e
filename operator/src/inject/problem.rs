//! Why a pod that was to get a sidecar can't, in words for the one who made it.

use warp_crds::names;

/// Why a pod that was to get a sidecar can't.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No WarpCluster could be meant.
    #[error(
        "no WarpCluster is in namespace {namespace} or allows it: create one there, or name one by the annotation {}: NAMESPACE/NAME",
        names::CLUSTER
    )]
    NoCluster {
        /// The pod's.
        namespace: String,
    },
    /// More than one could be meant.
    #[error(
        "several WarpClusters could serve this pod ({}): choose one by the annotation {}: NAMESPACE/NAME",
        .candidates.join(", "),
        names::CLUSTER
    )]
    Ambiguous {
        /// Each as `NAMESPACE/NAME`.
        candidates: Vec<String>,
    },
    /// The annotation isn't `NAME` or `NAMESPACE/NAME`.
    #[error(
        "the annotation {}: {reference:?} is no WarpCluster's name: write NAME or NAMESPACE/NAME",
        names::CLUSTER
    )]
    Malformed {
        /// As it is written.
        reference: String,
    },
    /// The WarpCluster that the annotation names isn't there.
    #[error(
        "there is no WarpCluster {cluster}: create it, or correct the annotation {}",
        names::CLUSTER
    )]
    NotFound {
        /// As `NAMESPACE/NAME`.
        cluster: String,
    },
    /// The WarpCluster that the annotation names isn't for the pod's namespace.
    #[error(
        "WarpCluster {cluster} doesn't allow namespace {namespace}: add it to its spec.allowedNamespaces"
    )]
    NotAllowed {
        /// As `NAMESPACE/NAME`.
        cluster: String,
        /// The pod's.
        namespace: String,
    },
    /// The WarpCluster's name can't be a label's value.
    #[error(
        "the name of WarpCluster {cluster} has more than 63 characters, which a pod's label can't hold: create it under a shorter name"
    )]
    NameTooLong {
        /// As `NAMESPACE/NAME`.
        cluster: String,
    },
    /// A container of the pod listens where the sidecar would.
    #[error(
        "container {container} uses port {port}, which is the sidecar's: set another spec.sidecar.{field} in WarpCluster {cluster}"
    )]
    PortTaken {
        /// The container that declares the port.
        container: String,
        /// The port.
        port: i32,
        /// `port` or `metricsPort`.
        field: &'static str,
        /// As `NAMESPACE/NAME`.
        cluster: String,
    },
    /// A container of the pod has the sidecar's name.
    #[error("a container of the pod is named {}: give it another name", names::SIDECAR_CONTAINER)]
    NameTaken,
}

impl Problem {
    /// Whether it may be that the WarpClusters that were looked at are out of date.
    pub fn depends_on_clusters(&self) -> bool {
        !matches!(self, Self::Malformed { .. } | Self::NameTaken)
    }
}
