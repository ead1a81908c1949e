//! The benchmark as a user runs it, with far too short a run: that it measures what it says, ends
//! what it started, and refuses what it can't do. How fast anything is plays no part.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_warp-bench");

/// An empty folder, gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn make(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("warp-bench-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn bench(out: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["run", "--sidecar", "/nonexistent/warp-sidecar", "--out"]).arg(out).args(options);
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_quick_run_beside_redis_alone_fills_every_cell() {
    let folder = Folder::make("quick");
    let output = bench(&folder.0, &["--quick", "--peers", "redis"]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));

    let results: Value =
        serde_json::from_str(&fs::read_to_string(folder.0.join("results.json")).unwrap()).unwrap();
    let samples = results["samples"].as_array().unwrap();
    let cells: Vec<&str> = samples.iter().map(|s| s["cell"].as_str().unwrap()).collect();
    let expected = [
        "tcp-1",
        "tcp-16",
        "tcp-64",
        "unix-16",
        "unix-64",
        "shared-tcp-1",
        "shared-unix-1",
        "set-tcp-16",
        "mixed-tcp-16",
        "hit-ratio",
        "footprint",
        "startup",
    ];
    assert_eq!(cells, expected);
    for sample in samples {
        for (name, figure) in sample["figures"].as_object().unwrap() {
            // So few entries take less memory than a page here or there makes a difference.
            let least = if name == "bytes-per-entry" { f64::MIN } else { f64::MIN_POSITIVE };
            assert!(figure.as_f64().unwrap() >= least, "{sample}");
        }
    }
    let page = fs::read_to_string(folder.0.join("performance.md")).unwrap();
    assert!(page.contains("### Hit ratio in 20 MiB"), "{page}");
    assert!(page.contains("(performance.svg)"), "{page}");
    assert!(fs::read_to_string(folder.0.join("performance.svg")).unwrap().ends_with("</svg>\n"));
}

#[test]
fn without_a_sidecar_it_says_how_to_come_by_one() {
    let folder = Folder::make("absent");
    let output = bench(&folder.0, &["--quick"]).output().unwrap();
    assert!(!output.status.success());
    assert!(said(&output).contains("build /nonexistent/warp-sidecar"), "{}", said(&output));
}

#[test]
fn a_cell_that_there_is_not_is_refused_with_those_that_there_are() {
    let folder = Folder::make("cell");
    let output = bench(&folder.0, &["--cells", "tcp-2", "--peers", "redis"]).output().unwrap();
    assert!(!output.status.success());
    let said = said(&output);
    assert!(said.contains("no cell tcp-2") && said.contains("tcp-16"), "{said}");
}

#[test]
fn a_signal_ends_the_servers_too_and_leaves_no_files() {
    let folder = Folder::make("signal");
    let options = ["--cells", "tcp-1", "--peers", "redis", "--seconds", "60"];
    let mut child = bench(&folder.0, &options).stderr(Stdio::null()).spawn().unwrap();
    let servers = format!("/proc/{}/task", child.id());
    let server = until(&mut child, || children(&servers).first().copied());
    assert!(
        Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success()
    );
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(128 + 15));
    let begun = Instant::now();
    // The one who adopts it may take a moment to bury it.
    while fs::read_link(format!("/proc/{server}/exe")).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(10), "redis-server {server} runs on");
        sleep(Duration::from_millis(10));
    }
    let left = std::env::temp_dir().join(format!("warp-bench-{}", child.id()));
    assert!(!left.exists(), "{}", left.display());
}

/// The children of all threads of a process.
fn children(tasks: &str) -> Vec<u32> {
    let threads = fs::read_dir(tasks).into_iter().flatten().flatten();
    threads
        .flat_map(|thread| {
            let listed = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            listed.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>()
        })
        .collect()
}

fn until<T>(child: &mut Child, look: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        assert!(Instant::now() < deadline, "no server was started");
        sleep(Duration::from_millis(5));
    }
}
