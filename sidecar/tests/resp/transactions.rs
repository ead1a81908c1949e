//! MULTI and WATCH on the sidecar's own memory.

use crate::client::Client;
use crate::pod::Pod;

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
        assert_eq!(done, if stops { "(nil)" } else { "['v']" }, "{write}");
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
    client.expect("EXEC -> (nil)").await;
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
