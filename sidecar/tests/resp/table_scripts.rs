//! Scripts over PostgreSQL: each is a transaction of the database.

use std::sync::Arc;
use std::time::Duration;

use warp_crds::policy::Mode;
use warp_sidecar::adapter::{PostgresAdapter, PostgresSettings};
use warp_sidecar::resp::Settings;
use warp_sidecar::sync_bus::{Origin, Scope};

use crate::client::Client;
use crate::doubles::ScriptedBus;
use crate::pod::Pod;
use crate::servers::postgres::Postgres;

/// Raises the first key, copies it to the second and removes the third.
const RAISE_AND_COPY: &str = "
        local before = redis.call('GET', KEYS[1])
        redis.call('INCRBY', KEYS[1], ARGV[1])
        redis.call('SET', KEYS[2], before, 'PX', 100000)
        redis.call('DEL', KEYS[3])
        return {before, redis.call('GET', KEYS[1]), redis.call('MGET', unpack(KEYS)), redis.call('PTTL', KEYS[2])}";

/// Raises each key.
const RAISE: &str = "
        for _, key in ipairs(KEYS) do redis.call('SET', key, 1 + (redis.call('GET', key) or 0)) end
        return redis.call('MGET', unpack(KEYS))";

/// Raises the first key and makes the second the same: they never differ.
const BOTH: &str = "
        local n = 1 + redis.call('GET', KEYS[1])
        redis.call('SET', KEYS[1], n)
        local s = 0 for i = 1, 300000 do s = s + i end
        redis.call('SET', KEYS[2], n)
        return n";

fn pod(server: &Postgres) -> Pod {
    Pod::start(storage(server), Settings::default())
}

fn storage(server: &Postgres) -> Arc<PostgresAdapter> {
    Arc::new(PostgresAdapter::connect_lazy(PostgresSettings::new(server.url(), "t")).unwrap())
}

async fn eval(client: &mut Client, source: &str, rest: &[&str]) -> String {
    let mut words: Vec<&[u8]> = vec![b"EVAL", source.as_bytes()];
    words.extend(rest.iter().map(|word| word.as_bytes()));
    client.send(&words).await;
    client.receive().await
}

#[tokio::test]
async fn a_script_reads_and_writes_its_keys() {
    let server = Postgres::start();
    let pods = [pod(&server), pod(&server)];
    let (mut client, mut other) = (pods[0].client().await, pods[1].client().await);
    client.expect("SET k 1 -> OK\nGET k -> '1'").await;
    client.expect("SET gone v -> OK").await;
    let reply = eval(&mut client, RAISE_AND_COPY, &["3", "k", "copy", "gone", "41"]).await;
    assert_eq!(reply, "['1' '42' ['42' '1' (nil)] 100000]");
    other.expect("MGET k copy gone -> ['42' '1' (nil)]").await;
    // The copies of its own pod are forgotten.
    client.expect("GET k -> '42'\nGET gone -> (nil)").await;
    let sha = client.ask("SCRIPT LOAD return(redis.call('GET',KEYS[1]))").await;
    let sha = sha.trim_matches('\'');
    client
        .expect(&format!(
            "EVALSHA {sha} 1 k -> '42'
             EVALSHA_RO {sha} 1 k -> '42'
             SCRIPT EXISTS {sha} -> [1]
             EVALSHA {} 1 k -> NOSCRIPT No matching script. Please use EVAL.
             EVAL return(ARGV[1]) 0 a -> 'a'",
            "0".repeat(40),
        ))
        .await;
}

#[tokio::test]
async fn what_a_script_may_not_do_is_said_and_what_it_did_before_is_kept() {
    let server = Postgres::start();
    let pod = pod(&server);
    let mut client = pod.client().await;
    let says = async |client: &mut Client, source: &str, keys: &[&str], words: &str| {
        let count = keys.len().to_string();
        let rest: Vec<&str> = std::iter::once(count.as_str()).chain(keys.iter().copied()).collect();
        let reply = eval(client, source, &rest).await;
        assert!(reply.starts_with(words), "{source}: {reply}");
    };
    let other_key = "ERR a script over a SQL table (storage postgres) has the keys that its KEYS name, and 'b' isn't one of them script: ";
    says(&mut client, "return redis.call('GET', 'b')", &["a"], other_key).await;
    says(&mut client, "return redis.call('MSET', 'a', 1, 'b', 2)", &["a"], other_key).await;
    says(&mut client, "return redis.call('DBSIZE')", &["a"], "ERR DBSIZE names no keys, and a")
        .await;
    let strings_only = "ERR class 'default' keeps its keys as rows of a SQL table (storage postgres), which hold strings only: LPUSH needs storage memory or redis script: ";
    says(&mut client, "return redis.call('LPUSH', KEYS[1], 'x')", &["a"], strings_only).await;
    client.expect("EXISTS a b -> 0").await;
    // As over every storage: what a script has written before it failed stays, for it might have
    // answered an error on purpose.
    says(
        &mut client,
        "redis.call('SET', KEYS[1], 1) error('mine')",
        &["a"],
        "ERR user_script:1: mine",
    )
    .await;
    client.expect("GET a -> '1'").await;
    let reply = eval(&mut client, "return redis.pcall('GET', 'b').err", &["1", "a"]).await;
    assert!(reply.contains("isn't one of them"), "{reply}");
}

#[tokio::test]
async fn scripts_that_cross_lose_nothing() {
    let server = Postgres::start();
    let pods = [pod(&server), pod(&server)];
    let raise = |pod: usize, keys: [&'static str; 2]| {
        let address = pods[pod].address;
        async move {
            let mut client = Client::connect(address).await;
            for _ in 0..25 {
                let reply = eval(&mut client, RAISE, &["2", keys[0], keys[1]]).await;
                assert!(reply.starts_with("['"), "{reply}");
            }
        }
    };
    tokio::join!(
        raise(0, ["a", "b"]),
        raise(1, ["b", "a"]),
        raise(0, ["b", "a"]),
        raise(1, ["a", "b"]),
    );
    pods[0].client().await.expect("MULTI -> OK\nMGET a b -> QUEUED\nEXEC -> [['100' '100']]").await;
}

#[tokio::test]
async fn a_script_may_be_part_of_a_transaction() {
    let server = Postgres::start();
    let pod = pod(&server);
    let mut client = pod.client().await;
    client
        .expect(
            "WATCH a -> OK
             MULTI -> OK
             SET a 1 -> QUEUED
             EVAL return(redis.call('INCR',KEYS[1])) 1 a -> QUEUED
             EVAL return(redis.call('GET',KEYS[1])) 1 b -> QUEUED
             EXEC -> [OK 2 (nil)]
             GET a -> '2'",
        )
        .await;
}

#[tokio::test]
async fn peers_are_told_of_what_a_script_has_written_and_of_nothing_else() {
    let server = Postgres::start();
    let bus = ScriptedBus::new();
    let settings = Settings::default();
    let mode = Mode::StrongDistributed;
    let pod = Pod::of_mode(mode, bus.clone(), Origin(1), storage(&server), settings);
    bus.prove().await;
    let mut client = pod.client().await;
    client.expect("MSET a 1 b 2 c 3 -> OK").await;
    bus.published.lock().clear();
    let source = "redis.call('GET', KEYS[1]) redis.call('APPEND', KEYS[2], 'x') return redis.call('SET', KEYS[3], 3)";
    assert_eq!(eval(&mut client, source, &["3", "a", "b", "c"]).await, "OK");
    let told: Vec<Scope> = bus.published.lock().iter().map(|told| told.scope.clone()).collect();
    assert_eq!(told, [Scope::Keys(vec!["b".into()])], "what is as it was isn't written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_dies_leaves_nothing_half_done() {
    let server = Postgres::start();
    let pod = pod(&server);
    let mut client = pod.client().await;
    client.expect("MSET a 0 b 0 -> OK").await;
    let address = pod.address;
    let writer = tokio::spawn(async move {
        let mut client = Client::connect(address).await;
        let mut failed = false;
        loop {
            let reply = eval(&mut client, BOTH, &["2", "a", "b"]).await;
            match reply.parse::<u64>() {
                Ok(number) if failed => return number,
                Ok(_) => {}
                Err(_) => {
                    assert!(reply.starts_with("STORAGE"), "{reply}");
                    failed = true;
                }
            }
            tokio::task::yield_now().await;
        }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    server.kill();
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.start_again();
    let done = tokio::time::timeout(Duration::from_mins(1), writer).await.unwrap().unwrap();
    let reply = client.ask("MGET a b").await;
    assert_eq!(reply, format!("['{done}' '{done}']"));
    assert!(done > 1);
}
