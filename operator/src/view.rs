//! What the leader's watches hold, and their streams of changes.
//!
//! Each kind is watched once, and what is kept is pruned to what is used. Secrets are not watched at
//! all.

use std::future::ready;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::core::{DeserializeGuard, PartialObjectMeta, Resource};
use kube::runtime::reflector::store::{Store, Writer};
use kube::runtime::watcher::{self, Config};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;
use warp_crds::{WarpCluster, WarpPolicy, names};

use crate::fault::Fault;

/// A WarpCluster that may turn out not to be readable, without ending the watch.
pub type Cluster = DeserializeGuard<WarpCluster>;
/// A WarpPolicy that may turn out not to be readable, without ending the watch.
pub type Policy = DeserializeGuard<WarpPolicy>;

/// What the watches hold.
#[derive(Clone, Debug)]
pub struct View {
    /// All WarpClusters.
    pub clusters: Store<Cluster>,
    /// All WarpPolicies.
    pub policies: Store<Policy>,
    /// Pods with a sidecar.
    pub injected: Store<Pod>,
    /// Pods that ask for one by their own label.
    pub asking: Store<Pod>,
    /// All namespaces.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    /// Set once every store has been filled.
    filled: Arc<OnceCell<()>>,
}

/// The other ends of the stores in a [`View`].
#[derive(Debug)]
pub struct Writers {
    /// Of [`View::clusters`].
    pub clusters: Writer<Cluster>,
    /// Of [`View::policies`].
    pub policies: Writer<Policy>,
    /// Of [`View::injected`].
    pub injected: Writer<Pod>,
    /// Of [`View::asking`].
    pub asking: Writer<Pod>,
    /// Of [`View::namespaces`].
    pub namespaces: Writer<PartialObjectMeta<Namespace>>,
}

impl View {
    /// Empty stores and their other ends.
    pub fn new() -> (Self, Writers) {
        let writers = Writers {
            clusters: Writer::default(),
            policies: Writer::default(),
            injected: Writer::default(),
            asking: Writer::default(),
            namespaces: Writer::default(),
        };
        let view = Self {
            clusters: writers.clusters.as_reader(),
            policies: writers.policies.as_reader(),
            injected: writers.injected.as_reader(),
            asking: writers.asking.as_reader(),
            namespaces: writers.namespaces.as_reader(),
            filled: Arc::default(),
        };
        (view, writers)
    }

    /// Waits until every store has been filled once. Nothing may be judged missing before.
    pub async fn filled(&self) {
        // A store wakes only the last of those who wait for it, so one waits for all.
        let wait = async || {
            // An error says that the writer is gone: this leadership has ended, and with it the
            // waiter.
            let _ = tokio::join!(
                self.clusters.wait_until_ready(),
                self.policies.wait_until_ready(),
                self.injected.wait_until_ready(),
                self.asking.wait_until_ready(),
                self.namespaces.wait_until_ready(),
            );
        };
        self.filled.get_or_init(wait).await;
    }
}

/// Every object of the kind in all namespaces, kept in `writer`.
pub fn all<K>(client: &Client, writer: Writer<K>) -> impl Stream<Item = Changed<K>> + use<K>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    told(watch(Api::all(client.clone()), Config::default()), "watching Warp's own kinds")
        .default_backoff()
        .reflect(writer)
}

/// Pods that have the label, pruned, kept in `writer`.
pub fn pods(
    client: &Client,
    label: &str,
    writer: Writer<Pod>,
) -> impl Stream<Item = Changed<Pod>> + use<> {
    told(watch(Api::<Pod>::all(client.clone()), Config::default().labels(label)), "watching pods")
        .default_backoff()
        .modify(prune)
        .reflect(writer)
}

/// Namespaces' metadata, kept in `writer`.
pub fn namespaces(
    client: &Client,
    writer: Writer<PartialObjectMeta<Namespace>>,
) -> impl Stream<Item = Changed<PartialObjectMeta<Namespace>>> + use<> {
    let api = Api::<PartialObjectMeta<Namespace>>::all(client.clone());
    told(watch(api, Config::default()), "watching namespaces")
        .default_backoff()
        .modify(|namespace| namespace.metadata.managed_fields = None)
        .reflect(writer)
}

/// The metadata of a kind that the operator makes or is told of, in all namespaces, kept nowhere.
pub fn metadata<K>(
    client: &Client,
    config: Config,
) -> impl Stream<Item = Changed<PartialObjectMeta<K>>> + use<K>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    let api = Api::<PartialObjectMeta<K>>::all(client.clone());
    told(watch(api, config), "watching what clusters own").default_backoff()
}

/// One change of a watch, or why there is none just now.
type Changed<K> = watcher::Result<watcher::Event<K>>;

/// Logs when a watch begins to fail and when it works again; it goes on by itself.
fn told<K>(
    stream: impl Stream<Item = Changed<K>>,
    what: &'static str,
) -> impl Stream<Item = Changed<K>> {
    let mut fault = Fault::new(what);
    stream.then(move |changed| {
        match &changed {
            Ok(_) => fault.over(),
            Err(error) => fault.met(error),
        }
        ready(changed)
    })
}

/// Keeps of a pod what [`crate::cluster::usage`] reads.
fn prune(pod: &mut Pod) {
    pod.metadata.managed_fields = None;
    let kept = [names::CONFIG_HASH, names::SIDECAR_HASH, names::CLUSTER];
    pod.annotations_mut().retain(|key, _| kept.contains(&key.as_str()));
    if let Some(spec) = pod.spec.take() {
        let mut kept = k8s_openapi::api::core::v1::PodSpec {
            host_network: spec.host_network,
            containers: spec.containers,
            init_containers: spec.init_containers,
            ..Default::default()
        };
        let all = kept.containers.iter_mut().chain(kept.init_containers.iter_mut().flatten());
        for container in all {
            *container = k8s_openapi::api::core::v1::Container {
                name: std::mem::take(&mut container.name),
                ports: container.ports.take(),
                ..Default::default()
            };
        }
        pod.spec = Some(kept);
    }
    if let Some(status) = pod.status.take() {
        let sidecar = |statuses: Vec<k8s_openapi::api::core::v1::ContainerStatus>| {
            statuses.into_iter().filter(|status| status.name == names::SIDECAR_CONTAINER).collect()
        };
        pod.status = Some(k8s_openapi::api::core::v1::PodStatus {
            phase: status.phase,
            pod_ip: status.pod_ip,
            init_container_statuses: status.init_container_statuses.map(sidecar),
            ..Default::default()
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::usage;

    #[tokio::test]
    async fn all_who_wait_for_the_stores_are_woken() {
        let (view, mut writers) = View::new();
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let view = view.clone();
                tokio::spawn(async move { view.filled().await })
            })
            .collect();
        tokio::task::yield_now().await;
        writers.clusters.apply_watcher_event(&watcher::Event::InitDone);
        writers.policies.apply_watcher_event(&watcher::Event::InitDone);
        writers.injected.apply_watcher_event(&watcher::Event::InitDone);
        writers.asking.apply_watcher_event(&watcher::Event::InitDone);
        writers.namespaces.apply_watcher_event(&watcher::Event::InitDone);
        for waiter in waiters {
            waiter.await.unwrap();
        }
    }

    #[test]
    fn a_pruned_pod_tells_the_same_of_its_sidecar() {
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": {
                "name": "p", "namespace": "n",
                "annotations": {"warpcache.dev/config-hash": "h", "secret": "long"},
                "managedFields": [{}],
            },
            "spec": {
                "containers": [{"name": "app", "image": "i", "env": [{"name": "A"}]}],
                "initContainers": [{
                    "name": "warp-sidecar", "image": "i",
                    "ports": [{"name": "warp-metrics", "containerPort": 8080}],
                }],
                "volumes": [{"name": "v"}],
            },
            "status": {
                "phase": "Running", "podIP": "10.0.0.1",
                "initContainerStatuses": [{"name": "warp-sidecar", "started": true, "image": "", "imageID": "", "ready": true, "restartCount": 0}],
            },
        }))
        .unwrap();
        let whole = usage::sidecar(&pod);
        prune(&mut pod);
        assert_eq!(usage::sidecar(&pod), whole);
        assert_eq!(whole.unwrap().told.as_deref(), Some("h"));
        let text = serde_json::to_string(&pod).unwrap();
        assert!(!text.contains("long") && !text.contains("volumes") && !text.contains("env"));
    }
}
