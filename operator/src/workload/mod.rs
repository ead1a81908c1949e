//! Puts what an annotated workload asks for on its pod template, where the webhook sees it.
//!
//! `kubectl annotate deployment` reaches the Deployment; its pods are made from the template. So
//! the label (and the annotation that names the WarpCluster) is applied to the template, which
//! rolls the workload out once, and is released when the annotation goes. Only metadata is watched:
//! what was applied is read from the managed fields. [`plan`] decides; this module writes.

mod kind;
mod plan;
mod tend;

use std::fmt::Debug;

use futures::FutureExt;
use futures::future::join_all;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::api::{Api, ListParams};
use kube::runtime::events::{Recorder, Reporter};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use warp_crds::names;

use kind::Kind;

use crate::inject;

/// The field manager of what is put on templates. It is another than that of the objects which the
/// operator makes, because an apply takes away all that its manager owned and doesn't repeat, and
/// one of those objects could be annotated too.
const MANAGER: &str = "warp-operator-inject";
/// Objects fetched at a time.
const PAGE: u32 = 500;

/// A workload's type.
trait Workload:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<T> Workload for T where
    T: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// Tends all workloads until `stop`, as long as `leader` says so.
pub async fn run(
    client: Client,
    injection: inject::Settings,
    mut leader: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    let reporter = Reporter { controller: names::FIELD_MANAGER.to_owned(), instance: None };
    let recorder = Recorder::new(client.clone(), reporter);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            leads = leader.wait_for(|leads| *leads) => if leads.is_err() { return },
        }
        let rest = stop.child_token();
        let tended = join_all([
            tend::all::<Deployment>(Kind::Workload, &client, &injection, &recorder, &rest).boxed(),
            tend::all::<StatefulSet>(Kind::Workload, &client, &injection, &recorder, &rest).boxed(),
            tend::all::<DaemonSet>(Kind::Workload, &client, &injection, &recorder, &rest).boxed(),
            tend::all::<CronJob>(Kind::CronJob, &client, &injection, &recorder, &rest).boxed(),
            tend::all::<Job>(Kind::Job, &client, &injection, &recorder, &rest).boxed(),
        ]);
        let deposed = async {
            // An error means that nobody elects any more, which is the end as well.
            let _ = leader.wait_for(|leads| !*leads).await;
            rest.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = tended => {}
            () = deposed => {}
        }
    }
}

/// Takes away all that [`run`] put on templates, which rolls those workloads out without the
/// sidecar. To be called when nobody runs [`run`] any more. Gives the last error after having tried
/// them all.
pub async fn cleanup(client: Client) -> Result<(), kube::Error> {
    let released = [
        release_all::<Deployment>(Kind::Workload, &client).await,
        release_all::<StatefulSet>(Kind::Workload, &client).await,
        release_all::<DaemonSet>(Kind::Workload, &client).await,
        release_all::<CronJob>(Kind::CronJob, &client).await,
    ];
    released.into_iter().fold(Ok(()), Result::and)
}

async fn release_all<K: Workload>(kind: Kind, client: &Client) -> Result<(), kube::Error> {
    let api: Api<K> = Api::all(client.clone());
    let mut page = ListParams::default().limit(PAGE);
    let mut outcome = Ok(());
    loop {
        let list = api.list_metadata(&page).await?;
        for object in list.items.iter().filter(|object| plan::owns(&object.metadata)) {
            match tend::apply::<K>(client, kind, &object.metadata, None).await {
                Ok(()) => tracing::info!(
                    kind = %K::kind(&()),
                    namespace = object.namespace(),
                    name = object.name_any(),
                    "released"
                ),
                Err(error) if tend::is_gone(&error) => {}
                Err(error) => outcome = Err(error),
            }
        }
        page.continue_token = list.metadata.continue_.filter(|token| !token.is_empty());
        if page.continue_token.is_none() {
            return outcome;
        }
    }
}

#[cfg(test)]
mod tests;
