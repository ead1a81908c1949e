//! Sidecars that were injected otherwise than they would be now, and what to type for new ones.
//!
//! What a container is made of can't be changed in a pod that runs: its image, its resources, its
//! ports, the folder of its socket. The pod carries the hash of what was injected, which is compared
//! with what a new pod would get. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::usage::Sidecar;

/// Workloads named in one message; a WarpCluster can have hundreds.
const NAMED: usize = 8;

/// Those of one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outdated {
    /// How many pods carry one.
    pub pods: usize,
    /// The workloads that make them, by namespace, as `kubectl rollout restart` takes them.
    workloads: BTreeMap<String, BTreeSet<String>>,
}

impl Outdated {
    /// Those of `sidecars` that weren't made by the plan of that hash.
    pub fn among(sidecars: &[Sidecar], hash: &str) -> Self {
        let mut found = Self::default();
        for sidecar in sidecars.iter().filter(|sidecar| sidecar.made.as_deref() != Some(hash)) {
            found.pods += 1;
            if let Some(workload) = &sidecar.workload {
                let namespace = found.workloads.entry(sidecar.namespace.clone()).or_default();
                namespace.insert(workload.clone());
            }
        }
        found
    }

    /// What to do about them, for a person.
    pub fn advice(&self) -> String {
        let mut room = NAMED;
        let mut commands: Vec<String> = Vec::new();
        for (namespace, workloads) in &self.workloads {
            let named: Vec<&str> = workloads.iter().take(room).map(String::as_str).collect();
            room -= named.len();
            if !named.is_empty() {
                commands
                    .push(format!("kubectl -n {namespace} rollout restart {}", named.join(" ")));
            }
        }
        let all: usize = self.workloads.values().map(BTreeSet::len).sum();
        let rest = match all.saturating_sub(NAMED) {
            0 => String::new(),
            rest => format!(" (and {rest} more workloads)"),
        };
        if commands.is_empty() {
            "make these pods anew".to_owned()
        } else {
            format!("roll them out: {}{rest}", commands.join("; "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sidecar(namespace: &str, workload: Option<&str>, made: Option<&str>) -> Sidecar {
        Sidecar {
            namespace: namespace.to_owned(),
            pod: "p".to_owned(),
            uid: None,
            workload: workload.map(str::to_owned),
            address: None,
            told: None,
            made: made.map(str::to_owned),
        }
    }

    #[test]
    fn each_workload_is_named_once_with_the_command_that_renews_its_pods() {
        let found = Outdated::among(
            &[
                sidecar("web", Some("deployment/shop"), Some("old")),
                sidecar("web", Some("deployment/shop"), Some("old")),
                sidecar("web", Some("statefulset/db"), None),
                sidecar("api", Some("daemonset/a"), Some("old")),
                sidecar("api", Some("deployment/current"), Some("new")),
                sidecar("api", None, Some("old")),
            ],
            "new",
        );
        assert_eq!(found.pods, 5);
        assert_eq!(
            found.advice(),
            "roll them out: kubectl -n api rollout restart daemonset/a; \
             kubectl -n web rollout restart deployment/shop statefulset/db"
        );
    }

    #[test]
    fn pods_that_no_rollout_makes_anew_are_left_to_their_maker() {
        let found = Outdated::among(&[sidecar("web", None, None)], "new");
        assert_eq!(found.advice(), "make these pods anew");
    }

    #[test]
    fn a_message_stays_short() {
        let many: Vec<Sidecar> =
            (0..20).map(|n| sidecar("web", Some(&format!("deployment/d{n:02}")), None)).collect();
        let advice = Outdated::among(&many, "new").advice();
        assert!(advice.ends_with("deployment/d07 (and 12 more workloads)"), "{advice}");
    }
}
