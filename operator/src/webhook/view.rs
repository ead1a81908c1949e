//! What the webhook knows of the cluster: all WarpClusters, and the metadata of all namespaces.
//!
//! A watch is always a little behind. Where that could change an answer for the worse, the API
//! server is asked; that is rare, and bounded in time.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, ListParams, ObjectMeta, PartialObjectMeta};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::store::WriterDropped;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use tokio::time::timeout;
use warp_crds::WarpCluster;

use crate::fault::Fault;

/// Twice this is less than the webhook's own timeout, so that the answer still arrives.
const PATIENCE: Duration = Duration::from_secs(2);

/// A WarpCluster, or why it can't be read; one that can't doesn't end the watch of the others.
pub(super) type Guarded = DeserializeGuard<WarpCluster>;

/// The view. Clones share it.
#[derive(Clone)]
pub(super) struct View {
    pub(super) client: Client,
    pub(super) clusters: Store<Guarded>,
    pub(super) namespaces: Store<PartialObjectMeta<Namespace>>,
}

/// The API server didn't say what was asked.
#[derive(Debug, thiserror::Error)]
#[error("Warp's webhook can't read {what} from the API server ({why}); try again")]
pub(super) struct Unknown {
    what: String,
    why: String,
}

impl View {
    /// The view, and what keeps it current as long as it is polled.
    pub(super) fn new(client: Client) -> (Self, impl Future<Output = ()>) {
        let (clusters, clusters_writer) = store();
        let (namespaces, namespaces_writer) = store();
        let config = watcher::Config::default();
        let all: Api<Guarded> = Api::all(client.clone());
        let keep_clusters = keep(
            reflector(clusters_writer, watcher(all, config.clone()).default_backoff()),
            "watching WarpClusters",
        );
        let all: Api<PartialObjectMeta<Namespace>> = Api::all(client.clone());
        let lean = watcher(all, config)
            .default_backoff()
            .modify(|namespace| namespace.metadata.managed_fields = None);
        let keep_namespaces = keep(reflector(namespaces_writer, lean), "watching namespaces");
        let keep = async { tokio::join!(keep_clusters, keep_namespaces).0 };
        (Self { client, clusters, namespaces }, keep)
    }

    /// Waits until all that exists is known.
    pub(super) async fn ready(&self) -> Result<(), WriterDropped> {
        self.clusters.wait_until_ready().await?;
        self.namespaces.wait_until_ready().await
    }

    /// The WarpClusters, as last seen.
    pub(super) fn clusters(&self) -> Vec<Arc<Guarded>> {
        self.clusters.state()
    }

    /// The WarpClusters, asked for now.
    pub(super) async fn clusters_now(&self) -> Result<Vec<Guarded>, Unknown> {
        let api: Api<Guarded> = Api::all(self.client.clone());
        let all = ListParams::default();
        asked("the WarpClusters".to_owned(), api.list(&all)).await.map(|list| list.items)
    }

    /// A namespace as last seen, if that is as `expected`; else asked for now.
    pub(super) async fn namespace(
        &self,
        name: &str,
        expected: impl Fn(&ObjectMeta) -> bool,
    ) -> Result<ObjectMeta, Unknown> {
        match self.namespaces.get(&ObjectRef::new(name)) {
            Some(seen) if expected(&seen.metadata) => Ok(seen.metadata.clone()),
            _ => {
                let api: Api<Namespace> = Api::all(self.client.clone());
                let found = asked(format!("namespace {name}"), api.get_metadata(name)).await?;
                Ok(found.metadata)
            }
        }
    }
}

async fn asked<T>(
    what: String,
    question: impl Future<Output = kube::Result<T>>,
) -> Result<T, Unknown> {
    let why = match timeout(PATIENCE, question).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer in {} s", PATIENCE.as_secs()),
    };
    Err(Unknown { what, why })
}

async fn keep<T>(events: impl Stream<Item = watcher::Result<T>>, what: &'static str) {
    let mut fault = Fault::new(what);
    events
        .for_each(|event| {
            fault.check(event);
            std::future::ready(())
        })
        .await;
}
