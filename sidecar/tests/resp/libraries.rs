//! Client libraries as applications use them, against Warp over each of its storages.
//!
//! Each has a folder in `tests/clients`: `prepare.sh` fetches it, once for each state of the folder
//! on this machine, and `run.sh` runs it. A language that isn't installed is passed over.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::{env, fs};

use warp_sidecar::adapter::{PostgresAdapter, PostgresSettings, RedisAdapter, RedisSettings};
use warp_sidecar::resp::Settings;

use crate::pod::Pod;
use crate::servers::postgres::Postgres;
use crate::servers::redis::Redis;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_with_redis_py() {
    works("python", "python3").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_with_ioredis_and_node_redis() {
    works("node", "npm").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn go_with_go_redis() {
    works("go", "go").await;
}

async fn works(name: &str, program: &str) {
    let path = env::var("PATH").unwrap_or_default();
    if !path.split(':').any(|folder| Path::new(folder).join(program).exists()) {
        eprintln!("{program} isn't installed: its Redis clients aren't tried");
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name);
    let prepared = prepare(name, &folder);

    let pod = Pod::of_memory();
    run(&folder, &prepared, pod.address.port(), "memory").await;
    let server = Redis::start();
    let storage = RedisAdapter::connect(RedisSettings::new(server.url(), None)).unwrap();
    let pod = Pod::start(Arc::new(storage), Settings::default());
    run(&folder, &prepared, pod.address.port(), "redis").await;
    // The others are about the types of Redis.
    if name == "python" {
        let server = Postgres::start();
        let settings = PostgresSettings::new(server.url(), "t");
        let storage = PostgresAdapter::connect_lazy(settings).unwrap();
        let pod = Pod::start(Arc::new(storage), Settings::default());
        run(&folder, &prepared, pod.address.port(), "postgres").await;
    }
}

/// Where the client is prepared; prepares it if it isn't.
fn prepare(name: &str, folder: &Path) -> PathBuf {
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in &files {
        fs::read(file).unwrap().hash(&mut hasher);
    }
    let cache = match (env::var_os("XDG_CACHE_HOME"), env::var_os("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, home) => Path::new(&home.expect("HOME or XDG_CACHE_HOME")).join(".cache"),
    };
    let prepared = cache.join("warp/clients").join(format!("{name}-{:016x}", hasher.finish()));
    if !prepared.exists() {
        let half = prepared.with_extension(std::process::id().to_string());
        fs::create_dir_all(&half).unwrap();
        let output = Command::new(folder.join("prepare.sh")).arg(&half).output().unwrap();
        succeeded(&format!("fetching the clients of {name}"), &output);
        // Another run may have been quicker.
        if fs::rename(&half, &prepared).is_err() {
            fs::remove_dir_all(&half).unwrap();
        }
    }
    prepared
}

async fn run(folder: &Path, prepared: &Path, port: u16, storage: &str) {
    let mut command = tokio::process::Command::new(folder.join("run.sh"));
    command.arg(prepared).arg(port.to_string()).arg(storage).kill_on_drop(true);
    let limit = std::time::Duration::from_mins(2);
    let output = tokio::time::timeout(limit, command.output()).await.expect("it ends").unwrap();
    succeeded(&format!("{} over {storage}", folder.display()), &output);
}

fn succeeded(what: &str, output: &Output) {
    assert!(
        output.status.success(),
        "{what}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}
