//! The PodDisruptionBudget of a managed NATS: one server at a time.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use warp_crds::WarpCluster;

use super::labels;
use crate::nats::config::Servers;

/// The PodDisruptionBudget.
pub fn pdb(cluster: &WarpCluster, servers: &Servers<'_>) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: labels::owned(cluster, servers.name.to_owned(), labels::NATS),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(labels::of_pod(cluster, labels::NATS)),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}
