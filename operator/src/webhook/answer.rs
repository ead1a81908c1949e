//! The answer to one request: what [`crate::inject`] decides, in the words of an admission review.

use kube::api::ObjectMeta;
use serde_json::Value;
use warp_crds::WarpCluster;

use super::State;
use super::review::{Request, Verdict};
use super::view::{Unknown, View};
use crate::inject::{self, Decision, Injection};

/// The values of the counter's label `result`.
mod result {
    pub(super) const INJECTED: &str = "injected";
    pub(super) const UNCHANGED: &str = "unchanged";
    pub(super) const SKIPPED: &str = "skipped";
    pub(super) const WARNED: &str = "warned";
    pub(super) const DENIED: &str = "denied";
    pub(super) const FAILED: &str = "failed";
    pub(super) const JOB_LABELLED: &str = "job_labelled";
}

/// The answer for a pod, and its result for the counter. `by_namespace` says which of the two
/// selectors matched: the API server has seen the namespace labelled, or the pod.
pub(super) async fn pod(
    state: &State,
    view: &View,
    by_namespace: bool,
    request: &Request,
) -> (&'static str, Verdict) {
    match decide(state, view, by_namespace, request).await {
        Ok(decision) => verdict(request, decision),
        Err(unknown) => (result::FAILED, Verdict::Deny(unknown.to_string())),
    }
}

async fn decide(
    state: &State,
    view: &View,
    by_namespace: bool,
    request: &Request,
) -> Result<Decision, Unknown> {
    let expected = |namespace: &ObjectMeta| !by_namespace || inject::asks(namespace);
    let namespace = view.namespace(&request.namespace, expected).await?;
    let decide = |clusters: &[&WarpCluster]| {
        inject::decide(&request.object, &namespace, clusters, &state.injection)
    };
    let seen = view.clusters();
    let decision = decide(&readable(seen.iter().map(AsRef::as_ref)));
    match &decision {
        // The cluster may have been made just before its pods.
        Decision::Refuse { problem, .. } if problem.depends_on_clusters() => {
            let clusters = view.clusters_now().await?;
            Ok(decide(&readable(clusters.iter())))
        }
        _ => Ok(decision),
    }
}

fn readable<'a>(clusters: impl Iterator<Item = &'a super::view::Guarded>) -> Vec<&'a WarpCluster> {
    clusters.filter_map(|cluster| cluster.0.as_ref().ok()).collect()
}

fn verdict(request: &Request, decision: Decision) -> (&'static str, Verdict) {
    let metadata = &request.object["metadata"];
    let pod = metadata["name"].as_str().or(metadata["generateName"].as_str()).unwrap_or_default();
    let namespace = &request.namespace;
    match decision {
        Decision::Inject(plan) => {
            let Injection { patch, warnings } = inject::inject(&request.object, &plan);
            let result = if patch.0.is_empty() { result::UNCHANGED } else { result::INJECTED };
            tracing::debug!(namespace, pod, result, "injection");
            (result, Verdict::Admit(patch, warnings))
        }
        Decision::Skip(reason) => {
            tracing::debug!(namespace, pod, ?reason, "no injection");
            (result::SKIPPED, Verdict::unchanged())
        }
        Decision::Refuse { problem, explicit } => {
            tracing::info!(namespace, pod, %problem, denied = explicit, "no injection");
            let message = format!("no Warp sidecar: {problem}");
            if explicit {
                (result::DENIED, Verdict::Deny(message))
            } else {
                (result::WARNED, Verdict::Admit(json_patch::Patch::default(), vec![message]))
            }
        }
    }
}

/// The answer for a Job, and its result for the counter.
pub(super) fn job(job: &Value) -> (&'static str, Verdict) {
    match inject::label_job(job) {
        Ok(patch) if patch.0.is_empty() => (result::UNCHANGED, Verdict::unchanged()),
        Ok(patch) => (result::JOB_LABELLED, Verdict::Admit(patch, Vec::new())),
        Err(unknown) => {
            let warnings = vec![unknown.to_string()];
            (result::WARNED, Verdict::Admit(json_patch::Patch::default(), warnings))
        }
    }
}
