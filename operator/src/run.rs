//! The operator's life: what is started, what depends on what, and the order of the end.

use std::future::Future;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Api, Client, Resource};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cli::{Place, Run};
use crate::cluster::build::nats_stateful_set::Image;
use crate::health::{self, Ready};
use crate::leader::Leader;
use crate::metrics::Metrics;
use crate::{certs, inject, lease, webhook, workload};

/// How long the parts may take to end.
const FAREWELL: Duration = Duration::from_secs(20);

/// Why the operator ended, or couldn't begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A metric was registered twice.
    #[error("the metrics can't be registered: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The port of metrics and health is taken.
    #[error(
        "port {port} for metrics and health can't be opened; choose another with --metrics-port: {source}"
    )]
    Listen {
        /// The port.
        port: u16,
        /// The system's words.
        source: std::io::Error,
    },
    /// The webhook ended.
    #[error(transparent)]
    Webhook(#[from] webhook::Error),
    /// A part that lives as long as the operator ended by itself.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
    /// Signals can't be taken.
    #[error("signals can't be taken: {0}")]
    Signals(#[source] std::io::Error),
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(client: Client, settings: Run) -> Result<(), Error> {
    let metrics = Metrics::new()?;
    let ready = Ready::default();
    let owner = owner(&client, &settings.place).await;
    let injection = inject::Settings {
        operator_namespace: settings.place.operator_namespace.clone(),
        excluded_namespaces: settings.excluded_namespaces.clone(),
        sidecar_image: settings.sidecar_image.clone(),
        image_pull_policy: settings.image_pull_policy.clone(),
    };
    let leader = Leader {
        client: client.clone(),
        metrics: metrics.clone(),
        identity: settings.place.pod_name.clone(),
        injection: injection.clone(),
        nats_image: Image {
            name: settings.nats_image.clone(),
            pull_policy: settings.image_pull_policy.clone(),
        },
        watching: ready.watches.clone(),
        running: TaskTracker::new(),
    };
    let lease = lease_settings(&settings.place, owner.clone());
    let resolver = certs::Resolver::default();
    let mut webhook = webhook::State::new(
        client.clone(),
        resolver.clone(),
        settings.webhook_port,
        injection.clone(),
        metrics.registry(),
    )?;
    webhook.ready = ready.webhook.clone();
    let certs = certs::Settings {
        mode: settings.certs_mode,
        namespace: settings.place.operator_namespace.clone(),
        secret: settings.certs_secret.clone(),
        owner,
        service: settings.webhook_service.clone(),
        webhook_configuration: settings.webhook_configuration.clone(),
        cert_lifetime: settings.cert_lifetime,
        ca_lifetime: settings.ca_lifetime,
        resolver,
    };
    let port = settings.metrics_port;
    let listener = TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))
        .await
        .map_err(|source| Error::Listen { port, source })?;
    tracing::info!(
        namespace = settings.place.operator_namespace,
        pod = settings.place.pod_name,
        version = env!("CARGO_PKG_VERSION"),
        "starting"
    );

    // Writers end first, then the lease is given back, and whoever looks at health sees all of it.
    let (work, elections, looks) =
        (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    let (leads, leadership) = watch::channel(false);
    let gauge = metrics.leader.clone();
    let health = tokio::spawn(health::serve(listener, metrics, ready.clone(), looks.clone()));
    let elected = tokio::spawn(lease::run(
        client.clone(),
        lease,
        leads,
        ready.watches.clone(),
        elections.clone(),
    ));
    let mut parts = tokio::task::JoinSet::new();
    parts.spawn(whole(lead(leader, leadership.clone(), gauge, work.clone())));
    if settings.disable_webhook {
        tracing::info!("the webhook is disabled; no pod is injected");
        ready.webhook.store(true, Ordering::Relaxed);
    } else {
        parts.spawn(whole(certs::run(client.clone(), certs, leadership.clone(), work.clone())));
        let tending = workload::run(client.clone(), injection.clone(), leadership, work.clone());
        parts.spawn(whole(tending));
        let work = work.clone();
        parts.spawn(async move { Ok(Box::pin(webhook::run(webhook, work)).await?) });
    }

    let mut outcome = tokio::select! {
        stopped = stop_asked() => stopped,
        Some(ended) = parts.join_next() => match ended {
            Ok(Err(error)) => Err(error),
            _ => Err(Error::Ended("a part of the operator")),
        },
    };
    tracing::info!("stopping");
    work.cancel();
    let rest = async {
        let mut outcome = Ok(());
        while let Some(ended) = parts.join_next().await {
            outcome = outcome.and(ended.unwrap_or(Err(Error::Ended("a part of the operator"))));
        }
        outcome
    };
    if let Ok(ended) = timeout(FAREWELL, rest).await {
        outcome = outcome.and(ended);
    } else {
        tracing::warn!("not everything ended in time");
    }
    parts.abort_all();
    elections.cancel();
    // Both end by themselves; what they say then is of no consequence.
    let _ = elected.await;
    looks.cancel();
    let _ = health.await;
    outcome
}

/// The Lease of the operator at `place`.
pub fn lease_settings(place: &Place, owner: Option<OwnerReference>) -> lease::Settings {
    lease::Settings {
        namespace: place.operator_namespace.clone(),
        identity: place.pod_name.clone(),
        owner,
    }
}

async fn whole(part: impl Future<Output = ()>) -> Result<(), Error> {
    part.await;
    Ok(())
}

/// Leads whenever `leadership` says so, and stops, in the middle of what it does, when it doesn't:
/// another may lead already.
async fn lead(
    leader: Leader,
    mut leadership: watch::Receiver<bool>,
    gauge: prometheus::IntGauge,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            elected = leadership.wait_for(|leads| *leads) => if elected.is_err() { return },
        }
        gauge.set(1);
        tokio::select! {
            () = stop.cancelled() => {}
            _ = leadership.wait_for(|leads| !*leads) => {}
            () = leader.lead() => {}
        }
        leader.stopped().await;
        gauge.set(0);
    }
}

/// What the operator keeps in its namespace goes with its Deployment.
async fn owner(client: &Client, place: &Place) -> Option<OwnerReference> {
    let name = place.deployment.as_ref()?;
    let api: Api<Deployment> = Api::namespaced(client.clone(), &place.operator_namespace);
    match api.get(name).await {
        Ok(deployment) => deployment.owner_ref(&()),
        Err(error) => {
            tracing::warn!(deployment = name, %error, "the operator's own Deployment can't be read; its Lease and Secret will have no owner");
            None
        }
    }
}

async fn stop_asked() -> Result<(), Error> {
    let mut term = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut int = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}
