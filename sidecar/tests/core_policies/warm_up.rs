//! Warm-ups: what is read, how fast, how much, and that a fault only delays them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use warp_crds::manifest;
use warp_crds::status::WarmUpStatus;
use warp_sidecar::adapter::{Key, PostgresAdapter, PostgresSettings, Storage};
use warp_sidecar::metrics::Metrics;
use warp_sidecar::warmup::{Plan, Warmer};

use crate::servers::postgres::Postgres;
use crate::servers::redis::Redis;
use crate::support::doubles::ScriptedStorage;
use crate::support::pod::{Pod, down};

const LIMIT: usize = 1 << 20;

fn warmer<S>(pod: &Pod<S>, spec: &str) -> Arc<Warmer> {
    let text = format!(
        "{{apiVersion: warpcache.dev/v1alpha1, kind: WarpCluster, metadata: {{name: c}}, spec: {{storage: {{postgres: {{urlSecretRef: {{name: db, key: url}}}}}}, warmUp: {spec}}}}}"
    );
    let spec = manifest::parse(&text).unwrap().cluster.spec.warm_up.unwrap();
    let (plan, engine) = (Plan::of(&spec, LIMIT), Arc::clone(&pod.engine));
    Arc::new(Warmer::new(plan, engine, Arc::new(Metrics::new().unwrap())))
}

fn put(pod: &Pod<ScriptedStorage>, prefix: &str, count: usize) {
    let value = Bytes::from(vec![b'v'; 90]);
    let pairs = (0..count).map(|i| (Key::from(format!("{prefix}:{i:05}")), value.clone()));
    pod.storage.values.lock().extend(pairs);
}

fn held<S>(pod: &Pod<S>, keys: &[&str]) -> Vec<bool> {
    keys.iter().map(|key| pod.engine.explain(key.as_bytes()).held.is_some()).collect()
}

#[tokio::test]
async fn keys_of_a_pattern_are_there_before_anybody_asks_and_count_as_nobodys() {
    let pod = Pod::new().await;
    put(&pod, "user", 300);
    put(&pod, "other", 10);
    pod.read("user:00007").await.unwrap();
    let warmer = warmer(&pod, "{from: [{pattern: 'user:*'}], keysPerSecond: 100000}");
    let figures = pod.engine.figures();
    warmer.run(true).await;
    let status = warmer.status();
    let expected =
        WarmUpStatus { done: 1, loaded: 299, bytes: 299 * 100, held: 1, ..WarmUpStatus::default() };
    assert_eq!(status, expected);
    assert_eq!(held(&pod, &["user:00000", "user:00299", "other:00000"]), [true, true, false]);
    let after = pod.engine.figures();
    assert_eq!((after.hits, after.misses), (figures.hits, figures.misses));
}

#[tokio::test]
async fn it_keeps_to_its_rate_and_its_bytes() {
    let pod = Pod::new().await;
    put(&pod, "k", 1000);
    let begun = Instant::now();
    let slow = warmer(&pod, "{from: [{pattern: 'k:*'}], keysPerSecond: 200, maxBytes: '10000'}");
    slow.run(true).await;
    let took = begun.elapsed();
    let status = slow.status();
    assert!((10_000..12_100).contains(&status.bytes), "{status:?}");
    let least = Duration::from_millis((status.loaded - 20) * 5);
    assert!(took >= least, "{} keys in {took:?}", status.loaded);
}

#[tokio::test]
async fn a_storage_that_fails_is_waited_for() {
    let pod = Pod::new().await;
    put(&pod, "k", 1);
    *pod.storage.away.lock() = Some(down());
    let warmer = warmer(&pod, "{from: [{pattern: 'k:*'}]}");
    let at_work = Arc::clone(&warmer);
    let warming = tokio::spawn(async move { at_work.run(true).await });
    pod.until("it says why it waits", |_| warmer.status().error.is_some()).await;
    assert!(warmer.status().running && !warmer.is_done());
    *pod.storage.away.lock() = None;
    warming.await.unwrap();
    assert_eq!((warmer.status().error, warmer.status().loaded), (None, 1));
    assert_eq!(held(&pod, &["k:00000"]), [true]);
}

#[tokio::test]
async fn what_a_write_crosses_is_not_entered() {
    let pod = Pod::new().await;
    put(&pod, "k", 1);
    pod.storage.close();
    let calls = pod.storage.calls.load(Ordering::SeqCst);
    let engine = Arc::clone(&pod.engine);
    let warming = tokio::spawn(async move { engine.warm(vec![Key::from("k:00000")]).await });
    pod.until("it is read", |_| pod.storage.calls.load(Ordering::SeqCst) > calls).await;
    pod.tell_written_elsewhere("k:00000").await;
    pod.storage.open();
    assert_eq!(warming.await.unwrap().unwrap().loaded, 1);
    assert_eq!(held(&pod, &["k:00000"]), [false]);
}

#[tokio::test]
async fn without_on_start_nothing_is_done_at_the_start() {
    let pod = Pod::new().await;
    let spec = "{from: [{pattern: 'k:*'}], onStart: false, schedule: '0 0 1 1 *'}";
    let warmer = warmer(&pod, spec);
    let run = tokio::time::timeout(Duration::from_millis(50), warmer.run(true)).await;
    assert!(run.is_err(), "it waits for its time");
    assert_eq!(warmer.status(), WarmUpStatus::default());
}

#[tokio::test]
async fn a_query_says_which_keys_and_in_which_order_and_may_only_read() {
    let server = Postgres::shared();
    let table = format!("warm_{}", rand::random::<u32>());
    let settings = PostgresSettings::new(server.url(), table.clone());
    let pod = Pod::over(Arc::new(PostgresAdapter::connect_lazy(settings).unwrap())).await;
    let pairs: Vec<_> =
        (0..50).map(|i| (Key::from(format!("k{i:02}")), Bytes::from(vec![b'v'; i]))).collect();
    pod.storage.set_many(&pairs).await.unwrap();
    let longest = format!("SELECT key FROM {table} ORDER BY length(value) DESC LIMIT 2;");
    let keys = pod.engine.keys_of(&longest).await.unwrap();
    assert_eq!(keys, ["k49", "k48"]);
    let text = pod.engine.keys_of("SELECT 'k' || n FROM generate_series(10, 11) n -- few").await;
    assert_eq!(text.unwrap(), ["k10", "k11"]);
    for query in [
        format!("DELETE FROM {table} RETURNING key"),
        format!(
            "SELECT nextval(sequence)::text FROM pg_sequences, lateral (SELECT (schemaname || '.' || sequencename)::regclass AS sequence) s WHERE sequencename LIKE '{table}%'"
        ),
        "SELECT nothing".to_owned(),
    ] {
        let refused = pod.engine.keys_of(&query).await;
        assert!(refused.is_err(), "{query}: {refused:?}");
    }
    let spec = format!(
        "{{from: [{{query: 'SELECT nothing'}}, {{query: 'SELECT key FROM {table} WHERE length(value) >= 45'}}]}}"
    );
    let warmer = warmer(&pod, &spec);
    warmer.run(true).await;
    let status = warmer.status();
    assert_eq!((status.loaded, status.done), (5, 1));
    assert!(status.error.unwrap().contains("nothing"), "a refused source is told");
    assert_eq!(held(&pod, &["k44", "k45", "k49"]), [false, true, true]);
}

#[tokio::test]
async fn keys_of_other_types_are_passed_over() {
    use warp_sidecar::adapter::{RedisAdapter, RedisSettings};
    let server = Redis::start();
    let settings = RedisSettings::new(server.url(), None);
    let pod = Pod::over(Arc::new(RedisAdapter::connect(settings).unwrap())).await;
    let pairs = ["k:1", "k:2"].map(|key| (Key::from(key), Bytes::from("v")));
    pod.storage.set_many(&pairs).await.unwrap();
    let mut connection = std::net::TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    std::io::Write::write_all(&mut connection, b"RPUSH k:list a\r\n").unwrap();
    std::io::Read::read_exact(&mut connection, &mut [0; 4]).unwrap();
    let warmer = warmer(&pod, "{from: [{pattern: 'k:*'}]}");
    warmer.run(true).await;
    let status = warmer.status();
    assert_eq!((status.loaded, status.absent, status.error), (2, 1, None));
    pod.until("copies are there", |_| held(&pod, &["k:1", "k:2"]) == [true, true]).await;
}
