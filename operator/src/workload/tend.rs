//! Takes the steps that [`super::plan`] decides on, for all workloads of one kind.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{Api, ObjectMeta, PartialObjectMeta, Patch, PatchParams};
use kube::runtime::controller::{self, Action, Controller};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::runtime::watcher;
use kube::{Client, Resource, ResourceExt};
use serde_json::json;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use warp_crds::names;

use super::kind::Kind;
use super::plan::{Step, step};
use super::{MANAGER, Workload};
use crate::fault::Fault;
use crate::inject::{self, Marks};

/// Workloads tended at a time.
const CONCURRENCY: u16 = 4;
/// Pause after an error.
const RETRY: Duration = Duration::from_secs(10);
/// How many steps are remembered. Forgetting costs an apply that changes nothing.
const REMEMBERED: usize = 4096;

struct Context {
    kind: Kind,
    client: Client,
    injection: inject::Settings,
    recorder: Recorder,
    /// The last step taken of each workload, by uid, so that the many changes of its status cause
    /// no writes.
    taken: Mutex<HashMap<String, Taken>>,
}

/// A step that was taken.
struct Taken {
    step: Step,
    /// The generation that it failed on for good: a conflict lasts until the workload changes.
    conflict: Option<i64>,
}

/// Tends all workloads of the kind `K` until `stop`, and finishes what it is about.
pub(super) async fn all<K: Workload>(
    kind: Kind,
    client: &Client,
    injection: &inject::Settings,
    recorder: &Recorder,
    stop: &CancellationToken,
) {
    let context = Context {
        kind,
        client: client.clone(),
        injection: injection.clone(),
        recorder: recorder.clone(),
        taken: Mutex::default(),
    };
    let api: Api<PartialObjectMeta<K>> = Api::all(client.clone());
    let mut fault = Fault::new("marking the pod templates of annotated workloads");
    Controller::new(api, watcher::Config::default())
        .with_config(controller::Config::default().concurrency(CONCURRENCY))
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(tend::<K>, |_, _, _| Action::requeue(RETRY), Arc::new(context))
        .for_each(|outcome| {
            match outcome {
                // The object was deleted between an event and its turn.
                Ok(_) | Err(controller::Error::ObjectNotFound(_)) => fault.over(),
                Err(error) => fault.met(&error),
            }
            std::future::ready(())
        })
        .await;
}

async fn tend<K: Workload>(
    object: Arc<PartialObjectMeta<K>>,
    context: Arc<Context>,
) -> Result<Action, kube::Error> {
    let metadata = &object.metadata;
    let uid = object.uid().unwrap_or_default();
    let step = step(context.kind, metadata, &context.injection);
    let as_before = context.taken.lock().await.get(&uid).is_some_and(|taken| {
        taken.step == step && (taken.conflict.is_none() || taken.conflict == metadata.generation)
    });
    if step == Step::Nothing || as_before {
        return Ok(Action::await_change());
    }
    let mut taken = Taken { step: step.clone(), conflict: None };
    match &step {
        Step::Nothing => {}
        Step::Apply { marks, .. } => {
            match apply::<K>(&context.client, context.kind, metadata, Some(marks)).await {
                Err(error) if is_conflict(&error) => {
                    taken.conflict = metadata.generation;
                    let note = format!(
                        "the pod template says otherwise by itself: remove {} from its labels and {} from its annotations",
                        names::INJECT,
                        names::CLUSTER
                    );
                    context.tell::<K>(metadata, "InjectConflict", note).await?;
                }
                Err(error) => return Err(error),
                // So the next event will show it.
                Ok(()) => taken.step = Step::Apply { marks: marks.clone(), owned: true },
            }
        }
        Step::Release => apply::<K>(&context.client, context.kind, metadata, None).await?,
        Step::Complain(complaint) => {
            if super::plan::owns(metadata) {
                apply::<K>(&context.client, context.kind, metadata, None).await?;
            }
            context.tell::<K>(metadata, complaint.reason(), complaint.to_string()).await?;
        }
        Step::Inspect(marks) => context.inspect::<K>(metadata, marks).await?,
    }
    let mut remembered = context.taken.lock().await;
    if remembered.len() >= REMEMBERED {
        remembered.clear();
    }
    remembered.insert(uid, taken);
    Ok(Action::await_change())
}

/// Makes the marks all that is applied to the template, or takes away what was. It doesn't force:
/// what the template says by itself stays, and is a conflict.
pub(super) async fn apply<K: Workload>(
    client: &Client,
    kind: Kind,
    metadata: &ObjectMeta,
    marks: Option<&Marks>,
) -> Result<(), kube::Error> {
    let name = metadata.name.as_deref().unwrap_or_default();
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let mut patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        // With the uid, a workload that was deleted meanwhile isn't made anew.
        "metadata": {"name": name, "uid": metadata.uid},
    });
    if let Some(marks) = marks {
        patch["spec"] = kind.spec(&marks.metadata());
    }
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    api.patch_metadata(name, &PatchParams::apply(MANAGER), &Patch::Apply(patch)).await?;
    tracing::info!(kind = %K::kind(&()), namespace, name, ?marks, "applied to the pod template");
    Ok(())
}

impl Context {
    /// Says so if a Job's pods don't get what its annotation asks for.
    async fn inspect<K: Workload>(
        &self,
        metadata: &ObjectMeta,
        marks: &Marks,
    ) -> Result<(), kube::Error> {
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<Job> = Api::namespaced(self.client.clone(), namespace);
        let Some(job) = api.get_opt(metadata.name.as_deref().unwrap_or_default()).await? else {
            return Ok(());
        };
        let finished = job.status.is_some_and(|status| status.completion_time.is_some());
        let template = job.spec.and_then(|spec| spec.template.metadata).unwrap_or_default();
        let label = template.labels.and_then(|mut labels| labels.remove(names::INJECT));
        if finished || label.as_deref() == Some(marks.inject) {
            return Ok(());
        }
        let note =
            "the pod template of a Job can't be changed: recreate the Job with the annotation"
                .to_owned();
        self.tell::<K>(metadata, "InjectTooLate", note).await
    }

    async fn tell<K: Workload>(
        &self,
        metadata: &ObjectMeta,
        reason: &str,
        note: String,
    ) -> Result<(), kube::Error> {
        let event = Event {
            type_: EventType::Warning,
            reason: reason.to_owned(),
            note: Some(note),
            action: "Inject".to_owned(),
            secondary: None,
        };
        let object: PartialObjectMeta<K> =
            kube::core::PartialObjectMetaExt::into_response_partial(metadata.clone());
        self.recorder.publish(&event, &object.object_ref(&())).await
    }
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// Whether the object isn't there any more: not found, or another of its name is.
pub(super) fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404 || status.code == 409)
}
