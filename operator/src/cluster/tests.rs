//! Whole reconciliations against an API server that only remembers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use axum::http::{Method, Request, Response, StatusCode};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::client::Body;
use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use tower_test::mock;
use warp_crds::cluster::{Bus, KafkaBus, MemoryBus};
use warp_crds::policy::{ClusterRef, Mode, PolicyRules};
use warp_crds::{WarpCluster, WarpPolicy, WarpPolicySpec, manifest};

use super::build::nats_stateful_set::Image;
use super::{Error, reconcile};
use crate::context::{Context, Failures};
use crate::metrics::Metrics;
use crate::view::{View, Writers};
use crate::{inject, policy};

const CONFIG: &str = "/api/v1/namespaces/prod/configmaps/warp.prod.shop";
const POLICY_STATUS: &str =
    "/apis/warpcache.dev/v1alpha1/namespaces/prod/warppolicies/users/status";
const STATUS: &str = "/apis/warpcache.dev/v1alpha1/namespaces/prod/warpclusters/shop/status";

/// What an API server remembers: objects by path, and what was written, in order.
#[derive(Default)]
struct Memory {
    objects: BTreeMap<String, Value>,
    written: Vec<String>,
    /// Who wrote, by its own account.
    managers: BTreeSet<Option<String>>,
    versions: usize,
    /// A path that nobody may write to.
    locked: Option<&'static str>,
}

impl Memory {
    fn answer(&mut self, method: &Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let Some(mut body) = body.filter(|_| method != Method::GET) else {
            return match self.objects.get(path) {
                Some(object) => (StatusCode::OK, object.clone()),
                None if path.ends_with("/pods") || path.ends_with("/persistentvolumeclaims") => {
                    (StatusCode::OK, json!({"metadata": {}, "items": []}))
                }
                None => {
                    let status = json!({"status": "Failure", "message": "", "reason": "NotFound", "code": 404});
                    (StatusCode::NOT_FOUND, status)
                }
            };
        };
        if self.locked == Some(path) {
            let status =
                json!({"status": "Failure", "message": "no", "reason": "Forbidden", "code": 403});
            return (StatusCode::FORBIDDEN, status);
        }
        if path.ends_with("/status") {
            // A policy's must be there to be read back.
            body["spec"] = json!({"clusterRef": {"name": "shop"}, "match": ["*"]});
        }
        self.written.push(path.to_owned());
        // What changes nothing makes no new version.
        let before = self.objects.get(path).cloned().unwrap_or_default();
        body["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
        if body != before {
            self.versions += 1;
            body["metadata"]["resourceVersion"] = json!(self.versions.to_string());
        }
        self.objects.insert(path.to_owned(), body.clone());
        (StatusCode::OK, body)
    }
}

struct World {
    context: Arc<Context>,
    writers: Writers,
    memory: Arc<Mutex<Memory>>,
}

impl World {
    fn new() -> Self {
        let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
        let memory: Arc<Mutex<Memory>> = Arc::default();
        let remembers = Arc::clone(&memory);
        tokio::spawn(async move {
            while let Some((request, respond)) = handle.next_request().await {
                let (parts, body) = request.into_parts();
                let body = serde_json::from_slice(&body.collect_bytes().await.unwrap()).ok();
                let mut remembers = remembers.lock().unwrap();
                if parts.method == Method::PATCH {
                    let query = parts.uri.query().unwrap_or_default();
                    let manager = query.split('&').find_map(|q| q.strip_prefix("fieldManager="));
                    remembers.managers.insert(manager.map(str::to_owned));
                }
                let (code, answer) = remembers.answer(&parts.method, parts.uri.path(), body);
                let body = Body::from(serde_json::to_vec(&answer).unwrap());
                respond.send_response(Response::builder().status(code).body(body).unwrap());
            }
        });
        let client = Client::new(service, "default");
        let (view, mut writers) = View::new();
        let namespace = json!({"metadata": {"name": "prod"}});
        writers.namespaces.apply_watcher_event(&Event::Init);
        writers
            .namespaces
            .apply_watcher_event(&Event::InitApply(serde_json::from_value(namespace).unwrap()));
        writers.namespaces.apply_watcher_event(&Event::InitDone);
        writers.clusters.apply_watcher_event(&Event::InitDone);
        writers.policies.apply_watcher_event(&Event::InitDone);
        writers.injected.apply_watcher_event(&Event::InitDone);
        writers.asking.apply_watcher_event(&Event::InitDone);
        let reporter = Reporter { controller: "warp-operator".to_owned(), instance: None };
        let context = Context {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            metrics: Metrics::new().unwrap(),
            http: reqwest::Client::new(),
            view,
            injection: injection(),
            nats_image: Image { name: "nats".to_owned(), pull_policy: None },
            failures: Failures::default(),
            running: Default::default(),
        };
        Self { context: Arc::new(context), writers, memory }
    }

    async fn reconcile(&self, bus: Bus) -> Result<(), Error> {
        self.reconcile_generation(bus, 1).await
    }

    /// With the status that was written last.
    async fn reconcile_generation(&self, bus: Bus, generation: i64) -> Result<(), Error> {
        let mut cluster = cluster(bus);
        cluster.metadata.generation = Some(generation);
        let before = self.memory.lock().unwrap().objects.get(STATUS).cloned();
        cluster.status =
            before.map(|object| serde_json::from_value(object["status"].clone()).unwrap());
        reconcile(Arc::new(DeserializeGuard(Ok(cluster))), Arc::clone(&self.context)).await?;
        Ok(())
    }

    /// Paths of what was written since the last call, but for events.
    fn written(&self) -> Vec<String> {
        let mut memory = self.memory.lock().unwrap();
        let mut written = std::mem::take(&mut memory.written);
        written.retain(|path| !path.starts_with("/apis/events.k8s.io/"));
        written.sort();
        written
    }

    fn object(&self, path: &str) -> Value {
        self.memory.lock().unwrap().objects[path].clone()
    }

    fn config(&self) -> String {
        self.object(CONFIG)["data"]["warp.yaml"].as_str().unwrap().to_owned()
    }

    /// Reconciles `cluster`, then the policy `users` on it, each after the watches have seen it.
    async fn reconcile_both(&mut self, mut cluster: WarpCluster) {
        let mut policy = WarpPolicy::new(
            "users",
            WarpPolicySpec {
                cluster_ref: ClusterRef::to("shop"),
                patterns: vec![warp_crds::pattern::KeyPattern("user:*".to_owned())],
                rules: PolicyRules::default(),
            },
        );
        policy.metadata.namespace = Some("prod".to_owned());
        let policy = DeserializeGuard(Ok(policy));
        self.writers.policies.apply_watcher_event(&Event::Apply(policy.clone()));
        let object = Arc::new(DeserializeGuard(Ok(cluster.clone())));
        reconcile(object, Arc::clone(&self.context)).await.unwrap();
        cluster.status = serde_json::from_value(self.object(STATUS)["status"].clone()).unwrap();
        self.writers.clusters.apply_watcher_event(&Event::Apply(DeserializeGuard(Ok(cluster))));
        policy::reconcile(Arc::new(policy), Arc::clone(&self.context)).await.unwrap();
    }

    /// The condition as `Status/Reason`.
    fn condition(&self, type_: &str) -> String {
        self.condition_of(STATUS, type_)
    }

    fn condition_of(&self, path: &str, type_: &str) -> String {
        let status = self.object(path);
        let all = status["status"]["conditions"].as_array().unwrap();
        let condition = all.iter().find(|condition| condition["type"] == type_).unwrap();
        format!(
            "{}/{}",
            condition["status"].as_str().unwrap(),
            condition["reason"].as_str().unwrap()
        )
    }
}

fn injection() -> inject::Settings {
    inject::Settings {
        operator_namespace: "warp-system".to_owned(),
        excluded_namespaces: Vec::new(),
        sidecar_image: "s".to_owned(),
        image_pull_policy: None,
    }
}

fn cluster(bus: Bus) -> WarpCluster {
    let mut cluster = WarpCluster::new("shop", Default::default());
    cluster.metadata.namespace = Some("prod".to_owned());
    cluster.metadata.uid = Some("1".to_owned());
    cluster.spec.bus = bus;
    cluster
}

fn memory() -> Bus {
    Bus::Memory(MemoryBus {})
}

fn kafka() -> Bus {
    Bus::Kafka(KafkaBus { brokers: vec!["k:9092".to_owned()] })
}

#[tokio::test]
async fn a_cluster_that_was_never_accepted_gets_its_status_and_nothing_else() {
    let world = World::new();
    world.reconcile(kafka()).await.unwrap();
    assert_eq!(world.written(), [STATUS]);
    assert_eq!(world.condition("Ready"), "False/Unsupported");
    assert_eq!(world.condition("BusReady"), "Unknown/NotAccepted");
}

#[tokio::test]
async fn the_configuration_of_a_cluster_and_its_policies_is_written() {
    let mut world = World::new();
    let spec = WarpPolicySpec {
        cluster_ref: ClusterRef::to("shop"),
        patterns: vec![],
        rules: PolicyRules::default(),
    };
    for (name, pattern) in [("users", "user:*"), ("none", "")] {
        let mut policy = WarpPolicy::new(name, spec.clone());
        policy.metadata.namespace = Some("prod".to_owned());
        policy.spec.patterns = vec![warp_crds::pattern::KeyPattern(pattern.to_owned())];
        world.writers.policies.apply_watcher_event(&Event::Apply(DeserializeGuard(Ok(policy))));
    }
    world.reconcile(memory()).await.unwrap();
    assert_eq!(world.written(), [CONFIG, "/api/v1/namespaces/prod/secrets/warp.prod.shop", STATUS]);
    let read = manifest::parse(&world.config()).unwrap();
    assert_eq!(read.policies.len(), 1, "the one without a pattern isn't accepted");
    assert_eq!(world.object(STATUS)["status"]["configHash"], manifest::hash(&world.config()));
    assert_eq!(world.condition("Ready"), "True/Ready");
}

#[tokio::test]
async fn a_refused_change_leaves_what_the_sidecars_run() {
    let world = World::new();
    world.reconcile(memory()).await.unwrap();
    let before = world.config();
    world.reconcile(kafka()).await.unwrap();
    assert_eq!(world.config(), before);
    assert_eq!(world.condition("Ready"), "False/Unsupported");
    assert_eq!(world.condition("BusReady"), "True/Memory");
}

#[tokio::test]
async fn a_change_that_could_not_be_applied_is_not_called_ready() {
    let world = World::new();
    world.reconcile_generation(memory(), 1).await.unwrap();
    assert_eq!(world.condition("Ready"), "True/Ready");
    world.memory.lock().unwrap().locked = Some(CONFIG);
    assert!(world.reconcile_generation(memory(), 2).await.is_err());
    assert_eq!(world.condition("Ready"), "False/ApplyFailed");
    assert_eq!(world.condition("Degraded"), "True/ApplyFailed");
    assert_eq!(world.condition("BusReady"), "True/Memory");
    world.memory.lock().unwrap().locked = None;
    world.reconcile_generation(memory(), 2).await.unwrap();
    assert_eq!(world.condition("Ready"), "True/Ready");
    assert_eq!(world.condition("Degraded"), "False/AsExpected");
}

#[tokio::test]
async fn the_kubelet_of_a_pod_is_told_once_of_each_configuration() {
    let mut world = World::new();
    let path = "/api/v1/namespaces/prod/pods/web";
    let pod = |told: Option<&Value>| -> Event<Pod> {
        let pod = json!({
            "metadata": {
                "name": "web", "namespace": "prod",
                "labels": {"warpcache.dev/cluster-name": "shop", "warpcache.dev/cluster-namespace": "prod"},
                "annotations": told.cloned().unwrap_or_default(),
            },
            "spec": {"containers": [], "initContainers": [{"name": "warp-sidecar"}]},
        });
        Event::Apply(serde_json::from_value(pod).unwrap())
    };
    world.writers.injected.apply_watcher_event(&pod(None));
    world.reconcile(memory()).await.unwrap();
    assert!(world.written().contains(&path.to_owned()));
    let told = world.object(path)["metadata"]["annotations"].clone();
    let hash = manifest::hash(&world.config());
    assert!(told["warpcache.dev/config-hash"].as_str().unwrap().starts_with(&hash));
    world.writers.injected.apply_watcher_event(&pod(Some(&told)));
    world.reconcile(memory()).await.unwrap();
    assert!(!world.written().contains(&path.to_owned()));
    let managers = std::mem::take(&mut world.memory.lock().unwrap().managers);
    assert_eq!(managers, [Some("warp-operator".to_owned())].into(), "one manager for all writes");
}

#[tokio::test]
async fn a_pod_whose_sidecar_was_made_otherwise_is_told_with_the_command_that_renews_it() {
    let mut world = World::new();
    let mut seen = async |made: &str| {
        let pod = json!({
            "metadata": {
                "name": "web-5d8f-x", "namespace": "prod",
                "labels": {
                    "warpcache.dev/cluster-name": "shop", "warpcache.dev/cluster-namespace": "prod",
                    "pod-template-hash": "5d8f",
                },
                "annotations": {"warpcache.dev/sidecar-hash": made},
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d8f", "uid": "2",
                    "controller": true,
                }],
            },
            "spec": {"containers": [], "initContainers": [{"name": "warp-sidecar"}]},
        });
        let pod = serde_json::from_value(pod).unwrap();
        world.writers.injected.apply_watcher_event(&Event::Apply(pod));
        world.reconcile(memory()).await.unwrap();
        let conditions = world.object(STATUS)["status"]["conditions"].clone();
        let all = conditions.as_array().unwrap().iter();
        let told = all.clone().find(|c| c["type"] == "SidecarsCurrent").unwrap();
        (world.condition("SidecarsCurrent"), told["message"].as_str().unwrap().to_owned())
    };
    let now = inject::Plan::new(&cluster(memory()), &injection()).hash();
    assert_eq!(seen(&now).await.0, "True/NoSidecars");
    let (condition, message) = seen("other").await;
    assert_eq!(condition, "False/RolloutNeeded");
    assert!(message.contains("kubectl -n prod rollout restart deployment/web"), "{message}");
}

#[tokio::test]
async fn a_cluster_that_cannot_be_read_is_let_alone() {
    let world = World::new();
    let invalid = InvalidObject { error: "no such field".to_owned(), metadata: Default::default() };
    let outcome = reconcile(Arc::new(DeserializeGuard(Err(invalid))), Arc::clone(&world.context));
    assert!(matches!(outcome.await, Err(Error::Malformed(_))));
    assert_eq!(world.written(), [""; 0]);
}

#[tokio::test]
async fn refused_defaults_leave_the_policies_of_a_running_cluster_as_they_were() {
    let mut world = World::new();
    let mut shop = cluster(memory());
    world.reconcile_both(shop.clone()).await;
    assert_eq!(world.condition_of(POLICY_STATUS, "Accepted"), "True/Accepted");
    assert_eq!(world.condition_of(POLICY_STATUS, "Programmed"), "True/NoSidecars");
    shop.spec.defaults.mode = Some(Mode::StrongDistributed);
    world.reconcile_both(shop).await;
    assert_eq!(world.condition("Ready"), "False/Unsupported");
    assert_eq!(world.condition_of(POLICY_STATUS, "Accepted"), "True/Accepted");
    assert_eq!(world.condition_of(POLICY_STATUS, "Programmed"), "True/NoSidecars");
}

#[tokio::test]
async fn a_policy_for_a_cluster_that_was_never_accepted_is_not_accepted_either() {
    let mut world = World::new();
    world.reconcile_both(cluster(kafka())).await;
    assert_eq!(world.condition_of(POLICY_STATUS, "Accepted"), "False/Invalid");
    assert_eq!(world.condition_of(POLICY_STATUS, "Programmed"), "False/NotAccepted");
}
