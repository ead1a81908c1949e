//! Clients that keep copies of what they read: they are told of every change, whoever made it, and
//! never before what they read.

use std::sync::Arc;
use std::time::Duration;

use warp_crds::manifest;
use warp_sidecar::adapter::{
    MemoryAdapter, RedisAdapter, RedisSettings, StorageEvent, WhenFull, unix_millis,
};
use warp_sidecar::preset::Classes;
use warp_sidecar::resp::Settings;
use warp_sidecar::sync_bus::{BusEvent, Invalidation, Origin, Scope};

use crate::client::Client;
use crate::doubles::{ScriptedBus, ScriptedStorage};
use crate::pod::Pod;
use crate::servers::redis::Redis;

async fn resp3(pod: &Pod) -> Client {
    let mut client = pod.client().await;
    client.ask("HELLO 3").await;
    client
}

#[tokio::test]
async fn options_are_taken_and_refused_as_redis_does() {
    let pod = Pod::of_memory();
    let server = Redis::start();
    for protocol in ["2", "3"] {
        let (mut warp, mut redis) = pod.client_beside(&server, protocol).await;
        let lines = "
            CLIENT TRACKING|CLIENT TRACKING WHAT|CLIENT TRACKING ON WHAT|CLIENT TRACKINGINFO|CLIENT GETREDIR
            CLIENT TRACKINGINFO a|CLIENT CACHING|CLIENT CACHING YES|CLIENT CACHING NO|CLIENT CACHING x
            CLIENT TRACKING OFF|CLIENT TRACKING OFF WHAT|CLIENT TRACKING ON PREFIX a|CLIENT TRACKING ON PREFIX
            CLIENT TRACKING ON REDIRECT|CLIENT TRACKING ON REDIRECT x|CLIENT TRACKING ON REDIRECT 987654321
            CLIENT TRACKING ON OPTIN OPTOUT|CLIENT TRACKING ON BCAST OPTIN|CLIENT TRACKING ON BCAST OPTOUT
            CLIENT TRACKING ON BCAST PREFIX a PREFIX b PREFIX ab|CLIENT TRACKINGINFO
            CLIENT TRACKING ON|CLIENT TRACKINGINFO|CLIENT GETREDIR|CLIENT CACHING YES|CLIENT CACHING NO
            CLIENT TRACKING ON BCAST|CLIENT TRACKING ON OPTIN NOLOOP|CLIENT TRACKINGINFO|CLIENT CACHING NO
            CLIENT CACHING YES|CLIENT TRACKINGINFO|PING|CLIENT TRACKINGINFO|CLIENT TRACKING ON OPTOUT
            CLIENT TRACKING OFF|CLIENT TRACKINGINFO|CLIENT TRACKING ON OPTOUT|CLIENT CACHING NO
            CLIENT TRACKINGINFO|CLIENT CACHING YES|CLIENT TRACKING ON OPTIN|CLIENT TRACKING OFF
            CLIENT TRACKING ON BCAST PREFIX a|CLIENT TRACKINGINFO|CLIENT TRACKING ON BCAST PREFIX abc
            CLIENT TRACKING ON BCAST PREFIX b|CLIENT TRACKING ON OPTIN|CLIENT GETREDIR
            RESET|CLIENT TRACKINGINFO|CLIENT GETREDIR";
        for line in lines.split(['|', '\n']).map(str::trim).filter(|line| !line.is_empty()) {
            assert_eq!(warp.ask(line).await, redis.ask(line).await, "{line} in RESP{protocol}");
        }
    }
}

#[tokio::test]
async fn what_is_told_has_the_form_of_redis() {
    let pod = Pod::of_memory();
    let server = Redis::start();
    let mut seen = Vec::new();
    for address in [pod.address, ([127, 0, 0, 1], server.port).into()] {
        let mut reader = Client::connect(address).await;
        reader.ask("HELLO 3").await;
        let mut writer = Client::connect(address).await;
        writer.expect("MSET a 1 b 2 user:1 x -> OK\nHSET h f v -> 1").await;
        reader.expect("CLIENT TRACKING ON -> OK\nGET a -> '1'\nGET nothing -> (nil)").await;
        reader.expect("MGET b a -> ['1' '1']".replace("'1' '1'", "'2' '1'").as_str()).await;
        reader.expect("HGET h f -> 'v'").await;
        writer.expect("SET a 2 -> OK\nSET a 3 -> OK\nSET nothing x -> OK\nHSET h g w -> 1").await;
        writer.expect("DEL b -> 1").await;
        let mut messages = Vec::new();
        for _ in 0..4 {
            messages.push(reader.receive_raw().await);
        }
        reader.expect("GET a -> '3'").await;
        writer.expect("EXPIRE a 100 -> 1").await;
        messages.push(reader.receive_raw().await);
        writer.expect("FLUSHALL -> OK").await;
        messages.push(reader.receive_raw().await);
        reader
            .expect("CLIENT TRACKING OFF -> OK\nCLIENT TRACKING ON BCAST PREFIX user: -> OK")
            .await;
        writer.expect("SET user:1 x -> OK\nSET other y -> OK\nSET user:2 x -> OK").await;
        messages.push(reader.receive_raw().await);
        messages.push(reader.receive_raw().await);
        let messages: Vec<_> =
            messages.iter().map(|message| message.escape_ascii().to_string()).collect();
        seen.push(messages);
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn a_resp2_client_has_another_connection_told() {
    let pod = Pod::of_memory();
    let server = Redis::start();
    let mut seen = Vec::new();
    for address in [pod.address, ([127, 0, 0, 1], server.port).into()] {
        let mut listener = Client::connect(address).await;
        let id = listener.ask("CLIENT ID").await;
        listener.ask("SUBSCRIBE __redis__:invalidate").await;
        let mut reader = Client::connect(address).await;
        reader.expect(&format!("CLIENT TRACKING ON REDIRECT {id} -> OK")).await;
        assert_eq!(reader.ask("CLIENT GETREDIR").await, id);
        reader
            .expect("SET k v -> OK\nGET k -> 'v'\nSET k w -> OK\nGET k -> 'w'\nFLUSHALL -> OK")
            .await;
        let first = listener.receive_raw().await;
        seen.push((first, listener.receive_raw().await));
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn the_end_of_who_was_to_be_told_is_told() {
    let pod = Pod::of_memory();
    let other = resp3(&pod).await;
    let mut client = resp3(&pod).await;
    client.expect("CLIENT TRACKING ON REDIRECT 1 -> OK\nSET k v -> OK\nGET k -> 'v'").await;
    drop(other);
    while client.ask("CLIENT LIST ID 1").await != "\"\"" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    client.expect("SET k w -> OK").await;
    assert_eq!(client.receive().await, ">['tracking-redir-broken' 1]");
    assert!(client.ask("CLIENT TRACKINGINFO").await.contains("'broken_redirect'"));
}

#[tokio::test]
async fn a_key_that_expires_in_memory_is_told() {
    let pod = Pod::of_memory();
    let mut reader = resp3(&pod).await;
    reader.expect("SET k v PX 300 -> OK\nCLIENT TRACKING ON -> OK\nGET k -> 'v'").await;
    assert_eq!(reader.receive().await, ">['invalidate' ['k']]");
    reader.expect("GET k -> (nil)").await;
}

#[tokio::test]
async fn what_a_transaction_reads_and_writes_is_told() {
    let pod = Pod::of_memory();
    let mut reader = resp3(&pod).await;
    let mut writer = pod.client().await;
    reader.expect("MSET a 1 b 2 -> OK\nCLIENT TRACKING ON -> OK").await;
    reader.expect("MULTI -> OK\nGET a -> QUEUED\nGET b -> QUEUED\nEXEC -> ['1' '2']").await;
    writer.expect("MULTI -> OK\nSET a 3 -> QUEUED\nDEL b -> QUEUED\nEXEC -> [OK 1]").await;
    for key in ["a", "b"] {
        assert_eq!(reader.receive().await, format!(">['invalidate' ['{key}']]"));
    }
}

#[tokio::test]
async fn a_key_that_made_room_for_others_is_told() {
    let storage = MemoryAdapter::new(256 << 10, WhenFull::Evict, unix_millis);
    let pod = Pod::start(Arc::new(storage), Settings::default());
    let mut reader = resp3(&pod).await;
    let mut writer = pod.client().await;
    reader.expect("SET k v -> OK\nCLIENT TRACKING ON -> OK\nGET k -> 'v'").await;
    let mut n = 0;
    // Which looks without using it.
    while writer.ask("TYPE k").await == "string" {
        assert!(n < 10_000, "nothing makes room");
        writer.expect(&format!("SET key:{n} {n:01024} -> OK")).await;
        // What is read isn't the first to go, as the key isn't.
        writer.ask(&format!("GET key:{n}")).await;
        n += 1;
    }
    assert_eq!(reader.receive().await, ">['invalidate' ['k']]");
}

#[tokio::test]
async fn figures_show_who_tracks() {
    let pod = Pod::of_memory();
    let mut reader = resp3(&pod).await;
    reader.expect("CLIENT TRACKING ON BCAST NOLOOP -> OK").await;
    assert!(reader.ask("INFO clients").await.contains("tracking_clients:1"));
    let line = reader.ask("CLIENT INFO").await;
    assert!(line.contains(" flags=tB ") && line.contains(" redir=0 "), "{line}");
    reader.expect("CLIENT TRACKING OFF -> OK").await;
    assert!(reader.ask("INFO clients").await.contains("tracking_clients:0"));
}

/// A pod whose bus and storage do as they are told, with a client that keeps a copy of `k`.
async fn scripted() -> (Arc<ScriptedStorage>, Arc<ScriptedBus>, Pod, Client) {
    let storage = ScriptedStorage::new();
    let bus = ScriptedBus::new();
    let pod = Pod::on(bus.clone(), Origin(1), storage.clone(), Settings::default());
    storage.put_behind("k", "v");
    let mut client = resp3(&pod).await;
    client.expect("CLIENT TRACKING ON -> OK\nGET k -> 'v'").await;
    (storage, bus, pod, client)
}

#[tokio::test]
async fn changes_that_others_tell_are_told() {
    let (storage, bus, pod, mut client) = scripted().await;
    let told = ">['invalidate' ['k']]";
    storage.feed.send(StorageEvent::Changed(vec!["k".into()])).await.unwrap();
    assert_eq!(client.receive().await, told);

    client.expect("GET k -> 'v'").await;
    let scope = Scope::Keys(vec!["k".into()]);
    let invalidation = Invalidation { origin: Origin(2), sequence: 1, scope };
    bus.tell(BusEvent::Message { position: 1, replayed: false, invalidation }).await;
    assert_eq!(client.receive().await, told);

    client.expect("GET k -> 'v'").await;
    pod.client().await.expect("SET k w -> OK").await;
    assert_eq!(client.receive().await, told);

    client.expect("GET k -> 'w'").await;
    let (epoch, reason) = ("f".to_owned(), "told to".to_owned());
    bus.tell(BusEvent::Reset { reason, epoch, position: 9 }).await;
    assert_eq!(client.receive().await, ">['invalidate' (nil)]");
    storage.feed.send(StorageEvent::AnythingChanged).await.unwrap();
    assert_eq!(client.receive().await, ">['invalidate' (nil)]");
}

#[tokio::test]
async fn a_change_is_told_behind_the_read_that_it_crosses() {
    let (storage, _bus, _pod, mut client) = scripted().await;
    storage.close();
    client.send_raw(b"GET other\r\n").await;
    // Told once the read has been asked for.
    while storage.calls.load(std::sync::atomic::Ordering::SeqCst) < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    storage.feed.send(StorageEvent::Changed(vec!["other".into()])).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    storage.open();
    assert_eq!(client.receive().await, "(nil)");
    assert_eq!(client.receive().await, ">['invalidate' ['other']]");
}

#[tokio::test]
async fn own_writes_are_told_unless_that_is_not_wanted() {
    let (_storage, _bus, pod, mut client) = scripted().await;
    client.expect("SET k w -> OK").await;
    assert_eq!(client.receive().await, ">['invalidate' ['k']]");
    client
        .expect("CLIENT TRACKING ON NOLOOP -> OK\nGET k -> 'w'\nSET k x -> OK\nGET k -> 'x'")
        .await;
    pod.client().await.expect("SET k y -> OK").await;
    assert_eq!(client.receive().await, ">['invalidate' ['k']]");
}

#[tokio::test]
async fn over_a_redis_what_others_write_there_is_told() {
    let server = Redis::start();
    let storage = RedisAdapter::connect(RedisSettings::new(server.url(), None)).unwrap();
    let pod = Pod::start(Arc::new(storage), Settings::default());
    let mut client = resp3(&pod).await;
    let mut outside = Client::connect(([127, 0, 0, 1], server.port).into()).await;
    outside.expect("SET k v -> OK\nHSET h f v -> 1\nRPUSH l 1 -> 1\nXADD s 1-1 f v -> '1-1'").await;
    client.expect("CLIENT TRACKING ON -> OK").await;
    for (read, write, key) in [
        ("GET k", "SET k w", "k"),
        ("HGETALL h", "HSET h f w", "h"),
        ("LRANGE l 0 -1", "RPUSH l 2", "l"),
        ("XLEN s", "XADD s 2-1 f v", "s"),
    ] {
        client.ask(read).await;
        outside.ask(write).await;
        assert_eq!(client.receive().await, format!(">['invalidate' ['{key}']]"), "{write}");
    }
}

/// Has every key be of a class with these rules.
fn rule(pod: &Pod, rules: &str) {
    let text = format!(
        "kind: WarpCluster\napiVersion: warpcache.dev/v1alpha1\nmetadata: {{name: c}}\n\
         spec: {{defaults: {{{rules}}}}}\n"
    );
    pod.engine.exchange_classes(Classes::compile(&manifest::parse(&text).unwrap()));
}

#[tokio::test]
async fn a_copy_ends_with_the_ttl_of_its_class() {
    let (_storage, _bus, pod, mut client) = scripted().await;
    rule(&pod, "mode: StrongLocal, ttl: 400ms");
    assert_eq!(client.receive().await, ">['invalidate' (nil)]", "the TTL may have changed");
    client.expect("GET other -> (nil)\nGET k -> 'v'").await;
    let mut told = [client.receive().await, client.receive().await];
    told.sort();
    assert_eq!(told, [">['invalidate' ['k']]", ">['invalidate' ['other']]"]);
}

#[tokio::test]
async fn a_copy_of_a_distributed_class_ends_while_the_bus_is_not_live() {
    let (_storage, bus, pod, mut client) = scripted().await;
    rule(&pod, "mode: EventualDistributed");
    assert_eq!(client.receive().await, ">['invalidate' (nil)]", "the mode has changed");
    client.expect("GET k -> 'v'").await;
    assert_eq!(client.receive().await, ">['invalidate' ['k']]");
    bus.prove().await;
    assert_eq!(client.receive().await, ">['invalidate' (nil)]", "the bus is joined");
    client.expect("GET k -> 'v'").await;
    // Without another proof.
    assert_eq!(client.receive().await, ">['invalidate' ['k']]");
}
