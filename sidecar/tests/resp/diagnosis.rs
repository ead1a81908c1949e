//! SLOWLOG, LATENCY and MONITOR, and the settings that go with them.

use std::sync::Arc;
use std::time::Duration;

use warp_sidecar::adapter::{PostgresAdapter, PostgresSettings};
use warp_sidecar::resp::Settings;

use crate::client::Client;
use crate::doubles::ScriptedStorage;
use crate::pod::Pod;
use crate::servers::postgres::Postgres;
use crate::servers::redis::Redis;

#[tokio::test]
async fn what_is_asked_and_set_is_answered_as_by_a_redis() {
    let pod = Pod::of_memory();
    let server = Redis::start();
    for protocol in ["2", "3"] {
        let (mut warp, mut redis) = pod.client_beside(&server, protocol).await;
        let lines = "
            SLOWLOG|SLOWLOG WHAT|SLOWLOG GET x|SLOWLOG GET -2|SLOWLOG GET 1 2|SLOWLOG LEN x
            SLOWLOG RESET|SLOWLOG LEN|SLOWLOG GET|SLOWLOG GET -1|SLOWLOG GET 0
            LATENCY|LATENCY WHAT|LATENCY HISTORY|LATENCY HISTORY nothing|LATENCY LATEST|LATENCY LATEST x
            LATENCY RESET|LATENCY RESET a b|LATENCY HISTOGRAM nothing|LATENCY DOCTOR x
            CONFIG SET a|CONFIG SET slowlog-log-slower-than x|CONFIG SET slowlog-max-len -1
            CONFIG SET slowlog-log-slower-than -2|CONFIG SET latency-monitor-threshold -1
            CONFIG SET slowlog-log-slower-than 1 slowlog-log-slower-than 2
            CONFIG SET slowlog-max-len 99999999999999999999|CONFIG SET slowlog-log-slower-than 0 a
            CONFIG SET slowlog-max-len 5 latency-monitor-threshold x|CONFIG GET slowlog-log*
            CONFIG SET slowlog-max-len 5 latency-monitor-threshold 7 slowlog-log-slower-than -1
            CONFIG GET slowlog-max-len|CONFIG GET latency-monitor-threshold
            CONFIG SET slowlog-max-len 128 latency-monitor-threshold 0 slowlog-log-slower-than 10000
            MONITOR x";
        for line in lines.split(['|', '\n']).map(str::trim).filter(|line| !line.is_empty()) {
            assert_eq!(warp.ask(line).await, redis.ask(line).await, "{line} in RESP{protocol}");
        }
    }
    pod.client()
        .await
        .expect("CONFIG SET maxmemory 1 -> ERR Warp's settings are changed in its WarpCluster and WarpPolicy manifests, not with CONFIG")
        .await;
}

/// The words of all commands that are kept, the last first.
async fn slow(client: &mut Client) -> Vec<String> {
    let slow = client.ask("SLOWLOG GET -1").await;
    let words = slow.split(" ['").skip(1).map(|rest| rest.split(']').next().unwrap());
    words.map(|words| words.replace('\'', "")).collect()
}

#[tokio::test]
async fn slow_commands_are_kept_without_credentials() {
    let pod = Pod::of_memory();
    let mut client = pod.client().await;
    client.expect("CLIENT SETNAME me -> OK\nCONFIG SET slowlog-log-slower-than 0 -> OK").await;
    client.expect("SLOWLOG RESET -> OK").await;
    client.expect("RPUSH k b a -> 2\nLRANGE k 0 -1 -> ['b' 'a']").await;
    client.ask("HELLO 2 AUTH default secret SETNAME me").await;
    client.ask("MSET a 1 b 2 c 3 d 4 e 5 f 6 g 7 h 8 i 9").await;
    client.expect("MULTI -> OK\nSORT k ALPHA -> QUEUED\nEXEC -> [['a' 'b']]").await;
    client.send(&[b"LREM", b"k", b"0", &[b'x'; 300]]).await;
    client.receive().await;
    client.expect("CONFIG SET slowlog-log-slower-than -1 -> OK").await;
    let kept = slow(&mut client).await;
    let lrem = format!("LREM k 0 {}... (172 more bytes)", "x".repeat(128));
    let expected = [
        lrem.as_str(),
        "SORT k ALPHA",
        "MULTI",
        "MSET a 1 b 2 c 3 d 4 e 5 f 6 g 7 h 8 i 9",
        "HELLO 2 AUTH (redacted) (redacted) SETNAME me",
        "LRANGE k 0 -1",
        "RPUSH k b a",
        "SLOWLOG RESET",
    ];
    assert_eq!(kept, expected);
    let entry = client.ask("SLOWLOG GET 1").await;
    assert!(entry.ends_with(" 'me']]") && entry.contains("'127.0.0.1:"), "{entry}");
    client.expect("SLOWLOG LEN -> 8\nSLOWLOG RESET -> OK\nSLOWLOG LEN -> 0").await;
}

#[tokio::test]
async fn what_waits_for_the_storage_is_measured_to_its_reply() {
    let storage = ScriptedStorage::new();
    let pod = Pod::start(storage.clone(), Settings::default());
    let (mut client, mut other) = (pod.client().await, pod.client().await);
    client
        .expect("CONFIG SET slowlog-log-slower-than 50000 latency-monitor-threshold 50 -> OK")
        .await;
    client.expect("SET quick v -> OK\nGET quick -> 'v'").await;
    storage.close();
    client.send(&[b"GET", b"slow"]).await;
    tokio::time::sleep(Duration::from_millis(80)).await;
    other.expect("SLOWLOG LEN -> 0").await;
    storage.open();
    assert_eq!(client.receive().await, "(nil)");
    assert_eq!(slow(&mut client).await, ["GET slow"]);
    let latest = client.ask("LATENCY LATEST").await;
    assert!(latest.contains("['command' ") && latest.contains("['storage' "), "{latest}");
    let history = client.ask("LATENCY HISTORY storage").await;
    let millis: u64 = history.trim_matches(['[', ']']).split(' ').nth(1).unwrap().parse().unwrap();
    assert!((75..10_000).contains(&millis), "{history}");
    let doctor = client.ask("LATENCY DOCTOR").await;
    assert!(doctor.contains("storage: 1 seconds with spikes"), "{doctor}");
    client.expect("LATENCY RESET storage -> 1\nLATENCY HISTORY storage -> []").await;
    let histogram = client.ask("LATENCY HISTOGRAM get").await;
    assert!(histogram.starts_with("['get' ['calls' 1 'histogram_usec' ["), "{histogram}");
}

#[tokio::test]
async fn a_wait_for_a_key_is_not_slow() {
    let pod = Pod::of_memory();
    let mut client = pod.client().await;
    client.expect("CONFIG SET slowlog-log-slower-than 20000 -> OK").await;
    client.expect("BLPOP k 0.1 -> (nil array)\nSLOWLOG LEN -> 0").await;
}

#[tokio::test]
async fn a_slow_script_is_kept_and_the_thread_that_it_held_up_is_noted() {
    let pod = Pod::of_memory();
    let mut client = pod.client().await;
    client
        .expect("CONFIG SET slowlog-log-slower-than 20000 latency-monitor-threshold 20 -> OK")
        .await;
    let script = b"local s = 0 for i = 1, 30000000 do s = s + i end return 1";
    client.send(&[b"EVAL", script, b"0"]).await;
    assert_eq!(client.receive().await, "1");
    assert!(slow(&mut client).await[0].starts_with("EVAL local s = 0"));
    let latest = client.ask("LATENCY LATEST").await;
    assert!(latest.contains("['command' ") && latest.contains("['event-loop' "), "{latest}");
}

#[tokio::test]
async fn transactions_of_a_database_are_measured_as_a_whole() {
    let server = Postgres::start();
    let settings = PostgresSettings::new(server.url(), "t");
    let pod =
        Pod::start(Arc::new(PostgresAdapter::connect_lazy(settings).unwrap()), Settings::default());
    let mut client = pod.client().await;
    client.expect("CONFIG SET slowlog-log-slower-than 1 -> OK\nSLOWLOG RESET -> OK").await;
    client.expect("MULTI -> OK\nINCR n -> QUEUED\nEXEC -> [1]").await;
    client.expect("EVAL return(redis.call('INCR',KEYS[1])) 1 n -> 2").await;
    let kept = slow(&mut client).await;
    assert!(kept.contains(&"EXEC".to_owned()), "{kept:?}");
    assert_eq!(kept.iter().filter(|words| words.starts_with("EVAL ")).count(), 1, "{kept:?}");
}

/// A line without its time and its source's port.
fn masked(line: &str) -> String {
    let (_, rest) = line.split_once(" [0 ").unwrap_or(("", line));
    let (source, words) = rest.split_once("] ").unwrap_or(("", rest));
    let source = if source == "lua" { "lua" } else { "client" };
    format!("{source} {words}")
}

/// What a monitor is shown of some commands.
async fn shown(address: std::net::SocketAddr) -> Vec<String> {
    let mut monitor = Client::connect(address).await;
    monitor.expect("MONITOR -> OK").await;
    let mut client = Client::connect(address).await;
    let lines = "
        SET k v|get k|AUTH secret|AUTH default secret|HELLO 3 AUTH default secret SETNAME x|CONFIG GET save
        CLIENT ID|CLIENT SETNAME y|CLIENT LIST|NOTHING a|GET|GET a b|CLIENT WHAT|BLPOP none 0.01|RPUSH l a
        MULTI|SET a 1|GET a|EXEC|MULTI|GET a|DISCARD|EVAL return(redis.call('GET',KEYS[1])) 1 k
        SCRIPT EXISTS 1|PING|SELECT 0|SLOWLOG GET|LATENCY LATEST|OBJECT HELP|INCR k|COMMAND COUNT|HELLO 2
        SUBSCRIBE c|UNSUBSCRIBE c";
    for line in lines.split(['|', '\n']).map(str::trim).filter(|line| !line.is_empty()) {
        client.ask(line).await;
    }
    client.send(&[b"ECHO", b"\x00\xff\r\n\t\"\\ ~"]).await;
    client.receive().await;
    client.expect("ECHO end -> 'end'").await;
    let mut lines = Vec::new();
    while !lines.last().is_some_and(|line: &String| line.contains("\"end\"")) {
        lines.push(masked(&monitor.receive().await));
    }
    // It ends with RESET, and the client goes on.
    monitor.expect("RESET -> RESET").await;
    client.expect("PING -> PONG").await;
    monitor.expect("ECHO x -> 'x'").await;
    lines
}

#[tokio::test]
async fn a_monitor_is_shown_what_a_redis_shows() {
    let pod = Pod::of_memory();
    let server = Redis::start();
    let redis = shown(([127, 0, 0, 1], server.port).into()).await;
    let warp = shown(pod.address).await;
    assert_eq!(warp, redis);
    assert!(!warp.iter().any(|line| line.contains("secret")));
}

#[tokio::test]
async fn a_monitor_that_reads_nothing_is_cut_and_holds_nobody_up() {
    let settings = Settings { inbox: 256 * 1024, output_soft: 64 * 1024, ..Settings::default() };
    let pod = Pod::with_settings(settings);
    let (mut monitor, mut client) = (pod.client().await, pod.client().await);
    monitor.expect("MONITOR -> OK").await;
    let flags = client.ask("CLIENT LIST").await;
    assert!(flags.contains(" flags=O "), "{flags}");
    let value = vec![b'v'; 10_000];
    for _ in 0..3_000 {
        client.send(&[b"SET", b"k", &value]).await;
        assert_eq!(client.receive().await, "OK");
    }
    for _ in 0..500 {
        if client.ask("CLIENT LIST").await.matches("id=").count() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(client.ask("CLIENT LIST").await.matches("id=").count(), 1, "it was not cut");
    assert_eq!(pod.metrics.slow_clients.get(), 1);
}

#[tokio::test]
async fn a_transaction_and_a_script_can_not_monitor() {
    let pod = Pod::of_memory();
    let mut client = pod.client().await;
    client
        .expect(
            "MULTI -> OK
             MONITOR -> QUEUED
             EXEC -> [ERR MONITOR isn't allowed for DENY BLOCKING client]",
        )
        .await;
}
