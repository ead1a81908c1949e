//! The ConfigMap that carries a cluster's configuration to the pods of one namespace.

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use warp_crds::{WarpCluster, names};

use super::labels;

/// The ConfigMap for `namespace`.
pub fn config_map(cluster: &WarpCluster, namespace: &str, text: &str) -> ConfigMap {
    ConfigMap {
        metadata: metadata(cluster, namespace),
        data: Some([(names::CONFIG_FILE.to_owned(), text.to_owned())].into()),
        ..Default::default()
    }
}

/// The metadata shared with the Secret beside it. Only in the cluster's own namespace can they be
/// owned by the cluster; elsewhere the operator collects them.
pub(super) fn metadata(cluster: &WarpCluster, namespace: &str) -> ObjectMeta {
    let own = cluster.namespace().unwrap_or_default();
    let metadata =
        labels::owned(cluster, names::config_object(&own, &cluster.name_any()), labels::CONFIG);
    if namespace == own {
        return metadata;
    }
    ObjectMeta { namespace: Some(namespace.to_owned()), owner_references: None, ..metadata }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_copy_beside_the_cluster_is_owned_by_it() {
        let mut cluster = WarpCluster::new("shop", Default::default());
        cluster.metadata.namespace = Some("prod".to_owned());
        cluster.metadata.uid = Some("u".to_owned());
        let own = config_map(&cluster, "prod", "text");
        assert_eq!(own.owner_references().len(), 1);
        let copy = config_map(&cluster, "web", "text");
        assert_eq!(copy.owner_references().len(), 0);
        assert_eq!(
            (copy.name_any(), copy.namespace()),
            ("warp.prod.shop".into(), Some("web".into()))
        );
        assert_eq!(copy.labels()[names::CLUSTER_NAMESPACE_LABEL], "prod");
        assert_eq!(copy.data, own.data);
    }
}
