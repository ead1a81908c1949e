//! The same over real servers: a storage that is killed, and pods that tell each other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use warp_sidecar::adapter::{
    Key, Mutation, PostgresAdapter, PostgresSettings, RedisAdapter, RedisSettings, Storage,
};
use warp_sidecar::core::{Engine, Parts};
use warp_sidecar::metrics::Metrics;
use warp_sidecar::sync_bus::{NatsBus, NatsSettings, Origin};

use crate::servers::nats::Nats;
use crate::servers::postgres::Postgres;
use crate::servers::redis::Redis;
use crate::support::pod::{classes, policies, set};

async fn pod(origin: u64, storage: Arc<dyn Storage>, nats: &Nats, rules: &str) -> Arc<Engine> {
    let settings = NatsSettings::new(vec![nats.url()], "test_policies".to_owned());
    let settings = NatsSettings { create_stream: true, ..settings };
    let engine = Engine::start(Parts {
        storage,
        bus: Arc::new(NatsBus::start(settings).unwrap()),
        origin: Origin(origin),
        classes: classes(&policies(rules)),
        cache_limit: 4 << 20,
        cluster: "c".to_owned(),
        metrics: Arc::new(Metrics::new().unwrap()),
    });
    assert!(engine.join(Duration::from_secs(10)).await);
    engine
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < deadline, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn read(engine: &Arc<Engine>, key: &'static str) -> Result<Option<Bytes>, String> {
    let values = engine.read(&[Key::from(key)]).await.map_err(|error| error.to_string())?;
    Ok(values.into_iter().next().flatten().map(|value| value.data))
}

fn postgres(server: &Postgres) -> Arc<dyn Storage> {
    let table = "policies".to_owned();
    Arc::new(PostgresAdapter::connect_lazy(PostgresSettings::new(server.url(), table)).unwrap())
}

fn redis(server: &Redis) -> Arc<dyn Storage> {
    Arc::new(RedisAdapter::connect(RedisSettings::new(server.url(), None)).unwrap())
}

/// Kills the storage and starts it again.
async fn outlives(storage: Arc<dyn Storage>, kill: impl Fn(), start_again: impl Fn()) {
    let nats = Nats::start();
    let rules = "ttl: 50ms, failSafeGrace: 1h, hardTimeout: 2s";
    let engine = pod(1, storage, &nats, rules).await;
    engine.write(&Key::from("k"), set("old")).await.unwrap();
    engine.write(&Key::from("written"), set("old")).await.unwrap();
    assert_eq!(read(&engine, "k").await, Ok(Some(Bytes::from("old"))));
    kill();
    tokio::time::sleep(Duration::from_millis(60)).await;
    for _ in 0..20 {
        assert_eq!(read(&engine, "k").await, Ok(Some(Bytes::from("old"))));
    }
    assert!(read(&engine, "never read").await.is_err());
    start_again();
    until("it is read again", async || {
        engine.write(&Key::from("k"), set("new")).await.is_ok()
            && read(&engine, "k").await == Ok(Some(Bytes::from("new")))
    })
    .await;
    engine.stop();
}

#[tokio::test]
async fn copies_outlive_a_postgres_that_is_killed() {
    let server = Postgres::start();
    outlives(postgres(&server), || server.kill(), || server.start_again()).await;
}

#[tokio::test]
async fn copies_outlive_a_redis_that_is_killed() {
    let server = Redis::start();
    outlives(redis(&server), || server.kill(), || server.start_again()).await;
}

/// Each pod remembers that there is no such key until the other one writes it.
async fn told_apart(storage: impl Fn() -> Arc<dyn Storage>) {
    let nats = Nats::start();
    let rules = "ttl: 1h, negativeTtl: 1h";
    let pods = [pod(1, storage(), &nats, rules).await, pod(2, storage(), &nats, rules).await];
    for (at, key) in ["a", "b"].into_iter().enumerate() {
        for pod in &pods {
            assert_eq!(read(pod, key).await, Ok(None));
            let held = pod.explain(key.as_bytes()).held.unwrap();
            assert_eq!(held.bytes, None, "that it is absent is cached");
        }
        pods[at].write(&Key::from(key), set("v")).await.unwrap();
        assert_eq!(read(&pods[at], key).await, Ok(Some(Bytes::from("v"))));
        until("the other pod is told", async || {
            read(&pods[1 - at], key).await == Ok(Some(Bytes::from("v")))
        })
        .await;
        let notes = pods[1 - at].explain(key.as_bytes()).notes;
        assert!(notes.forgotten.is_some());
    }
    pods.iter().for_each(|pod| pod.stop());
}

#[tokio::test]
async fn pods_over_a_postgres_tell_each_other_of_new_keys() {
    let server = Postgres::start();
    told_apart(|| postgres(&server)).await;
}

#[tokio::test]
async fn pods_over_a_redis_tell_each_other_of_new_keys() {
    let server = Redis::start();
    told_apart(|| redis(&server)).await;
}

/// A session writes in one pod and reads in the other, which has a copy from before.
#[tokio::test]
async fn a_session_reads_its_writes_in_the_other_pod() {
    let (nats, server) = (Nats::start(), Postgres::start());
    let rules = "ttl: 1h, negativeTtl: 1h";
    let pods = [
        pod(1, postgres(&server), &nats, rules).await,
        pod(2, postgres(&server), &nats, rules).await,
    ];
    let patience = Duration::from_secs(5);
    for round in 0..100 {
        let (here, there) = (&pods[round % 2], &pods[(round + 1) % 2]);
        read(there, "k").await.unwrap();
        let written = set(if round % 3 == 0 { "a" } else { "b" });
        here.write(&Key::from("k"), written.clone()).await.unwrap();
        let token = here.token(patience).await.unwrap();
        there.reach(&token, patience).await.unwrap();
        let Mutation::Set { data, .. } = written else { unreachable!() };
        assert_eq!(read(there, "k").await, Ok(Some(data)), "round {round}");
    }
    pods.iter().for_each(|pod| pod.stop());
}
