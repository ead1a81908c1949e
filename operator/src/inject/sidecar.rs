//! What is added to a pod: the sidecar's container, its volumes, and what the pod's own
//! containers are told.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;
use serde_json::{Value, json};
use warp_crds::cluster::LogFormat;
use warp_crds::{WarpCluster, manifest, names, quantity};

use super::{Problem, Settings, full_name};

/// The user that the sidecar's image is made for; no root, no group of the pod's.
const UID: u32 = 65532;
/// The name of the container's port for metrics, status and probes.
pub const METRICS_PORT_NAME: &str = "warp-metrics";
/// Volume of the compiled configuration.
const CONFIG_VOLUME: &str = "warp-config";
/// Volume of the credentials.
const SECRETS_VOLUME: &str = "warp-secrets";
/// Volume that the unix socket is shared in.
const SOCKET_VOLUME: &str = "warp-socket";
/// Seconds for the configuration to arrive before the sidecar is started anew.
const STARTUP_SECONDS: u32 = 120;

/// All that is added to a pod, independent of the pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Labels of the pod.
    pub labels: [(&'static str, String); 2],
    /// The sidecar, an init container that goes on running.
    pub container: Value,
    /// The volumes that it mounts, and that of the unix socket.
    pub volumes: Vec<Value>,
    /// Environment of the pod's own containers.
    pub env: Vec<(&'static str, String)>,
    /// Where the pod's own containers find the unix socket.
    pub mount: Option<Value>,
    cluster: String,
    port: i32,
    metrics_port: i32,
}

impl Plan {
    /// What a pod that uses `cluster` gets.
    pub fn new(cluster: &WarpCluster, settings: &Settings) -> Self {
        let spec = &cluster.spec.sidecar;
        let namespace = cluster.namespace().unwrap_or_default();
        let config = names::config_object(&namespace, &cluster.name_any());
        // Both are optional: the pod starts, and its sidecar waits, until the operator has written
        // them for the pod's namespace.
        let mut volumes = vec![
            json!({"name": CONFIG_VOLUME, "configMap": {"name": config, "optional": true}}),
            json!({
                "name": SECRETS_VOLUME,
                "secret": {"secretName": config, "optional": true, "defaultMode": 0o444},
            }),
        ];
        let mut env = vec![
            ("REDIS_HOST", "127.0.0.1".to_owned()),
            ("REDIS_PORT", spec.port.to_string()),
            ("REDIS_URL", format!("redis://127.0.0.1:{}", spec.port)),
        ];
        let mut mount = None;
        if let Some(path) = &spec.unix_socket {
            let folder = path.rsplit_once('/').map_or("/", |(folder, _)| folder);
            volumes.push(json!({"name": SOCKET_VOLUME, "emptyDir": {}}));
            env.push(("WARP_SOCKET", path.clone()));
            mount = Some(json!({"name": SOCKET_VOLUME, "mountPath": folder}));
        }
        Self {
            labels: [
                (names::CLUSTER_NAME_LABEL, cluster.name_any()),
                (names::CLUSTER_NAMESPACE_LABEL, namespace),
            ],
            container: container(cluster, settings, mount.as_ref()),
            volumes,
            env,
            mount,
            cluster: full_name(cluster),
            port: spec.port,
            metrics_port: spec.metrics_port,
        }
    }

    /// What tells this plan from another one, for [`names::SIDECAR_HASH`].
    pub fn hash(&self) -> String {
        let Self { container, volumes, env, mount, .. } = self;
        manifest::hash(&json!([container, volumes, env, mount]).to_string())
    }

    /// Where the pod's own containers find the sidecar.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Whether nothing of the pod's own is in the sidecar's way.
    pub(super) fn fits(&self, pod: &Value) -> Result<(), Problem> {
        let containers = |list: &str| pod["spec"][list].as_array().into_iter().flatten();
        for container in containers("containers").chain(containers("initContainers")) {
            let name = container["name"].as_str().unwrap_or_default();
            if name == names::SIDECAR_CONTAINER {
                continue;
            }
            for port in container["ports"].as_array().into_iter().flatten() {
                // A port without a protocol is TCP's.
                if port["protocol"].as_str().is_some_and(|protocol| protocol != "TCP") {
                    continue;
                }
                for (field, own) in [("port", self.port), ("metricsPort", self.metrics_port)] {
                    if port["containerPort"] == own {
                        return Err(Problem::PortTaken {
                            container: name.to_owned(),
                            port: own,
                            field,
                            cluster: self.cluster.clone(),
                        });
                    }
                }
            }
        }
        if containers("containers").any(|container| container["name"] == names::SIDECAR_CONTAINER) {
            return Err(Problem::NameTaken);
        }
        Ok(())
    }
}

/// Seconds that a start may wait for its warm-up.
fn warm_up_seconds(cluster: &WarpCluster) -> u32 {
    let longest = cluster.spec.warm_up.as_ref().and_then(|warm_up| warm_up.readiness_timeout);
    let seconds = longest.map_or(0, |longest| std::time::Duration::from(longest).as_secs());
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

fn container(cluster: &WarpCluster, settings: &Settings, socket: Option<&Value>) -> Value {
    let spec = &cluster.spec.sidecar;
    let mut mounts = vec![
        json!({"name": CONFIG_VOLUME, "mountPath": names::CONFIG_DIR, "readOnly": true}),
        json!({"name": SECRETS_VOLUME, "mountPath": names::SECRETS_DIR, "readOnly": true}),
    ];
    mounts.extend(socket.cloned());
    let get = |path: &str| json!({"path": path, "port": spec.metrics_port});
    let mut container = json!({
        "name": names::SIDECAR_CONTAINER,
        "image": spec.image.as_ref().unwrap_or(&settings.sidecar_image),
        "restartPolicy": "Always",
        "args": [
            "run",
            "-f", format!("{}/{}", names::CONFIG_DIR, names::CONFIG_FILE),
            "--wait",
            "--secrets-dir", names::SECRETS_DIR,
            // Of both families, whichever the pod's address is.
            "--metrics-address", format!("[::]:{}", spec.metrics_port),
        ],
        "ports": [{"name": METRICS_PORT_NAME, "containerPort": spec.metrics_port, "protocol": "TCP"}],
        "resources": resources(cluster),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": UID,
            "runAsNonRoot": true,
            "runAsUser": UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        // The pod's own containers start when this one succeeds, so that the first connection
        // finds a listener.
        "startupProbe": {
            "httpGet": get("/readyz"),
            "periodSeconds": 1,
            "timeoutSeconds": 2,
            "failureThreshold": STARTUP_SECONDS + warm_up_seconds(cluster),
        },
        "readinessProbe": {
            "httpGet": get("/readyz"),
            "periodSeconds": 5,
            "timeoutSeconds": 2,
            "failureThreshold": 3,
        },
        // Lenient: a sidecar that is only slow keeps its cache.
        "livenessProbe": {
            "httpGet": get("/healthz"),
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        "volumeMounts": mounts,
    });
    if let Some(log) = &spec.log {
        container["env"] = json!([{"name": "RUST_LOG", "value": log}]);
    }
    if spec.threads != 1
        && let Some(args) = container["args"].as_array_mut()
    {
        args.extend(["--threads".to_owned(), spec.threads.to_string()].map(Value::from));
    }
    if spec.log_format == LogFormat::Json
        && let Some(args) = container["args"].as_array_mut()
    {
        args.extend(["--log-format", "json"].map(Value::from));
    }
    if let Some(policy) = &settings.image_pull_policy {
        container["imagePullPolicy"] = json!(policy);
    }
    container
}

/// The resources that the cluster asks for. Where it says nothing of a resource, neither request
/// nor limit, there is a default, so that autoscaling on utilization goes on working.
fn resources(cluster: &WarpCluster) -> Value {
    const MIB: u64 = 1 << 20;
    let spec = &cluster.spec.sidecar;
    let mut requests = spec.resources.requests.clone().unwrap_or_default();
    let mut limits = spec.resources.limits.clone().unwrap_or_default();
    if !requests.contains_key("cpu") && !limits.contains_key("cpu") {
        requests.insert("cpu".to_owned(), Quantity("10m".to_owned()));
    }
    // A limit that isn't a number of bytes is refused by the operator's validation.
    if let Ok(entries) = quantity::bytes(&spec.memory_limit)
        && !requests.contains_key("memory")
        && !limits.contains_key("memory")
    {
        let mebibytes = entries.div_ceil(MIB);
        requests
            .insert("memory".to_owned(), Quantity(format!("{}Mi", mebibytes.saturating_add(32))));
        limits
            .insert("memory".to_owned(), Quantity(format!("{}Mi", mebibytes.saturating_add(128))));
    }
    let mut resources = json!({});
    for (name, list) in [("requests", requests), ("limits", limits)] {
        if !list.is_empty() {
            resources[name] = json!(list);
        }
    }
    if let Some(claims) = &spec.resources.claims {
        resources["claims"] = json!(claims);
    }
    resources
}
