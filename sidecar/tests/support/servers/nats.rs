//! A NATS with JetStream that keeps its data over a `kill -9`, alone or in a cluster.

use std::env;
use std::fs;
use std::io::Read;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use super::{Server, free_port};

#[derive(Debug)]
pub struct Nats(Server);

impl Nats {
    /// Runs one.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// Runs one with more lines in its configuration.
    pub fn start_with(more: &str) -> Self {
        let nats = Self::prepare("always", more);
        nats.start_again();
        nats
    }

    /// Runs one as it comes: what was acknowledged may be lost with the machine, for 2 minutes.
    pub fn start_unsynced() -> Self {
        let nats = Self::prepare("2m", "");
        nats.start_again();
        nats
    }

    /// One that doesn't run yet.
    pub fn stopped() -> Self {
        Self::prepare("always", "")
    }

    fn prepare(sync: &str, more: &str) -> Self {
        Self(Server::prepare(&program(), None, |dir, port| {
            fs::write(dir.join("nats.conf"), configuration(dir, port, sync, more)).unwrap();
            vec!["-c".to_owned(), dir.join("nats.conf").display().to_string()]
        }))
    }

    /// Runs three that know each other.
    pub fn cluster() -> [Self; 3] {
        let routes = [free_port(), free_port(), free_port()];
        let urls = routes.map(|port| format!("\"nats://127.0.0.1:{port}\"")).join(", ");
        let servers = routes.map(|port| {
            Self::prepare(
                "always",
                &format!(
                    "server_name: n{port}\n\
                 cluster {{ name: c, listen: \"127.0.0.1:{port}\", routes: [{urls}] }}\n"
                ),
            )
        });
        servers.iter().for_each(Self::start_again);
        servers
    }

    /// Runs it, or runs it again after it was killed.
    pub fn start_again(&self) {
        self.start_until(|server| {
            let Some(mut stream) = server.connect() else { return false };
            let mut greeting = [0; 4];
            stream.read_exact(&mut greeting).is_ok() && &greeting == b"INFO"
        });
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Whether `name` is its name in its cluster.
    pub fn is_called(&self, name: &str) -> bool {
        let configuration = fs::read_to_string(self.dir.join("nats.conf")).unwrap();
        configuration.contains(&format!("server_name: {name}\n"))
    }

    /// Where its streams are.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Shuts it down as a rolling update does: clients are told first.
    pub fn retire(&self) {
        let pid = fs::read_to_string(self.dir.join("pid")).unwrap();
        let told = Command::new("kill").args(["-USR2", pid.trim()]).status().unwrap();
        assert!(told.success());
    }
}

impl Deref for Nats {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

fn configuration(dir: &Path, port: u16, sync: &str, more: &str) -> String {
    let dir = dir.display();
    format!(
        "listen: \"127.0.0.1:{port}\"\n\
         pid_file: \"{dir}/pid\"\n\
         lame_duck_grace_period: 100ms\n\
         lame_duck_duration: 30s\n\
         jetstream {{ store_dir: \"{dir}/data\", sync_interval: {sync}, max_file_store: 4GB }}\n\
         {more}"
    )
}

/// The one that is named, or installed, or the newest that e2e/tools/build.sh has built.
fn program() -> PathBuf {
    if let Some(named) = env::var_os("WARP_NATS_SERVER") {
        return named.into();
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let installed = env::split_paths(&path).map(|folder| folder.join("nats-server"));
    if let Some(installed) = installed.into_iter().find(|program| program.exists()) {
        return installed;
    }
    let built = cache().join("bin").read_dir().into_iter().flatten().flatten();
    let newest = built
        .map(|key| key.path().join("nats-server"))
        .filter_map(|program| Some((program.metadata().ok()?.modified().ok()?, program)))
        .max_by_key(|(modified, _): &(SystemTime, PathBuf)| *modified);
    newest.expect("there is no nats-server, and this test needs it: run e2e/tools/build.sh nats").1
}

/// As e2e/tools/build.sh has it.
fn cache() -> PathBuf {
    let variable = |name| env::var_os(name).map(PathBuf::from);
    variable("WARP_CACHE_DIR").unwrap_or_else(|| {
        variable("XDG_CACHE_HOME")
            .unwrap_or_else(|| variable("HOME").unwrap_or_default().join(".cache"))
            .join("warp")
    })
}
