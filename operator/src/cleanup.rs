//! Deleting all that Warp made, for the uninstallation: the WarpClusters and WarpPolicies, and what
//! the operator made for them in every namespace. What belongs to the installation itself stays.
//!
//! The operator may still run. So its leadership is taken away first, by which it stops writing;
//! what is deleted here isn't made anew behind it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, DeleteParams, ListParams};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};
use warp_crds::{WarpCluster, WarpPolicy};

use crate::cluster::build::labels;
use crate::{lease, workload};

/// The pace of looking whether all is gone.
const PACE: Duration = Duration::from_secs(1);

/// Why not all is gone.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The leadership can't be taken.
    #[error("the running operator can't be stopped by its Lease: {0}")]
    Lease(#[source] kube::Error),
    /// The workloads' templates can't be written.
    #[error("the marks on workloads can't be taken away: {0}")]
    Workloads(#[source] kube::Error),
    /// Listing or deleting failed.
    #[error("what Warp made can't be listed or deleted: {0}")]
    Api(#[source] kube::Error),
    /// Something stays.
    #[error("still there after {}s: {left}; look for what holds them (kubectl describe), then run this again", .patience.as_secs())]
    Left {
        /// How long it was waited.
        patience: Duration,
        /// Kinds and how many of each.
        left: String,
    },
}

/// Deletes all of it, and waits until it is gone, at most for `patience`.
pub async fn run(
    client: Client,
    settings: &lease::Settings,
    patience: Duration,
) -> Result<(), Error> {
    lease::seize(client.clone(), settings, patience * 2).await.map_err(Error::Lease)?;
    workload::cleanup(client.clone()).await.map_err(Error::Workloads)?;
    let deadline = Instant::now() + patience;
    loop {
        let left = sweep(&client).await.map_err(Error::Api)?;
        if left.is_empty() {
            tracing::info!("all that Warp made is gone");
            return Ok(());
        }
        let left: Vec<String> =
            left.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let left = left.join(", ");
        tracing::info!(left, "deleting");
        if Instant::now() >= deadline {
            return Err(Error::Left { patience, left });
        }
        sleep(PACE).await;
    }
}

/// Deletes what there is; gives the kinds of which something was there.
async fn sweep(client: &Client) -> Result<BTreeMap<String, usize>, kube::Error> {
    let ours = |component: &str| {
        ListParams::default().labels(&format!(
            "{},{}={component}",
            labels::MANAGED,
            labels::COMPONENT
        ))
    };
    let everything = ListParams::default();
    let (config, nats) = (ours(labels::CONFIG), ours(labels::NATS));
    let found = [
        // What asks first, then what was made.
        delete::<WarpPolicy>(client, &everything).await?,
        delete::<WarpCluster>(client, &everything).await?,
        delete::<StatefulSet>(client, &nats).await?,
        delete::<PodDisruptionBudget>(client, &nats).await?,
        delete::<Service>(client, &nats).await?,
        delete::<ConfigMap>(client, &nats).await?,
        delete::<ConfigMap>(client, &config).await?,
        delete::<Secret>(client, &nats).await?,
        delete::<Secret>(client, &config).await?,
        delete::<PersistentVolumeClaim>(client, &nats).await?,
        // They go with their StatefulSet; until then their volumes are held.
        count::<Pod>(client, &nats).await?,
    ];
    let mut left = BTreeMap::new();
    for (kind, count) in found.into_iter().filter(|(_, count)| *count > 0) {
        *left.entry(kind).or_default() += count;
    }
    Ok(left)
}

async fn delete<K>(client: &Client, which: &ListParams) -> Result<(String, usize), kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let found = list::<K>(client, which).await?;
    for (namespace, name) in found.iter().filter(|object| !object.2).map(|o| (&o.0, &o.1)) {
        let api: Api<K> = Api::namespaced(client.clone(), namespace);
        match api.delete(name, &DeleteParams::background()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok((K::kind(&()).into_owned(), found.len()))
}

async fn count<K>(client: &Client, which: &ListParams) -> Result<(String, usize), kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned,
{
    Ok((K::kind(&()).into_owned(), list::<K>(client, which).await?.len()))
}

/// Namespace and name of each, and whether it is going already.
async fn list<K>(
    client: &Client,
    which: &ListParams,
) -> Result<Vec<(String, String, bool)>, kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned,
{
    // By metadata, so that an object that can't be read is deleted too.
    match Api::<K>::all(client.clone()).list_metadata(which).await {
        Ok(list) => Ok(list
            .items
            .iter()
            .map(|object| {
                let going = object.metadata.deletion_timestamp.is_some();
                (object.namespace().unwrap_or_default(), object.name_any(), going)
            })
            .collect()),
        // Its CustomResourceDefinition is gone.
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
