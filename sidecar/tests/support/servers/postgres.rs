//! A PostgreSQL with an empty database.

use std::fs;
use std::ops::Deref;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use super::{Server, certificates, find, unprivileged};

#[derive(Debug)]
pub struct Postgres(Server);

impl Postgres {
    /// Runs one.
    pub fn start() -> Self {
        let program = program("postgres");
        let postgres = Self(Server::prepare(&program, unprivileged(), |dir, port| {
            let dir = dir.to_str().unwrap();
            let settings = [
                format!("port={port}"),
                "listen_addresses=127.0.0.1".to_owned(),
                format!("unix_socket_directories={dir}"),
                "max_connections=60".to_owned(),
                "shared_buffers=16MB".to_owned(),
                "fsync=off".to_owned(),
                "ssl=on".to_owned(),
                format!("ssl_cert_file={dir}/server.pem"),
                format!("ssl_key_file={dir}/server.key"),
            ];
            let settings = settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]);
            ["-D".to_owned(), format!("{dir}/data")].into_iter().chain(settings).collect()
        }));
        certificates(&postgres.dir);
        let data = postgres.dir.join("data");
        let mut initdb = Command::new(self::program("initdb"));
        initdb.args([
            "--no-sync",
            "--username=postgres",
            "--auth=trust",
            "--locale=C",
            "-E",
            "UTF8",
        ]);
        initdb.arg("-D").arg(&data).current_dir(&postgres.dir);
        if let Some((user, group)) = unprivileged() {
            chown(postgres.dir.join("server.key"), Some(user), Some(group)).unwrap();
            initdb.uid(user).gid(group);
        }
        let made = initdb.output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        // The user `app` has a password, and everybody else is let in.
        let hba = "host all app 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n";
        fs::write(data.join("pg_hba.conf"), hba).unwrap();
        postgres.start_again();
        postgres
    }

    /// One that the tests of a program share, each in tables of its own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Runs it again after it was killed.
    pub fn start_again(&self) {
        let ready = program("pg_isready");
        // What is left of the killed one holds the data for a moment.
        while self.dir.join("data/postmaster.pid").exists() && self.is_held() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let port = self.port.to_string();
        self.start_until(|_| {
            let asked = Command::new(&ready).args(["-q", "-h", "127.0.0.1", "-p", &port]).status();
            asked.unwrap().success()
        });
    }

    /// Whether a process works in its folder yet.
    fn is_held(&self) -> bool {
        let data = self.dir.join("data");
        fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| fs::read_link(entry.ok()?.path().join("cwd")).ok())
            .any(|folder| folder == data)
    }

    /// Its address, with the superuser and without TLS.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }
}

/// In Debian's folder for the newest version, or wherever the path leads.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut folders: Vec<String> = versions
        .filter_map(|entry| Some(entry.ok()?.path().join("bin").to_str()?.to_owned()))
        .collect();
    folders.sort_unstable_by(|one, other| other.cmp(one));
    find(name, &folders.iter().map(String::as_str).collect::<Vec<_>>())
}

impl Deref for Postgres {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}
