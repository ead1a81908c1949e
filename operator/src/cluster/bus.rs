//! What the operator sees of a cluster's bus, and keeping its stream as it must be.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Service;
use warp_crds::cluster::{Bus, ExternalNats, NatsBus, SecretKeyRef};
use warp_crds::nats::Credentials;
use warp_crds::{WarpCluster, names};

use super::build::credentials::Values;
use crate::nats::config::{CLIENT_PORT, Servers};
use crate::nats::connection::connect;
use crate::nats::stream::{self, Found, Limits, Wanted};

/// The bus as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// There is none: each sidecar is on its own.
    Memory,
    /// Too few servers run yet.
    Provisioning {
        /// Servers that are ready.
        ready: i32,
        /// Servers there are to be.
        wanted: i32,
    },
    /// Its credentials aren't there.
    NoCredentials(SecretKeyRef),
    /// It can't be reached, in the words of an error.
    Unreachable(String),
    /// It can be reached, and the stream isn't as it must be, in the words of an error.
    NoStream(String),
    /// It works.
    Connected(Found),
}

/// A managed NATS.
#[derive(Debug)]
pub struct Managed<'a> {
    /// The StatefulSet as it stands.
    pub stateful_set: Option<&'a StatefulSet>,
    /// The Service of its clients as it stands.
    pub service: Option<&'a Service>,
    /// What is asked for.
    pub servers: &'a Servers<'a>,
}

impl Managed<'_> {
    /// Servers that are ready.
    pub fn ready(&self) -> i32 {
        let status = self.stateful_set.and_then(|set| set.status.as_ref());
        status.and_then(|status| status.ready_replicas).unwrap_or(0)
    }
}

/// Looks at the bus, and makes its stream what it must be.
pub async fn look(cluster: &WarpCluster, managed: Option<&Managed<'_>>, secrets: &Values) -> View {
    match (&cluster.spec.bus, managed) {
        (Bus::Nats(NatsBus::Managed(_)), Some(managed)) => ours(cluster, managed).await,
        (Bus::Nats(NatsBus::External(external)), _) => theirs(cluster, external, secrets).await,
        // The other kinds are refused by validation.
        _ => View::Memory,
    }
}

async fn ours(cluster: &WarpCluster, managed: &Managed<'_>) -> View {
    let (ready, wanted) = (managed.ready(), managed.servers.replicas);
    let address = managed.service.and_then(|service| service.spec.as_ref()?.cluster_ip.as_deref());
    let (Some(address), true) = (address, ready > wanted / 2) else {
        return View::Provisioning { ready, wanted };
    };
    // By its address, so that this doesn't hang on the cluster's DNS.
    let url = if address.contains(':') {
        format!("nats://[{address}]:{CLIENT_PORT}")
    } else {
        format!("nats://{address}:{CLIENT_PORT}")
    };
    let limits = Limits {
        replicas: u8::try_from(wanted).unwrap_or(1),
        bytes: managed.servers.stream_bytes(),
    };
    let credentials = Credentials::Seed(managed.servers.keys.operator.seed.clone());
    provide(cluster, &[url], credentials, Some(limits)).await
}

async fn theirs(cluster: &WarpCluster, external: &ExternalNats, secrets: &Values) -> View {
    let credentials = match &external.credentials_secret_ref {
        None => Credentials::None,
        Some(reference) => match secrets.get(reference) {
            Some(Some(text)) => match Credentials::read(text) {
                Ok(credentials) => credentials,
                Err(error) => return View::Unreachable(error.to_string()),
            },
            _ => return View::NoCredentials(reference.clone()),
        },
    };
    provide(cluster, &external.urls, credentials, None).await
}

async fn provide(
    cluster: &WarpCluster,
    urls: &[String],
    credentials: Credentials,
    limits: Option<Limits>,
) -> View {
    let wanted = Wanted { tenant: names::tenant(cluster), limits };
    let client = match connect(urls, credentials, &wanted.tenant).await {
        Ok(client) => client,
        Err(error) => return View::Unreachable(error.to_string()),
    };
    match stream::ensure(&client, &wanted).await {
        Ok(found) => View::Connected(found),
        Err(error) => View::NoStream(error.to_string()),
    }
}
