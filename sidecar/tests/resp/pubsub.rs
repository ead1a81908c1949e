//! Channels of clients whose storage has none: what is published reaches who is subscribed, in
//! this pod and in the others, in the words of Redis.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use warp_sidecar::resp::Settings;
use warp_sidecar::sync_bus::{MemoryBus, NatsBus, NatsSettings, Origin, SyncBus};

use crate::client::{Client, command};
use crate::doubles::ScriptedStorage;
use crate::pod::{Pod, memory};
use crate::servers::nats::Nats;
use crate::servers::redis::Redis;

/// Sends each command to Warp and to a Redis: the same replies come back, as many as stand before
/// it; 1 if nothing does.
async fn same_as_redis(pod: &Pod, server: &Redis, protocol: &str, script: &str) {
    let mut warp = pod.client().await;
    let mut redis = Client::connect(([127, 0, 0, 1], server.port).into()).await;
    for client in [&mut warp, &mut redis] {
        client.ask(&format!("HELLO {protocol}")).await;
    }
    for line in script.split(['|', '\n']).map(str::trim).filter(|line| !line.is_empty()) {
        let (count, words) = match line.split_once(' ') {
            Some((count, words)) if count.parse::<u8>().is_ok() => (count.parse().unwrap(), words),
            _ => (1, line),
        };
        let words: Vec<&[u8]> = words.split_whitespace().map(str::as_bytes).collect();
        warp.send(&words).await;
        redis.send(&words).await;
        for _ in 0..count {
            let (here, there) = (warp.receive_raw().await, redis.receive_raw().await);
            assert_eq!(
                here.escape_ascii().to_string(),
                there.escape_ascii().to_string(),
                "{line} in RESP{protocol}"
            );
        }
    }
}

#[tokio::test]
async fn confirmations_and_refusals_are_those_of_redis() {
    let pod = Pod::of_memory();
    let server = Redis::start();
    let script = "
        PUBSUB CHANNELS|PUBSUB NUMPAT|PUBSUB NUMSUB|PUBSUB NUMSUB a b|PUBSUB SHARDNUMSUB a
        PUBSUB|PUBSUB WHAT|PUBSUB CHANNELS a b|PUBSUB NUMPAT a|PUBSUB SHARDCHANNELS
        PUBLISH c|PUBLISH c m|SPUBLISH c m|SUBSCRIBE|PSUBSCRIBE|SSUBSCRIBE
        UNSUBSCRIBE|PUNSUBSCRIBE|SUNSUBSCRIBE|UNSUBSCRIBE never
        2 SUBSCRIBE a b|2 SUBSCRIBE b c|PSUBSCRIBE x*|2 SSUBSCRIBE s t|PING|PING text|PING a b|SSUBSCRIBE s
        UNSUBSCRIBE b|UNSUBSCRIBE b|SUNSUBSCRIBE s|SUNSUBSCRIBE s|PUNSUBSCRIBE y*|PUNSUBSCRIBE
        UNSUBSCRIBE a|UNSUBSCRIBE|PING|SUNSUBSCRIBE|PING|GET nothing
        SUBSCRIBE a|RESET|PING|GET nothing|UNSUBSCRIBE";
    same_as_redis(&pod, &server, "2", script).await;
    same_as_redis(&pod, &server, "3", &script.replace("RESET", "PING")).await;
    let refused = "
        SUBSCRIBE a|GET k|CLIENT LIST|client id|PUBLISH a m|NOSUCH a|GET|PUBSUB NUMPAT|HELLO 3|SET a b
        UNSUBSCRIBE|GET nothing|SSUBSCRIBE a|GET nothing|SUNSUBSCRIBE|GET nothing|QUIT";
    same_as_redis(&pod, &server, "2", refused).await;
    let allowed = "
        SUBSCRIBE a|GET nothing|PUBSUB CHANNELS|PUBSUB NUMSUB a|PUBSUB CHANNELS [^a]|PSUBSCRIBE *
        PUBSUB NUMPAT|SSUBSCRIBE s|PUBSUB SHARDCHANNELS|PUBSUB SHARDNUMSUB s t";
    same_as_redis(&pod, &server, "3", allowed).await;
}

#[tokio::test]
async fn what_is_published_has_the_form_of_redis() {
    let pod = Pod::of_memory();
    let server = Redis::start();
    for protocol in ["2", "3"] {
        let mut seen = Vec::new();
        for address in [pod.address, ([127, 0, 0, 1], server.port).into()] {
            let mut subscriber = Client::connect(address).await;
            subscriber.ask(&format!("HELLO {protocol}")).await;
            for line in ["SUBSCRIBE news.a", "PSUBSCRIBE news.*", "SSUBSCRIBE news.a"] {
                subscriber.ask(line).await;
            }
            let mut publisher = Client::connect(address).await;
            publisher
                .expect(
                    "PUBLISH news.a 1  -> 2
                     PUBLISH news.b 2  -> 1
                     SPUBLISH news.a 3 -> 1
                     PUBLISH other 4   -> 0
                     SPUBLISH news.b 5 -> 0",
                )
                .await;
            let mut messages = Vec::new();
            for _ in 0..4 {
                messages.push(subscriber.receive_raw().await.escape_ascii().to_string());
            }
            seen.push(messages);
        }
        assert_eq!(seen[0], seen[1], "RESP{protocol}");
    }
}

#[tokio::test]
async fn others_see_who_is_subscribed() {
    let pod = Pod::of_memory();
    let mut subscriber = pod.client().await;
    let mut other = pod.client().await;
    subscriber.send_raw(b"SUBSCRIBE a b\r\nPSUBSCRIBE x*\r\nSSUBSCRIBE s\r\n").await;
    for _ in 0..4 {
        subscriber.receive().await;
    }
    let list = other.ask("CLIENT LIST TYPE pubsub").await;
    assert!(list.contains("flags=P ") && list.contains(" sub=2 psub=1 ssub=1 "), "{list}");
    let info = other.ask("INFO stats").await;
    for line in ["pubsub_channels:2", "pubsub_patterns:1", "pubsubshard_channels:1"] {
        assert!(info.contains(line), "{line} in {info}");
    }
    drop(subscriber);
    while other.ask("PUBSUB NUMPAT").await != "0" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(other.ask("PUBSUB CHANNELS").await, "[]");
}

#[tokio::test]
async fn a_publisher_that_is_subscribed_gets_its_reply_first() {
    let pod = Pod::of_memory();
    let mut client = pod.client().await;
    client.ask("HELLO 3").await;
    client.expect("SUBSCRIBE c -> >['subscribe' 'c' 1]\nPUBLISH c m -> 1").await;
    assert_eq!(client.receive().await, ">['message' 'c' 'm']");
}

#[tokio::test]
async fn subscribing_is_confirmed_to_a_client_that_wants_no_replies() {
    let pod = Pod::of_memory();
    let server = Redis::start();
    for address in [pod.address, ([127, 0, 0, 1], server.port).into()] {
        let mut client = Client::connect(address).await;
        client.send_raw(b"CLIENT REPLY OFF\r\nPING\r\nSUBSCRIBE c\r\n").await;
        assert_eq!(client.receive().await, "['subscribe' 'c' 1]");
        Client::connect(address).await.expect("PUBLISH c m -> 1").await;
        assert_eq!(client.receive().await, "['message' 'c' 'm']");
    }
}

#[tokio::test]
async fn no_message_overtakes_a_reply_that_was_asked_for_before() {
    let storage = ScriptedStorage::new();
    let pod = Pod::start(storage.clone(), Settings::default());
    let mut subscriber = pod.client().await;
    storage.close();
    subscriber.send_raw(b"GET k\r\nSUBSCRIBE c\r\n").await;
    let mut publisher = pod.client().await;
    while publisher.ask("PUBLISH c m").await == "0" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    storage.open();
    for expected in ["(nil)", "['subscribe' 'c' 1]", "['message' 'c' 'm']"] {
        assert_eq!(subscriber.receive().await, expected);
    }
}

#[tokio::test]
async fn the_messages_of_a_publisher_come_in_their_order() {
    let pod = Pod::of_memory();
    let mut subscriber = pod.client().await;
    subscriber.expect("SUBSCRIBE c -> ['subscribe' 'c' 1]").await;
    let mut publisher = pod.client().await;
    let sent: Vec<u8> =
        (0..2_000).flat_map(|n| command(&[b"PUBLISH", b"c", n.to_string().as_bytes()])).collect();
    publisher.send_raw(&sent).await;
    for n in 0..2_000 {
        assert_eq!(subscriber.receive().await, format!("['message' 'c' '{n}']"));
    }
}

#[tokio::test]
async fn who_does_not_read_his_messages_is_disconnected_and_nobody_else() {
    let settings = Settings { output_soft: 64 << 10, inbox: 1 << 20, ..Settings::default() };
    let pod = Pod::with_settings(settings);
    let mut slow = pod.client().await;
    slow.expect("SUBSCRIBE c -> ['subscribe' 'c' 1]").await;
    let mut reading = pod.client().await;
    reading.expect("SUBSCRIBE other -> ['subscribe' 'other' 1]").await;
    let mut publisher = pod.client().await;
    let payload = vec![b'm'; 64 << 10];
    // More than the sockets' own buffers take.
    let mut published = 0;
    loop {
        publisher.send(&[b"PUBLISH", b"c", &payload]).await;
        if publisher.receive().await == "0" {
            break;
        }
        published += 1;
        assert!(published < 2_000, "the slow subscriber is still there");
    }
    assert_eq!(pod.metrics.slow_clients.get(), 1);
    publisher.expect("PUBLISH other m -> 1").await;
    assert_eq!(reading.receive().await, "['message' 'other' 'm']");
    let _ = slow.stream.shutdown().await;
}

#[tokio::test]
async fn keyspace_notifications_are_refused_in_plain_words() {
    let pod = Pod::of_memory();
    let mut client = pod.client().await;
    let refused = client.ask("CONFIG SET notify-keyspace-events KEA").await;
    assert!(refused.starts_with("ERR CONFIG SET failed (possibly related to argument 'notify-k"));
}

async fn pods(buses: Vec<Arc<dyn SyncBus>>) -> Vec<Pod> {
    let mut pods = Vec::new();
    for (bus, origin) in buses.into_iter().zip(1..) {
        pods.push(Pod::on(bus, Origin(origin), memory(), Settings::default()));
    }
    for pod in &pods {
        assert!(pod.engine.join(Duration::from_secs(20)).await);
    }
    pods
}

async fn reaches_the_other_pods(pods: &[Pod]) {
    let mut subscribers = Vec::new();
    for pod in pods {
        let mut subscriber = pod.client().await;
        subscriber.expect("SUBSCRIBE c -> ['subscribe' 'c' 1]").await;
        subscriber.expect("PSUBSCRIBE p* -> ['psubscribe' 'p*' 2]").await;
        subscriber.expect("SSUBSCRIBE s -> ['ssubscribe' 's' 1]").await;
        subscribers.push(subscriber);
    }
    let mut publisher = pods[0].client().await;
    // Those of the own pod are counted.
    for n in 0..100 {
        publisher.expect(&format!("PUBLISH c {n} -> 1")).await;
    }
    publisher.expect("PUBLISH pp m -> 1\nSPUBLISH s m -> 1\nPUBLISH c end -> 1").await;
    for subscriber in &mut subscribers {
        for n in 0..100 {
            assert_eq!(subscriber.receive().await, format!("['message' 'c' '{n}']"));
        }
        assert_eq!(subscriber.receive().await, "['pmessage' 'p*' 'pp' 'm']");
        assert_eq!(subscriber.receive().await, "['smessage' 's' 'm']");
        assert_eq!(subscriber.receive().await, "['message' 'c' 'end']");
        // Nothing came twice.
        subscriber.expect("PING -> ['pong' '']").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_reaches_the_other_pods_of_a_process() {
    let buses = MemoryBus::group(3).into_iter().map(|bus| Arc::new(bus) as Arc<dyn SyncBus>);
    reaches_the_other_pods(&pods(buses.collect()).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_reaches_the_other_pods_over_nats() {
    let server = Nats::start();
    let bus = || {
        let settings = NatsSettings::new(vec![server.url()], "default_main".to_owned());
        let settings = NatsSettings { create_stream: true, ..settings };
        Arc::new(NatsBus::start(settings).unwrap()) as Arc<dyn SyncBus>
    };
    let pods = pods(vec![bus(), bus()]).await;
    reaches_the_other_pods(&pods).await;

    // Without the bus the own pod's subscribers get what is published, and nobody waits.
    server.kill();
    let mut subscriber = pods[0].client().await;
    subscriber.expect("SUBSCRIBE here -> ['subscribe' 'here' 1]").await;
    let mut publisher = pods[0].client().await;
    let lost = || {
        let text = pods[0].engine.render_metrics().unwrap();
        text.contains("warp_channels_lost_total") && !text.contains("warp_channels_lost_total 0")
    };
    while !lost() {
        publisher.expect("PUBLISH here m -> 1").await;
        assert_eq!(subscriber.receive().await, "['message' 'here' 'm']");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.start_again();
    let mut other = pods[1].client().await;
    other.expect("SUBSCRIBE again -> ['subscribe' 'again' 1]").await;
    let message = async {
        loop {
            publisher.expect("PUBLISH again m -> 0").await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = message => {}
        came = other.receive() => assert_eq!(came, "['message' 'again' 'm']"),
    }
}
