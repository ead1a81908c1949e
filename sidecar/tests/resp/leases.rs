//! Leases as clients see them: over a real NATS and real storages, with pods that die.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use tokio::time::sleep;
use warp_crds::names::register_stream;
use warp_sidecar::adapter::{
    PostgresAdapter, PostgresSettings, RedisAdapter, RedisSettings, Storage,
};
use warp_sidecar::resp::Settings;
use warp_sidecar::sync_bus::{MemoryBus, Origin};

use crate::client::Client;
use crate::link::Link;
use crate::pod::{Pod, TENANT, impatient_bus, memory};
use crate::servers::nats::Nats;
use crate::servers::postgres::Postgres;
use crate::servers::redis::Redis;

/// A pod that has joined the bus at `url`.
async fn pod(origin: u64, url: String, storage: Arc<dyn Storage>) -> Pod {
    let pod = Pod::on(impatient_bus(url), Origin(origin), storage, Settings::default());
    let begun = Instant::now();
    let mut client = pod.client().await;
    while pod.engine.locks().status().epoch.is_none() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(client.ask("WARP.LEASE.LIST").await, "[]");
    pod
}

/// Asks until the reply is that; how long it took.
async fn until(client: &mut Client, command: &str, reply: &str) -> Duration {
    let begun = Instant::now();
    loop {
        let got = client.ask(command).await;
        if got == reply {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < Duration::from_secs(15), "{command}: {got}, not {reply}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// What it says to keys, over one storage that two pods share, one of which sees to `other`'s copy.
async fn keys_live_as_long_as_their_lease(one: &Pod, other: &Pod) {
    let (mut mine, mut theirs) = (one.client().await, other.client().await);
    let lease = mine.ask("WARP.LEASE.GRANT 1000").await;
    assert!(lease.parse::<u64>().unwrap() > 0, "{lease}");
    mine.ask("SET attached 1").await;
    assert_eq!(mine.ask(&format!("WARP.LEASE.ATTACH {lease} attached")).await, "1");
    assert_eq!(theirs.ask(&format!("WARP.LEASE.ATTACH {lease} attached other")).await, "1");
    assert_eq!(theirs.ask(&format!("WARP.LEASE.SET {lease} set 2 NX GET")).await, "(nil)");
    mine.ask("SET free 3").await;
    // NX isn't done, and so the key isn't the lease's.
    assert_eq!(mine.ask(&format!("WARP.LEASE.SET {lease} free 4 NX")).await, "(nil)");
    let shown = theirs.ask(&format!("WARP.LEASE.TIMETOLIVE {lease} KEYS")).await;
    assert!(shown.contains("['attached' 'other' 'set']"), "{shown}");
    until(&mut theirs, "WARP.LEASE.LIST", &format!("[{lease}]")).await;
    // It is in both pods' memory.
    for client in [&mut mine, &mut theirs] {
        assert_eq!(client.ask("MGET attached set free").await, "['1' '2' '3']");
    }
    // Any pod keeps it alive, for longer than its TTL.
    for _ in 0..4 {
        sleep(Duration::from_millis(400)).await;
        let left: u64 = theirs
            .ask(&format!("WARP.LEASE.KEEPALIVE {lease}"))
            .await
            .parse()
            .unwrap_or_else(|error| panic!("{error}"));
        assert!(left > 500 && left <= 900, "{left}");
    }
    assert_eq!(mine.ask("GET set").await, "'2'");
    let took = until(&mut mine, "MGET attached set free", "[(nil) (nil) '3']").await;
    assert!(took > Duration::from_millis(700), "{took:?}");
    until(&mut theirs, "MGET attached set free", "[(nil) (nil) '3']").await;
    for command in ["KEEPALIVE", "REVOKE", "TIMETOLIVE"] {
        let gone = theirs.ask(&format!("WARP.LEASE.{command} {lease}")).await;
        assert!(gone.starts_with("LEASEGONE"), "{gone}");
    }
    let gone = mine.ask(&format!("WARP.LEASE.SET {lease} late 1")).await;
    assert!(gone.starts_with("LEASEGONE"), "{gone}");
    assert_eq!(mine.ask("GET late").await, "(nil)");

    // Revoked, at once.
    let lease = mine.ask("WARP.LEASE.GRANT 60000").await;
    mine.ask(&format!("WARP.LEASE.SET {lease} a 1")).await;
    theirs.ask(&format!("WARP.LEASE.SET {lease} b 1")).await;
    assert_eq!(mine.ask("MGET a b").await, "['1' '1']");
    assert_eq!(theirs.ask("MGET a b").await, "['1' '1']");
    assert_eq!(theirs.ask(&format!("WARP.LEASE.REVOKE {lease}")).await, "2");
    assert_eq!(theirs.ask("MGET a b").await, "[(nil) (nil)]");
    let took = until(&mut mine, "MGET a b", "[(nil) (nil)]").await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_redis_keys_live_as_long_as_their_lease() {
    let (server, redis) = (Nats::start(), Redis::start());
    let storage = || -> Arc<dyn Storage> {
        Arc::new(RedisAdapter::connect(RedisSettings::new(redis.url(), None)).unwrap())
    };
    let one = pod(1, server.url(), storage()).await;
    let other = pod(2, server.url(), storage()).await;
    keys_live_as_long_as_their_lease(&one, &other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_postgres_keys_live_as_long_as_their_lease() {
    let (server, postgres) = (Nats::start(), Postgres::start());
    let storage = || -> Arc<dyn Storage> {
        let settings = PostgresSettings::new(postgres.url(), "leased");
        Arc::new(PostgresAdapter::connect_lazy(settings).unwrap())
    };
    let one = pod(1, server.url(), storage()).await;
    let other = pod(2, server.url(), storage()).await;
    keys_live_as_long_as_their_lease(&one, &other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_memory_of_each_pod_keys_go_with_their_lease_too() {
    let server = Nats::start();
    let one = pod(1, server.url(), memory()).await;
    let other = pod(2, server.url(), memory()).await;
    let (mut mine, mut theirs) = (one.client().await, other.client().await);
    let lease = mine.ask("WARP.LEASE.GRANT 1000").await;
    mine.ask(&format!("WARP.LEASE.SET {lease} k mine")).await;
    theirs.ask(&format!("WARP.LEASE.SET {lease} k theirs")).await;
    assert_eq!(mine.ask("GET k").await, "'mine'");
    until(&mut mine, "GET k", "(nil)").await;
    until(&mut theirs, "GET k", "(nil)").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_outlives_the_pod_that_granted_it_and_its_keys_don_t_outlive_the_lease() {
    let (server, redis) = (Nats::start(), Redis::start());
    let storage = || -> Arc<dyn Storage> {
        Arc::new(RedisAdapter::connect(RedisSettings::new(redis.url(), None)).unwrap())
    };
    let link = Link::to(server.port).await;
    let granting = pod(1, link.url(), storage()).await;
    let other = pod(2, server.url(), storage()).await;
    let mut client = granting.client().await;
    let kept = client.ask("WARP.LEASE.GRANT 1000").await;
    let left = client.ask("WARP.LEASE.GRANT 1000 KEEPALIVE").await;
    client.ask(&format!("WARP.LEASE.SET {kept} kept 1")).await;
    client.ask(&format!("WARP.LEASE.SET {left} left 1")).await;
    let mut theirs = other.client().await;
    assert_eq!(theirs.ask("MGET kept left").await, "['1' '1']");
    // It dies.
    link.cut();
    granting.stop.cancel();
    granting.engine.stop();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        theirs.ask(&format!("WARP.LEASE.KEEPALIVE {kept}")).await;
        sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(theirs.ask("MGET kept left").await, "['1' (nil)]");
    let mut direct = Client::connect(([127, 0, 0, 1], redis.port).into()).await;
    assert_eq!(direct.ask("MGET kept left").await, "['1' (nil)]", "in the storage");
    // Also a pod that was never there with it ends it.
    drop(theirs);
    other.engine.stop();
    let late = pod_that_joins(3, server.url(), storage());
    let mut client = late.client().await;
    until(&mut client, "GET kept", "(nil)").await;
    assert_eq!(direct.ask("GET kept").await, "(nil)", "in the storage");
}

fn pod_that_joins(origin: u64, url: String, storage: Arc<dyn Storage>) -> Pod {
    Pod::on(impatient_bus(url), Origin(origin), storage, Settings::default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_keeps_it_alive_and_is_told_of_its_end() {
    let server = Nats::start();
    let pod = pod(1, server.url(), memory()).await;
    let mut keeper = pod.client().await;
    keeper.ask("HELLO 3").await;
    let lease = keeper.ask("WARP.LEASE.GRANT 500 KEEPALIVE").await;
    let left = keeper.ask("WARP.LEASE.GRANT 500 KEEPALIVE").await;
    let mut other = pod.client().await;
    other.ask(&format!("WARP.LEASE.SET {lease} k 1")).await;
    other.ask(&format!("WARP.LEASE.SET {left} l 1")).await;
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(other.ask("MGET k l").await, "['1' '1']");
    assert_eq!(other.ask(&format!("WARP.LEASE.REVOKE {lease}")).await, "1");
    let told = keeper.receive().await;
    assert_eq!(told, format!(">['warp.lease.lost' '{lease}' [] 'revoked']"));
    assert_eq!(pod.engine.leases().status().kept, 1);
    drop(keeper);
    until(&mut other, "GET l", "(nil)").await;
    let metrics = pod.engine.render_metrics().unwrap();
    for line in [
        "warp_lease_granted_total 2",
        "warp_lease_ended_total{reason=\"revoked\"} 1",
        "warp_lease_ended_total{reason=\"expired\"} 1",
        "warp_lease_keys_removed_total 2",
        "warp_lease_known 0",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_is_away_delays_the_end_and_a_key_of_two_leases_waits_for_both() {
    let (server, redis) = (Nats::start(), Redis::start());
    let settings = RedisSettings::new(redis.url(), None);
    let storage = Arc::new(RedisAdapter::connect(settings).unwrap());
    let pod = pod(1, server.url(), storage).await;
    let mut client = pod.client().await;
    let lease = client.ask("WARP.LEASE.GRANT 60000").await;
    let other = client.ask("WARP.LEASE.GRANT 60000").await;
    client.ask(&format!("WARP.LEASE.SET {lease} own 1")).await;
    client.ask(&format!("WARP.LEASE.SET {lease} both 1")).await;
    client.ask(&format!("WARP.LEASE.ATTACH {other} both")).await;
    redis.pause();
    let down = client.ask(&format!("WARP.LEASE.REVOKE {lease}")).await;
    assert!(down.starts_with("LEASEDOWN the lease has ended"), "{down}");
    redis.resume();
    until(&mut client, "MGET own both", "[(nil) '1']").await;
    assert_eq!(client.ask(&format!("WARP.LEASE.REVOKE {other}")).await, "1");
    assert_eq!(client.ask("GET both").await, "(nil)");
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_outlive_the_bus_s_data() {
    let server = Nats::start();
    let one = pod(1, server.url(), memory()).await;
    let mut client = one.client().await;
    one.engine.leases().set_longest(Duration::from_mins(1));
    let lease = client.ask("WARP.LEASE.GRANT 20000").await;
    client.ask(&format!("WARP.LEASE.SET {lease} k 1")).await;
    let admin = jetstream::new(async_nats::connect(server.url()).await.unwrap());
    admin.delete_stream(register_stream(TENANT)).await.unwrap();
    let begun = Instant::now();
    while !client.ask(&format!("WARP.LEASE.TIMETOLIVE {lease} KEYS")).await.contains("['k']") {
        assert!(begun.elapsed() < Duration::from_secs(15));
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(client.ask("GET k").await, "'1'");
    assert_eq!(client.ask(&format!("WARP.LEASE.REVOKE {lease}")).await, "1");
    assert_eq!(client.ask("GET k").await, "(nil)");
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let pod = Pod::on(Arc::new(MemoryBus::alone()), Origin(1), memory(), Settings::default());
    let mut client = pod.client().await;
    for (command, words) in [
        ("WARP.LEASE.GRANT soon", "ERR a time is a whole number of milliseconds"),
        ("WARP.LEASE.GRANT 60001", "ERR the TTL must be 100 to 60000 ms (spec.locks.maxTtl)"),
        ("WARP.LEASE.GRANT 1000 NX", "ERR syntax error"),
        ("WARP.LEASE.ATTACH x k", "ERR a lease is the number that WARP.LEASE.GRANT returned"),
        ("WARP.LEASE.ATTACH 1 k", "LEASEGONE there is no such lease"),
        ("WARP.LEASE.SET 1 k v", "LEASEGONE"),
        ("WARP.LEASE.SET 1 k v WHAT", "ERR syntax error"),
        ("WARP.LEASE.KEEPALIVE 1", "LEASEGONE"),
    ] {
        let reply = client.ask(command).await;
        assert!(reply.starts_with(words), "{command}: {reply}");
    }
    let without = Pod::of_memory();
    let mut client = without.client().await;
    let reply = client.ask("WARP.LEASE.GRANT 1000").await;
    assert_eq!(reply, "ERR bus scripted has no leases; use nats");
    assert_eq!(client.ask("WARP.LEASE.LIST").await, reply);
}
