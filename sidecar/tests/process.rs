//! The program as a user runs it: its options, its files, its signals.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use servers::redis::Redis;
use warp_crds::manifest;

#[path = "support/servers/mod.rs"]
mod servers;

const PROGRAM: &str = env!("CARGO_BIN_EXE_warp-sidecar");

/// A running sidecar with files of its own; killed when it goes out of scope.
struct Sidecar {
    child: Child,
    folder: PathBuf,
    port: u16,
    metrics_port: u16,
}

impl Sidecar {
    fn start(name: &str, options: &[&str], ttl: Option<&str>) -> Self {
        let folder =
            std::env::temp_dir().join(format!("warp-process-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (port, metrics_port) = (free_port(), free_port());
        if let Some(ttl) = ttl {
            std::fs::write(folder.join("warp.yaml"), manifest_of(port, metrics_port, ttl)).unwrap();
        }
        let child = Command::new(PROGRAM)
            .args(["run", "-f", folder.join("warp.yaml").to_str().unwrap()])
            .args(["--metrics-address", &format!("127.0.0.1:{metrics_port}")])
            .args(options)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, folder, port, metrics_port }
    }

    fn manifest(&self, ttl: &str) -> String {
        manifest_of(self.port, self.metrics_port, ttl)
    }

    /// Replaces the file at once, as the kubelet does.
    fn write(&self, text: &str) {
        let new = self.folder.join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.folder.join("warp.yaml")).unwrap();
    }

    /// The manifest over a Redis, with more of the cluster's spec.
    fn manifest_over(&self, redis: &Redis, more: &str) -> String {
        let spec = format!("spec:\n  storage: {{redis: {{url: '{}'}}}}\n  {more}\n", redis.url());
        self.manifest("30s").replacen("spec:\n", &spec, 1)
    }

    fn get(&self, path: &str) -> Option<(String, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.metrics_port)).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split_whitespace().nth(1)?.to_owned(), body.to_owned()))
    }

    fn status(&self) -> Value {
        self.get("/status")
            .and_then(|(_, body)| serde_json::from_str(&body).ok())
            .unwrap_or_default()
    }

    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !holds(self) {
            assert!(Instant::now() < deadline, "never came: {what}; {}", self.status());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn is_ready(&self) -> bool {
        self.get("/readyz").is_some_and(|(code, _)| code == "200")
    }

    fn command(&self, inline: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "{inline}\r\n").unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn manifest_of(port: u16, metrics_port: u16, ttl: &str) -> String {
    format!(
        "apiVersion: warpcache.dev/v1alpha1
kind: WarpCluster
metadata: {{name: c}}
spec:
  bus: {{memory: {{}}}}
  sidecar: {{port: {port}, metricsPort: {metrics_port}}}
---
apiVersion: warpcache.dev/v1alpha1
kind: WarpPolicy
metadata: {{name: users}}
spec: {{clusterRef: {{name: c}}, match: ['user:*'], ttl: {ttl}}}
"
    )
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

#[test]
fn a_changed_file_is_applied_and_a_bad_one_refused_without_a_restart() {
    let sidecar = Sidecar::start("reload", &[], Some("30s"));
    sidecar.until("ready", Sidecar::is_ready);
    assert_eq!(sidecar.command("SET user:1 x"), "+OK");
    let first = manifest::hash(&sidecar.manifest("30s"));
    assert_eq!(sidecar.status()["configHash"], first);

    let second = manifest::hash(&sidecar.manifest("40s"));
    sidecar.write(&sidecar.manifest("40s"));
    sidecar.until("the new hash", |s| s.status()["configHash"] == second);

    sidecar.write(&sidecar.manifest("40 seconds"));
    sidecar.until("the refusal", |s| s.status()["configError"].is_string());
    assert_eq!(sidecar.status()["configHash"], second, "the old one stays");
    let metrics = sidecar.get("/metrics").unwrap().1;
    assert!(metrics.contains("\nwarp_config_current 0\n"), "{metrics}");
    assert!(metrics.contains("warp_config_reloads_total{result=\"refused\"} 1"), "{metrics}");
    assert_eq!(sidecar.command("GET user:1"), "$1");

    sidecar.write(&sidecar.manifest("30s"));
    sidecar.until("the mended one", |s| s.status()["configHash"] == first);
    assert!(sidecar.status()["configError"].is_null());
}

#[test]
fn going_back_to_the_applied_file_ends_the_refusal() {
    let sidecar = Sidecar::start("back", &[], Some("30s"));
    sidecar.until("ready", Sidecar::is_ready);
    sidecar.write("nonsense: [");
    sidecar.until("the refusal", |s| s.status()["configError"].is_string());
    sidecar.write(&sidecar.manifest("30s"));
    sidecar.until("its end", |s| s.status()["configError"].is_null());
}

#[test]
fn with_wait_it_is_not_ready_until_the_file_is_there() {
    let sidecar = Sidecar::start("wait", &["--wait"], None);
    sidecar.until("the admin port", |s| s.get("/healthz").is_some());
    let (code, why) = sidecar.get("/readyz").unwrap();
    assert_eq!(code, "503");
    assert!(why.contains("warp.yaml"), "{why}");
    sidecar.write(&sidecar.manifest("30s"));
    sidecar.until("ready", Sidecar::is_ready);
    assert_eq!(sidecar.command("PING"), "+PONG");
}

#[test]
fn without_wait_a_file_that_cannot_be_applied_ends_it_with_the_reason() {
    let output = run(&["run", "-f", "/nonexistent/warp.yaml"]);
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("/nonexistent/warp.yaml"), "{error}");
}

#[test]
fn it_ends_well_when_it_is_told_to() {
    let mut sidecar = Sidecar::start("stop", &[], Some("30s"));
    sidecar.until("ready", Sidecar::is_ready);
    let ping = format!("http://127.0.0.1:{}/readyz", sidecar.metrics_port);
    assert!(run(&["ping", "--url", &ping]).status.success());
    let pid = sidecar.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(sidecar.child.wait().unwrap().success());
    assert!(!run(&["ping", "--url", &ping]).status.success());
}

#[test]
fn a_start_waits_for_its_warm_up_no_longer_than_it_is_told() {
    let redis = Redis::start();
    let mut client = TcpStream::connect(("127.0.0.1", redis.port)).unwrap();
    client.write_all(b"SET user:1 x\r\n").unwrap();
    client.read_exact(&mut [0; 5]).unwrap();
    redis.pause();
    let patient = Sidecar::start("warm", &["--wait"], None);
    let hasty = Sidecar::start("hasty", &["--wait"], None);
    let warm_up = |timeout: &str| {
        format!("warmUp: {{from: [{{pattern: 'user:*'}}], readinessTimeout: {timeout}}}")
    };
    patient.write(&patient.manifest_over(&redis, &warm_up("10m")));
    hasty.write(&hasty.manifest_over(&redis, &warm_up("300ms")));
    hasty.until("ready though nothing is warm", Sidecar::is_ready);
    let why = || patient.get("/readyz").unwrap_or_default();
    patient
        .until("it says why it waits", |_| why() == ("503".to_owned(), "warming up\n".to_owned()));
    assert_eq!(patient.status()["warmUp"]["done"], 0);
    redis.resume();
    patient.until("ready", Sidecar::is_ready);
    let warm_up = &patient.status()["warmUp"];
    assert_eq!((&warm_up["done"], &warm_up["loaded"]), (&1.into(), &1.into()), "{warm_up}");
    let class = &patient.status()["classes"][0];
    assert_eq!((&class["name"], &class["rules"]["ttl"]), (&"users".into(), &"30s".into()));
    redis.kill();
    assert_eq!(patient.command("GET user:1"), "$1", "it was read before anybody asked");
}
