//! Reading all that a reconciliation depends on, and nothing else: what stands in the API server
//! beside the cluster, and what the watches hold.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service};
use kube::api::{Api, ListParams, ObjectMeta};
use kube::{Client, Resource, ResourceExt};
use warp_crds::manifest::{self, Manifests};
use warp_crds::{WarpCluster, names};

use super::build::credentials::{Values, references};
use super::build::labels;
use super::build::nats_stateful_set::{EPOCH, TEMPLATE_HASH};
use super::rollout::{Present, Server};

/// What stands beside a cluster.
#[derive(Debug)]
pub struct Found {
    /// What its sidecars run until now.
    pub compiled: Option<Compiled>,
    /// The files of its credentials as they were handed out until now.
    pub files: BTreeMap<String, ByteString>,
    /// The Secrets that it names, and those that what runs until now names.
    pub secrets: Values,
    /// Its managed NATS.
    pub nats: Nats,
    /// The pods of its managed NATS.
    pub nats_pods: Vec<Pod>,
    /// Pods or volumes of an earlier managed NATS are still on their way out. A StatefulSet that
    /// meets them backs off for minutes.
    pub leftovers: bool,
}

/// A cluster's configuration as it was written last.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// See [`manifest::hash`].
    pub hash: String,
    /// What it says.
    pub manifests: Manifests,
}

/// What stands where a managed NATS is, or would go.
#[derive(Debug)]
pub struct Nats {
    /// The servers.
    pub stateful_set: Option<StatefulSet>,
    /// The Service of their clients.
    pub service: Option<Service>,
    /// Their keys.
    pub secret: BTreeMap<String, ByteString>,
    /// Objects of others, such as `Service shop-nats`.
    pub taken: Vec<String>,
    /// Servers of an earlier cluster of the same name.
    going: bool,
}

/// Reads it.
pub async fn dereference(client: &Client, cluster: &WarpCluster) -> Result<Found, kube::Error> {
    let namespace = cluster.namespace().unwrap_or_default();
    let config_object = names::config_object(&namespace, &cluster.name_any());
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let (compiled, files, nats) = tokio::try_join!(
        compiled(client, cluster),
        secrets.get_opt(&config_object),
        nats(client, cluster),
    )?;
    let servers = ListParams::default().labels(&selector(cluster));
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let nats_pods = pods.list(&servers).await?.items;
    let leftovers = nats.stateful_set.is_none() && {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
        let claims = claims.list_metadata(&servers).await?.items;
        nats.going
            || nats_pods.iter().any(|pod| is_going(&pod.metadata))
            || claims.iter().any(|claim| is_going(&claim.metadata))
    };
    let before = compiled.as_ref().map(|compiled| &compiled.manifests.cluster.spec);
    let mut values = Values::new();
    for reference in
        references(&cluster.spec).into_iter().chain(before.into_iter().flat_map(references))
    {
        if values.contains_key(reference) {
            continue;
        }
        let value = secrets
            .get_opt(&reference.name)
            .await?
            .and_then(|secret| secret.data?.remove(&reference.key).map(|value| value.0));
        values.insert(reference.clone(), value);
    }
    Ok(Found {
        compiled,
        files: data(files.filter(|secret| is_owned(&secret.metadata, cluster))),
        secrets: values,
        nats,
        nats_pods,
        leftovers,
    })
}

/// Reads what the sidecars of a cluster run until now. A text that this version doesn't take counts
/// as none.
pub async fn compiled(
    client: &Client,
    cluster: &WarpCluster,
) -> Result<Option<Compiled>, kube::Error> {
    let namespace = cluster.namespace().unwrap_or_default();
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let map = api.get_opt(&names::config_object(&namespace, &cluster.name_any())).await?;
    Ok(map.filter(|map| is_owned(&map.metadata, cluster)).and_then(|map| {
        let text = map.data?.remove(names::CONFIG_FILE)?;
        let manifests = manifest::parse(&text).ok()?;
        Some(Compiled { hash: manifest::hash(&text), manifests })
    }))
}

/// Reads what stands where a managed NATS of the cluster is, or would go.
pub async fn nats(client: &Client, cluster: &WarpCluster) -> Result<Nats, kube::Error> {
    let namespace = cluster.namespace().unwrap_or_default();
    let name = names::nats_object(&cluster.name_any());
    let stateful_sets: Api<StatefulSet> = Api::namespaced(client.clone(), &namespace);
    let services: Api<Service> = Api::namespaced(client.clone(), &namespace);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let (stateful_set, service, secret) = tokio::try_join!(
        stateful_sets.get_opt(&name),
        services.get_opt(&name),
        secrets.get_opt(&name),
    )?;
    let taken = [taken(stateful_set.as_ref()), taken(service.as_ref()), taken(secret.as_ref())];
    let going = stateful_set.as_ref().is_some_and(|set| !is_owned(&set.metadata, cluster));
    Ok(Nats {
        stateful_set: stateful_set.filter(|_| !going),
        service,
        secret: data(secret),
        taken: taken.into_iter().flatten().collect(),
        going,
    })
}

/// Whether it is the cluster's own. What an earlier cluster of the same name left is collected by
/// Kubernetes in a moment.
fn is_owned(metadata: &ObjectMeta, cluster: &WarpCluster) -> bool {
    let mut owners = metadata.owner_references.iter().flatten();
    owners.any(|owner| Some(&owner.uid) == cluster.metadata.uid.as_ref())
}

fn data(secret: Option<Secret>) -> BTreeMap<String, ByteString> {
    secret.and_then(|secret| secret.data).unwrap_or_default()
}

/// The object's kind and name, if the operator hasn't made it.
fn taken<K: Resource<DynamicType = ()>>(object: Option<&K>) -> Option<String> {
    let object = object?;
    let ours = object.labels().get(labels::MANAGED_BY).is_some_and(|by| by == names::FIELD_MANAGER);
    (!ours).then(|| format!("{} {}", K::kind(&()), object.name_any()))
}

fn selector(cluster: &WarpCluster) -> String {
    let labels = labels::of_pod(cluster, labels::NATS);
    let terms: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    terms.join(",")
}

/// Whether a server's pod or volume is on its way out, now that its StatefulSet is gone.
fn is_going(metadata: &ObjectMeta) -> bool {
    let owned = metadata.owner_references.as_ref().is_some_and(|owners| !owners.is_empty());
    owned || metadata.deletion_timestamp.is_some()
}

/// The StatefulSet as the pace of its update depends on it. `behind` are the servers whose copies
/// of the stream aren't current; where it isn't known, none counts as current.
pub fn rollout(set: &StatefulSet, pods: &[Pod], behind: Option<&[String]>) -> Present {
    let spec = set.spec.as_ref();
    let status = set.status.as_ref();
    let newest = status.and_then(|status| status.update_revision.as_ref());
    let servers = pods
        .iter()
        .filter_map(|pod| {
            let name = pod.name_any();
            let ready = pod
                .status
                .iter()
                .flat_map(|status| status.conditions.iter().flatten())
                .any(|condition| condition.type_ == "Ready" && condition.status == "True");
            Some(Server {
                ordinal: name.rsplit_once('-')?.1.parse().ok()?,
                ready: ready && pod.metadata.deletion_timestamp.is_none(),
                current: behind.is_some_and(|behind| !behind.contains(&name)),
                updated: newest == pod.labels().get("controller-revision-hash"),
            })
        })
        .collect();
    Present {
        template: set.annotations().get(TEMPLATE_HASH).cloned(),
        partition: spec
            .and_then(|spec| spec.update_strategy.as_ref()?.rolling_update.as_ref()?.partition)
            .unwrap_or(0),
        established: set.annotations().contains_key(EPOCH),
        observed: status.and_then(|status| status.observed_generation) == set.metadata.generation,
        servers,
    }
}
