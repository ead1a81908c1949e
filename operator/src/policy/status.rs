//! A policy's conditions, from its verdict and from what its cluster's sidecars run. Pure but for
//! the writing.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use warp_crds::conditions::{self, ACCEPTED, Observation, PROGRAMMED};
use warp_crds::status::{WarpClusterStatus, WarpPolicyStatus};
use warp_crds::validation::Reason;
use warp_crds::{WarpPolicy, WarpPolicySpec, names};

use super::accept::Verdict;

/// What the sidecars of a policy's cluster run.
#[derive(Clone, Debug, Default)]
pub struct Programmed {
    /// Hash of the configuration that is written.
    pub hash: Option<String>,
    /// The policies in it.
    pub policies: BTreeMap<String, WarpPolicySpec>,
}

/// The conditions of a policy whose cluster doesn't exist, or was never accepted.
pub fn without_cluster(cluster: &str, reason: Reason, message: &str) -> Vec<Observation> {
    vec![
        Observation::new(ACCEPTED, false, reason.as_str(), message),
        Observation::new(
            PROGRAMMED,
            false,
            "NotAccepted",
            format!("no sidecar of WarpCluster {cluster} runs it"),
        ),
    ]
}

/// The conditions of a policy. `status` is that of its cluster.
pub fn conditions(
    spec: &WarpPolicySpec,
    verdict: &Verdict,
    programmed: &Programmed,
    status: &WarpClusterStatus,
) -> Vec<Observation> {
    let accepted = match (verdict.refused.first(), &verdict.compiled) {
        (None, _) => Observation::new(ACCEPTED, true, "Accepted", "the policy holds"),
        (Some(first), kept) => {
            let words: Vec<String> = verdict.refused.iter().map(ToString::to_string).collect();
            let consequence = if kept.is_some() {
                "; what was accepted before goes on"
            } else {
                "; its keys get what the other policies and the cluster's defaults say"
            };
            Observation::new(ACCEPTED, false, first.reason.as_str(), words.join("; ") + consequence)
        }
    };
    let written = programmed.policies.get(&verdict.name);
    let sidecars = &status.sidecars;
    let seen = programmed.hash.is_some() && programmed.hash == status.config_hash;
    let (is, reason, message) = if !verdict.refused.is_empty() {
        let kept = if written.is_some() {
            "the sidecars run what was accepted before"
        } else {
            "no sidecar runs it"
        };
        (false, "NotAccepted", kept.to_owned())
    } else if written != Some(spec) {
        (false, "Pending", "it isn't in the configuration yet".to_owned())
    } else if !seen {
        (false, "Pending", "the sidecars haven't been asked yet".to_owned())
    } else if sidecars.running == 0 {
        (true, "NoSidecars", "it is in the configuration, and no sidecar runs".to_owned())
    } else if sidecars.current == sidecars.running {
        (true, "Programmed", format!("all {} sidecars run it", sidecars.running))
    } else {
        (false, "Updating", format!("{} of {} sidecars run it", sidecars.current, sidecars.running))
    };
    vec![accepted, Observation::new(PROGRAMMED, is, reason, message)]
}

/// The status that follows, if it differs from the one that stands.
pub fn next(
    policy: &WarpPolicy,
    observations: &[Observation],
    now: Timestamp,
) -> Option<WarpPolicyStatus> {
    let generation = policy.metadata.generation;
    let before = policy.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let next = WarpPolicyStatus {
        observed_generation: generation,
        conditions: conditions::merge(before, observations, generation, now),
    };
    (policy.status.as_ref() != Some(&next)).then_some(next)
}

/// Writes the status.
pub async fn write(
    client: &Client,
    policy: &WarpPolicy,
    status: &WarpPolicyStatus,
) -> Result<(), kube::Error> {
    let api: Api<WarpPolicy> =
        Api::namespaced(client.clone(), &policy.namespace().unwrap_or_default());
    let patch = json!({
        "apiVersion": "warpcache.dev/v1alpha1",
        "kind": "WarpPolicy",
        "metadata": {"name": policy.name_any(), "uid": policy.uid()},
        "status": status,
    });
    let params = PatchParams::apply(names::FIELD_MANAGER).force();
    api.patch_status(&policy.name_any(), &params, &Patch::Apply(patch)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use warp_crds::pattern::KeyPattern;
    use warp_crds::policy::ClusterRef;
    use warp_crds::status::SidecarsSummary;
    use warp_crds::validation::Violation;

    use super::*;

    fn spec(pattern: &str) -> WarpPolicySpec {
        WarpPolicySpec {
            cluster_ref: ClusterRef::to("shop"),
            patterns: vec![KeyPattern(pattern.to_owned())],
            rules: Default::default(),
        }
    }

    fn told(refused: bool, written: Option<&str>, running: i32, current: i32) -> [String; 2] {
        let violation = Violation {
            field: "spec.mode".to_owned(),
            reason: Reason::Unsupported,
            message: "use another".to_owned(),
        };
        let verdict = Verdict {
            name: "users".to_owned(),
            refused: if refused { vec![violation] } else { vec![] },
            compiled: Some(spec("a:*")),
        };
        let programmed = Programmed {
            hash: Some("h".to_owned()),
            policies: written.iter().map(|p| ("users".to_owned(), spec(p))).collect(),
        };
        let status = WarpClusterStatus {
            config_hash: Some("h".to_owned()),
            sidecars: SidecarsSummary { running, current, ..Default::default() },
            ..Default::default()
        };
        let told = conditions(&spec("a:*"), &verdict, &programmed, &status);
        [0, 1].map(|at| format!("{:?}/{}", told[at].status, told[at].reason))
    }

    #[test]
    fn a_policy_is_programmed_when_every_sidecar_runs_it() {
        let accepted = "Some(true)/Accepted";
        assert_eq!(told(false, None, 2, 2), [accepted, "Some(false)/Pending"]);
        assert_eq!(told(false, Some("old:*"), 2, 2), [accepted, "Some(false)/Pending"]);
        assert_eq!(told(false, Some("a:*"), 2, 1), [accepted, "Some(false)/Updating"]);
        assert_eq!(told(false, Some("a:*"), 2, 2), [accepted, "Some(true)/Programmed"]);
        assert_eq!(told(false, Some("a:*"), 0, 0), [accepted, "Some(true)/NoSidecars"]);
    }

    #[test]
    fn a_refused_policy_is_not_programmed_even_if_an_older_form_runs() {
        assert_eq!(
            told(true, Some("a:*"), 2, 2),
            ["Some(false)/Unsupported", "Some(false)/NotAccepted"]
        );
    }
}
