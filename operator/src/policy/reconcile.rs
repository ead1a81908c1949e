//! One reconciliation of a WarpPolicy: its status. What the sidecars get is written by the
//! controller of their cluster.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use warp_crds::conditions::Observation;
use warp_crds::validation::Reason;
use warp_crds::{WarpCluster, WarpClusterSpec, WarpPolicy};

use super::accept::{Claim, accept};
use super::status::{self, Programmed};
use crate::cluster::dereference::{self, Compiled};
use crate::cluster::events;
use crate::cluster::validate::{Nothing, Standing, effective};
use crate::context::Context;
use crate::view::{Cluster, Policy};

/// The pace while nothing changes; what changes in the cluster's status comes by itself.
const STEADY: Duration = Duration::from_secs(30);

/// Why a reconciliation failed; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object isn't of the form that this version knows.
    #[error(
        "the WarpPolicy can't be read, so it is let alone; check it against the installed CustomResourceDefinition: {0}"
    )]
    Malformed(String),
    /// Reading failed.
    #[error("what the WarpPolicy depends on can't be read: {0}")]
    Dereference(#[source] kube::Error),
    /// Writing the status failed.
    #[error("the status can't be written: {0}")]
    Status(#[source] kube::Error),
}

impl Error {
    /// For metrics.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "Malformed",
            Self::Dereference(_) => "DereferenceFailed",
            Self::Status(_) => "StatusFailed",
        }
    }
}

/// Says in the policy's status what became of it.
pub async fn reconcile(object: Arc<Policy>, context: Arc<Context>) -> Result<Action, Error> {
    let _running = context.running.token();
    let started = Instant::now();
    let outcome = match &object.0 {
        Ok(policy) => run(policy, &context).await,
        Err(invalid) => Err(Error::Malformed(invalid.error.clone())),
    };
    let result = outcome.as_ref().map_or_else(Error::category, |()| "ok");
    context.metrics.reconciled("WarpPolicy", result, started.elapsed());
    outcome?;
    context.failures.forget(&*object);
    Ok(Action::requeue(STEADY))
}

async fn run(policy: &WarpPolicy, context: &Context) -> Result<(), Error> {
    if policy.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    context.view.filled().await;
    let observations = judge(policy, context).await?;
    if let Some(next) = status::next(policy, &observations, Timestamp::now()) {
        status::write(&context.client, policy, &next).await.map_err(Error::Status)?;
        let before = policy.status.as_ref().map_or(&[][..], |status| &status.conditions);
        events::tell(&context.recorder, policy, before, &next.conditions).await;
    }
    Ok(())
}

async fn judge(policy: &WarpPolicy, context: &Context) -> Result<Vec<Observation>, Error> {
    let namespace = policy.namespace().unwrap_or_default();
    let name = &policy.spec.cluster_ref.name;
    let reference = ObjectRef::<Cluster>::new(name).within(&namespace);
    let cluster = context.view.clusters.get(&reference);
    let cluster = match cluster.as_ref().map(|guard| &guard.0) {
        Some(Ok(cluster)) => cluster,
        Some(Err(_)) => {
            let message = format!("WarpCluster {name} can't be read; mend it");
            return Ok(status::without_cluster(name, Reason::Invalid, &message));
        }
        None => {
            let message = format!(
                "there is no WarpCluster {name} in namespace {namespace}; create it, or correct spec.clusterRef.name"
            );
            return Ok(status::without_cluster(name, Reason::NotFound, &message));
        }
    };
    let compiled =
        dereference::compiled(&context.client, cluster).await.map_err(Error::Dereference)?;
    let holding = match holding(cluster, compiled.as_ref(), context).await? {
        Ok(holding) => holding,
        Err(why) => {
            let message = format!("WarpCluster {name} isn't accepted, and never was: {why}");
            return Ok(status::without_cluster(name, Reason::Invalid, &message));
        }
    };
    let programmed = compiled.map_or_else(Programmed::default, |compiled| {
        let policies = compiled.manifests.policies.into_iter();
        Programmed {
            hash: Some(compiled.hash),
            policies: policies.map(|policy| (policy.name_any(), policy.spec)).collect(),
        }
    });
    let policies = context.view.policies.state_filter(|p| p.namespace() == policy.namespace());
    let claims = Claim::on(name, policies.iter().map(AsRef::as_ref));
    let verdicts = accept(claims, &holding, &programmed.policies);
    let verdict = verdicts.iter().find(|verdict| verdict.name == policy.name_any());
    // It was deleted a moment ago.
    let Some(verdict) = verdict else { return Ok(Vec::new()) };
    let status = cluster.status.clone().unwrap_or_default();
    Ok(status::conditions(&policy.spec, verdict, &programmed, &status))
}

/// The spec of the cluster that holds: as it is, or as it was accepted last, as its own
/// controller judges it. Without either, why it isn't accepted.
async fn holding(
    cluster: &WarpCluster,
    compiled: Option<&Compiled>,
    context: &Context,
) -> Result<Result<WarpClusterSpec, String>, Error> {
    let compiled = compiled.map(|compiled| &compiled.manifests);
    if compiled.is_some_and(|compiled| compiled.cluster.spec == cluster.spec) {
        return Ok(Ok(cluster.spec.clone()));
    }
    let nats = dereference::nats(&context.client, cluster).await.map_err(Error::Dereference)?;
    let standing =
        Standing { compiled, stateful_set: nats.stateful_set.as_ref(), taken: &nats.taken };
    Ok(match effective(cluster, standing) {
        Ok((effective, _)) => Ok(effective.spec),
        Err(Nothing::Refused(violations)) => {
            Err(violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        }
        Err(unwritable @ Nothing::Unwritable(_)) => Err(unwritable.to_string()),
    })
}
