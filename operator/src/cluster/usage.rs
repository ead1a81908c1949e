//! Who uses a cluster: the namespaces that need its configuration, its sidecars, and the pods that
//! should have one and don't. Pure, on what the watches hold.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ObjectMeta;
use serde_json::json;
use warp_crds::{WarpCluster, names};

use crate::inject::{self, Decision};

/// A pod with a sidecar of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sidecar {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Its uid.
    pub uid: Option<String>,
    /// What to restart for it to be made anew, as `kubectl rollout restart` takes it; absent where
    /// that makes nothing anew.
    pub workload: Option<String>,
    /// `host:port` of the sidecar's `/status`; absent while it isn't running.
    pub address: Option<String>,
    /// The annotation [`names::CONFIG_HASH`].
    pub told: Option<String>,
    /// The annotation [`names::SIDECAR_HASH`].
    pub made: Option<String>,
}

/// The cluster, as (namespace, name), that an injected pod belongs to.
pub fn cluster_of(metadata: &ObjectMeta) -> Option<(&str, &str)> {
    let labels = metadata.labels.as_ref()?;
    Some((labels.get(names::CLUSTER_NAMESPACE_LABEL)?, labels.get(names::CLUSTER_NAME_LABEL)?))
}

/// The injected pod's sidecar; `None` when the pod is going or has ended.
pub fn sidecar(pod: &Pod) -> Option<Sidecar> {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    if pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed")) {
        return None;
    }
    let container = pod
        .spec
        .iter()
        .flat_map(|spec| spec.init_containers.iter().flatten())
        .find(|container| container.name == names::SIDECAR_CONTAINER)?;
    // Once started, its startup probe has succeeded, so it serves.
    let started = status
        .iter()
        .flat_map(|status| status.init_container_statuses.iter().flatten())
        .any(|status| status.name == names::SIDECAR_CONTAINER && status.started == Some(true));
    let port = container
        .ports
        .iter()
        .flatten()
        .find(|port| port.name.as_deref() == Some(inject::METRICS_PORT_NAME))
        .map(|port| port.container_port);
    let address = match (status.and_then(|status| status.pod_ip.as_deref()), port) {
        (Some(ip), Some(port)) if ip.contains(':') => Some(format!("[{ip}]:{port}")),
        (Some(ip), Some(port)) => Some(format!("{ip}:{port}")),
        _ => None,
    };
    Some(Sidecar {
        namespace: pod.namespace().unwrap_or_default(),
        pod: pod.name_any(),
        uid: pod.uid(),
        workload: workload(pod),
        address: address.filter(|_| started),
        told: pod.annotations().get(names::CONFIG_HASH).cloned(),
        made: pod.annotations().get(names::SIDECAR_HASH).cloned(),
    })
}

/// See [`Sidecar::workload`].
fn workload(pod: &Pod) -> Option<String> {
    let owner = pod.owner_references().iter().find(|owner| owner.controller == Some(true))?;
    let name = &owner.name;
    match owner.kind.as_str() {
        // A Deployment's ReplicaSet has its name and a hash that is a label of its pods.
        "ReplicaSet" => {
            let hash = pod.labels().get("pod-template-hash")?;
            let deployment = name.strip_suffix(hash.as_str())?.strip_suffix('-')?;
            Some(format!("deployment/{deployment}"))
        }
        "StatefulSet" => Some(format!("statefulset/{name}")),
        "DaemonSet" => Some(format!("daemonset/{name}")),
        _ => None,
    }
}

/// The namespaces that need the configuration of `cluster`: its own, and of those that it allows
/// the ones that have `sidecars` of it, or whose new pods would get one.
pub fn namespaces(
    cluster: &WarpCluster,
    sidecars: &[Sidecar],
    namespaces: &[&ObjectMeta],
    clusters: &[&WarpCluster],
    settings: &inject::Settings,
) -> BTreeSet<String> {
    let own = cluster.namespace();
    let used: BTreeSet<&str> = sidecars.iter().map(|s| s.namespace.as_str()).collect();
    let any_pod = json!({});
    namespaces
        .iter()
        .filter(|namespace| namespace.deletion_timestamp.is_none())
        .filter_map(|namespace| Some((namespace, namespace.name.as_ref()?)))
        .filter(|(_, name)| inject::allows(cluster, name))
        .filter(|(namespace, name)| {
            own.as_ref() == Some(*name)
                || used.contains(name.as_str())
                || chooses(&inject::decide(&any_pod, namespace, clusters, settings), cluster)
        })
        .map(|(_, name)| name.clone())
        .collect()
}

/// How many of `pods`, which ask for a sidecar, run without one and would get one of `cluster` if
/// they were made anew.
pub fn missing(
    cluster: &WarpCluster,
    pods: &[&Pod],
    namespaces: &[&ObjectMeta],
    clusters: &[&WarpCluster],
    settings: &inject::Settings,
) -> usize {
    pods.iter()
        .filter(|pod| {
            let status = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            status == Some("Running") && pod.metadata.deletion_timestamp.is_none()
        })
        .filter(|pod| {
            let init = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
            init.into_iter().all(|container| container.name != names::SIDECAR_CONTAINER)
        })
        .filter(|pod| {
            let home = namespaces.iter().find(|namespace| namespace.name == pod.namespace());
            home.is_some_and(|home| {
                let raw = serde_json::to_value(pod).unwrap_or_default();
                chooses(&inject::decide(&raw, home, clusters, settings), cluster)
            })
        })
        .count()
}

fn chooses(decision: &Decision, cluster: &WarpCluster) -> bool {
    let Decision::Inject(plan) = decision else { return false };
    let label = |name| plan.labels.iter().find(|(key, _)| *key == name).map(|(_, value)| value);
    label(names::CLUSTER_NAME_LABEL) == Some(&cluster.name_any())
        && label(names::CLUSTER_NAMESPACE_LABEL) == cluster.namespace().as_ref()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn cluster(namespace: &str, allowed: &[&str]) -> WarpCluster {
        let mut cluster = WarpCluster::new("shop", Default::default());
        cluster.metadata.namespace = Some(namespace.to_owned());
        cluster.spec.allowed_namespaces = allowed.iter().map(|n| (*n).to_owned()).collect();
        cluster
    }

    fn namespace(metadata: Value) -> ObjectMeta {
        serde_json::from_value(metadata).unwrap()
    }

    fn settings() -> inject::Settings {
        inject::Settings {
            operator_namespace: "warp-system".to_owned(),
            excluded_namespaces: vec!["infra".to_owned()],
            sidecar_image: "sidecar".to_owned(),
            image_pull_policy: None,
        }
    }

    fn pod(namespace: &str, labels: &Value, init: &Value, status: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": namespace, "labels": labels},
            "spec": {"containers": [], "initContainers": init},
            "status": status,
        }))
        .unwrap()
    }

    fn warp_container() -> Value {
        json!([{"name": "warp-sidecar", "ports": [{"name": "warp-metrics", "containerPort": 8080}]}])
    }

    #[test]
    fn a_sidecar_is_asked_once_it_has_started() {
        let status = |started: bool| {
            json!({
                "phase": "Running", "podIP": "10.0.0.7",
                "initContainerStatuses": [{"name": "warp-sidecar", "started": started, "image": "", "imageID": "", "ready": true, "restartCount": 0}],
            })
        };
        let seen = |status: Value| sidecar(&pod("web", &json!({}), &warp_container(), &status));
        assert_eq!(seen(status(true)).unwrap().address.as_deref(), Some("10.0.0.7:8080"));
        assert_eq!(seen(status(false)).unwrap().address, None);
        assert_eq!(seen(json!({"phase": "Pending"})).unwrap().address, None);
        assert_eq!(seen(json!({"phase": "Succeeded"})), None);
        let mut six = status(true);
        six["podIP"] = json!("fd00::7");
        assert_eq!(seen(six).unwrap().address.as_deref(), Some("[fd00::7]:8080"));
    }

    #[test]
    fn the_configuration_goes_where_it_is_used_and_allowed() {
        let all = [
            namespace(json!({"name": "prod"})),
            namespace(json!({"name": "web", "labels": {"warpcache.dev/inject": "enabled"}})),
            namespace(json!({"name": "quiet"})),
            namespace(json!({"name": "used"})),
            namespace(json!({"name": "going", "deletionTimestamp": "2026-01-01T00:00:00Z"})),
            namespace(json!({"name": "foreign", "labels": {"warpcache.dev/inject": "enabled"}})),
        ];
        let all: Vec<&ObjectMeta> = all.iter().collect();
        let shop = cluster("prod", &["web", "quiet", "used", "going"]);
        let sidecars = ["used", "going", "foreign"].map(|namespace| Sidecar {
            namespace: namespace.to_owned(),
            pod: "p".to_owned(),
            uid: None,
            workload: None,
            address: None,
            told: None,
            made: None,
        });
        let found = namespaces(&shop, &sidecars, &all, &[&shop], &settings());
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["prod", "used", "web"]);
        let open = cluster("prod", &["*"]);
        let found = namespaces(&open, &sidecars, &all, &[&open], &settings());
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["foreign", "prod", "used", "web"]);
    }

    #[test]
    fn a_pod_that_asks_and_runs_without_is_missing_its_sidecar() {
        let home = namespace(json!({"name": "prod"}));
        let shop = cluster("prod", &[]);
        let asks = json!({"warpcache.dev/inject": "enabled"});
        let running = json!({"phase": "Running"});
        let count = |pod: &Pod| missing(&shop, &[pod], &[&home], &[&shop], &settings());
        assert_eq!(count(&pod("prod", &asks, &json!([]), &running)), 1);
        assert_eq!(count(&pod("prod", &asks, &warp_container(), &running)), 0);
        assert_eq!(count(&pod("prod", &asks, &json!([]), &json!({"phase": "Pending"}))), 0);
        assert_eq!(count(&pod("prod", &json!({}), &json!([]), &running)), 0);
        assert_eq!(count(&pod("other", &asks, &json!([]), &running)), 0);
    }

    #[test]
    fn a_pod_of_an_excluded_namespace_misses_nothing() {
        let home = namespace(json!({"name": "infra"}));
        let shop = cluster("infra", &[]);
        let asks = json!({"warpcache.dev/inject": "enabled"});
        let pod = pod("infra", &asks, &json!([]), &json!({"phase": "Running"}));
        assert_eq!(missing(&shop, &[&pod], &[&home], &[&shop], &settings()), 0);
    }

    #[test]
    fn the_workload_that_makes_a_pod_is_named_as_kubectl_takes_it() {
        let named = |kind: &str, name: &str| {
            let owner = json!({"apiVersion": "", "kind": kind, "name": name, "uid": "", "controller": true});
            let mut pod = pod("web", &json!({"pod-template-hash": "5d8f"}), &json!([]), &json!({}));
            pod.metadata.owner_references = serde_json::from_value(json!([owner])).unwrap();
            workload(&pod)
        };
        assert_eq!(named("ReplicaSet", "shop-api-5d8f").as_deref(), Some("deployment/shop-api"));
        assert_eq!(named("StatefulSet", "db").as_deref(), Some("statefulset/db"));
        assert_eq!(named("DaemonSet", "agent").as_deref(), Some("daemonset/agent"));
        assert_eq!(named("ReplicaSet", "by-hand"), None);
        assert_eq!(named("Job", "import"), None);
    }
}
