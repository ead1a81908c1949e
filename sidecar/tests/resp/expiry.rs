//! Keys that end while nobody asks: their memory comes back, and who keeps a copy is told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use warp_sidecar::adapter::{RedisAdapter, RedisSettings};
use warp_sidecar::resp::Settings;

use crate::client::{Client, command};
use crate::pod::Pod;
use crate::servers::redis::Redis;

/// Waits until the pod's memory holds `entries`, without asking for a key.
async fn until_held(pod: &Pod, entries: u64) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while pod.engine.figures().entries != entries {
        assert!(Instant::now() < deadline, "{:?}", pod.engine.figures());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn keys_of_the_memory_storage_end_by_themselves() {
    let pod = Pod::of_memory();
    let mut client = pod.client().await;
    let empty = pod.engine.figures().bytes;
    client.expect("SET stays v -> OK\nRPUSH list a b c -> 3\nPEXPIRE list 300 -> 1").await;
    let lasting = pod.engine.figures().bytes;
    let mut pipeline = Vec::new();
    for at in 0..20_000 {
        let key = format!("key {at}");
        pipeline.extend(command(&[b"SET", key.as_bytes(), &[b'v'; 100], b"PX", b"400"]));
    }
    client.send_raw(&pipeline).await;
    for _ in 0..20_000 {
        assert_eq!(client.receive_raw().await, "+OK\r\n");
    }
    let full = pod.engine.figures().bytes;
    assert!(full > lasting + 20_000 * 100);
    until_held(&pod, 1).await;
    let left = pod.engine.figures().bytes;
    assert!(left - empty < (full - empty) / 100, "{left} of {full} bytes are left");
    assert!(client.ask("INFO stats").await.contains("expired_keys:20001"));
    assert!(client.ask("INFO keyspace").await.contains("db0:keys=1,expires=0,"));
    client.expect("GET stays -> 'v'").await;
}

#[tokio::test]
async fn copies_of_what_the_storage_forgets_are_given_up() {
    let server = Redis::start();
    let storage = RedisAdapter::connect(RedisSettings::new(server.url(), None)).unwrap();
    let pod = Pod::start(Arc::new(storage), Settings::default());
    let mut client = pod.client().await;
    client.expect("SET k v PX 500 -> OK\nSET stays v -> OK").await;
    client.expect("GET k -> 'v'\nGET stays -> 'v'").await;
    until_held(&pod, 2).await;
    until_held(&pod, 1).await;
    client.expect("GET stays -> 'v'\nGET k -> (nil)").await;
}

#[tokio::test]
async fn who_keeps_a_copy_is_told_of_its_end_even_in_broadcasting_mode() {
    let pod = Pod::of_memory();
    let mut writer = pod.client().await;
    let mut all = pod.client().await;
    let mut reader: Client = pod.client().await;
    for client in [&mut all, &mut reader] {
        client.ask("HELLO 3").await;
    }
    all.expect("CLIENT TRACKING ON BCAST PREFIX told: -> OK").await;
    reader.expect("CLIENT TRACKING ON -> OK").await;
    writer.expect("SET told:k v PX 300 -> OK").await;
    reader.expect("GET told:k -> 'v'").await;
    assert_eq!(all.receive().await, ">['invalidate' ['told:k']]");
    assert_eq!(all.receive().await, ">['invalidate' ['told:k']]");
    assert_eq!(reader.receive().await, ">['invalidate' ['told:k']]");
    // By who comes upon it, too.
    writer.expect("SET told:k v PX 20 -> OK").await;
    assert_eq!(all.receive().await, ">['invalidate' ['told:k']]");
    tokio::time::sleep(Duration::from_millis(40)).await;
    writer.expect("GET told:k -> (nil)").await;
    assert_eq!(all.receive().await, ">['invalidate' ['told:k']]");
}
