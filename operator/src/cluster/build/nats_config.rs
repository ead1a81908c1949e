//! The ConfigMap with the configuration of a managed NATS, and the Secret with its keys.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use warp_crds::WarpCluster;

use super::labels;
use crate::nats::config::{ROUTES_FILE, Servers};

/// The main file, within the ConfigMap.
pub const MAIN_FILE: &str = "nats.conf";

/// The ConfigMap.
pub fn config_map(cluster: &WarpCluster, servers: &Servers<'_>) -> ConfigMap {
    ConfigMap {
        metadata: labels::owned(cluster, servers.name.to_owned(), labels::NATS),
        data: Some([(MAIN_FILE.to_owned(), servers.main_file())].into()),
        ..Default::default()
    }
}

/// The Secret. Its seeds are made once; see [`crate::nats::keys::Keys::complete`].
pub fn secret(cluster: &WarpCluster, servers: &Servers<'_>) -> Secret {
    let mut data = servers.keys.data();
    data.insert(ROUTES_FILE.to_owned(), ByteString(servers.routes_file().into_bytes()));
    Secret {
        metadata: labels::owned(cluster, servers.name.to_owned(), labels::NATS),
        data: Some(data),
        type_: Some("Opaque".to_owned()),
        ..Default::default()
    }
}
