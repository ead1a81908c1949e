//! MULTI and WATCH on the sidecar's own memory, and over PostgreSQL.

use std::sync::Arc;

use warp_sidecar::adapter::{PostgresAdapter, PostgresSettings};
use warp_sidecar::resp::Settings;

use crate::client::Client;
use crate::pod::Pod;
use crate::servers::postgres::Postgres;

async fn two() -> (Pod, Client, Client) {
    let pod = Pod::of_memory();
    let (one, other) = (pod.client().await, pod.client().await);
    (pod, one, other)
}

#[tokio::test]
async fn what_is_queued_is_done_at_once_and_answered_as_a_list() {
    let (_pod, mut client, mut other) = two().await;
    client
        .expect(
            "MULTI          -> OK
             SET k v        -> QUEUED
             INCR n         -> QUEUED
             LPUSH k x      -> QUEUED
             GET k          -> QUEUED",
        )
        .await;
    other.expect("EXISTS k n -> 0").await;
    client
        .expect(
            "EXEC           -> [OK 1 WRONGTYPE Operation against a key holding the wrong kind of value 'v']
             EXEC           -> ERR EXEC without MULTI",
        )
        .await;
    other.expect("MGET k n -> ['v' '1']").await;
}

#[tokio::test]
async fn a_refused_command_spoils_the_transaction() {
    let (_pod, mut client, _) = two().await;
    client
        .expect(
            "MULTI          -> OK
             MULTI          -> ERR MULTI calls can not be nested
             WATCH k        -> ERR WATCH inside MULTI is not allowed
             SET k          -> ERR wrong number of arguments for 'set' command
             SET k v        -> QUEUED
             EXEC           -> EXECABORT Transaction discarded because of previous errors.
             GET k          -> (nil)
             MULTI          -> OK
             SET k v        -> QUEUED
             DISCARD        -> OK
             DISCARD        -> ERR DISCARD without MULTI
             GET k          -> (nil)
             MULTI          -> OK
             SET k v        -> QUEUED
             RESET          -> RESET
             EXEC           -> ERR EXEC without MULTI",
        )
        .await;
}

#[tokio::test]
async fn a_watched_key_that_another_writes_stops_the_transaction() {
    let (_pod, mut client, mut other) = two().await;
    for (write, stops) in [
        ("SET k w", true),
        ("DEL k", true),
        ("EXPIRE k 100", true),
        ("SET elsewhere w", false),
        ("GET k", false),
        ("FLUSHALL", true),
    ] {
        client.expect("SET k v -> OK\nWATCH k none -> OK").await;
        other.ask(write).await;
        client.expect("MULTI -> OK\nGET k -> QUEUED").await;
        let done = client.ask("EXEC").await;
        assert_eq!(done, if stops { "(nil array)" } else { "['v']" }, "{write}");
    }
    client.expect("SET k v -> OK\nWATCH k -> OK\nUNWATCH -> OK").await;
    other.ask("SET k w").await;
    client.expect("MULTI -> OK\nGET k -> QUEUED\nEXEC -> ['w']").await;
}

#[tokio::test]
async fn a_watched_key_that_ends_stops_the_transaction() {
    let (_pod, mut client, _) = two().await;
    client.expect("SET k v PX 20 -> OK\nWATCH k -> OK\nMULTI -> OK\nPING -> QUEUED").await;
    tokio::time::sleep(std::time::Duration::from_millis(60)).await;
    client.expect("EXEC -> (nil array)").await;
}

#[tokio::test]
async fn a_client_that_leaves_watches_nothing_any_more() {
    let (_pod, mut client, mut other) = two().await;
    other.expect("WATCH k -> OK").await;
    drop(other);
    client
        .expect("SET k v -> OK\nWATCH k -> OK\nMULTI -> OK\nGET k -> QUEUED\nEXEC -> ['v']")
        .await;
}

/// Two pods over one PostgreSQL.
async fn over_postgres() -> (Postgres, [Pod; 2], Client, Client) {
    let server = Postgres::start();
    let pod = || {
        let settings = PostgresSettings::new(server.url(), "t");
        let storage = PostgresAdapter::connect_lazy(settings).unwrap();
        Pod::start(Arc::new(storage), Settings::default())
    };
    let pods = [pod(), pod()];
    let (one, other) = (pods[0].client().await, pods[1].client().await);
    (server, pods, one, other)
}

#[tokio::test]
async fn over_postgres_a_transaction_is_one_of_the_database() {
    let (_server, _pods, mut client, mut other) = over_postgres().await;
    client
        .expect(
            "SET gone v     -> OK
             MULTI          -> OK
             SET k v EX 100 -> QUEUED
             INCR n         -> QUEUED
             INCR k         -> QUEUED
             DEL gone none  -> QUEUED
             GET k          -> QUEUED
             TTL k          -> QUEUED
             EXEC           -> [OK 1 ERR value is not an integer or out of range 1 'v' 100]
             GET gone       -> (nil)",
        )
        .await;
    other.expect("MGET k n gone -> ['v' '1' (nil)]").await;
    client
        .expect(
            "MULTI          -> OK
             LPUSH l x      -> ERR class 'default' keeps its keys as rows of a SQL table (storage postgres), which hold strings only: LPUSH needs storage memory or redis
             EXEC           -> EXECABORT Transaction discarded because of previous errors.
             MULTI          -> OK
             DBSIZE         -> ERR DBSIZE names no keys, and a transaction over a SQL table locks those that it names
             DISCARD        -> OK",
        )
        .await;
}

#[tokio::test]
async fn over_postgres_commands_see_what_the_queued_ones_before_them_did() {
    let (_server, pods, mut client, _) = over_postgres().await;
    client.expect("SET k v -> OK").await;
    client.expect("GET k -> 'v'").await;
    assert!(pods[0].engine.cached(b"k", pods[0].engine.now()).is_some(), "there is a copy");
    client
        .expect(
            "MULTI          -> OK
             APPEND k x     -> QUEUED
             STRLEN k       -> QUEUED
             GETRANGE k 0 9 -> QUEUED
             EXEC           -> [2 2 'vx']
             STRLEN k       -> 2",
        )
        .await;
}

#[tokio::test]
async fn over_postgres_a_watched_key_that_another_pod_writes_stops_the_transaction() {
    let (_server, _pods, mut client, mut other) = over_postgres().await;
    client.expect("SET k v -> OK\nWATCH k none -> OK").await;
    other.expect("SET k w -> OK").await;
    client.expect("MULTI -> OK\nSET k mine -> QUEUED\nEXEC -> (nil array)").await;
    other.expect("GET k -> 'w'").await;
    client.expect("WATCH k none -> OK\nMULTI -> OK\nAPPEND k x -> QUEUED\nEXEC -> [2]").await;
    client.expect("GET k -> 'wx'").await;
}

#[tokio::test]
async fn over_postgres_counters_lose_nothing_to_transactions_that_cross() {
    let (_server, pods, mut client, _) = over_postgres().await;
    let add = |pod: usize, keys: [&'static str; 2]| {
        let address = pods[pod].address;
        async move {
            let mut client = Client::connect(address).await;
            for _ in 0..25 {
                client.expect("MULTI -> OK").await;
                for key in keys {
                    assert_eq!(client.ask(&format!("INCR {key}")).await, "QUEUED");
                }
                client.ask("EXEC").await;
            }
        }
    };
    tokio::join!(add(0, ["a", "b"]), add(1, ["b", "a"]), add(0, ["b", "a"]), add(1, ["a", "b"]),);
    client.expect("MULTI -> OK\nGET a -> QUEUED\nGET b -> QUEUED\nEXEC -> ['100' '100']").await;
}
