//! The servers that are measured: what each is called, and how it is found and started. All get one
//! core, a bound on their memory with eviction on, and nothing on disk.

use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::failure::{Outcome, write};
use crate::generator::{Endpoint, Protocol};

/// See the module. The first is what the others are compared with.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Peer {
    Redis,
    Valkey,
    Memcached,
    Pogocache,
    Warp,
    /// Warp whose keys no policy matches.
    WarpUnmatched,
}

/// What every ratio is a ratio to.
pub(crate) const BASELINE: Peer = Peer::Redis;

/// How a server is to be started.
#[derive(Debug)]
pub(crate) struct Wish<'a> {
    pub(crate) program: &'a Path,
    /// An empty folder for its files.
    pub(crate) folder: &'a Path,
    /// Where it is to listen at the least.
    pub(crate) endpoint: &'a Endpoint,
    /// Ports that it may use besides.
    pub(crate) free_ports: [u16; 2],
    pub(crate) memory_mib: u32,
}

impl Peer {
    pub(crate) const ALL: [Self; 6] = [
        Self::Redis,
        Self::Valkey,
        Self::Memcached,
        Self::Pogocache,
        Self::Warp,
        Self::WarpUnmatched,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Redis => "Redis",
            Self::Valkey => "Valkey",
            Self::Memcached => "Memcached",
            Self::Pogocache => "Pogocache",
            Self::Warp => "Warp",
            Self::WarpUnmatched => "Warp, no policy",
        }
    }

    pub(crate) const fn program(self) -> &'static str {
        match self {
            Self::Redis => "redis-server",
            Self::Valkey => "valkey-server",
            Self::Memcached => "memcached",
            Self::Pogocache => "pogocache",
            Self::Warp | Self::WarpUnmatched => "warp-sidecar",
        }
    }

    pub(crate) const fn protocol(self) -> Protocol {
        match self {
            Self::Memcached => Protocol::Memcached,
            _ => Protocol::Resp,
        }
    }

    /// Its program: the sidecar is given, the others are looked for in PATH.
    pub(crate) fn find(self, sidecar: &Path) -> Option<PathBuf> {
        if matches!(self, Self::Warp | Self::WarpUnmatched) {
            return sidecar.exists().then(|| sidecar.to_owned());
        }
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|folder| folder.join(self.program())).find(|f| f.exists())
    }

    /// The command that starts it.
    pub(crate) fn command(self, wish: &Wish<'_>) -> Outcome<Command> {
        let mut command = Command::new(wish.program);
        command.current_dir(wish.folder);
        match self {
            Self::Redis | Self::Valkey => command.args(redis(wish)),
            Self::Memcached => command.args(memcached(wish)),
            Self::Pogocache => command.args(pogocache(wish)),
            Self::Warp | Self::WarpUnmatched => {
                let file = wish.folder.join("warp.yaml");
                write(
                    &file,
                    &manifests(wish, if self == Self::Warp { "key:*" } else { "other:*" }),
                )?;
                command.arg("run").arg("-f").arg(file)
            }
        };
        Ok(command)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Strings and paths as one list.
fn arguments<const N: usize>(list: [&dyn AsRef<std::ffi::OsStr>; N]) -> Vec<OsString> {
    list.into_iter().map(|argument| argument.as_ref().to_owned()).collect()
}

fn redis(wish: &Wish<'_>) -> Vec<OsString> {
    let memory = format!("{}mb", wish.memory_mib);
    let mut list = arguments([
        &"--bind",
        &"127.0.0.1",
        &"--save",
        &"",
        &"--appendonly",
        &"no",
        &"--maxmemory",
        &memory,
        &"--maxmemory-policy",
        &"allkeys-lru",
    ]);
    list.extend(match wish.endpoint {
        Endpoint::Tcp(port) => arguments([&"--port", &port.to_string()]),
        Endpoint::Unix(path) => arguments([&"--port", &"0", &"--unixsocket", path]),
    });
    list
}

fn memcached(wish: &Wish<'_>) -> Vec<OsString> {
    let mut list = arguments([
        &"--user=root",
        &"--threads=1",
        &"--udp-port=0",
        &format!("--memory-limit={}", wish.memory_mib),
    ]);
    list.extend(match wish.endpoint {
        Endpoint::Tcp(port) => arguments([&"--listen=127.0.0.1", &format!("--port={port}")]),
        Endpoint::Unix(path) => arguments([&"--unix-socket", path]),
    });
    list
}

fn pogocache(wish: &Wish<'_>) -> Vec<OsString> {
    let memory = format!("{}mb", wish.memory_mib);
    let mut list = arguments([
        &"--threads",
        &"1",
        &"--maxmemory",
        &memory,
        &"--evict",
        &"yes",
        &"-h",
        &"127.0.0.1",
    ]);
    list.extend(match wish.endpoint {
        Endpoint::Tcp(port) => arguments([&"-p", &port.to_string()]),
        Endpoint::Unix(path) => arguments([&"-p", &wish.free_ports[0].to_string(), &"-s", path]),
    });
    list
}

/// A cluster of one sidecar, whose policy gives keys that match `pattern` a TTL.
fn manifests(wish: &Wish<'_>, pattern: &str) -> String {
    let (port, socket) = match wish.endpoint {
        Endpoint::Tcp(port) => (*port, None),
        Endpoint::Unix(path) => (wish.free_ports[0], Some(path)),
    };
    let mut sidecar = format!(
        "port: {port}, metricsPort: {}, memoryLimit: {}Mi",
        wish.free_ports[1], wish.memory_mib
    );
    if let Some(path) = socket {
        let _ = write!(sidecar, ", unixSocket: {}", path.display());
    }
    format!(
        "apiVersion: warpcache.dev/v1alpha1
kind: WarpCluster
metadata: {{name: bench}}
spec:
  bus: {{memory: {{}}}}
  storage: {{memory: {{whenFull: Evict}}}}
  sidecar: {{{sidecar}}}
  defaults: {{ttl: 1h}}
---
apiVersion: warpcache.dev/v1alpha1
kind: WarpPolicy
metadata: {{name: keys}}
spec: {{clusterRef: {{name: bench}}, match: ['{pattern}'], ttl: 1h}}
"
    )
}

/// What a program says of its version.
pub(crate) fn version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    let said = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    find_version(&said).unwrap_or("unknown").to_owned()
}

/// The first word that is a number with a point, `7.0.15` of `v=7.0.15`.
fn find_version(said: &str) -> Option<&str> {
    said.split_whitespace()
        .map(|word| word.trim_start_matches("v=").trim_start_matches('v').trim_end_matches(','))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_the_programs_say() {
        let redis = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64";
        assert_eq!(find_version(redis), Some("7.0.15"));
        assert_eq!(find_version("memcached 1.6.18"), Some("1.6.18"));
        assert_eq!(find_version("warp-sidecar 0.1.0"), Some("0.1.0"));
        assert_eq!(find_version("nothing"), None);
    }

    #[test]
    fn warp_listens_at_a_socket_where_one_is_wished_for() {
        let endpoint = Endpoint::Unix("/tmp/b/s".into());
        let wish = Wish {
            program: Path::new("warp-sidecar"),
            folder: Path::new("/tmp/b"),
            endpoint: &endpoint,
            free_ports: [1, 2],
            memory_mib: 20,
        };
        let text = manifests(&wish, "key:*");
        assert!(
            text.contains("{port: 1, metricsPort: 2, memoryLimit: 20Mi, unixSocket: /tmp/b/s}"),
            "{text}"
        );
    }
}
