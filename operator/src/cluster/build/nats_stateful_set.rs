//! The StatefulSet of a managed NATS.
//!
//! The image holds the one program `nats-server` and no shell. A server alone isn't asked to go
//! gently (lame duck): it would stop JetStream at once and linger, where a plain stop and start
//! takes a second.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{
    RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy,
    StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar,
    EnvVarSource, ExecAction, HTTPGetAction, KeyToPath, Lifecycle, LifecycleHandler,
    ObjectFieldSelector, PersistentVolumeClaim, PersistentVolumeClaimSpec, PodSecurityContext,
    PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile, SecretVolumeSource,
    SecurityContext, TopologySpreadConstraint, Volume, VolumeMount, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use warp_crds::cluster::ManagedNats;
use warp_crds::{WarpCluster, manifest, names, quantity};

use super::labels;
use super::nats_config::MAIN_FILE;
use crate::nats::config::{
    CLIENT_PORT, CONFIG_DIR, DATA_DIR, MONITOR_PORT, PID_FILE, ROUTE_PORT, ROUTES_DIR, ROUTES_FILE,
    Servers,
};

/// On the StatefulSet: the hash of its pod template, by which a change is told.
pub const TEMPLATE_HASH: &str = "warpcache.dev/template-hash";
/// On the StatefulSet: the epoch of its stream, once it has one.
pub const EPOCH: &str = "warpcache.dev/stream-epoch";
/// On the pods: the hash of the configuration that they were started with.
const CONFIG_HASH: &str = "warpcache.dev/nats-config-hash";
const RUN_DIR: &str = "/run/nats";
/// No root, no user of the node's.
const USER: i64 = 65532;

/// The image, and when it is pulled, where the WarpCluster doesn't say.
#[derive(Clone, Debug)]
pub struct Image {
    /// NATS 2.11 or newer.
    pub name: String,
    /// Kubernetes' default when left out.
    pub pull_policy: Option<String>,
}

/// The StatefulSet. `epoch` is that of its stream, if there is one. `partition` is asked, with the
/// hash of the pod template, how far its update may go, see [`crate::cluster::rollout`].
pub fn stateful_set(
    cluster: &WarpCluster,
    servers: &Servers<'_>,
    spec: &ManagedNats,
    image: &Image,
    epoch: Option<&str>,
    partition: impl FnOnce(&str) -> i32,
) -> StatefulSet {
    let template = template(cluster, servers, spec, image);
    let labels = labels::of_pod(cluster, labels::NATS);
    let hash = manifest::hash(&serde_json::to_string(&template).unwrap_or_default());
    let partition = partition(&hash);
    let mut metadata = labels::owned(cluster, servers.name.to_owned(), labels::NATS);
    let epoch = epoch.map(|epoch| (EPOCH.to_owned(), epoch.to_owned()));
    metadata.annotations =
        Some([(TEMPLATE_HASH.to_owned(), hash)].into_iter().chain(epoch).collect());
    StatefulSet {
        metadata,
        spec: Some(StatefulSetSpec {
            replicas: Some(spec.replicas),
            service_name: Some(servers.headless_service()),
            pod_management_policy: Some("Parallel".to_owned()),
            selector: LabelSelector { match_labels: Some(labels.clone()), ..Default::default() },
            template,
            volume_claim_templates: Some(vec![claim(labels, spec)]),
            persistent_volume_claim_retention_policy: Some(
                StatefulSetPersistentVolumeClaimRetentionPolicy {
                    when_deleted: Some("Delete".to_owned()),
                    when_scaled: Some("Delete".to_owned()),
                },
            ),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateStatefulSetStrategy {
                    partition: Some(partition),
                    ..Default::default()
                }),
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn claim(labels: BTreeMap<String, String>, spec: &ManagedNats) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some("data".to_owned()),
            labels: Some(labels),
            ..Default::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: spec.storage.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), spec.storage.size.clone())].into()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn template(
    cluster: &WarpCluster,
    servers: &Servers<'_>,
    spec: &ManagedNats,
    image: &Image,
) -> PodTemplateSpec {
    let mut labels = labels::of_pod(cluster, labels::NATS);
    let selector = LabelSelector { match_labels: Some(labels.clone()), ..Default::default() };
    // In a namespace that asks for sidecars, the bus itself must not wait for one.
    labels.insert(names::INJECT.to_owned(), names::DISABLED.to_owned());
    let config = servers.main_file() + &servers.routes_file();
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some([(CONFIG_HASH.to_owned(), manifest::hash(&config))].into()),
            ..Default::default()
        }),
        spec: Some(PodSpec {
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(60),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(USER),
                run_as_group: Some(USER),
                fs_group: Some(USER),
                fs_group_change_policy: Some("OnRootMismatch".to_owned()),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            topology_spread_constraints: Some(
                ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
                    .map(|key| TopologySpreadConstraint {
                        max_skew: 1,
                        topology_key: key.to_owned(),
                        when_unsatisfiable: "ScheduleAnyway".to_owned(),
                        label_selector: Some(selector.clone()),
                        ..Default::default()
                    })
                    .into(),
            ),
            init_containers: Some(vec![check(spec, image)]),
            containers: vec![server(servers, spec, image)],
            volumes: Some(volumes(servers)),
            ..Default::default()
        }),
    }
}

/// Refuses a configuration that the server doesn't take, while the old one still runs.
fn check(spec: &ManagedNats, image: &Image) -> Container {
    Container { name: "check-config".to_owned(), ..container(spec, image, &["-t"]) }
}

fn server(servers: &Servers<'_>, spec: &ManagedNats, image: &Image) -> Container {
    let lame_duck = format!("ldm={PID_FILE}");
    let ports = [("client", CLIENT_PORT), ("route", ROUTE_PORT), ("monitor", MONITOR_PORT)];
    let mut env = vec![EnvVar {
        name: "POD_NAME".to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: "metadata.name".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }];
    let resources = resources(spec);
    // The Go runtime collects before the kernel kills.
    if let Some(limit) = resources.limits.as_ref().and_then(|limits| limits.get("memory"))
        && let Ok(bytes) = quantity::bytes(limit)
    {
        env.push(EnvVar {
            name: "GOMEMLIMIT".to_owned(),
            value: Some((bytes / 10 * 9).to_string()),
            ..Default::default()
        });
    }
    Container {
        name: "nats".to_owned(),
        env: Some(env),
        resources: Some(resources),
        ports: Some(
            ports
                .map(|(name, port)| ContainerPort {
                    name: Some(name.to_owned()),
                    container_port: port,
                    ..Default::default()
                })
                .into(),
        ),
        // Up once all streams have recovered; ready while JetStream answers, whatever its peers
        // do; alive as long as JetStream is on, lest a lost quorum restarts the rest of it.
        startup_probe: Some(probe("/healthz", 1, 900)),
        readiness_probe: Some(probe("/healthz?js-server-only=true", 3, 3)),
        liveness_probe: Some(probe("/healthz?js-enabled-only=true", 10, 6)),
        lifecycle: (servers.replicas > 1).then(|| Lifecycle {
            pre_stop: Some(LifecycleHandler {
                exec: Some(ExecAction {
                    command: Some(
                        ["nats-server", "--signal", &lame_duck].map(str::to_owned).into(),
                    ),
                }),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..container(spec, image, &["--name", "$(POD_NAME)"])
    }
}

fn container(spec: &ManagedNats, image: &Image, args: &[&str]) -> Container {
    let config = format!("{CONFIG_DIR}/{MAIN_FILE}");
    let args = ["-c", &config].iter().chain(args).map(|arg| (*arg).to_owned()).collect();
    let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(read_only),
        ..Default::default()
    };
    Container {
        image: Some(spec.image.as_ref().unwrap_or(&image.name).clone()),
        image_pull_policy: image.pull_policy.clone(),
        command: Some(vec!["nats-server".to_owned()]),
        args: Some(args),
        resources: Some(resources(spec)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..Default::default()
            }),
            ..Default::default()
        }),
        volume_mounts: Some(vec![
            mount("config", CONFIG_DIR, true),
            mount("routes", ROUTES_DIR, true),
            mount("run", RUN_DIR, false),
            mount("data", DATA_DIR, false),
        ]),
        ..Default::default()
    }
}

/// What the WarpCluster gives, or enough for a few hundred sidecars.
fn resources(spec: &ManagedNats) -> ResourceRequirements {
    if spec.resources != ResourceRequirements::default() {
        return spec.resources.clone();
    }
    let quantities = |pairs: &[(&str, &str)]| {
        Some(pairs.iter().map(|(k, v)| ((*k).to_owned(), Quantity((*v).to_owned()))).collect())
    };
    ResourceRequirements {
        requests: quantities(&[("cpu", "50m"), ("memory", "64Mi")]),
        limits: quantities(&[("memory", "256Mi")]),
        ..Default::default()
    }
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(MONITOR_PORT),
            ..Default::default()
        }),
        period_seconds: Some(period),
        failure_threshold: Some(failures),
        timeout_seconds: Some(3),
        ..Default::default()
    }
}

fn volumes(servers: &Servers<'_>) -> Vec<Volume> {
    vec![
        Volume {
            name: "config".to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: servers.name.to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        },
        Volume {
            name: "routes".to_owned(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(servers.name.to_owned()),
                // The seeds in the same Secret are not the servers' to know.
                items: Some(vec![KeyToPath {
                    key: ROUTES_FILE.to_owned(),
                    path: ROUTES_FILE.to_owned(),
                    ..Default::default()
                }]),
                ..Default::default()
            }),
            ..Default::default()
        },
        Volume {
            name: "run".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..Default::default()
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nats::keys::Keys;

    fn built(replicas: i32) -> StatefulSet {
        let mut cluster = WarpCluster::new("shop", Default::default());
        cluster.metadata.namespace = Some("prod".to_owned());
        let keys = Keys {
            system: user("A"),
            operator: user("B"),
            sidecar: user("C"),
            route_password: "p".to_owned(),
        };
        let spec = ManagedNats { replicas, ..Default::default() };
        let servers = Servers {
            name: "shop-nats",
            namespace: "prod",
            replicas,
            volume: 1 << 30,
            tenant: "prod_shop",
            keys: &keys,
        };
        let image = Image { name: "nats:2.12".to_owned(), pull_policy: None };
        stateful_set(&cluster, &servers, &spec, &image, None, |_| 0)
    }

    fn user(name: &str) -> crate::nats::keys::User {
        crate::nats::keys::User { seed: format!("S{name}"), public: name.to_owned() }
    }

    fn pod(set: &StatefulSet) -> PodSpec {
        set.spec.as_ref().unwrap().template.spec.clone().unwrap()
    }

    #[test]
    fn every_container_keeps_to_the_restricted_level() {
        let pod = pod(&built(3));
        for container in pod.init_containers.iter().flatten().chain(&pod.containers) {
            let context = container.security_context.as_ref().unwrap();
            assert_eq!(context.allow_privilege_escalation, Some(false));
            assert_eq!(context.capabilities.as_ref().unwrap().drop, Some(vec!["ALL".to_owned()]));
            assert!(container.resources.as_ref().unwrap().requests.is_some());
        }
        let context = pod.security_context.unwrap();
        assert_eq!(context.run_as_non_root, Some(true));
        assert_eq!(context.seccomp_profile.unwrap().type_, "RuntimeDefault");
    }

    #[test]
    fn the_bus_is_never_injected_nor_taken_for_an_injected_pod() {
        let labels = built(1).spec.unwrap().template.metadata.unwrap().labels.unwrap();
        assert_eq!(labels[names::INJECT], names::DISABLED);
        assert!(!labels.contains_key(names::CLUSTER_NAME_LABEL));
    }

    #[test]
    fn only_several_servers_are_stopped_gently() {
        assert!(pod(&built(1)).containers[0].lifecycle.is_none());
        assert!(pod(&built(3)).containers[0].lifecycle.is_some());
    }

    #[test]
    fn the_hash_moves_with_the_template_and_not_otherwise() {
        let hash = |set: StatefulSet| set.metadata.annotations.unwrap()[TEMPLATE_HASH].clone();
        assert_eq!(hash(built(3)), hash(built(3)));
        assert_ne!(hash(built(3)), hash(built(1)));
    }

    #[test]
    fn the_seeds_stay_out_of_the_pods() {
        let text = serde_json::to_string(&built(3)).unwrap();
        assert!(!text.contains("SA") && !text.contains("SB") && !text.contains("sidecar.nk"));
    }
}
