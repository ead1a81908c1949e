//! What the leader does and nobody else: both controllers and the collecting of orphans. All of it
//! ends when the future is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::channel::mpsc;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::controller::{Action, Config, Controller, Error as RunError};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{Predicate, PredicateConfig, WatchStreamExt, predicates};
use kube::{Client, Resource, ResourceExt};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use warp_crds::names;

use crate::cluster::build::labels;
use crate::cluster::build::nats_stateful_set::Image;
use crate::cluster::{self, usage};
use crate::context::{Context, Failures, error_policy};
use crate::metrics::Metrics;
use crate::view::{self, Cluster, Policy, View, Writers};
use crate::{inject, orphans, policy};

/// Reconciliations of one kind at once.
const CONCURRENCY: u16 = 8;
/// How long changes are gathered before a reconciliation.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// What leading needs.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "a Client has none")]
pub struct Leader {
    /// Reads and writes the API server.
    pub client: Client,
    /// Counts.
    pub metrics: Metrics,
    /// The replica's own name, its pod's.
    pub identity: String,
    /// How pods are injected.
    pub injection: inject::Settings,
    /// The servers of a managed NATS.
    pub nats_image: Image,
    /// Counts the reconciliations that run.
    pub running: TaskTracker,
    /// Becomes true when the watches have been read once.
    pub watching: Arc<AtomicBool>,
}

impl Leader {
    /// Reconciles for ever. When it is dropped, what it was doing stops at its next pause, which
    /// [`Self::stopped`] waits for.
    pub async fn lead(&self) {
        let (view, writers) = View::new();
        let reporter = Reporter {
            controller: names::FIELD_MANAGER.to_owned(),
            instance: Some(self.identity.clone()),
        };
        let context = Arc::new(Context {
            client: self.client.clone(),
            recorder: Recorder::new(self.client.clone(), reporter),
            metrics: self.metrics.clone(),
            http: reqwest::Client::new(),
            view: view.clone(),
            injection: self.injection.clone(),
            nats_image: self.nats_image.clone(),
            failures: Failures::default(),
            running: self.running.clone(),
        });
        let gone = Arc::new(Notify::new());
        let (clusters, policies) = controllers(&context, writers, &gone);
        let watching = async {
            view.filled().await;
            self.watching.store(true, Ordering::Relaxed);
            tracing::info!("the watches have been read");
        };
        let collecting = orphans::collect(&self.client, &view, &self.injection, &gone);
        tokio::join!(clusters, policies, watching, collecting,);
    }

    /// Waits until no reconciliation runs any more.
    pub async fn stopped(&self) {
        self.running.close();
        self.running.wait().await;
    }
}

/// The two controllers' runs. Each kind is watched once: the watch of the one kind triggers the
/// other's controller through a channel, after the store has taken the change. Whenever a cluster
/// is gone, `gone` is told.
fn controllers(
    context: &Arc<Context>,
    writers: Writers,
    gone: &Arc<Notify>,
) -> (impl Future<Output = ()> + use<>, impl Future<Output = ()> + use<>) {
    let client = &context.client;
    let view = &context.view;
    let config = || Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE);

    let (cluster_changed, cluster_changes) = mpsc::unbounded::<ObjectRef<Cluster>>();
    let (policy_changed, policy_changes) = mpsc::unbounded::<ObjectRef<Cluster>>();
    let clusters = view::all::<Cluster>(client, writers.clusters).inspect_ok({
        let (context, gone) = (Arc::clone(context), Arc::clone(gone));
        move |event| {
            if let Event::Delete(cluster) = event {
                let namespace = cluster.namespace().unwrap_or_default();
                context.metrics.forget(&namespace, &cluster.name_any());
                context.failures.forget(cluster);
                gone.notify_one();
            }
            if let Event::Apply(cluster) | Event::InitApply(cluster) | Event::Delete(cluster) =
                event
            {
                // The other end lives as long as this one.
                let _ = cluster_changed.unbounded_send(ObjectRef::from_obj(cluster));
            }
        }
    });
    let policies = view::all::<Policy>(client, writers.policies).inspect_ok(move |event| {
        if let Event::Apply(policy) | Event::InitApply(policy) | Event::Delete(policy) = event
            && let Ok(policy) = &policy.0
        {
            let name = &policy.spec.cluster_ref.name;
            let cluster = ObjectRef::new(name).within(&policy.namespace().unwrap_or_default());
            let _ = policy_changed.unbounded_send(cluster);
        }
    });

    // The status is written by these controllers themselves and must not trigger them.
    let once = PredicateConfig::default();
    let owned = || watcher::Config::default().labels(labels::MANAGED);
    let every = {
        let clusters = view.clusters.clone();
        move |_| clusters.state().iter().map(|c| ObjectRef::from_obj(&**c)).collect::<Vec<_>>()
    };
    let pods = view::pods(client, names::CLUSTER_NAME_LABEL, writers.injected);
    let asking = format!("{}={}", names::INJECT, names::ENABLED);
    let asking = view::pods(client, &asking, writers.asking);
    let namespaces = view::namespaces(client, writers.namespaces)
        .touched_objects()
        .predicate_filter(predicates::labels.combine(predicates::annotations), once.clone());
    let clusters = Controller::for_stream(
        clusters.applied_objects().predicate_filter(predicates::generation, once.clone()),
        view.clusters.clone(),
    )
    .with_config(config())
    .reconcile_on(policy_changes)
    .watches_stream(pods.touched_objects(), |pod| labelled(&pod))
    // Only counted, at the controller's own pace.
    .watches_stream(asking.touched_objects(), |_| None)
    .watches_stream(namespaces, every)
    // Secrets aren't watched: the right to it is the right to read everyone's. Those that count
    // are read by name at each reconciliation, which comes every 10 seconds.
    .watches_stream(view::metadata::<ConfigMap>(client, owned()).touched_objects(), |o| {
        labelled(&o)
    })
    .watches_stream(view::metadata::<Service>(client, owned()).touched_objects(), |o| labelled(&o))
    .watches_stream(view::metadata::<StatefulSet>(client, owned()).touched_objects(), |o| {
        labelled(&o)
    })
    .watches_stream(view::metadata::<PodDisruptionBudget>(client, owned()).touched_objects(), |o| {
        labelled(&o)
    })
    .run(cluster::reconcile, error_policy, Arc::clone(context))
    .for_each(async |outcome| log("WarpCluster", outcome));

    let of_cluster = view.policies.clone();
    let policies = Controller::for_stream(
        policies.applied_objects().predicate_filter(predicates::generation, once),
        view.policies.clone(),
    )
    .with_config(config())
    .reconcile_on(
        cluster_changes
            .flat_map(move |cluster| stream::iter(naming_policies(&of_cluster, &cluster))),
    )
    .run(policy::reconcile, error_policy, Arc::clone(context))
    .for_each(async |outcome| log("WarpPolicy", outcome));
    (clusters, policies)
}

/// The cluster that an object's labels name.
fn labelled<K: ResourceExt>(object: &K) -> Option<ObjectRef<Cluster>> {
    let (namespace, name) = usage::cluster_of(object.meta())?;
    Some(ObjectRef::new(name).within(namespace))
}

fn naming_policies(
    policies: &Store<Policy>,
    cluster: &ObjectRef<Cluster>,
) -> Vec<ObjectRef<Policy>> {
    policies
        .state_filter(|policy| {
            policy.namespace() == cluster.namespace
                && policy.0.as_ref().is_ok_and(|p| p.spec.cluster_ref.name == cluster.name)
        })
        .iter()
        .map(|policy| ObjectRef::from_obj(&**policy))
        .collect()
}

/// A failed reconciliation stands in the status, an event and the metrics; the log has it too. The
/// watches tell of their faults themselves.
fn log<E: std::error::Error + 'static>(
    kind: &'static str,
    outcome: Result<(ObjectRef<impl Resource>, Action), RunError<E, watcher::Error>>,
) {
    if let Err(RunError::ReconcilerFailed(error, object)) = outcome {
        tracing::warn!(kind, %object, %error, "reconciliation failed, and will be tried again");
    }
}
