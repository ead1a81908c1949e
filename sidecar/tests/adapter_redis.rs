//! The Redis storage under faults, its feed of others' writes, and its relays, on a real server.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of tests fail like tests")]

#[path = "support/servers/mod.rs"]
mod servers;

use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use warp_sidecar::adapter::{
    Key, KeysWritten, Mutation, RedisAdapter, RedisSettings, Relay, SetCondition, SetExpiry,
    Storage, StorageError, StorageEvent,
};

use servers::redis::Redis;

/// Longer than anything takes on a busy machine.
const LONG: Duration = Duration::from_secs(20);

fn key(text: &str) -> Key {
    Bytes::copy_from_slice(text.as_bytes())
}

fn words(command: &str) -> Vec<Bytes> {
    command.split(' ').map(key).collect()
}

fn set(data: &str) -> Mutation {
    Mutation::Set {
        data: key(data),
        condition: SetCondition::Always,
        expiry: SetExpiry::Clear,
        get: false,
    }
}

/// Gives up sooner than a sidecar does, so that tests of it end soon.
fn hasty(server: &Redis) -> RedisSettings {
    RedisSettings {
        connect_timeout: Duration::from_millis(700),
        timeout: Duration::from_millis(700),
        heartbeat: Duration::from_millis(200),
        ..RedisSettings::new(server.url(), None)
    }
}

fn connect(settings: RedisSettings) -> RedisAdapter {
    RedisAdapter::connect(settings).unwrap()
}

async fn got(adapter: &RedisAdapter, name: &str) -> Option<Bytes> {
    adapter.get(&[key(name)]).await.unwrap().remove(0).map(|value| value.data)
}

/// Another client of the server, as an application without Warp would be.
async fn stranger(server: &Redis) -> Relay {
    connect(RedisSettings::new(server.url(), None)).open_relay(false).await.unwrap()
}

async fn say(relay: &mut Relay, command: &str) -> String {
    let reply = timeout(LONG, relay.send_one(&words(command))).await.unwrap().unwrap();
    String::from_utf8(reply.to_vec()).unwrap()
}

async fn next(events: &mut mpsc::Receiver<StorageEvent>) -> StorageEvent {
    timeout(LONG, events.recv()).await.unwrap().unwrap()
}

fn changed(name: &str) -> StorageEvent {
    StorageEvent::Changed(vec![key(name)])
}

fn is_unavailable<T>(result: &Result<T, StorageError>) -> bool {
    matches!(result, Err(StorageError::Unavailable { kind: "redis", .. }))
}

mod feed {
    use super::*;

    #[tokio::test]
    async fn others_writes_are_told_and_own_ones_are_not() {
        let server = Redis::start();
        let adapter = connect(RedisSettings::new(server.url(), None));
        let mut events = adapter.events().unwrap();
        assert!(adapter.events().is_none(), "there is one feed");
        adapter.apply(&key("own"), set("v")).await.unwrap();
        adapter.set_many(&[(key("many"), key("v"))]).await.unwrap();
        adapter.apply(&key("own"), Mutation::Append(key("w"))).await.unwrap();
        adapter.delete(&[key("own")]).await.unwrap();
        let mut stranger = stranger(&server).await;
        say(&mut stranger, "SET others 1").await;
        assert_eq!(next(&mut events).await, changed("others"));
        // Another sidecar, and this one's own relays, are others too.
        let second = connect(RedisSettings::new(server.url(), None));
        second.apply(&key("second"), set("v")).await.unwrap();
        assert_eq!(next(&mut events).await, changed("second"));
        let mut relay = adapter.open_relay(true).await.unwrap();
        say(&mut relay, "HSET relayed f v").await;
        assert_eq!(next(&mut events).await, changed("relayed"));
        say(&mut stranger, "PEXPIRE others 1").await;
        assert_eq!(next(&mut events).await, changed("others"));
        // It goes with its time.
        assert_eq!(next(&mut events).await, changed("others"));
        say(&mut stranger, "FLUSHALL").await;
        assert_eq!(next(&mut events).await, StorageEvent::AnythingChanged);
    }

    #[tokio::test]
    async fn a_write_on_top_of_an_own_one_is_told_even_in_the_same_turn_of_the_server() {
        let server = Redis::start();
        let adapter = std::sync::Arc::new(connect(RedisSettings::new(server.url(), None)));
        let mut events = adapter.events().unwrap();
        let mut stranger = stranger(&server).await;
        adapter.probe().await.unwrap();
        say(&mut stranger, "PING").await;
        server.pause();
        let own = tokio::spawn({
            let adapter = std::sync::Arc::clone(&adapter);
            async move { adapter.apply(&key("k"), set("own")).await }
        });
        sleep(Duration::from_millis(100)).await;
        stranger.send(&words("SET k others")).await.unwrap();
        sleep(Duration::from_millis(50)).await;
        server.resume();
        own.await.unwrap().unwrap();
        let value = got(&adapter, "k").await.unwrap();
        if value == "others" {
            assert_eq!(next(&mut events).await, changed("k"));
        }
    }

    #[tokio::test]
    async fn a_lost_connection_is_followed_by_anything_changed() {
        let server = Redis::start();
        let adapter = connect(RedisSettings::new(server.url(), None));
        let mut events = adapter.events().unwrap();
        adapter.probe().await.unwrap();
        let mut stranger = stranger(&server).await;
        for round in 0..3 {
            let killed = say(&mut stranger, "CLIENT KILL TYPE normal SKIPME yes").await;
            assert_eq!(killed, ":1\r\n", "round {round}");
            say(&mut stranger, "SET k unseen").await;
            // Nobody asks for anything: the feed comes back by itself, and then the proof that
            // tracking is on again.
            assert_eq!(next(&mut events).await, StorageEvent::AnythingChanged);
            say(&mut stranger, "SET k seen").await;
            assert_eq!(next(&mut events).await, changed("k"));
        }
    }

    #[tokio::test]
    async fn a_connection_that_is_silently_cut_is_found_out() {
        let server = Redis::start();
        let adapter = connect(hasty(&server));
        let mut events = adapter.events().unwrap();
        adapter.probe().await.unwrap();
        server.pause();
        sleep(Duration::from_millis(1_500)).await;
        server.resume();
        assert_eq!(next(&mut events).await, StorageEvent::AnythingChanged);
    }
}

mod faults {
    use super::*;

    #[tokio::test]
    async fn nothing_is_connected_before_the_first_call() {
        let server = Redis::start();
        let adapter = connect(RedisSettings::new(server.url(), None));
        sleep(Duration::from_millis(50)).await;
        let mut stranger = stranger(&server).await;
        assert!(!say(&mut stranger, "CLIENT LIST").await.contains("name=warp-sidecar"));
        adapter.probe().await.unwrap();
        assert!(say(&mut stranger, "CLIENT LIST").await.contains("name=warp-sidecar"));
    }

    #[tokio::test]
    async fn a_killed_server_is_unavailable_and_back_with_the_next_call() {
        let server = Redis::start();
        let adapter = connect(RedisSettings::new(server.url(), None));
        let mut events = adapter.events().unwrap();
        adapter.apply(&key("k"), set("v")).await.unwrap();
        server.kill();
        // The connection's end may still be on its way; after that nothing is sent any more.
        let _ = adapter.probe().await;
        let begun = Instant::now();
        assert!(is_unavailable(&adapter.get(&[key("k")]).await));
        assert!(is_unavailable(&adapter.apply(&key("k"), set("w")).await));
        assert!(is_unavailable(&adapter.open_relay(false).await));
        assert!(begun.elapsed() < Duration::from_secs(3), "refused at once");
        server.start_again();
        assert_eq!(got(&adapter, "k").await.unwrap(), "v");
        assert_eq!(next(&mut events).await, StorageEvent::AnythingChanged);
    }

    #[tokio::test]
    async fn a_server_that_hangs_leaves_writes_open_and_reads_undone() {
        let server = Redis::start();
        let adapter = connect(hasty(&server));
        adapter.apply(&key("k"), set("v")).await.unwrap();
        server.pause();
        let begun = Instant::now();
        let (write, read) = (key("k"), [key("k")]);
        let (write, read) = tokio::join!(adapter.apply(&write, set("w")), adapter.get(&read));
        assert!(matches!(write, Err(StorageError::Unknown { kind: "redis", .. })), "{write:?}");
        assert!(is_unavailable(&read), "{read:?}");
        // The next connection isn't greeted: nothing is sent.
        assert!(is_unavailable(&adapter.apply(&key("k"), set("x")).await));
        assert!(is_unavailable(&adapter.open_relay(true).await));
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
        server.resume();
        // The write that was left open was done after all.
        let value = timeout(LONG, async {
            loop {
                match adapter.get(&[key("k")]).await {
                    Ok(mut values) => break values.remove(0).unwrap().data,
                    Err(_) => sleep(Duration::from_millis(20)).await,
                }
            }
        });
        assert_eq!(value.await.unwrap(), "w");
    }

    #[tokio::test]
    async fn a_write_that_was_sent_to_a_server_that_dies_is_unknown() {
        let server = Redis::start();
        let adapter = std::sync::Arc::new(connect(RedisSettings::new(server.url(), None)));
        adapter.probe().await.unwrap();
        server.pause();
        let write = tokio::spawn({
            let adapter = std::sync::Arc::clone(&adapter);
            async move { adapter.apply(&key("k"), set("v")).await }
        });
        sleep(Duration::from_millis(100)).await;
        server.kill();
        let write = timeout(LONG, write).await.unwrap().unwrap();
        assert!(matches!(write, Err(StorageError::Unknown { .. })), "{write:?}");
    }

    #[tokio::test]
    async fn refusals_come_in_the_servers_words() {
        let server = Redis::start();
        let adapter = connect(RedisSettings::new(server.url(), None));
        let mut stranger = stranger(&server).await;
        say(&mut stranger, "HSET h f v").await;
        let wrong = "WRONGTYPE Operation against a key holding the wrong kind of value";
        let refused = |words: &str| StorageError::Refused(words.to_owned());
        let h = key("h");
        let read = adapter.get(&[key("none"), h.clone()]).await.unwrap_err();
        assert_eq!(read, refused(wrong));
        for mutation in [Mutation::Delete, Mutation::Add(1), Mutation::GetExpire { at: None }] {
            assert_eq!(adapter.apply(&h, mutation).await.unwrap_err(), refused(wrong));
        }
        // As in Redis itself, a plain SET replaces any type.
        assert!(adapter.apply(&h, set("v")).await.unwrap().done);
        say(&mut stranger, "CONFIG SET maxmemory 1").await;
        assert_eq!(
            adapter.apply(&h, set("v")).await.unwrap_err(),
            refused("OOM command not allowed when used memory > 'maxmemory'.")
        );
    }

    #[tokio::test]
    async fn a_master_that_became_a_replica_is_connected_to_anew() {
        let server = Redis::start();
        let adapter = connect(RedisSettings::new(server.url(), None));
        let mut events = adapter.events().unwrap();
        adapter.apply(&key("k"), set("v")).await.unwrap();
        let mut stranger = stranger(&server).await;
        say(&mut stranger, "REPLICAOF 127.0.0.1 1").await;
        let refused = adapter.apply(&key("k"), set("w")).await.unwrap_err().to_string();
        assert!(refused.starts_with("READONLY "), "{refused}");
        assert_eq!(next(&mut events).await, StorageEvent::AnythingChanged);
        say(&mut stranger, "REPLICAOF NO ONE").await;
        assert!(adapter.apply(&key("k"), set("w")).await.unwrap().done);
    }

    #[tokio::test]
    async fn user_password_and_database_of_the_url_are_used() {
        let server = Redis::start_with(&["--requirepass", "pa:ss/word"]);
        let url = |user: &str, database: &str| {
            format!("redis://{user}127.0.0.1:{}/{database}", server.port)
        };
        for (url, password) in
            [(url("", ""), None), (url("", ""), Some("wrong")), (url(":no@", ""), None)]
        {
            let adapter = connect(RedisSettings::new(url, password.map(str::to_owned)));
            let error = adapter.probe().await.unwrap_err().to_string();
            assert!(error.contains("NOAUTH") || error.contains("WRONGPASS"), "{error}");
            assert!(is_unavailable(&adapter.probe().await));
            let relay = adapter.open_relay(false).await;
            // RESP2 without a password asks nothing; the server refuses the first command.
            assert!(relay.is_err() || password.is_none(), "{relay:?}");
        }
        let third = connect(RedisSettings::new(url("", "3"), Some("pa:ss/word".to_owned())));
        third.apply(&key("k"), set("third")).await.unwrap();
        let zero = connect(RedisSettings::new(url("default:pa%3Ass%2Fword@", ""), None));
        assert_eq!(got(&zero, "k").await, None);
        for resp3 in [false, true] {
            let mut relay = third.open_relay(resp3).await.unwrap();
            assert_eq!(say(&mut relay, "GET k").await, "$5\r\nthird\r\n");
        }
    }

    #[tokio::test]
    async fn a_user_who_may_not_track_is_told_so() {
        let server = Redis::start();
        let mut stranger = stranger(&server).await;
        say(&mut stranger, "ACL SETUSER app on >pw ~* +@all -client|tracking").await;
        let url = format!("redis://app:pw@127.0.0.1:{}", server.port);
        let error = connect(RedisSettings::new(url, None)).probe().await.unwrap_err().to_string();
        assert!(error.contains("CLIENT was refused: NOPERM"), "{error}");
    }

    #[tokio::test]
    async fn a_reply_beyond_the_limit_is_refused_and_the_connection_stays() {
        let server = Redis::start();
        let settings =
            RedisSettings { reply_limit: 1000, ..RedisSettings::new(server.url(), None) };
        let adapter = connect(settings);
        let mut events = adapter.events().unwrap();
        adapter.apply(&key("long"), set(&"x".repeat(5_000))).await.unwrap();
        adapter.apply(&key("short"), set("v")).await.unwrap();
        let error = adapter.get(&[key("long")]).await.unwrap_err();
        assert!(matches!(error, StorageError::Refused(_)), "{error}");
        assert_eq!(got(&adapter, "short").await.unwrap(), "v");
        let mut relay = adapter.open_relay(false).await.unwrap();
        let error = relay.send_one(&words("GET long")).await.unwrap_err();
        assert!(matches!(error, StorageError::Refused(_)), "{error}");
        assert_eq!(say(&mut relay, "GET short").await, "$1\r\nv\r\n");
        events.try_recv().unwrap_err();
    }

    /// The certificates that a machine trusts are named by its environment, which a test can't
    /// change for itself: it runs again as a child, with the server's.
    #[test]
    fn tls_is_spoken_and_the_server_verified() {
        const URL: &str = "WARP_TEST_REDISS_URL";
        let runtime = tokio::runtime::Runtime::new().unwrap();
        if let Ok(url) = std::env::var(URL) {
            return runtime.block_on(async {
                let adapter = connect(RedisSettings::new(url, None));
                adapter.apply(&key("k"), set("v")).await.unwrap();
                let long = "x".repeat(3_000_000);
                adapter.apply(&key("long"), set(&long)).await.unwrap();
                assert_eq!(got(&adapter, "long").await.unwrap(), long);
                let mut relay = adapter.open_relay(true).await.unwrap();
                assert_eq!(say(&mut relay, "GET k").await, "$1\r\nv\r\n");
            });
        }
        let server = Redis::start_with_tls();
        let url = format!("rediss://127.0.0.1:{}", server.port);
        let distrusted = runtime.block_on(async {
            connect(RedisSettings::new(url.clone(), None)).probe().await.unwrap_err().to_string()
        });
        assert!(distrusted.contains("certificate"), "{distrusted}");
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "faults::tls_is_spoken_and_the_server_verified"])
            .env(URL, url)
            .env("SSL_CERT_FILE", server.dir.join("ca.pem"))
            .output()
            .unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    }
}

mod relay {
    use super::*;

    #[tokio::test]
    async fn replies_come_as_the_server_wrote_them() {
        let server = Redis::start();
        let adapter = connect(RedisSettings::new(server.url(), None));
        for (resp3, map) in [(false, "*2"), (true, "%1")] {
            let mut relay = adapter.open_relay(resp3).await.unwrap();
            say(&mut relay, "HSET h field value").await;
            let all = say(&mut relay, "HGETALL h").await;
            assert_eq!(all, format!("{map}\r\n$5\r\nfield\r\n$5\r\nvalue\r\n"));
            let error = say(&mut relay, "INCR h").await;
            assert_eq!(
                error,
                "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
            );
        }
    }

    #[tokio::test]
    async fn transactions_mean_what_they_mean() {
        let server = Redis::start();
        let adapter = connect(RedisSettings::new(server.url(), None));
        let mut relay = adapter.open_relay(false).await.unwrap();
        assert_eq!(say(&mut relay, "WATCH k").await, "+OK\r\n");
        assert_eq!(say(&mut relay, "MULTI").await, "+OK\r\n");
        assert_eq!(say(&mut relay, "INCR k").await, "+QUEUED\r\n");
        assert_eq!(say(&mut relay, "LPUSH l a b").await, "+QUEUED\r\n");
        assert_eq!(say(&mut relay, "EXEC").await, "*2\r\n:1\r\n:2\r\n");
        say(&mut relay, "WATCH k").await;
        say(&mut relay, "MULTI").await;
        adapter.apply(&key("k"), Mutation::Add(1)).await.unwrap();
        say(&mut relay, "INCR k").await;
        assert_eq!(say(&mut relay, "EXEC").await, "*-1\r\n", "k was changed meanwhile");
    }

    #[tokio::test]
    async fn a_blocking_command_outlasts_every_timeout() {
        let server = Redis::start();
        let adapter = connect(hasty(&server));
        let mut relay = adapter.open_relay(false).await.unwrap();
        let popped = tokio::spawn(async move { say(&mut relay, "BLPOP queue 0").await });
        sleep(Duration::from_secs(2)).await;
        assert!(!popped.is_finished());
        say(&mut stranger(&server).await, "RPUSH queue job").await;
        assert_eq!(popped.await.unwrap(), "*2\r\n$5\r\nqueue\r\n$3\r\njob\r\n");
    }

    #[tokio::test]
    async fn a_blocking_command_ends_when_the_server_hangs() {
        let server = Redis::start();
        let adapter = connect(hasty(&server));
        let mut relay = adapter.open_relay(false).await.unwrap();
        server.pause();
        let begun = Instant::now();
        let lost = relay.send_one(&words("BLPOP queue 0")).await.unwrap_err();
        assert!(matches!(lost, StorageError::Unknown { .. }), "{lost}");
        assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
        server.resume();
        assert!(is_unavailable(&relay.send_one(&words("PING")).await), "it is spent");
    }

    #[tokio::test]
    async fn what_the_server_sends_unasked_is_spliced() {
        let server = Redis::start();
        let adapter = connect(RedisSettings::new(server.url(), None));
        for (resp3, kind) in [(false, '*'), (true, '>')] {
            let mut relay = adapter.open_relay(resp3).await.unwrap();
            relay.send(&words("SUBSCRIBE a b")).await.unwrap();
            let mut stream = relay.into_stream();
            let subscribed = |name: &str, count| {
                format!("{kind}3\r\n$9\r\nsubscribe\r\n$1\r\n{name}\r\n:{count}\r\n")
            };
            expect(&mut stream, &(subscribed("a", 1) + &subscribed("b", 2))).await;
            say(&mut stranger(&server).await, "PUBLISH b hello").await;
            expect(&mut stream, &format!("{kind}3\r\n$7\r\nmessage\r\n$1\r\nb\r\n$5\r\nhello\r\n"))
                .await;
            stream.write_all(b"UNSUBSCRIBE a\r\n").await.unwrap();
            expect(&mut stream, &format!("{kind}3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:1\r\n"))
                .await;
        }
    }

    async fn expect(stream: &mut (impl AsyncReadExt + Unpin), expected: &str) {
        let mut bytes = vec![0; expected.len()];
        timeout(LONG, stream.read_exact(&mut bytes)).await.unwrap().unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }

    #[tokio::test]
    async fn pushes_stand_in_front_of_the_reply_that_they_came_before() {
        let server = Redis::start();
        let adapter = connect(RedisSettings::new(server.url(), None));
        let mut relay = adapter.open_relay(true).await.unwrap();
        say(&mut relay, "CLIENT TRACKING ON").await;
        say(&mut relay, "GET k").await;
        let mut stranger = stranger(&server).await;
        say(&mut stranger, "SET k 1").await;
        say(&mut stranger, "PING").await;
        let push = ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n";
        assert_eq!(say(&mut relay, "GET k").await, format!("{push}$1\r\n1\r\n"));
    }

    #[tokio::test]
    async fn a_relay_that_the_server_closed_says_that_nothing_was_sent() {
        let server = Redis::start();
        let adapter = connect(RedisSettings::new(server.url(), None));
        let mut relay = adapter.open_relay(false).await.unwrap();
        say(&mut stranger(&server).await, "CLIENT KILL TYPE normal SKIPME yes").await;
        sleep(Duration::from_millis(100)).await;
        assert!(is_unavailable(&relay.send_one(&words("LPUSH l a")).await));
        assert!(is_unavailable(&relay.send_one(&words("LPUSH l a")).await));
    }

    #[tokio::test]
    async fn a_relay_whose_call_was_given_up_is_spent() {
        let server = Redis::start();
        let adapter = connect(RedisSettings::new(server.url(), None));
        let mut relay = adapter.open_relay(false).await.unwrap();
        let command = words("BLPOP queue 0");
        timeout(Duration::from_millis(50), relay.send_one(&command)).await.unwrap_err();
        // Its reply would be taken for that of the next command.
        assert!(is_unavailable(&relay.send_one(&words("PING")).await));
    }

    #[tokio::test]
    async fn the_keys_that_a_command_writes_are_known_from_the_server() {
        let server = Redis::start();
        let adapter = connect(RedisSettings::new(server.url(), None));
        for (command, expected) in [
            ("HSET h f v", Some("h")),
            ("hset h f v", Some("h")),
            ("HGETALL h", None),
            ("RENAME a b", Some("a b")),
            ("BLPOP a b 0", Some("a b")),
            ("XGROUP CREATE s g $", Some("s")),
            ("XGROUP NONSENSE s g $", None),
            ("SORT a STORE b", Some("a b")),
            ("EVAL script 2 a b arg", Some("a b")),
            ("EVAL_RO script 1 a", None),
            ("XINFO STREAM s", None),
            ("PUBLISH channel message", None),
            ("MULTI", None),
            ("PING", None),
            ("CONFIG GET x", None),
            ("SCRIPT LOAD x", None),
            ("NOSUCHCOMMAND a", None),
        ] {
            let expected = match expected {
                Some(keys) => KeysWritten::Keys(words(keys)),
                None => KeysWritten::None,
            };
            for _ in 0..2 {
                assert_eq!(adapter.keys_written(&words(command)).await, expected, "{command}");
            }
        }
        for command in
            ["FLUSHALL", "FLUSHDB ASYNC", "SWAPDB 0 1", "EVAL script 0", "FUNCTION FLUSH"]
        {
            assert_eq!(
                adapter.keys_written(&words(command)).await,
                KeysWritten::Unknown,
                "{command}"
            );
        }
        server.kill();
        assert_eq!(adapter.keys_written(&words("ZADD z 1 m")).await, KeysWritten::Unknown);
    }
}
