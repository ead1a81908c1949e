//! How a connection treats what it is sent: order, limits, and ends.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::sync::CancellationToken;
use warp_sidecar::adapter::StorageError;
use warp_sidecar::resp::request::Limits;
use warp_sidecar::resp::{Metrics, Server, Settings};

use crate::client::{Client, command};
use crate::doubles::ScriptedStorage;
use crate::pod::Pod;

/// Waits until `holds`.
async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never came: {what}");
}

async fn scripted() -> (Arc<ScriptedStorage>, Pod, Client) {
    let storage = ScriptedStorage::new();
    let pod = Pod::start(storage.clone(), Settings::default());
    let client = pod.client().await;
    (storage, pod, client)
}

#[tokio::test]
async fn reads_wait_for_the_storage_side_by_side_and_are_answered_in_order() {
    let (storage, _pod, mut client) = scripted().await;
    for key in ["a", "b", "c"] {
        storage.put_behind(key, key);
    }
    client.expect("GET b -> 'b'").await;
    let calls = storage.calls.load(Ordering::SeqCst);
    storage.close();
    client.send_raw(b"GET a\r\nGET b\r\nGET c\r\nPING\r\nGET nothing\r\n").await;
    until("three misses at the storage", || storage.calls.load(Ordering::SeqCst) == calls + 3)
        .await;
    storage.open();
    for reply in ["'a'", "'b'", "'c'", "PONG", "(nil)"] {
        assert_eq!(client.receive().await, reply);
    }
}

#[tokio::test]
async fn what_is_ready_is_not_held_up_by_what_follows() {
    let (storage, _pod, mut client) = scripted().await;
    storage.put_behind("hit", "v");
    client.expect("GET hit -> 'v'").await;
    storage.close();
    client.send_raw(b"GET hit\r\nGET miss\r\n").await;
    assert_eq!(client.receive().await, "'v'");
    storage.open();
    assert_eq!(client.receive().await, "(nil)");
}

#[tokio::test]
async fn a_connection_that_waits_holds_up_no_other() {
    let (storage, pod, mut waiting) = scripted().await;
    storage.put_behind("hit", "v");
    waiting.expect("GET hit -> 'v'").await;
    storage.close();
    waiting.send_raw(b"SET other v\r\n").await;
    let mut other = pod.client().await;
    other.expect("GET hit -> 'v'\nPING -> PONG").await;
    storage.open();
    assert_eq!(waiting.receive().await, "OK");
}

#[tokio::test]
async fn a_write_stands_between_what_comes_before_and_after_it() {
    let (storage, _pod, mut client) = scripted().await;
    storage.put_behind("k", "old");
    storage.close();
    client.send_raw(b"GET k\r\nSET k new\r\nGET k\r\nSET k newer\r\nGET k\r\nPING\r\n").await;
    until("the read at the storage", || storage.calls.load(Ordering::SeqCst) == 1).await;
    // The write has not been sent along.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(storage.calls.load(Ordering::SeqCst), 1);
    storage.open();
    for reply in ["'old'", "OK", "'new'", "OK", "'newer'", "PONG"] {
        assert_eq!(client.receive().await, reply);
    }
}

#[tokio::test]
async fn failures_of_the_storage_are_told_in_one_line() {
    let (storage, _pod, mut client) = scripted().await;
    let cause = "refused\r\nor worse".to_owned();
    storage.fail_next(StorageError::Unknown { kind: "scripted", cause: cause.clone() });
    client
        .expect(
            "SET k v -> STORAGEUNKNOWN scripted gave no answer; the write may or may not have been done: refused  or worse",
        )
        .await;
    storage.fail_next(StorageError::Refused("WRONGTYPE no".to_owned()));
    client.expect("SET k v -> WRONGTYPE no\nSET k v -> OK").await;
}

#[tokio::test]
async fn a_pipeline_may_come_in_any_pieces() {
    let pod = Pod::of_memory();
    let mut client = pod.client().await;
    let big = vec![b'x'; 300_000];
    let mut pipeline = Vec::new();
    for n in 0..20 {
        let key = format!("k{n}");
        pipeline.extend(command(&[b"SET", key.as_bytes(), &big[..n * n * 100]]));
        pipeline.extend(command(&[b"STRLEN", key.as_bytes()]));
        pipeline.extend_from_slice(format!("GETRANGE {key} 0 2\r\n").as_bytes());
    }
    for piece in pipeline.chunks(701) {
        client.send_raw(piece).await;
    }
    for n in 0..20 {
        assert_eq!(client.receive().await, "OK");
        assert_eq!(client.receive().await, (n * n * 100).to_string());
        assert_eq!(client.receive().await, if n == 0 { "''" } else { "'xxx'" });
    }
}

#[tokio::test]
async fn large_values_come_back() {
    let pod = Pod::of_memory();
    let mut client = pod.client().await;
    let big: Vec<u8> = (0..8_000_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
    client.send(&[b"SET", b"big", &big]).await;
    assert_eq!(client.receive().await, "OK");
    client.send(&[b"GET", b"big"]).await;
    let reply = client.receive_raw().await;
    assert!(reply.starts_with(b"$8000000\r\n") && reply[10..8_000_010] == big);
}

#[tokio::test]
async fn a_long_pipeline_need_not_be_read_while_it_is_sent() {
    let pod = Pod::of_memory();
    let mut client = pod.client().await;
    client.send(&[b"SET", b"k", &[b'v'; 1000]]).await;
    assert_eq!(client.receive().await, "OK");
    client.send_raw(&command(&[b"GET", b"k"]).repeat(10_000)).await;
    for _ in 0..10_000 {
        assert_eq!(client.receive_raw().await.len(), 1009);
    }
}

#[tokio::test]
async fn a_protocol_error_is_answered_behind_what_came_before_it() {
    let (storage, pod, mut client) = scripted().await;
    storage.close();
    client.send_raw(b"GET k\r\n*1\r\n:1\r\nPING\r\n").await;
    until("the read at the storage", || storage.calls.load(Ordering::SeqCst) == 1).await;
    storage.open();
    assert_eq!(client.receive().await, "(nil)");
    assert_eq!(client.receive().await, "ERR Protocol error: expected '$', got ':'");
    assert!(client.is_closed().await);
    assert_eq!(pod.metrics.protocol_errors.get(), 1);
}

#[tokio::test]
async fn limits_end_a_connection() {
    let request = Limits { bulk: 100, arguments: 5, inline: 50, frame: 300 };
    let pod = Pod::with_settings(Settings { request, ..Settings::default() });
    for (sent, error) in [
        (command(&[b"SET", b"k", &[0; 101]]), "ERR Protocol error: invalid bulk length"),
        (
            command(&[b"DEL", b"a", b"b", b"c", b"d", b"e"]),
            "ERR Protocol error: invalid multibulk length",
        ),
        (vec![b'x'; 60], "ERR Protocol error: too big inline request"),
        (b"GET 'k\r\n".to_vec(), "ERR Protocol error: unbalanced quotes in request"),
        (command(&[&[0; 100], &[0; 100], &[0; 100]]), "ERR Protocol error: too big request"),
    ] {
        let mut client = pod.client().await;
        client.send_raw(&sent).await;
        assert_eq!(client.receive().await, error);
        assert!(client.is_closed().await);
    }
}

#[tokio::test]
async fn a_browser_is_hung_up_on() {
    let pod = Pod::of_memory();
    for request in [
        "POST / HTTP/1.1\r\nHost: a\r\n\r\nSET k v\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nSET k v\r\n",
    ] {
        let mut client = pod.client().await;
        client.send_raw(request.as_bytes()).await;
        while let Some(reply) = client.try_receive_raw().await {
            assert!(reply.starts_with(b"-ERR "));
        }
    }
    pod.client().await.expect("GET k -> (nil)").await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_disconnected() {
    let pod = Pod::with_settings(Settings {
        output_soft: 1024 * 1024,
        stall: Duration::from_millis(200),
        ..Settings::default()
    });
    let mut client = pod.client().await;
    client.send(&[b"SET", b"k", &vec![b'v'; 100_000]]).await;
    assert_eq!(client.receive().await, "OK");
    let mut sender = TcpStream::connect(pod.address).await.unwrap();
    let pipeline = command(&[b"GET", b"k"]).repeat(10_000);
    // It may be disconnected while it sends.
    let _ = sender.write_all(&pipeline).await;
    until("the disconnection", || pod.metrics.slow_clients.get() == 1).await;
    client.expect("PING -> PONG").await;
}

#[tokio::test]
async fn one_reply_beyond_the_hard_limit_ends_the_connection() {
    let pod = Pod::with_settings(Settings { output_hard: 1_000_000, ..Settings::default() });
    let mut client = pod.client().await;
    client.send(&[b"SET", b"k", &vec![b'v'; 400_000]]).await;
    assert_eq!(client.receive().await, "OK");
    client.expect("STRLEN k -> 400000").await;
    client.send_raw(b"MGET k k k\r\n").await;
    assert!(client.is_closed().await);
    assert_eq!(pod.metrics.slow_clients.get(), 1);
}

#[tokio::test]
async fn clients_have_a_limit() {
    let pod = Pod::with_settings(Settings { max_clients: 1, ..Settings::default() });
    let mut first = pod.client().await;
    first.expect("PING -> PONG").await;
    let mut second = pod.client().await;
    assert_eq!(second.receive().await, "ERR max number of clients reached");
    assert!(second.is_closed().await);
    first.expect("QUIT -> OK").await;
    assert!(first.is_closed().await);
    until("the place is free", || pod.metrics.connections.get() == 0).await;
    pod.client().await.expect("PING -> PONG").await;
}

#[tokio::test]
async fn silent_clients_are_disconnected_if_so_wished() {
    let idle = Some(Duration::from_millis(300));
    let pod = Pod::with_settings(Settings { idle, ..Settings::default() });
    let mut client = pod.client().await;
    client.expect("PING -> PONG").await;
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn who_closes_one_side_still_gets_the_answers() {
    let (storage, _pod, mut client) = scripted().await;
    storage.put_behind("k", "v");
    client.send_raw(b"GET k\r\nSET k w\r\nGET k\r\nPI").await;
    client.stream.shutdown().await.unwrap();
    for reply in ["'v'", "OK", "'w'"] {
        assert_eq!(client.receive().await, reply);
    }
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_stopping_server_answers_what_it_was_sent() {
    let (storage, pod, mut client) = scripted().await;
    let mut idle = pod.client().await;
    idle.expect("PING -> PONG").await;
    storage.put_behind("k", "v");
    storage.close();
    client.send_raw(b"GET k\r\nSET k w\r\nPING\r\n").await;
    until("the read at the storage", || storage.calls.load(Ordering::SeqCst) == 1).await;
    pod.stop.cancel();
    assert!(idle.is_closed().await);
    storage.open();
    for reply in ["'v'", "OK", "PONG"] {
        assert_eq!(client.receive().await, reply);
    }
    assert!(client.is_closed().await);
    let mut pod = pod;
    (&mut pod.served).await.unwrap().unwrap();
    assert!(TcpStream::connect(pod.address).await.is_err());
}

#[tokio::test]
async fn a_stopping_server_waits_for_no_longer_than_it_may() {
    let storage = ScriptedStorage::new();
    let drain = Duration::from_millis(100);
    let pod = Pod::start_with_drain(storage.clone(), drain);
    let mut client = pod.client().await;
    storage.close();
    client.send_raw(b"GET k\r\n").await;
    until("the read at the storage", || storage.calls.load(Ordering::SeqCst) == 1).await;
    pod.stop.cancel();
    assert!(client.is_closed().await);
    let mut pod = pod;
    (&mut pod.served).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_unix_socket_is_served_and_removed() {
    let pod = Pod::of_memory();
    let folder = std::env::temp_dir().join(format!("warp-resp-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("redis.sock");
    // What a server that was killed leaves behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let settings = || Settings { unix: Some(path.clone()), ..Settings::default() };
    let server = Server::bind(settings()).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o666);
    let second = Server::bind(settings()).unwrap_err();
    assert_eq!(second.kind(), std::io::ErrorKind::AddrInUse);

    let stop = CancellationToken::new();
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let served = tokio::spawn(server.run(pod.engine.clone(), metrics, stop.clone()));
    let mut client = UnixStream::connect(&path).await.unwrap();
    client.write_all(b"CLIENT INFO\r\n").await.unwrap();
    client.write_all(b"QUIT\r\n").await.unwrap();
    let mut info = String::new();
    client.read_to_string(&mut info).await.unwrap();
    assert!(info.contains(&format!("addr={}:0 ", path.display())), "{info}");
    assert!(info.contains(" flags=U "), "{info}");
    stop.cancel();
    served.await.unwrap().unwrap();
    assert!(!path.exists());

    std::fs::write(&path, "a file").unwrap();
    let refused = Server::bind(settings()).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::AlreadyExists);
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn commands_are_counted_by_known_names() {
    let registry = Registry::new();
    let metrics = Metrics::new(&registry).unwrap();
    let pod = Pod::of_memory();
    let settings = Settings { tcp: Some("127.0.0.1:0".parse().unwrap()), ..Settings::default() };
    let server = Server::bind(settings).unwrap();
    let address = server.tcp_address().unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(server.run(pod.engine.clone(), metrics, stop.clone()));
    let mut client = Client::connect(address).await;
    client.expect("get k -> (nil)\nGET k -> (nil)").await;
    client.ask("nothing-known").await;
    let of = |name: &str| {
        let families = registry.gather();
        let family = families.iter().find(|f| f.name() == "warp_resp_commands_total").unwrap();
        let metric = family.get_metric().iter().find(|m| m.get_label()[0].value() == name).unwrap();
        metric.get_counter().get_value()
    };
    assert_eq!((of("get"), of("other"), of("set")), (2.0, 1.0, 0.0));
    stop.cancel();
}
