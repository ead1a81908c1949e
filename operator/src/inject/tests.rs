//! Decisions and patches, by example and by property.

use json_patch::Patch;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use proptest::prelude::*;
use serde_json::json;
use warp_crds::WarpClusterSpec;
use warp_crds::cluster::{
    LogFormat, MemoryStorage, PostgresStorage, SecretKeyRef, SidecarSpec, Storage,
};
use warp_crds::warm_up::WarmUp;

use super::*;

fn settings() -> Settings {
    Settings {
        operator_namespace: "warp-system".to_owned(),
        excluded_namespaces: vec!["excluded".to_owned()],
        sidecar_image: "warp-sidecar:1".to_owned(),
        image_pull_policy: None,
    }
}

fn cluster(namespace: &str, name: &str) -> WarpCluster {
    let mut cluster = WarpCluster::new(name, WarpClusterSpec::default());
    cluster.metadata.namespace = Some(namespace.to_owned());
    cluster
}

fn with_sidecar(namespace: &str, name: &str, sidecar: SidecarSpec) -> WarpCluster {
    let mut cluster = cluster(namespace, name);
    cluster.spec.sidecar = sidecar;
    cluster
}

fn allowing(mut cluster: WarpCluster, namespace: &str) -> WarpCluster {
    cluster.spec.allowed_namespaces.push(namespace.to_owned());
    cluster
}

/// A namespace with that label, and that annotation.
fn namespace(inject: Option<&str>, cluster: Option<&str>) -> ObjectMeta {
    let one = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    ObjectMeta {
        name: Some("shop".to_owned()),
        labels: inject.map(|value| one(names::INJECT, value)),
        annotations: cluster.map(|value| one(names::CLUSTER, value)),
        ..Default::default()
    }
}

fn pod(label: Option<&str>) -> Value {
    let mut pod = json!({
        "metadata": {"generateName": "web-"},
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    });
    if let Some(label) = label {
        pod["metadata"]["labels"] = json!({(names::INJECT): label});
    }
    pod
}

fn decide_in(
    pod: &Value,
    namespace: &ObjectMeta,
    clusters: impl IntoIterator<Item = WarpCluster>,
) -> Decision {
    let clusters: Vec<_> = clusters.into_iter().collect();
    let clusters: Vec<_> = clusters.iter().collect();
    decide(pod, namespace, &clusters, &settings())
}

fn plan_of(decision: Decision) -> Plan {
    match decision {
        Decision::Inject(plan) => *plan,
        other => panic!("{other:?}"),
    }
}

fn problem_of(decision: Decision) -> String {
    match decision {
        Decision::Refuse { problem, .. } => problem.to_string(),
        other => panic!("{other:?}"),
    }
}

/// The pod with the patch applied, and the warnings.
fn injected(pod: &Value, plan: &Plan) -> (Value, Vec<String>) {
    let injection = inject(pod, plan);
    let mut after = pod.clone();
    json_patch::patch(&mut after, &injection.patch).unwrap();
    (after, injection.warnings)
}

/// A default plan for a pod in its cluster's namespace.
fn plan_for(pod: &Value, sidecar: SidecarSpec) -> Plan {
    let clusters = vec![with_sidecar("shop", "main", sidecar)];
    plan_of(decide_in(pod, &namespace(Some("enabled"), None), clusters))
}

#[test]
fn the_pods_label_wins_over_its_namespaces() {
    let skipped = Decision::Skip(Skip::NotAsked);
    for (on_pod, on_namespace, injects) in [
        (None, None, false),
        (None, Some("enabled"), true),
        (None, Some("disabled"), false),
        (Some("enabled"), None, true),
        (Some("enabled"), Some("disabled"), true),
        (Some("disabled"), Some("enabled"), false),
    ] {
        let decision =
            decide_in(&pod(on_pod), &namespace(on_namespace, None), vec![cluster("shop", "main")]);
        assert_eq!(decision != skipped, injects, "{on_pod:?} {on_namespace:?}: {decision:?}");
    }
}

#[test]
fn pods_that_a_sidecar_would_harm_are_let_alone() {
    let enabled = namespace(Some("enabled"), None);
    let in_namespace = |name: &str| ObjectMeta { name: Some(name.to_owned()), ..enabled.clone() };
    let mut on_host = pod(Some("enabled"));
    on_host["spec"]["hostNetwork"] = json!(true);
    let mut mirror = pod(Some("enabled"));
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "abc"});
    for (pod, namespace, expected) in [
        (pod(None), in_namespace("kube-system"), Skip::ExcludedNamespace),
        (pod(Some("enabled")), in_namespace("warp-system"), Skip::ExcludedNamespace),
        (pod(Some("enabled")), in_namespace("excluded"), Skip::ExcludedNamespace),
        (on_host, enabled.clone(), Skip::HostNetwork),
        (mirror, enabled.clone(), Skip::Mirror),
    ] {
        assert_eq!(
            decide_in(&pod, &namespace, vec![cluster("shop", "main")]),
            Decision::Skip(expected)
        );
    }
}

#[test]
fn the_cluster_is_the_pods_choice_then_the_namespaces_then_the_only_one() {
    let chosen = |on_pod: Option<&str>, on_namespace: Option<&str>, clusters: Vec<WarpCluster>| {
        let mut pod = pod(Some("enabled"));
        if let Some(reference) = on_pod {
            pod["metadata"]["annotations"] = json!({(names::CLUSTER): reference});
        }
        let plan = plan_of(decide_in(&pod, &namespace(None, on_namespace), clusters));
        plan.labels.map(|(_, value)| value).join(".")
    };
    let several = || {
        vec![
            cluster("shop", "a"),
            cluster("shop", "b"),
            allowing(cluster("infra", "c"), "shop"),
            allowing(cluster("infra", "d"), "*"),
            cluster("other", "a"),
        ]
    };
    assert_eq!(chosen(Some("a"), Some("b"), several()), "a.shop");
    assert_eq!(chosen(None, Some("b"), several()), "b.shop");
    assert_eq!(chosen(Some("infra/c"), None, several()), "c.infra");
    assert_eq!(chosen(Some("infra/d"), None, several()), "d.infra");
    let own = vec![cluster("shop", "a"), allowing(cluster("infra", "c"), "shop")];
    assert_eq!(chosen(None, None, own), "a.shop");
    let guest = vec![cluster("other", "a"), allowing(cluster("infra", "c"), "shop")];
    assert_eq!(chosen(None, None, guest), "c.infra");
}

#[test]
fn where_no_cluster_can_be_chosen_the_message_says_what_to_do() {
    let refused = |reference: Option<&str>, clusters: Vec<WarpCluster>| {
        let decision =
            decide_in(&pod(Some("enabled")), &namespace(None, reference), clusters.clone());
        let Decision::Refuse { explicit: true, .. } = decision else { panic!("{decision:?}") };
        let by_namespace = decide_in(&pod(None), &namespace(Some("enabled"), reference), clusters);
        let Decision::Refuse { explicit: false, .. } = by_namespace else {
            panic!("{by_namespace:?}")
        };
        problem_of(decision)
    };
    for (reference, clusters, expected) in [
        (None, vec![], "no WarpCluster is in namespace shop or allows it: create one"),
        (None, vec![cluster("infra", "c")], "no WarpCluster is in namespace shop"),
        (
            None,
            vec![cluster("shop", "b"), cluster("shop", "a")],
            "several WarpClusters could serve this pod (shop/a, shop/b): choose one",
        ),
        (Some("x"), vec![cluster("infra", "x")], "there is no WarpCluster shop/x: create it"),
        (Some("infra/x"), vec![cluster("infra", "x")], "add it to its spec.allowedNamespaces"),
        (Some("a/b/c"), vec![cluster("shop", "c")], "write NAME or NAMESPACE/NAME"),
        (Some("/c"), vec![cluster("shop", "c")], "write NAME or NAMESPACE/NAME"),
        (None, vec![cluster("shop", &"x".repeat(64))], "shorter name"),
    ] {
        let message = refused(reference, clusters);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_pod_that_is_in_the_sidecars_way_is_refused() {
    let with_port = |port: i32, protocol: Option<&str>| {
        let mut pod = pod(Some("enabled"));
        pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": port}]);
        if let Some(protocol) = protocol {
            pod["spec"]["containers"][0]["ports"][0]["protocol"] = json!(protocol);
        }
        decide_in(&pod, &namespace(None, None), vec![cluster("shop", "main")])
    };
    assert!(problem_of(with_port(8080, None)).contains("another spec.sidecar.metricsPort"));
    assert!(problem_of(with_port(6379, Some("TCP"))).contains("another spec.sidecar.port"));
    plan_of(with_port(8080, Some("UDP")));
    plan_of(with_port(8000, None));

    let mut namesake = pod(Some("enabled"));
    namesake["spec"]["containers"][0]["name"] = json!("warp-sidecar");
    let decision = decide_in(&namesake, &namespace(None, None), vec![cluster("shop", "main")]);
    assert!(problem_of(decision).contains("give it another name"));
}

#[test]
fn a_pod_gets_the_sidecar_first_and_its_containers_learn_of_it() {
    let mut pod = pod(Some("enabled"));
    pod["spec"]["initContainers"] = json!([{"name": "migrate"}]);
    let (after, warnings) = injected(&pod, &plan_for(&pod, SidecarSpec::default()));
    assert_eq!(warnings, [""; 0]);
    assert_eq!(
        after["metadata"]["labels"],
        json!({
            (names::INJECT): "enabled",
            (names::CLUSTER_NAME_LABEL): "main",
            (names::CLUSTER_NAMESPACE_LABEL): "shop",
        })
    );
    let env = json!([
        {"name": "REDIS_HOST", "value": "127.0.0.1"},
        {"name": "REDIS_PORT", "value": "6379"},
        {"name": "REDIS_URL", "value": "redis://127.0.0.1:6379"},
    ]);
    assert_eq!(after["spec"]["containers"][0]["env"], env);
    assert_eq!(after["spec"]["initContainers"][1], json!({"name": "migrate", "env": env}));
    let sidecar = &after["spec"]["initContainers"][0];
    assert_eq!(sidecar["name"], "warp-sidecar");
    assert_eq!(sidecar["image"], "warp-sidecar:1");
    assert_eq!(sidecar["restartPolicy"], "Always");
    assert_eq!(
        sidecar["args"],
        json!([
            "run",
            "-f",
            "/etc/warp/config/warp.yaml",
            "--wait",
            "--secrets-dir",
            "/etc/warp/secrets",
            "--metrics-address",
            "[::]:8080"
        ])
    );
    assert_eq!(after["spec"]["volumes"][0]["configMap"]["name"], "warp.shop.main");
    assert_eq!(after["spec"]["volumes"][1]["secret"]["secretName"], "warp.shop.main");
}

#[test]
fn the_sidecar_meets_the_restricted_pod_security_standard() {
    let pod = pod(None);
    let plan = plan_for(&pod, SidecarSpec::default());
    let context = &plan.container["securityContext"];
    assert_eq!(context["runAsNonRoot"], true);
    assert_eq!(context["allowPrivilegeEscalation"], false);
    assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));
    assert_eq!(context["seccompProfile"], json!({"type": "RuntimeDefault"}));
    for volume in &plan.volumes {
        let kinds = ["configMap", "secret", "emptyDir"];
        assert!(kinds.iter().any(|kind| volume.get(kind).is_some()), "{volume}");
    }
}

#[test]
fn what_the_sidecar_is_given_is_what_its_cluster_says() {
    let pod = pod(None);
    let plan = plan_for(
        &pod,
        SidecarSpec {
            image: Some("mine:2".to_owned()),
            port: 7000,
            metrics_port: 7001,
            unix_socket: Some("/run/warp/redis/warp.sock".to_owned()),
            ..Default::default()
        },
    );
    let (after, _) = injected(&pod, &plan);
    let sidecar = &after["spec"]["initContainers"][0];
    assert_eq!(sidecar["image"], "mine:2");
    assert_eq!(sidecar["startupProbe"]["httpGet"]["port"], 7001);
    assert_eq!(sidecar["ports"][0]["containerPort"], 7001);
    let app = &after["spec"]["containers"][0];
    let socket = json!({"name": "warp-socket", "mountPath": "/run/warp/redis"});
    assert_eq!(app["volumeMounts"], json!([socket]));
    assert_eq!(sidecar["volumeMounts"][2], socket);
    let env = app["env"].as_array().unwrap();
    assert!(env.contains(&json!({"name": "REDIS_URL", "value": "redis://127.0.0.1:7000"})));
    assert!(env.contains(&json!({"name": "WARP_SOCKET", "value": "/run/warp/redis/warp.sock"})));
}

#[test]
fn the_sidecar_logs_what_its_cluster_asks_for() {
    let plan = |sidecar: SidecarSpec| plan_for(&pod(None), sidecar).container;
    let quiet = plan(SidecarSpec::default());
    assert_eq!(quiet["env"], Value::Null);
    assert!(!quiet["args"].to_string().contains("--log-format"));
    let log = Some("warp_sidecar=debug".to_owned());
    let loud = plan(SidecarSpec { log, log_format: LogFormat::Json, ..Default::default() });
    assert_eq!(loud["env"], json!([{"name": "RUST_LOG", "value": "warp_sidecar=debug"}]));
    assert!(loud["args"].to_string().contains(r#""--log-format","json""#));
}

#[test]
fn the_sidecar_gets_the_threads_that_its_cluster_gives_it() {
    let args = |threads| {
        let sidecar = SidecarSpec { threads, ..Default::default() };
        plan_for(&pod(None), sidecar).container["args"].to_string()
    };
    assert!(!args(1).contains("--threads"));
    assert!(args(4).contains(r#""--threads","4""#));
}

#[test]
fn an_injected_pod_says_by_which_plan() {
    let hash = |sidecar: SidecarSpec| {
        let pod = pod(None);
        let plan = plan_for(&pod, sidecar);
        let (after, _) = injected(&pod, &plan);
        let hash = after["metadata"]["annotations"][names::SIDECAR_HASH].as_str().unwrap();
        assert_eq!(hash, plan.hash());
        // It goes on saying so when another plan is met.
        let other = plan_for(&pod, SidecarSpec { port: 9999, ..Default::default() });
        let (again, _) = injected(&after, &other);
        assert_eq!(again["metadata"]["annotations"], after["metadata"]["annotations"]);
        hash.to_owned()
    };
    let default = hash(SidecarSpec::default());
    assert_eq!(hash(SidecarSpec::default()), default);
    let socket = Some("/run/warp/warp.sock".to_owned());
    for other in [
        SidecarSpec { port: 7000, ..Default::default() },
        SidecarSpec { metrics_port: 7000, ..Default::default() },
        SidecarSpec { image: Some("mine:2".to_owned()), ..Default::default() },
        SidecarSpec { unix_socket: socket, ..Default::default() },
        SidecarSpec { memory_limit: Quantity("1Gi".to_owned()), ..Default::default() },
    ] {
        assert_ne!(hash(other.clone()), default, "{other:?}");
    }
}

#[test]
fn a_start_that_waits_for_its_warm_up_is_given_the_time() {
    let probe = |cluster: &WarpCluster| {
        Plan::new(cluster, &settings()).container["startupProbe"]["failureThreshold"].clone()
    };
    let mut cluster = cluster("shop", "main");
    assert_eq!(probe(&cluster), 120);
    cluster.spec.warm_up = Some(WarmUp {
        from: Vec::new(),
        on_start: true,
        schedule: None,
        keys_per_second: 1,
        max_bytes: None,
        readiness_timeout: Some(std::time::Duration::from_secs(90).into()),
    });
    assert_eq!(probe(&cluster), 210);
}

#[test]
fn resources_have_defaults_that_follow_the_memory_limit() {
    let resources = |storage: Storage, given: Value| {
        let mut cluster = cluster("shop", "main");
        cluster.spec.storage = storage;
        cluster.spec.sidecar.resources = serde_json::from_value(given).unwrap();
        Plan::new(&cluster, &settings()).container["resources"].clone()
    };
    let memory = || Storage::Memory(MemoryStorage::default());
    let postgres = || {
        Storage::Postgres(PostgresStorage {
            url_secret_ref: SecretKeyRef { name: "db".to_owned(), key: "url".to_owned() },
            table: "t".to_owned(),
        })
    };
    assert_eq!(
        resources(postgres(), json!({})),
        json!({"requests": {"cpu": "10m", "memory": "96Mi"}, "limits": {"memory": "192Mi"}})
    );
    // Memory storage is truth and copy in one.
    assert_eq!(resources(memory(), json!({})), resources(postgres(), json!({})));
    let given = json!({"requests": {"cpu": "1", "memory": "1Gi"}});
    assert_eq!(resources(postgres(), given.clone()), given);
    assert_eq!(
        resources(postgres(), json!({"limits": {"memory": "1Gi"}})),
        json!({"requests": {"cpu": "10m"}, "limits": {"memory": "1Gi"}})
    );
}

#[test]
fn variables_that_may_come_from_elsewhere_are_left_alone_with_a_warning() {
    let mut pod = pod(None);
    pod["spec"]["containers"] = json!([
        {"name": "all", "envFrom": [{"configMapRef": {"name": "settings"}}]},
        {"name": "own", "envFrom": [{"prefix": "APP_", "secretRef": {"name": "settings"}}]},
    ]);
    let (after, warnings) = injected(&pod, &plan_for(&pod, SidecarSpec::default()));
    assert_eq!(after["spec"]["containers"][0].get("env"), None);
    assert_eq!(after["spec"]["containers"][1]["env"].as_array().map(Vec::len), Some(3));
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("container all: REDIS_HOST, REDIS_PORT, REDIS_URL left alone"));
    assert!(warnings[0].contains("redis://127.0.0.1:6379"));
}

#[test]
fn a_container_that_another_webhook_adds_later_learns_of_the_sidecar_too() {
    let mut pod = pod(None);
    let plan = plan_for(&pod, SidecarSpec::default());
    (pod, _) = injected(&pod, &plan);
    let list = pod["spec"]["containers"].as_array_mut().unwrap();
    list.push(json!({"name": "late"}));
    let init = pod["spec"]["initContainers"].as_array_mut().unwrap();
    init.insert(0, json!({"name": "before-the-sidecar"}));
    let (after, _) = injected(&pod, &plan);
    assert_eq!(after["spec"]["containers"][1]["env"], after["spec"]["containers"][0]["env"]);
    assert_eq!(after["spec"]["initContainers"], pod["spec"]["initContainers"]);
}

/// Whether all of `before` is in `after`: fields, and items in their order.
fn survives(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => before
            .iter()
            .all(|(name, value)| after.get(name).is_some_and(|after| survives(value, after))),
        (Value::Array(before), Value::Array(after)) => {
            let mut after = after.iter();
            before.iter().all(|item| after.by_ref().any(|after| survives(item, after)))
        }
        _ => before == after,
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ -~]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("unknown[~/a-z]{0,3}", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

prop_compose! {
    fn any_container()(
        name in "[a-z]{1,5}",
        env in prop::option::of(prop::collection::vec(
            (prop_oneof!["REDIS_URL", "REDIS_HOST", "OTHER", "WARP_SOCKET"], "[a-z]{0,4}"), 0..3)),
        env_from in prop::option::of(prop::option::of(prop_oneof!["", "REDIS_", "APP_"])),
        mount in prop::option::of(prop_oneof!["/run/warp", "/data"]),
        unknown in any_json(),
    ) -> Value {
        let mut container = json!({"name": name, "unknown": unknown});
        if let Some(env) = env {
            container["env"] = env
                .into_iter()
                .map(|(name, value)| json!({"name": name, "value": value, "unknown": 1}))
                .collect();
        }
        if let Some(prefix) = env_from {
            container["envFrom"] = json!([{"prefix": prefix, "configMapRef": {"name": "x"}}]);
        }
        if let Some(path) = mount {
            container["volumeMounts"] = json!([{"name": "own", "mountPath": path}]);
        }
        container
    }
}

prop_compose! {
    fn any_pod()(
        containers in prop::collection::vec(any_container(), 1..4),
        init in prop::option::of(prop::collection::vec(any_container(), 0..3)),
        volumes in prop::option::of(Just(json!([{"name": "own", "emptyDir": {}}]))),
        labels in prop::option::of(Just(json!({"app": "x", (names::CLUSTER_NAME_LABEL): "old"}))),
        unknown in any_json(),
    ) -> Value {
        let mut pod = json!({
            "metadata": {"unknown": unknown},
            "spec": {"containers": containers, "unknown": unknown},
            "unknown": unknown,
        });
        for (name, value) in [("initContainers", init.map(Value::from)), ("volumes", volumes)] {
            if let Some(value) = value {
                pod["spec"][name] = value;
            }
        }
        if let Some(labels) = labels {
            pod["metadata"]["labels"] = labels;
        }
        pod
    }
}

proptest! {
    #[test]
    fn nothing_of_the_pods_own_is_lost(pod in any_pod(), socket in any::<bool>()) {
        let unix_socket = socket.then(|| "/run/warp/warp.sock".to_owned());
        let plan = plan_for(&pod, SidecarSpec { unix_socket, ..Default::default() });
        let (mut after, _) = injected(&pod, &plan);
        // Labels of ours may have had an old value.
        let mut before = pod.clone();
        for pod in [&mut before, &mut after] {
            if let Some(Value::Object(labels)) = pod["metadata"].get_mut("labels") {
                labels.remove(names::CLUSTER_NAME_LABEL);
            }
        }
        prop_assert!(survives(&before, &after), "{before}\n{after}");
    }

    #[test]
    fn an_injected_pod_gets_an_empty_patch(pod in any_pod(), socket in any::<bool>()) {
        let unix_socket = socket.then(|| "/run/warp/warp.sock".to_owned());
        let sidecar = SidecarSpec { unix_socket, ..Default::default() };
        let (after, warnings) = injected(&pod, &plan_for(&pod, sidecar.clone()));
        let again = inject(&after, &plan_for(&after, sidecar));
        prop_assert_eq!(again, Injection { patch: Patch::default(), warnings });
    }

    #[test]
    fn a_variable_is_never_set_twice(pod in any_pod()) {
        let (after, _) = injected(&pod, &plan_for(&pod, SidecarSpec::default()));
        let (before, after) = (&pod["spec"]["containers"], &after["spec"]["containers"]);
        let pairs = before.as_array().unwrap().iter().zip(after.as_array().unwrap());
        for (before, after) in pairs {
            let of = |container: &Value, name: &str| -> Vec<Value> {
                let env = container["env"].as_array().cloned().unwrap_or_default();
                env.into_iter().filter(|variable| variable["name"] == name).collect()
            };
            for name in ["REDIS_URL", "REDIS_HOST", "REDIS_PORT"] {
                let own = of(before, name);
                if own.is_empty() {
                    prop_assert!(of(after, name).len() <= 1);
                } else {
                    prop_assert_eq!(of(after, name), own);
                }
            }
        }
    }
}
