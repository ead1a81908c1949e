//! Which WarpCluster serves a pod.

use kube::ResourceExt;
use warp_crds::WarpCluster;

use super::{Problem, full_name};

/// The longest value that a label can have.
const LONGEST_LABEL: usize = 63;

/// The WarpCluster that `reference` (`NAME` or `NAMESPACE/NAME`, from an annotation) names; without
/// one, the only one of the pod's namespace; if that has none, the only one that allows it.
pub(super) fn cluster<'a>(
    reference: Option<&str>,
    namespace: &str,
    clusters: &[&'a WarpCluster],
) -> Result<&'a WarpCluster, Problem> {
    let found = match reference {
        Some(reference) => named(reference, namespace, clusters)?,
        None => only(namespace, clusters)?,
    };
    if found.name_any().len() > LONGEST_LABEL {
        return Err(Problem::NameTooLong { cluster: full_name(found) });
    }
    Ok(found)
}

fn named<'a>(
    reference: &str,
    namespace: &str,
    clusters: &[&'a WarpCluster],
) -> Result<&'a WarpCluster, Problem> {
    let (of, name) = reference.split_once('/').unwrap_or((namespace, reference));
    if of.is_empty() || name.is_empty() || name.contains('/') {
        return Err(Problem::Malformed { reference: reference.to_owned() });
    }
    let found = clusters
        .iter()
        .copied()
        .find(|cluster| cluster.name_any() == name && cluster.namespace().as_deref() == Some(of))
        .ok_or_else(|| Problem::NotFound { cluster: format!("{of}/{name}") })?;
    if !allows(found, namespace) {
        return Err(Problem::NotAllowed {
            cluster: full_name(found),
            namespace: namespace.to_owned(),
        });
    }
    Ok(found)
}

fn only<'a>(namespace: &str, clusters: &[&'a WarpCluster]) -> Result<&'a WarpCluster, Problem> {
    let own = |cluster: &&WarpCluster| cluster.namespace().as_deref() == Some(namespace);
    let mut candidates: Vec<_> = clusters.iter().copied().filter(own).collect();
    if candidates.is_empty() {
        candidates =
            clusters.iter().copied().filter(|cluster| allows(cluster, namespace)).collect();
    }
    match candidates.as_slice() {
        [] => Err(Problem::NoCluster { namespace: namespace.to_owned() }),
        [one] => Ok(one),
        several => {
            let mut candidates: Vec<_> = several.iter().map(|cluster| full_name(cluster)).collect();
            candidates.sort();
            Err(Problem::Ambiguous { candidates })
        }
    }
}

/// Whether pods of `namespace` may use `cluster`.
pub(crate) fn allows(cluster: &WarpCluster, namespace: &str) -> bool {
    cluster.namespace().as_deref() == Some(namespace)
        || cluster
            .spec
            .allowed_namespaces
            .iter()
            .any(|allowed| allowed == "*" || allowed == namespace)
}
