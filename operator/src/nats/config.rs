//! The configuration of a managed NATS, as its servers read it.
//!
//! The text holds no secret: users are public keys, and the password between servers stands in a
//! file of its own that it includes. `nats-server -t` checks it before a server starts.

use serde_json::json;
use warp_crds::names;

use crate::nats::keys::Keys;

/// The port of clients.
pub const CLIENT_PORT: i32 = 4222;
/// The port between servers.
pub const ROUTE_PORT: i32 = 6222;
/// The port of the probes.
pub const MONITOR_PORT: i32 = 8222;
/// Where the volume is mounted.
pub const DATA_DIR: &str = "/data";
/// Where the process number is written.
pub const PID_FILE: &str = "/run/nats/nats.pid";
/// Where the main file is mounted.
pub const CONFIG_DIR: &str = "/etc/nats";
/// Where the Secret's [`ROUTES_FILE`] is mounted.
pub const ROUTES_DIR: &str = "/etc/nats-routes";
/// The file with the password between servers.
pub const ROUTES_FILE: &str = "routes.conf";
/// That file as the main file includes it: the server takes every path as one from
/// [`CONFIG_DIR`], also an absolute one.
const ROUTES_INCLUDE: &str = "../nats-routes/routes.conf";

/// One managed NATS.
#[derive(Clone, Debug)]
pub struct Servers<'a> {
    /// The name that its objects share, see [`names::nats_object`].
    pub name: &'a str,
    /// Their namespace.
    pub namespace: &'a str,
    /// 1 or 3.
    pub replicas: i32,
    /// Bytes of each server's volume.
    pub volume: u64,
    /// Whose subjects the sidecars use.
    pub tenant: &'a str,
    /// The users.
    pub keys: &'a Keys,
}

/// See [`Servers::headless_service`].
pub fn headless_service(name: &str) -> String {
    format!("{name}-headless")
}

impl Servers<'_> {
    /// The headless Service that gives each server its address.
    pub fn headless_service(&self) -> String {
        headless_service(self.name)
    }

    /// The most that the invalidations may take: half of the volume, which leaves room for the
    /// registers, for files that are being replaced and for the replication's log.
    pub fn stream_bytes(&self) -> i64 {
        i64::try_from(self.volume / 2).unwrap_or(i64::MAX)
    }

    /// The main file.
    pub fn main_file(&self) -> String {
        let store = json!({
            "store_dir": DATA_DIR,
            "max_file_store": self.volume / 5 * 4,
            "max_memory_store": 1 << 20,
            // An acknowledged invalidation must survive the loss of power of every server.
            "sync_interval": "always",
        });
        let mut text = format!(
            "# Written by warp-operator; edits are undone.\n\
             port: {CLIENT_PORT}\n\
             http_port: {MONITOR_PORT}\n\
             pid_file: {PID_FILE:?}\n\
             lame_duck_duration: \"30s\"\n\
             lame_duck_grace_period: \"5s\"\n\
             jetstream: {store}\n\
             accounts: {accounts}\n\
             system_account: \"SYS\"\n",
            accounts = self.accounts(),
        );
        // A server alone with a cluster block would wait for a quorum for ever.
        if self.replicas > 1 {
            text.push_str(&format!(
                "cluster: {{ name: {:?}, port: {ROUTE_PORT}, include {ROUTES_INCLUDE:?} }}\n",
                self.name
            ));
        }
        text
    }

    fn accounts(&self) -> serde_json::Value {
        let invalidations = names::invalidation_stream(self.tenant);
        let registers = names::register_stream(self.tenant);
        let api = |what: &str, stream: &str| format!("$JS.API.STREAM.{what}.{stream}");
        let direct_get = |stream: &str| format!("$JS.API.DIRECT.GET.{stream}");
        let below = |subject: String| format!("{subject}.>");
        let administered: Vec<_> = [&invalidations, &registers]
            .into_iter()
            .flat_map(|stream| ["INFO", "CREATE", "UPDATE"].map(|what| api(what, stream)))
            .collect();
        json!({
            "SYS": {"users": [{"nkey": self.keys.system.public}]},
            "WARP": {
                "jetstream": "enabled",
                "users": [
                    {
                        "nkey": self.keys.operator.public,
                        "permissions": {
                            "publish": administered,
                            "subscribe": [below(names::operator_inbox(self.tenant))],
                        },
                    },
                    {
                        "nkey": self.keys.sidecar.public,
                        // What is republished can't be published, lest a sidecar skips the stream.
                        "permissions": {
                            "publish": [
                                names::invalidation_subject(self.tenant),
                                api("INFO", &invalidations),
                                names::message_subject(self.tenant),
                                direct_get(&invalidations),
                                below(names::register_subject(self.tenant)),
                                api("INFO", &registers),
                                api("MSG.GET", &registers),
                                direct_get(&registers),
                            ],
                            "subscribe": [
                                names::republish_subject(self.tenant),
                                below(names::register_republish_subject(self.tenant)),
                                below(names::sidecar_inbox(self.tenant)),
                                names::message_subject(self.tenant),
                            ],
                        },
                    },
                ],
            },
        })
    }

    /// The file that [`Self::main_file`] includes: who the other servers are and how they prove it.
    pub fn routes_file(&self) -> String {
        let password = &self.keys.route_password;
        let routes: Vec<String> = (0..self.replicas)
            .map(|ordinal| {
                format!(
                    "nats-route://route:{password}@{name}-{ordinal}.{service}.{namespace}.svc:{ROUTE_PORT}",
                    name = self.name,
                    service = self.headless_service(),
                    namespace = self.namespace,
                )
            })
            .collect();
        let authorization = json!({"user": "route", "password": password, "timeout": 5});
        format!("authorization: {authorization}\nroutes: {}\n", json!(routes))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::process::Command;

    use super::*;
    use crate::nats::server;

    fn servers(keys: &Keys, replicas: i32) -> Servers<'_> {
        Servers {
            name: "shop-nats",
            namespace: "prod",
            replicas,
            volume: 1 << 30,
            tenant: "prod_shop",
            keys,
        }
    }

    #[test]
    fn the_server_accepts_it_at_both_sizes() {
        let binary = server::binary();
        let keys = Keys::complete(&BTreeMap::new(), &mut rand::rng()).unwrap();
        for replicas in [1, 3] {
            let folder = server::Folder::new();
            let servers = servers(&keys, replicas);
            let below = |path: &str| folder.path.join(path.trim_start_matches('/'));
            for made in [CONFIG_DIR, ROUTES_DIR] {
                std::fs::create_dir_all(below(made)).unwrap();
            }
            std::fs::write(below(ROUTES_DIR).join(ROUTES_FILE), servers.routes_file()).unwrap();
            let main = below(CONFIG_DIR).join("nats.conf");
            let text = servers.main_file();
            assert_eq!(text.contains("cluster:"), replicas == 3);
            std::fs::write(&main, text).unwrap();
            let checked = Command::new(&binary).arg("-t").arg("-c").arg(&main).output().unwrap();
            assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        }
    }

    #[test]
    fn no_secret_stands_in_the_main_file() {
        let keys = Keys::complete(&BTreeMap::new(), &mut rand::rng()).unwrap();
        let text = servers(&keys, 3).main_file();
        for secret in
            [&keys.system.seed, &keys.operator.seed, &keys.sidecar.seed, &keys.route_password]
        {
            assert!(!text.contains(secret.as_str()));
        }
        assert!(text.contains(&keys.sidecar.public));
    }

    #[test]
    fn the_streams_fit_into_the_store() {
        let keys = Keys::complete(&BTreeMap::new(), &mut rand::rng()).unwrap();
        let servers = servers(&keys, 1);
        assert_eq!(servers.stream_bytes(), 1 << 29);
        assert!(
            servers.main_file().contains(&format!("\"max_file_store\":{}", (1u64 << 30) / 5 * 4))
        );
    }
}
