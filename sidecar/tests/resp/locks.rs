//! Locks as clients see them: over a real NATS, whose connections are cut and whose data is lost,
//! and in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream;
use tokio::time::sleep;
use warp_crds::names::register_stream;
use warp_sidecar::adapter::{
    PostgresAdapter, PostgresSettings, RedisAdapter, RedisSettings, Storage,
};
use warp_sidecar::resp::Settings;
use warp_sidecar::sync_bus::{MemoryBus, NatsBus, NatsSettings, Origin};

use crate::client::Client;
use crate::link::Link;
use crate::pod::{Pod, TENANT, impatient_bus, memory};
use crate::servers::nats::Nats;
use crate::servers::postgres::Postgres;
use crate::servers::redis::Redis;

/// The longest TTL, and so the time in which new data gets settled.
const LONGEST: Duration = Duration::from_millis(1500);

/// A pod at `url`, in which locks can be had.
async fn pod(origin: u64, url: String) -> Pod {
    let pod = Pod::on(impatient_bus(url), Origin(origin), memory(), Settings::default());
    pod.engine.locks().set_longest(LONGEST);
    until("locks", || pod.engine.locks().status().available).await;
    pod
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "never came: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Until WARP.LOCK.INFO shows that of the lock `l`.
async fn until_shown(client: &mut Client, what: &str) {
    let begun = Instant::now();
    loop {
        let info = client.ask("WARP.LOCK.INFO l").await;
        if info.contains(what) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "never {what}: {info}");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn resp3(pod: &Pod) -> Client {
    let mut client = pod.client().await;
    client.ask("HELLO 3").await;
    client
}

/// The token in a reply.
fn token(reply: &str) -> (u64, u64) {
    let numbers = reply.strip_prefix('[').and_then(|reply| reply.strip_suffix(']'));
    let (epoch, sequence) = numbers.unwrap_or_else(|| panic!("{reply}")).split_once(' ').unwrap();
    (epoch.parse().unwrap(), sequence.parse().unwrap())
}

/// The command about a grant.
fn about(command: &str, name: &str, (epoch, sequence): (u64, u64)) -> String {
    format!("WARP.LOCK.{command} {name} {epoch} {sequence}")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_at_a_time_has_it_and_later_tokens_are_greater() {
    let server = Nats::start();
    let [one, other] = [pod(1, server.url()).await, pod(2, server.url()).await];
    let (mut mine, mut theirs) = (one.client().await, other.client().await);
    let first = token(&mine.ask("WARP.LOCK.ACQUIRE l 1000").await);
    assert_eq!(theirs.ask("WARP.LOCK.ACQUIRE l 1000").await, "(nil array)");
    assert_eq!(mine.ask("WARP.LOCK.ACQUIRE l 1000").await, "(nil array)", "it isn't reentrant");
    token(&theirs.ask("WARP.LOCK.ACQUIRE another 1000").await);
    let info = theirs.ask("WARP.LOCK.INFO l").await;
    let shown = format!("'held' 1 'token' [{} {}] 'ttl' 1000 'renewals' 0", first.0, first.1);
    assert!(info.contains(&shown) && info.contains("'left' (nil)"), "{info}");

    let left: u64 = mine.ask(&about("RENEW", "l", first)).await.parse().unwrap();
    assert!(left > 500 && left <= 900, "a tenth is left to wrong clocks: {left}");
    let refused = theirs.ask(&about("RENEW", "l", first)).await;
    assert!(refused.starts_with("LOCKLOST"), "{refused}");
    assert_eq!(mine.ask(&about("RELEASE", "l", first)).await, "OK");
    let again = mine.ask(&about("RELEASE", "l", first)).await;
    assert!(again.starts_with("LOCKLOST"), "{again}");
    let second = token(&theirs.ask("WARP.LOCK.ACQUIRE l 1000").await);
    assert!(second > first, "{second:?} {first:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_gets_it_in_his_turn_in_whatever_pod() {
    let server = Nats::start();
    let pods = [pod(1, server.url()).await, pod(2, server.url()).await];
    let mut holder = pods[0].client().await;
    let mut last = token(&holder.ask("WARP.LOCK.ACQUIRE l 1000 KEEPALIVE").await);
    let mut waiting = Vec::new();
    for at in 0..6 {
        let mut client = pods[at % 2].client().await;
        client.send(&[b"WARP.LOCK.ACQUIRE", b"l", b"1000", b"WAIT", b"20000", b"KEEPALIVE"]).await;
        waiting.push(client);
        let shown = format!("'waiting' {}", at + 1);
        until_shown(&mut holder, &shown).await;
    }
    // Nobody is let in before those who wait.
    assert_eq!(holder.ask(&about("RELEASE", "l", last)).await, "OK");
    assert_eq!(holder.ask("WARP.LOCK.ACQUIRE l 1000").await, "(nil array)");
    let begun = Instant::now();
    for mut client in waiting {
        let granted = token(&client.receive().await);
        assert!(granted > last);
        last = granted;
        // The connection's end is the lock's.
        drop(client);
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(3), "they are told, and don't ask now and then: {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_outlives_its_connection_until_its_ttl_unless_it_is_kept_alive() {
    let server = Nats::start();
    let [one, other] = [pod(1, server.url()).await, pod(2, server.url()).await];
    let mut gone = one.client().await;
    token(&gone.ask("WARP.LOCK.ACQUIRE plain 1000").await);
    token(&gone.ask("WARP.LOCK.ACQUIRE kept 1000 KEEPALIVE").await);
    sleep(Duration::from_millis(1300)).await;
    let mut client = other.client().await;
    assert_eq!(client.ask("WARP.LOCK.ACQUIRE kept 1000").await, "(nil array)", "it is renewed");
    token(&client.ask("WARP.LOCK.ACQUIRE plain 1000").await);
    drop(gone);
    let begun = Instant::now();
    token(&client.ask("WARP.LOCK.ACQUIRE kept 1000 WAIT 5000").await);
    assert!(begun.elapsed() < Duration::from_millis(900), "it is released: {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_while_he_waits_leaves_the_line() {
    let server = Nats::start();
    let pod = pod(1, server.url()).await;
    let mut holder = pod.client().await;
    token(&holder.ask("WARP.LOCK.ACQUIRE l 1500 KEEPALIVE").await);
    let mut leaver = pod.client().await;
    leaver.send(&[b"WARP.LOCK.ACQUIRE", b"l", b"1000", b"WAIT", b"20000"]).await;
    until_shown(&mut holder, "'waiting' 1").await;
    assert_eq!(pod.engine.locks().status().waiting, 1);
    drop(leaver);
    until_shown(&mut holder, "'waiting' 0").await;
    until("no one waits", || pod.engine.locks().status().waiting == 0).await;
    // One who has waited for long enough leaves it too.
    let mut patient = pod.client().await;
    let begun = Instant::now();
    assert_eq!(patient.ask("WARP.LOCK.ACQUIRE l 1000 WAIT 300").await, "(nil array)");
    assert!(begun.elapsed() >= Duration::from_millis(300));
    until_shown(&mut holder, "'waiting' 0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_cut_off_loses_it_by_his_own_clock_and_is_told() {
    let server = Nats::start();
    let link = Link::to(server.port).await;
    let [cut, other] = [pod(1, link.url()).await, pod(2, server.url()).await];
    let mut holder = resp3(&cut).await;
    let held = token(&holder.ask("WARP.LOCK.ACQUIRE l 1000 KEEPALIVE").await);
    link.blacken();
    let begun = Instant::now();
    let mut next = other.client().await;
    next.send(&[b"WARP.LOCK.ACQUIRE", b"l", b"1000", b"WAIT", b"10000", b"KEEPALIVE"]).await;
    let told = holder.receive().await;
    let lost = begun.elapsed();
    assert_eq!(told, format!(">['warp.lock.lost' 'l' [{} {}] 'expired']", held.0, held.1));
    let granted = token(&next.receive().await);
    assert!(granted > held);
    assert!(lost < begun.elapsed(), "he who loses it knows before the next one has it");
    // Though the network is fine again, what is over is over.
    link.mend();
    for command in ["RENEW", "RELEASE"] {
        let refused = holder.ask(&about(command, "l", held)).await;
        assert!(refused.starts_with("LOCKLOST"), "{refused}");
    }
    assert_eq!(cut.engine.locks().status().lost, 1);
    until_shown(&mut holder, "'held'=>1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_bus_nothing_is_granted() {
    let server = Nats::start();
    let link = Link::to(server.port).await;
    let pod = pod(1, link.url()).await;
    let mut client = pod.client().await;
    link.cut();
    sleep(Duration::from_millis(100)).await;
    let down = client.ask("WARP.LOCK.ACQUIRE l 1000").await;
    assert!(down.starts_with("LOCKDOWN"), "{down}");
    // Who waits waits for the bus too.
    client.send(&[b"WARP.LOCK.ACQUIRE", b"l", b"1000", b"WAIT", b"10000"]).await;
    sleep(Duration::from_millis(500)).await;
    link.mend();
    token(&client.receive().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_bus_loses_its_data_all_locks_are_lost_and_tokens_still_grow() {
    let server = Nats::start();
    let pod = pod(1, server.url()).await;
    let mut holder = resp3(&pod).await;
    let held = token(&holder.ask("WARP.LOCK.ACQUIRE l 1500 KEEPALIVE").await);
    let admin = jetstream::new(async_nats::connect(server.url()).await.unwrap());
    admin.delete_stream(register_stream(TENANT)).await.unwrap();
    let deleted = Instant::now();
    let told = holder.receive().await;
    assert!(told.starts_with(">['warp.lock.lost' 'l'"), "{told}");
    let mut next = pod.client().await;
    let granted = token(&next.ask("WARP.LOCK.ACQUIRE l 1000 WAIT 15000").await);
    assert!(granted.0 > held.0 && granted.1 > held.1, "{granted:?} {held:?}");
    // Whoever held one in the old data may have counted on it for so long.
    assert!(deleted.elapsed() >= LONGEST, "{:?}", deleted.elapsed());
}

#[tokio::test]
async fn in_memory_they_are_the_pod_s_own() {
    let bus = Arc::new(MemoryBus::alone());
    let pod = Pod::on(bus, Origin(1), memory(), Settings::default());
    let mut client = resp3(&pod).await;
    let first = token(&client.ask("WARP.LOCK.ACQUIRE l 300").await);
    assert_eq!(client.ask("WARP.LOCK.ACQUIRE l 300").await, "(nil)");
    let told = client.receive().await;
    assert_eq!(told, format!(">['warp.lock.lost' 'l' [{} {}] 'expired']", first.0, first.1));
    let second = token(&client.ask("WARP.LOCK.ACQUIRE l 300 WAIT 5000").await);
    assert!(second > first);
    let shorter = about("RENEW", "l", second) + " 200";
    let left: u64 = client.ask(&shorter).await.parse().unwrap();
    assert!(left <= 180, "{left}");
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let pod = Pod::on(Arc::new(MemoryBus::alone()), Origin(1), memory(), Settings::default());
    let mut client = pod.client().await;
    let long = format!("WARP.LOCK.ACQUIRE {} 1000", "x".repeat(513));
    for (command, words) in [
        ("WARP.LOCK.ACQUIRE l", "ERR wrong number of arguments"),
        ("WARP.LOCK.ACQUIRE l soon", "ERR a time is a whole number of milliseconds"),
        ("WARP.LOCK.ACQUIRE l 99", "ERR the TTL must be 100 to 60000 ms (spec.locks.maxTtl)"),
        ("WARP.LOCK.ACQUIRE l 60001", "ERR the TTL must be"),
        ("WARP.LOCK.ACQUIRE l 1000 WAIT", "ERR syntax error"),
        ("WARP.LOCK.ACQUIRE l 1000 NX", "ERR syntax error"),
        ("WARP.LOCK.RENEW l 1 x", "ERR a token is two numbers"),
        ("WARP.LOCK.RENEW l 1 2", "LOCKLOST the lock isn't held: this sidecar holds no such grant"),
        ("WARP.LOCK.RELEASE l 1 2", "LOCKLOST"),
        (&long, "ERR a lock's name has 1 to 512 bytes"),
    ] {
        let reply = client.ask(command).await;
        assert!(reply.starts_with(words), "{command}: {reply}");
    }
    // A bus of another kind has none.
    let without = Pod::of_memory();
    let mut client = without.client().await;
    let reply = client.ask("WARP.LOCK.ACQUIRE l 1000").await;
    assert_eq!(reply, "ERR bus scripted has no locks; use nats");
    // Within a transaction nobody can wait.
    client.ask("MULTI").await;
    client.ask("WARP.LOCK.ACQUIRE l 1000").await;
    assert!(client.ask("EXEC").await.contains("can't be part of a transaction"));
}

/// Two pods over one storage, and clients that take turns by `SET NX PX`; `release` says how one
/// whose lock holds `mine` gives it up, and that it did.
async fn plain_locks_exclude_each_other<F>(
    storage: impl Fn() -> Arc<dyn Storage>,
    release: impl Fn(Client, String) -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = Client> + Send,
{
    let server = Nats::start();
    let pods = [1, 2].map(|origin| {
        let settings = NatsSettings::new(vec![server.url()], TENANT.to_owned());
        let bus = NatsBus::start(NatsSettings { create_stream: true, ..settings }).unwrap();
        Pod::on(Arc::new(bus), Origin(origin), storage(), Settings::default())
    });
    let inside = Arc::new(AtomicU32::new(0));
    let mut workers = Vec::new();
    for at in 0..6 {
        let mut client = pods[at % 2].client().await;
        let (inside, release) = (Arc::clone(&inside), release.clone());
        workers.push(tokio::spawn(async move {
            for turn in 0..4 {
                let mine = format!("{at}-{turn}");
                // A copy of what the lock holds must do no harm.
                client.ask("GET plain").await;
                while client.ask(&format!("SET plain {mine} NX PX 20000")).await != "OK" {
                    sleep(Duration::from_millis(3)).await;
                }
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two at once");
                sleep(Duration::from_millis(2)).await;
                inside.fetch_sub(1, Ordering::SeqCst);
                client = release(client, mine).await;
            }
        }));
    }
    for worker in workers {
        worker.await.unwrap();
    }
    // Who doesn't own it doesn't delete it, and a crashed holder's is free after its time.
    let mut client = pods[0].client().await;
    assert_eq!(client.ask("SET plain crashed NX PX 300").await, "OK");
    let mut other = pods[1].client().await;
    other = release(other, "another".to_owned()).await;
    assert_eq!(other.ask("SET plain next NX PX 300").await, "(nil)");
    sleep(Duration::from_millis(350)).await;
    assert_eq!(other.ask("SET plain next NX PX 300").await, "OK");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_locks_over_redis_exclude_each_other_in_all_pods() {
    let redis = Redis::start();
    let storage = || -> Arc<dyn Storage> {
        Arc::new(RedisAdapter::connect(RedisSettings::new(redis.url(), None)).unwrap())
    };
    plain_locks_exclude_each_other(storage, |mut client, mine| async move {
        const SCRIPT: &[u8] = b"if redis.call('get', KEYS[1]) == ARGV[1] then \
            return redis.call('del', KEYS[1]) else return 0 end";
        client.send(&[b"EVAL", SCRIPT, b"1", b"plain", mine.as_bytes()]).await;
        let deleted = if mine == "another" { "0" } else { "1" };
        assert_eq!(client.receive().await, deleted, "{mine}");
        client
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_locks_over_postgres_exclude_each_other_in_all_pods() {
    let postgres = Postgres::start();
    let storage = || -> Arc<dyn Storage> {
        let settings = PostgresSettings::new(postgres.url(), "locked");
        Arc::new(PostgresAdapter::connect_lazy(settings).unwrap())
    };
    plain_locks_exclude_each_other(storage, |mut client, mine| async move {
        if mine != "another" {
            // Its time is far from over, so that it is still his.
            assert_eq!(client.ask("DEL plain").await, "1", "{mine}");
        }
        client
    })
    .await;
}
