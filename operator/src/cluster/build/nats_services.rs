//! The two Services of a managed NATS: one for its clients, and a headless one that gives each
//! server its address, also before it is ready, so that the servers find each other.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use warp_crds::WarpCluster;

use super::labels;
use crate::nats::config::{CLIENT_PORT, MONITOR_PORT, ROUTE_PORT, Servers};

/// The Service that clients use, see [`warp_crds::names::nats_url`].
pub fn client(cluster: &WarpCluster, servers: &Servers<'_>) -> Service {
    service(
        cluster,
        servers.name.to_owned(),
        ServiceSpec { ports: Some(vec![port("client", CLIENT_PORT)]), ..Default::default() },
    )
}

/// The headless Service.
pub fn headless(cluster: &WarpCluster, servers: &Servers<'_>) -> Service {
    let ports = [("client", CLIENT_PORT), ("route", ROUTE_PORT), ("monitor", MONITOR_PORT)];
    service(
        cluster,
        servers.headless_service(),
        ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            ports: Some(ports.map(|(name, number)| port(name, number)).into()),
            ..Default::default()
        },
    )
}

fn service(cluster: &WarpCluster, name: String, spec: ServiceSpec) -> Service {
    Service {
        metadata: labels::owned(cluster, name, labels::NATS),
        spec: Some(ServiceSpec { selector: Some(labels::of_pod(cluster, labels::NATS)), ..spec }),
        ..Default::default()
    }
}

fn port(name: &str, number: i32) -> ServicePort {
    // A prefix of the protocol would make service meshes and proxies guess; NATS' server speaks first.
    ServicePort {
        name: Some(name.to_owned()),
        port: number,
        app_protocol: Some("tcp".to_owned()),
        ..Default::default()
    }
}
