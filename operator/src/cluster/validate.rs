//! What of a cluster is accepted, and the configuration that follows from it. Pure.
//!
//! What is refused leaves everything as it was: the cluster that was accepted last goes on, read
//! from the configuration that its sidecars run.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt;
use warp_crds::cluster::{Bus, ManagedNats, NatsBus};
use warp_crds::manifest::{self, Manifests};
use warp_crds::validation::{self, Reason, Violation};
use warp_crds::{WarpCluster, WarpPolicy, WarpPolicySpec, quantity};

use crate::policy::accept::{Claim, Verdict, accept};

/// The longest name of a managed NATS' cluster. Its StatefulSet, `NAME-nats`, may have 52
/// characters, since its pods carry a label of that name and a hash.
const LONGEST_NAME: usize = 47;

/// What holds now.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The cluster as it is, or as it was accepted last.
    pub cluster: WarpCluster,
    /// Why the cluster as it is isn't accepted; empty when it is.
    pub refused: Vec<Violation>,
    /// Of each policy.
    pub verdicts: Vec<Verdict>,
    /// The configuration of the sidecars.
    pub text: String,
    /// See [`manifest::hash`].
    pub hash: String,
}

/// Why nothing holds.
#[derive(Debug, thiserror::Error)]
pub enum Nothing {
    /// The cluster isn't accepted, and none was before.
    #[error("the cluster isn't accepted, and none was before")]
    Refused(Vec<Violation>),
    /// The configuration can't be written.
    #[error("the configuration can't be written: {0}")]
    Unwritable(String),
}

/// What stands already.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standing<'a> {
    /// What the sidecars run until now.
    pub compiled: Option<&'a Manifests>,
    /// The managed NATS.
    pub stateful_set: Option<&'a StatefulSet>,
    /// Objects of others that stand where a managed NATS would go.
    pub taken: &'a [String],
}

/// The cluster that holds: as it is, or as it was accepted last, and then with why it isn't as it is.
pub fn effective(
    cluster: &WarpCluster,
    standing: Standing<'_>,
) -> Result<(WarpCluster, Vec<Violation>), Nothing> {
    let refused = violations(cluster, standing);
    let mut effective = cluster.clone();
    if !refused.is_empty() {
        match standing.compiled {
            Some(before) => effective.spec = before.cluster.spec.clone(),
            None => return Err(Nothing::Refused(refused)),
        }
    }
    Ok((effective, refused))
}

/// Judges `cluster` and the claims on it.
pub fn validate(
    cluster: &WarpCluster,
    claims: Vec<Claim>,
    standing: Standing<'_>,
) -> Result<Accepted, Nothing> {
    let (effective, refused) = effective(cluster, standing)?;
    let compiled = standing.compiled;
    let previous: BTreeMap<String, WarpPolicySpec> = compiled
        .iter()
        .flat_map(|before| &before.policies)
        .map(|policy| (policy.name_any(), policy.spec.clone()))
        .collect();
    let verdicts = accept(claims, &effective.spec, &previous);
    let policies: Vec<WarpPolicy> = verdicts
        .iter()
        .filter_map(|verdict| {
            let mut policy = WarpPolicy::new(&verdict.name, verdict.compiled.clone()?);
            policy.metadata.namespace = cluster.namespace();
            Some(policy)
        })
        .collect();
    let text = manifest::render(&effective, &policies)
        .map_err(|error| Nothing::Unwritable(error.to_string()))?;
    let hash = manifest::hash(&text);
    Ok(Accepted { cluster: effective, refused, verdicts, text, hash })
}

/// The managed NATS that a spec asks for.
pub fn managed_nats(cluster: &WarpCluster) -> Option<&ManagedNats> {
    match &cluster.spec.bus {
        Bus::Nats(NatsBus::Managed(managed)) => Some(managed),
        _ => None,
    }
}

fn violations(cluster: &WarpCluster, standing: Standing<'_>) -> Vec<Violation> {
    let mut found = validation::cluster(&cluster.spec);
    found.extend(name(cluster));
    let Some(wanted) = managed_nats(cluster) else { return found };
    if standing.taken.is_empty() {
        found.extend(standing.stateful_set.iter().flat_map(|present| migration(wanted, present)));
    } else {
        found.push(Violation {
            field: "metadata.name".to_owned(),
            reason: Reason::Conflict,
            message: format!(
                "the managed NATS would overwrite {}, which Warp hasn't made; name the WarpCluster otherwise",
                standing.taken.join(" and ")
            ),
        });
    }
    found
}

/// The name goes into labels, and a managed NATS' into names of Services and pods.
fn name(cluster: &WarpCluster) -> Option<Violation> {
    let name = cluster.name_any();
    let longest = if managed_nats(cluster).is_some() { LONGEST_NAME } else { 63 };
    let message = if name.len() > longest {
        format!(
            "has {} characters; the pods' names and labels leave room for {longest}",
            name.len()
        )
    } else if managed_nats(cluster).is_some()
        && (name.contains('.') || !name.starts_with(|c: char| c.is_ascii_lowercase()))
    {
        "names a Service too; start it with a letter, and use no dots".to_owned()
    } else {
        return None;
    };
    Some(Violation { field: "metadata.name".to_owned(), reason: Reason::Invalid, message })
}

/// What can't be changed while the servers hold the stream.
fn migration(wanted: &ManagedNats, present: &StatefulSet) -> Vec<Violation> {
    let unsupported = |field: &str, message: String| Violation {
        field: format!("spec.bus.nats.managed.{field}"),
        reason: Reason::Unsupported,
        message,
    };
    let Some(spec) = &present.spec else { return Vec::new() };
    let mut found = Vec::new();
    let running = spec.replicas.unwrap_or(1);
    if running != wanted.replicas {
        found.push(unsupported(
            "replicas",
            format!(
                "{running} run, and changing that to {} is not supported yet; make a new WarpCluster of that size, or delete this one and make it again: its data is in the storage, and the caches fill again",
                wanted.replicas
            ),
        ));
    }
    let claim = spec.volume_claim_templates.iter().flatten().next().and_then(|c| c.spec.as_ref());
    if let Some(claim) = claim {
        let requests = claim.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        let size = requests.and_then(|requests| requests.get("storage"));
        let same_size =
            size.is_none_or(|size| quantity::bytes(size) == quantity::bytes(&wanted.storage.size));
        if !same_size || claim.storage_class_name != wanted.storage.storage_class_name {
            found.push(unsupported(
                "storage",
                "the volumes are made already and can't be changed; make a new WarpCluster, or delete this one and make it again".to_owned(),
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    use serde_json::json;
    use warp_crds::cluster::KafkaBus;
    use warp_crds::pattern::KeyPattern;
    use warp_crds::policy::{ClusterRef, Mode, PolicyRules};

    use super::*;

    fn cluster(bus: Bus) -> WarpCluster {
        let mut cluster = WarpCluster::new("shop", Default::default());
        cluster.metadata.namespace = Some("prod".to_owned());
        cluster.spec.bus = bus;
        cluster
    }

    fn managed(replicas: i32, size: &str) -> WarpCluster {
        let mut managed = ManagedNats { replicas, ..Default::default() };
        managed.storage.size = Quantity(size.to_owned());
        cluster(Bus::Nats(NatsBus::Managed(managed)))
    }

    fn running(replicas: i32, size: &str) -> StatefulSet {
        serde_json::from_value(json!({
            "metadata": {},
            "spec": {
                "replicas": replicas, "selector": {}, "serviceName": "s", "template": {},
                "volumeClaimTemplates": [{"spec": {"resources": {"requests": {"storage": size}}}}],
            },
        }))
        .unwrap()
    }

    fn claim(pattern: &str, mode: Option<Mode>) -> Claim {
        Claim {
            name: "users".to_owned(),
            created: None,
            spec: WarpPolicySpec {
                cluster_ref: ClusterRef::to("shop"),
                patterns: vec![KeyPattern(pattern.to_owned())],
                rules: PolicyRules { mode, ..Default::default() },
            },
        }
    }

    fn runs(compiled: &Manifests) -> Standing<'_> {
        Standing { compiled: Some(compiled), ..Default::default() }
    }

    fn stands(set: &StatefulSet) -> Standing<'_> {
        Standing { stateful_set: Some(set), ..Default::default() }
    }

    #[test]
    fn what_others_made_is_never_overwritten() {
        let taken = ["Service shop-nats".to_owned()];
        let standing = Standing { taken: &taken, ..Default::default() };
        let found = violations(&managed(1, "1Gi"), standing);
        assert_eq!(found[0].reason, Reason::Conflict);
        assert!(found[0].message.contains("Service shop-nats"));
        assert_eq!(violations(&cluster(Bus::Memory(Default::default())), standing), []);
    }

    #[test]
    fn accepted_policies_are_in_the_configuration() {
        let accepted =
            validate(&managed(1, "1Gi"), vec![claim("a:*", None)], Standing::default()).unwrap();
        let read = manifest::parse(&accepted.text).unwrap();
        assert_eq!(read.policies[0].spec.patterns[0].0, "a:*");
        assert_eq!(accepted.hash, manifest::hash(&accepted.text));
        assert_eq!(accepted.refused, []);
    }

    #[test]
    fn a_refused_cluster_leaves_the_configuration_as_it_was() {
        let before =
            validate(&managed(1, "1Gi"), vec![claim("a:*", None)], Standing::default()).unwrap();
        let compiled = manifest::parse(&before.text).unwrap();
        let kafka = cluster(Bus::Kafka(KafkaBus { brokers: vec!["k:9092".to_owned()] }));
        let after = validate(&kafka, vec![claim("a:*", None)], runs(&compiled)).unwrap();
        assert_eq!(after.refused[0].reason, Reason::Unsupported);
        assert_eq!((after.text, after.hash), (before.text, before.hash));
        assert!(matches!(validate(&kafka, vec![], Standing::default()), Err(Nothing::Refused(_))));
    }

    #[test]
    fn a_refused_policy_leaves_the_configuration_as_it_was() {
        let good = managed(1, "1Gi");
        let before = validate(&good, vec![claim("a:*", None)], Standing::default()).unwrap();
        let compiled = manifest::parse(&before.text).unwrap();
        let wrong = claim("b:*", Some(Mode::StrongDistributed));
        let after = validate(&good, vec![wrong], runs(&compiled)).unwrap();
        assert_eq!(after.text, before.text);
        assert_eq!(after.verdicts[0].refused.len(), 1);
    }

    #[test]
    fn what_would_lose_the_stream_is_refused_with_a_way_out() {
        let found = violations(&managed(3, "2Gi"), stands(&running(1, "1Gi")));
        let fields: Vec<_> = found.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(fields, ["spec.bus.nats.managed.replicas", "spec.bus.nats.managed.storage"]);
        assert!(found.iter().all(|v| v.message.contains("make a new WarpCluster")));
        assert_eq!(violations(&managed(1, "1024Mi"), stands(&running(1, "1Gi"))), []);
    }

    #[test]
    fn a_name_must_fit_what_is_made_from_it() {
        for (name, fits) in [
            ("shop", true),
            ("a.b", false),
            ("1shop", false),
            (&"x".repeat(47), true),
            (&"x".repeat(48), false),
        ] {
            let mut cluster = managed(1, "1Gi");
            cluster.metadata.name = Some(name.to_owned());
            assert_eq!(violations(&cluster, Standing::default()).is_empty(), fits, "{name}");
        }
    }
}
