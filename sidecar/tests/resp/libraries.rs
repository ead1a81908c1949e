//! Client libraries as applications use them, unmodified, against Warp over each storage.
//!
//! Each has a folder in `tests/clients`: `prepare.sh` fetches it, once for each state of the folder
//! on this machine, and `run.sh` runs it. What is tried with which is in `docs/compatibility.md`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::{env, fs};

use warp_sidecar::adapter::{
    PostgresAdapter, PostgresSettings, RedisAdapter, RedisSettings, Storage,
};
use warp_sidecar::resp::Settings;

use crate::pod::{self, Pod};
use crate::servers::postgres::Postgres;
use crate::servers::redis::Redis;

/// The sidecar's memory, a Redis, and tables, which hold strings only.
const STORAGES: [&str; 3] = ["memory", "redis", "postgres"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_with_redis_py() {
    works("python", ("python3", "python3 python3-pip"), &STORAGES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_with_ioredis_node_redis_and_redlock() {
    works("node", ("npm", "nodejs npm"), &STORAGES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn go_with_go_redis() {
    works("go", ("go", "golang-go"), &STORAGES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn java_with_jedis_and_lettuce() {
    works("java", ("mvn", "maven default-jdk-headless"), &STORAGES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn java_with_redisson() {
    // Its objects are made of scripts and of other types than strings.
    works("redisson", ("mvn", "maven default-jdk-headless"), &STORAGES[..2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rust_with_redis_rs() {
    works("rust", ("cargo", "cargo"), &STORAGES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn php_with_phpredis_and_predis() {
    works("php", ("php", "php-cli php-redis php-predis"), &STORAGES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ruby_with_redis_rb() {
    works("ruby", ("ruby", "ruby ruby-redis"), &STORAGES).await;
}

async fn works(name: &str, (program, packages): (&str, &str), storages: &[&str]) {
    let path = env::var("PATH").unwrap_or_default();
    assert!(
        path.split(':').any(|folder| Path::new(folder).join(program).exists()),
        "{program} is missing, which the Redis clients of {name} need: apt-get install {packages}",
    );
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name);
    let prepared = prepare(name, &folder);
    for storage in storages {
        let (pod, _redis) = over(storage, name);
        run(&folder, &prepared, pod.address.port(), storage).await;
    }
}

/// A pod over a storage of that kind, and the Redis that it may need.
fn over(storage: &str, client: &str) -> (Pod, Option<Redis>) {
    let redis = (storage == "redis").then(Redis::start);
    let storage: Arc<dyn Storage> = match (&redis, storage) {
        (Some(redis), _) => {
            let settings = RedisSettings::new(redis.url(), None);
            Arc::new(RedisAdapter::connect(settings).unwrap())
        }
        (None, "postgres") => {
            let table = format!("client_{client}");
            let settings = PostgresSettings::new(Postgres::shared().url(), table);
            Arc::new(PostgresAdapter::connect_lazy(settings).unwrap())
        }
        (None, _) => pod::memory(),
    };
    (Pod::start(storage, Settings::default()), redis)
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
