//! One reconciliation of a WarpCluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::jiff::Timestamp;
use kube::api::ObjectMeta;
use kube::runtime::controller::Action;
use kube::{Client, ResourceExt};
use warp_crds::cluster::{ManagedNats, SecretKeyRef};
use warp_crds::conditions::Observation;
use warp_crds::status::SidecarsSummary;
use warp_crds::{WarpCluster, names, quantity};

use super::apply::{ApplyError, apply, delete};
use super::build::{
    config_map, credentials, nats_config, nats_pdb, nats_services, nats_stateful_set,
};
use super::dereference::{Found, dereference, rollout};
use super::outdated::Outdated;
use super::usage::{self, Sidecar};
use super::validate::{Accepted, Nothing, Standing, managed_nats, validate};
use super::{bus, events, observe, rollout, status, touch};
use crate::context::Context;
use crate::inject::Plan;
use crate::nats::config::{Servers, headless_service};
use crate::nats::keys::{KeyError, Keys};
use crate::policy::accept::Claim;
use crate::view::Cluster;

/// The pace while nothing changes.
const STEADY: Duration = Duration::from_secs(10);
/// The pace while a sidecar is cut off from something.
const UNEASY: Duration = Duration::from_secs(3);
/// The pace while sidecars or servers are on their way.
const HURRY: Duration = Duration::from_secs(1);
/// Namespaces written to at once.
const CONCURRENCY: usize = 8;

/// Why a reconciliation failed; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object isn't of the form that this version knows.
    #[error(
        "the WarpCluster can't be read, so it is let alone; check it against the installed CustomResourceDefinition: {0}"
    )]
    Malformed(String),
    /// Reading failed.
    #[error("what the WarpCluster depends on can't be read: {0}")]
    Dereference(#[source] kube::Error),
    /// The Secret of the managed NATS is spoilt.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The configuration can't be written as text.
    #[error("{0}")]
    Unwritable(String),
    /// Writing failed.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// Deleting failed.
    #[error("what the WarpCluster doesn't need any more can't be deleted: {0}")]
    Prune(#[source] kube::Error),
    /// Writing the status failed.
    #[error("the status can't be written: {0}")]
    Status(#[source] kube::Error),
}

impl Error {
    /// For metrics and conditions.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "Malformed",
            Self::Dereference(_) => "DereferenceFailed",
            Self::Keys(_) => "KeysSpoilt",
            Self::Unwritable(_) => "ConfigUnwritable",
            Self::Apply(_) => "ApplyFailed",
            Self::Prune(_) => "PruneFailed",
            Self::Status(_) => "StatusFailed",
        }
    }
}

/// Brings one cluster's world to what it asks for, and says how it is.
pub async fn reconcile(object: Arc<Cluster>, context: Arc<Context>) -> Result<Action, Error> {
    let _running = context.running.token();
    let started = Instant::now();
    let outcome = match &object.0 {
        Ok(cluster) => Box::pin(run(cluster, &context)).await,
        Err(invalid) => Err(Error::Malformed(invalid.error.clone())),
    };
    let result = outcome.as_ref().map_or_else(Error::category, |_| "ok");
    context.metrics.reconciled("WarpCluster", result, started.elapsed());
    match (&outcome, &object.0) {
        (Ok(_), _) => context.failures.forget(&*object),
        (Err(error), Ok(cluster)) => report(cluster, error, &context).await,
        (Err(_), Err(_)) => {}
    }
    outcome
}

async fn run(cluster: &WarpCluster, context: &Context) -> Result<Action, Error> {
    if cluster.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    context.view.filled().await;
    let client = &context.client;
    let found = Box::pin(dereference(client, cluster)).await.map_err(Error::Dereference)?;
    let standing = Standing {
        compiled: found.compiled.as_ref().map(|compiled| &compiled.manifests),
        stateful_set: found.nats.stateful_set.as_ref(),
        taken: &found.nats.taken,
    };
    let accepted = match validate(cluster, claims(cluster, context), standing) {
        Ok(accepted) => accepted,
        Err(Nothing::Refused(violations)) => {
            let previous = cluster.status.clone().unwrap_or_default();
            let observations = status::refused(&previous, &violations);
            let hash = previous.config_hash.as_deref();
            write(cluster, &observations, hash, previous.sidecars, context).await?;
            return Ok(Action::requeue(STEADY));
        }
        Err(Nothing::Unwritable(error)) => return Err(Error::Unwritable(error)),
    };
    let users = users(&accepted.cluster, context);
    let (name, tenant) = (names::nats_object(&cluster.name_any()), names::tenant(cluster));
    let namespace = cluster.namespace().unwrap_or_default();
    let nats = managed_nats(&accepted.cluster);
    let keys = match nats {
        Some(_) => Some(Keys::complete(&found.nats.secret, &mut rand::rng())?),
        None => None,
    };
    let servers = nats.zip(keys.as_ref()).map(|(spec, keys)| Servers {
        name: &name,
        namespace: &namespace,
        replicas: spec.replicas,
        // Validation has read it before.
        volume: quantity::bytes(&spec.storage.size).unwrap_or_default(),
        tenant: &tenant,
        keys,
    });
    // New keys are stored before they are used anywhere.
    if let Some(servers) = &servers {
        apply(client, &nats_config::secret(&accepted.cluster, servers)).await?;
    }
    let distributed = distribute(&accepted, &found, servers.as_ref(), &users, client).await?;
    let now = Timestamp::now().as_second();
    let version = |sidecar: &Sidecar| distributed.versions.get(&sidecar.namespace);
    let news = users.sidecars.iter();
    let news = news.filter_map(|sidecar| touch::due(sidecar, version(sidecar)?, true, now));
    touch::tell(client, news.collect()).await;

    let managed = servers.as_ref().map(|servers| bus::Managed {
        stateful_set: found.nats.stateful_set.as_ref(),
        service: found.nats.service.as_ref(),
        servers,
    });
    let (bus, sidecars) = tokio::join!(
        bus::look(&accepted.cluster, managed.as_ref(), &found.secrets),
        observe::ask(&context.http, users.sidecars.clone()),
    );
    if let (Some(servers), Some(spec)) = (&servers, nats) {
        apply_nats(&accepted.cluster, servers, spec, &found, &bus, context).await?;
    }
    // Those told above, for the first time, are let be.
    let again = sidecars.iter().filter_map(|observation| {
        let version = version(&observation.sidecar)?;
        observation.sidecar.told.as_ref()?.strip_prefix(version)?;
        let current = observe::has_read(observation, &accepted.hash);
        touch::due(&observation.sidecar, version, current, now)
    });
    touch::tell(client, again.collect()).await;

    // As the webhook injects: by the cluster as it is written.
    let plan = Plan::new(cluster, &context.injection);
    let outdated = Outdated::among(&users.sidecars, &plan.hash());
    let summary = observe::summarize(&sidecars, &accepted.hash, users.missing, outdated.pods);
    context.metrics.observed(&namespace, &cluster.name_any(), &summary);
    let updating = summary.current < summary.reachable;
    if servers.is_none() && found.nats.stateful_set.is_some() && !updating {
        prune_nats(&namespace, &name, client).await.map_err(Error::Prune)?;
    }
    let observations = status::conditions(&status::Seen {
        refused: &accepted.refused,
        bus: &bus,
        servers_down: managed.map_or(0, |managed| managed.servers.replicas - managed.ready()),
        storage: &accepted.cluster.spec.storage,
        missing_secrets: &missing_secrets(&accepted.cluster, &found),
        sidecars: &sidecars,
        summary: &summary,
        outdated: &outdated,
        failed_namespaces: &distributed.failed,
    });
    let pace = pace(&bus, &summary);
    write(cluster, &observations, Some(&accepted.hash), summary, context).await?;
    Ok(Action::requeue(pace))
}

/// When to look again if nothing tells of a change before.
fn pace(bus: &bus::View, seen: &SidecarsSummary) -> Duration {
    let moving = match bus {
        bus::View::Provisioning { .. } => true,
        bus::View::Connected(stream) => !stream.behind.is_empty(),
        _ => false,
    };
    let least = seen.reachable.min(seen.bus_connected).min(seen.storage_connected);
    if moving || seen.current < seen.reachable {
        HURRY
    } else if least < seen.running {
        UNEASY
    } else {
        STEADY
    }
}

/// Who uses a cluster.
struct Users {
    sidecars: Vec<Sidecar>,
    missing: usize,
    namespaces: BTreeSet<String>,
}

fn users(cluster: &WarpCluster, context: &Context) -> Users {
    let namespace = cluster.namespace().unwrap_or_default();
    let name = cluster.name_any();
    let view = &context.view;
    let sidecars: Vec<Sidecar> = view
        .injected
        .state()
        .iter()
        .filter(|pod| usage::cluster_of(&pod.metadata) == Some((&namespace, &name)))
        .filter_map(|pod| usage::sidecar(pod))
        .collect();
    let clusters = view.clusters.state();
    let clusters: Vec<&WarpCluster> = clusters.iter().filter_map(|c| c.0.as_ref().ok()).collect();
    let homes = view.namespaces.state();
    let homes: Vec<&ObjectMeta> = homes.iter().map(|namespace| &namespace.metadata).collect();
    let asking = view.asking.state();
    let asking: Vec<&Pod> = asking.iter().map(AsRef::as_ref).collect();
    let injection = &context.injection;
    Users {
        namespaces: usage::namespaces(cluster, &sidecars, &homes, &clusters, injection),
        missing: usage::missing(cluster, &asking, &homes, &clusters, injection),
        sidecars,
    }
}

fn claims(cluster: &WarpCluster, context: &Context) -> Vec<Claim> {
    let namespace = cluster.namespace();
    let policies = context.view.policies.state_filter(|policy| policy.namespace() == namespace);
    Claim::on(&cluster.name_any(), policies.iter().map(AsRef::as_ref))
}

/// What came of handing out the configuration.
struct Distributed {
    /// Of each namespace, what its kubelets are to know.
    versions: BTreeMap<String, String>,
    /// Other namespaces than the cluster's own that couldn't be written to.
    failed: Vec<(String, String)>,
}

/// Writes configuration and credentials to every namespace that uses the cluster. One that can't
/// be written to doesn't keep the others from theirs.
async fn distribute(
    accepted: &Accepted,
    found: &Found,
    servers: Option<&Servers<'_>>,
    users: &Users,
    client: &Client,
) -> Result<Distributed, ApplyError> {
    let cluster = &accepted.cluster;
    let seed = servers.map(|servers| (servers.name, servers.keys.sidecar.seed.as_str()));
    let files = credentials::files(&cluster.spec, &found.secrets, seed, &found.files);
    let copies: Vec<(ConfigMap, Secret)> = users
        .namespaces
        .iter()
        .map(|namespace| {
            let config_map = config_map::config_map(cluster, namespace, &accepted.text);
            (config_map, credentials::secret(cluster, namespace, &files))
        })
        .collect();
    let written: Vec<(String, Result<String, ApplyError>)> = stream::iter(copies)
        .map(async |(config_map, secret)| {
            let both = tokio::try_join!(apply(client, &config_map), apply(client, &secret));
            let version = both.map(|(map, secret)| touch::version(&accepted.hash, &map, &secret));
            (config_map.namespace().unwrap_or_default(), version)
        })
        .buffer_unordered(CONCURRENCY)
        .collect()
        .await;
    let mut distributed = Distributed { versions: BTreeMap::new(), failed: Vec::new() };
    for (namespace, outcome) in written {
        match outcome {
            Ok(version) => {
                distributed.versions.insert(namespace, version);
            }
            Err(error) if cluster.namespace().as_deref() == Some(&namespace) => return Err(error),
            Err(error) => distributed.failed.push((namespace, error.to_string())),
        }
    }
    distributed.failed.sort();
    Ok(distributed)
}

async fn apply_nats(
    cluster: &WarpCluster,
    servers: &Servers<'_>,
    spec: &ManagedNats,
    found: &Found,
    bus: &bus::View,
    context: &Context,
) -> Result<(), Error> {
    let stream = match bus {
        bus::View::Connected(stream) => Some(stream),
        _ => None,
    };
    let behind = stream.map(|stream| stream.behind.as_slice());
    let standing = found.nats.stateful_set.as_ref();
    let present = standing.map(|set| rollout(set, &found.nats_pods, behind));
    let epoch = stream
        .map(|stream| &stream.epoch)
        .or_else(|| standing?.annotations().get(nats_stateful_set::EPOCH));
    let set = nats_stateful_set::stateful_set(
        cluster,
        servers,
        spec,
        &context.nats_image,
        epoch.map(String::as_str),
        |hash| rollout::partition(spec.replicas, hash, present.as_ref()),
    );
    let client = &context.client;
    let template = set.annotations().get(nats_stateful_set::TEMPLATE_HASH);
    if let (Some(present), Some(template)) = (&present, template)
        && rollout::start_over(template, present)
    {
        tracing::info!(name = servers.name, "making the NATS servers anew, which never started");
        return delete::<StatefulSet>(client, servers.namespace, servers.name)
            .await
            .map_err(Error::Prune);
    }
    let config_map = nats_config::config_map(cluster, servers);
    let pdb = nats_pdb::pdb(cluster, servers);
    let headless = nats_services::headless(cluster, servers);
    let clients = nats_services::client(cluster, servers);
    tokio::try_join!(
        apply(client, &config_map),
        apply(client, &pdb),
        apply(client, &headless),
        apply(client, &clients),
    )?;
    if !found.leftovers {
        apply(client, &set).await?;
    }
    Ok(())
}

/// Deletes the managed NATS of a cluster whose sidecars have all left it.
async fn prune_nats(namespace: &str, name: &str, client: &Client) -> Result<(), kube::Error> {
    tracing::info!(namespace, name, "deleting the managed NATS, which is no more used");
    let headless = headless_service(name);
    tokio::try_join!(
        delete::<Service>(client, namespace, name),
        delete::<Service>(client, namespace, &headless),
        delete::<PodDisruptionBudget>(client, namespace, name),
        delete::<ConfigMap>(client, namespace, name),
        delete::<Secret>(client, namespace, name),
    )?;
    // Last, since it is what tells that there is something to delete.
    delete::<StatefulSet>(client, namespace, name).await
}

fn missing_secrets(cluster: &WarpCluster, found: &Found) -> Vec<SecretKeyRef> {
    credentials::references(&cluster.spec)
        .into_iter()
        .filter(|reference| !matches!(found.secrets.get(reference), Some(Some(_))))
        .cloned()
        .collect()
}

async fn write(
    cluster: &WarpCluster,
    observations: &[Observation],
    hash: Option<&str>,
    sidecars: SidecarsSummary,
    context: &Context,
) -> Result<(), Error> {
    let next = status::next(cluster, observations, hash, sidecars, Timestamp::now());
    status::write(&context.client, cluster, &next).await.map_err(Error::Status)?;
    let before = cluster.status.as_ref().map_or(&[][..], |status| &status.conditions);
    events::tell(&context.recorder, cluster, before, &next.conditions).await;
    Ok(())
}

/// Tells of a failure in the status, if that can be written.
async fn report(cluster: &WarpCluster, error: &Error, context: &Context) {
    let previous = cluster.status.clone().unwrap_or_default();
    let observations = status::failed(cluster, error.category(), &error.to_string());
    let hash = previous.config_hash.as_deref();
    if let Err(again) = write(cluster, &observations, hash, previous.sidecars, context).await {
        tracing::debug!(error = %again, "the failure couldn't be told in the status");
    }
}
