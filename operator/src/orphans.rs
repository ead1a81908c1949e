//! Collecting configuration and credentials from namespaces that don't use their cluster any more.
//!
//! What is in a cluster's own namespace goes with the cluster, which owns it. An owner can't be in
//! another namespace, so what is there is collected here: when the cluster is gone, no longer
//! allows the namespace, or has no pods in it.

use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::{DeleteParams, ListParams, ObjectMeta, Preconditions};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::time::sleep;
use warp_crds::WarpCluster;

use crate::cluster::build::labels;
use crate::cluster::usage::{self, Sidecar};
use crate::fault::Fault;
use crate::inject;
use crate::view::View;

/// The pace when no cluster goes.
const PACE: Duration = Duration::from_mins(1);
/// Copies deleted at once.
const CONCURRENCY: usize = 8;

/// Collects for ever: soon after `gone` is told, and now and then.
pub async fn collect(client: &Client, view: &View, injection: &inject::Settings, gone: &Notify) {
    view.filled().await;
    let mut fault = Fault::new("collecting what clusters left in other namespaces");
    loop {
        fault.check(sweep(client, view, injection).await);
        tokio::select! {
            () = gone.notified() => {}
            () = sleep(PACE) => {}
        }
    }
}

/// Configuration and credentials go together and share a name, so that no Secret need be listed,
/// which would show those of everyone.
async fn sweep(
    client: &Client,
    view: &View,
    injection: &inject::Settings,
) -> Result<(), kube::Error> {
    let selector = format!("{},{}={}", labels::MANAGED, labels::COMPONENT, labels::CONFIG);
    let copies: Vec<PartialObjectMeta<ConfigMap>> = Api::all(client.clone())
        .list_metadata(&ListParams::default().labels(&selector))
        .await?
        .items;
    // Looked at after the copies were listed: a copy made for a new use finds that use here.
    let orphans: Vec<ObjectMeta> = copies
        .into_iter()
        .map(|copy| copy.metadata)
        .filter(|copy| is_orphan(copy, view, injection))
        .collect();
    stream::iter(orphans)
        .map(|orphan| async move {
            // First, since what is left of the two must be found again.
            delete_secret(client, &orphan).await?;
            delete::<ConfigMap>(client, orphan).await
        })
        .buffer_unordered(CONCURRENCY)
        .fold(Ok(()), |all, one| async { all.and(one) })
        .await
}

/// Deletes the Secret beside an orphan, if it is of the same cluster.
async fn delete_secret(client: &Client, orphan: &ObjectMeta) -> Result<(), kube::Error> {
    let namespace = orphan.namespace.as_deref().unwrap_or_default();
    let name = orphan.name.as_deref().unwrap_or_default();
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    match api.get_metadata_opt(name).await? {
        Some(secret) if usage::cluster_of(&secret.metadata) == usage::cluster_of(orphan) => {
            delete::<Secret>(client, secret.metadata).await
        }
        _ => Ok(()),
    }
}

async fn delete<K>(client: &Client, orphan: ObjectMeta) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let namespace = orphan.namespace.unwrap_or_default();
    let name = orphan.name.unwrap_or_default();
    // Only the very version that was judged.
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: orphan.uid,
            resource_version: orphan.resource_version,
        }),
        ..DeleteParams::background()
    };
    let api: Api<K> = Api::namespaced(client.clone(), &namespace);
    match api.delete(&name, &params).await {
        Ok(_) => {
            tracing::info!(kind = %K::kind(&()), namespace, name, "collected, since nothing uses it");
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_orphan(copy: &ObjectMeta, view: &View, injection: &inject::Settings) -> bool {
    let (Some((cluster_namespace, name)), Some(namespace)) =
        (usage::cluster_of(copy), copy.namespace.as_deref())
    else {
        return false;
    };
    if namespace == cluster_namespace {
        return false;
    }
    let clusters = view.clusters.state();
    let Some(cluster) = clusters.iter().find(|cluster| {
        cluster.name_any() == name && cluster.namespace().as_deref() == Some(cluster_namespace)
    }) else {
        return true;
    };
    // What can't be read can't be judged.
    let Ok(cluster) = &cluster.0 else { return false };
    let readable: Vec<&WarpCluster> = clusters.iter().filter_map(|c| c.0.as_ref().ok()).collect();
    let pods = view.injected.state_filter(|pod: &Pod| {
        pod.namespace().as_deref() == Some(namespace)
            && usage::cluster_of(&pod.metadata) == Some((cluster_namespace, name))
    });
    let sidecars: Vec<Sidecar> = pods.iter().filter_map(|pod| usage::sidecar(pod)).collect();
    let homes = view.namespaces.state_filter(|home| home.name_any() == namespace);
    let homes: Vec<&ObjectMeta> = homes.iter().map(|home| &home.metadata).collect();
    usage::namespaces(cluster, &sidecars, &homes, &readable, injection).is_empty()
}

#[cfg(test)]
mod tests {
    use kube::core::DeserializeGuard;
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::*;

    fn copy(namespace: &str, cluster_namespace: &str, cluster: &str) -> ObjectMeta {
        serde_json::from_value(json!({
            "name": "copy", "namespace": namespace,
            "labels": {
                "warpcache.dev/cluster-namespace": cluster_namespace,
                "warpcache.dev/cluster-name": cluster,
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_copy_is_an_orphan_when_nothing_uses_it() {
        let (view, mut writers) = View::new();
        let mut shop = WarpCluster::new("shop", Default::default());
        shop.metadata.namespace = Some("prod".to_owned());
        shop.spec.allowed_namespaces = vec!["web".to_owned(), "idle".to_owned()];
        writers.clusters.apply_watcher_event(&Event::Apply(DeserializeGuard(Ok(shop))));
        for name in ["prod", "web", "idle", "foreign"] {
            let namespace = json!({"metadata": {"name": name}});
            let namespace = serde_json::from_value(namespace).unwrap();
            writers.namespaces.apply_watcher_event(&Event::Apply(namespace));
        }
        for namespace in ["web", "foreign"] {
            let pod = json!({
                "metadata": {
                    "name": "p", "namespace": namespace,
                    "labels": {"warpcache.dev/cluster-namespace": "prod", "warpcache.dev/cluster-name": "shop"},
                },
                "spec": {"containers": [], "initContainers": [{"name": "warp-sidecar"}]},
            });
            writers
                .injected
                .apply_watcher_event(&Event::Apply(serde_json::from_value(pod).unwrap()));
        }
        let injection = inject::Settings {
            operator_namespace: "warp-system".to_owned(),
            excluded_namespaces: Vec::new(),
            sidecar_image: "s".to_owned(),
            image_pull_policy: None,
        };
        let judged = |namespace, of_namespace, of| {
            is_orphan(&copy(namespace, of_namespace, of), &view, &injection)
        };
        assert!(!judged("web", "prod", "shop"));
        assert!(judged("idle", "prod", "shop"), "no pod uses it");
        assert!(judged("foreign", "prod", "shop"), "it isn't allowed");
        assert!(judged("web", "prod", "gone"), "there is no such cluster");
        assert!(!judged("prod", "prod", "gone"), "its owner takes it along");
    }
}
