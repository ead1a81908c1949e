//! The core's rules under faults: what it answers and what it keeps when storage and bus misbehave.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use servers::postgres::Postgres;
use sqlx::{Connection, Executor, PgConnection};
use support::doubles::ScriptedBus;
use support::pod::{POLICIES, Pod, classes, down, set};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use warp_sidecar::adapter::{
    Key, Mutation, PostgresAdapter, PostgresSettings, Storage, StorageError, StorageEvent,
};
use warp_sidecar::core::Begun;
use warp_sidecar::sync_bus::{BusEvent, Origin, Scope};

#[path = "support/servers/mod.rs"]
mod servers;
mod support;

#[tokio::test]
async fn a_value_read_once_is_a_hit_until_a_peer_writes_it() {
    let pod = Pod::new().await;
    pod.storage.put_behind("k", "one");
    assert_eq!(pod.read("k").await, Ok(Some(Bytes::from("one"))));
    assert_eq!(pod.cached("k"), Some(Bytes::from("one")));
    pod.storage.put_behind("k", "two");
    pod.tell_written_elsewhere("k").await;
    assert_eq!(pod.cached("k"), None);
    assert_eq!(pod.read("k").await, Ok(Some(Bytes::from("two"))));
}

#[tokio::test]
async fn a_read_that_an_invalidation_crosses_is_answered_and_not_cached() {
    let pod = Pod::new().await;
    pod.storage.put_behind("k", "old");
    pod.storage.close();
    let calls = pod.storage.calls.load(Ordering::SeqCst);
    let engine = Arc::clone(&pod.engine);
    let reading = tokio::spawn(async move { engine.read(&[Key::from("k")]).await });
    while pod.storage.calls.load(Ordering::SeqCst) == calls {
        tokio::task::yield_now().await;
    }
    pod.storage.put_behind("k", "new");
    pod.tell_written_elsewhere("k").await;
    pod.storage.open();
    assert_eq!(reading.await.unwrap().unwrap()[0].as_ref().unwrap().data, "old");
    assert_eq!(pod.cached("k"), None);
    assert_eq!(pod.read("k").await, Ok(Some(Bytes::from("new"))));
}

#[tokio::test]
async fn a_write_is_stored_announced_and_then_a_hit() {
    let pod = Pod::new().await;
    pod.engine.write(&Key::from("k"), set("v")).await.unwrap();
    assert_eq!(pod.cached("k"), Some(Bytes::from("v")));
    let published = pod.bus.published.lock().clone();
    assert_eq!(published.len(), 1);
    assert_eq!(published[0].scope, Scope::Keys(vec![Key::from("k")]));
    assert_eq!(published[0].origin, Origin(1));
}

#[tokio::test]
async fn a_pod_local_class_announces_nothing_and_needs_no_bus() {
    let pod = Pod::new().await;
    pod.engine.exchange_bus(ScriptedBus::new());
    pod.engine.write(&Key::from("local:k"), set("v")).await.unwrap();
    pod.engine.write(&Key::from("k"), set("v")).await.unwrap();
    assert_eq!(pod.cached("local:k"), Some(Bytes::from("v")));
    assert_eq!(pod.cached("k"), None, "a distributed hit needs a live bus");
    let announced: Vec<_> = pod.bus.published.lock().iter().map(|m| m.scope.clone()).collect();
    assert!(!announced.contains(&Scope::Keys(vec![Key::from("local:k")])));
}

#[tokio::test]
async fn a_write_goes_on_when_its_caller_has_gone() {
    let pod = Pod::new().await;
    pod.storage.close();
    let calls = pod.storage.calls.load(Ordering::SeqCst);
    let engine = Arc::clone(&pod.engine);
    let writing = tokio::spawn(async move { engine.write(&Key::from("k"), set("v")).await });
    while pod.storage.calls.load(Ordering::SeqCst) == calls {
        tokio::task::yield_now().await;
    }
    writing.abort();
    assert!(writing.await.unwrap_err().is_cancelled());
    pod.storage.open();
    let bus = Arc::clone(&pod.bus);
    pod.until("the write is announced", move |_| bus.published.lock().len() == 1).await;
}

#[tokio::test]
async fn an_engine_that_ends_waits_for_writes_that_have_begun() {
    let pod = Pod::new().await;
    pod.storage.close();
    let engine = Arc::clone(&pod.engine);
    let write = tokio::spawn(async move { engine.write(&Key::from("k"), set("v")).await });
    let storage = Arc::clone(&pod.storage);
    pod.until("the write is at the storage", move |_| storage.calls.load(Ordering::SeqCst) > 0)
        .await;
    assert!(!pod.engine.drain(Duration::from_millis(50)).await, "a write is on its way");
    pod.storage.open();
    assert!(pod.engine.drain(Duration::from_secs(10)).await);
    assert_eq!(pod.bus.published.lock().len(), 1, "peers were told before the end");
    write.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_refusing_bus_delays_a_write_a_second_at_most_and_gets_the_message_later() {
    let pod = Pod::new().await;
    *pod.bus.refuses.lock() = true;
    let begun = Instant::now();
    pod.engine.write(&Key::from("k"), set("v")).await.unwrap();
    pod.engine.write(&Key::from("l"), set("v")).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(8));
    assert_eq!(pod.engine.status().0.pending, 2);
    *pod.bus.refuses.lock() = false;
    assert!(pod.engine.drain(Duration::from_secs(10)).await);
    let published = pod.bus.published.lock().clone();
    let keys: Vec<_> = published.into_iter().map(|message| message.scope).collect();
    assert_eq!(keys, ["k", "l"].map(|key| Scope::Keys(vec![Key::from(key)])));
}

#[tokio::test]
async fn without_a_proof_for_the_bound_hits_stop_and_come_back_with_one() {
    let pod = Pod::new().await;
    pod.storage.put_behind("k", "v");
    pod.read("k").await.unwrap();
    assert!(pod.cached("k").is_some());
    pod.until("the proof is too old", |engine| !engine.status().0.live).await;
    assert_eq!(pod.cached("k"), None);
    pod.bus.prove().await;
    pod.until("the bus is live", |engine| engine.status().0.live).await;
    assert!(pod.cached("k").is_some(), "nothing was missed, so the copy holds");
}

#[tokio::test]
async fn what_was_read_before_the_bus_was_joined_is_read_again() {
    let pod = Pod::new().await;
    pod.storage.put_behind("k", "before");
    let bus = ScriptedBus::new();
    pod.engine.exchange_bus(bus.clone());
    assert_eq!(pod.read("k").await, Ok(Some(Bytes::from("before"))));
    // A peer's write whose message went by before this pod knew the bus's order.
    pod.storage.put_behind("k", "after");
    bus.prove().await;
    pod.until("the bus is live", |engine| engine.status().0.live).await;
    assert_eq!(pod.read("k").await, Ok(Some(Bytes::from("after"))));
}

#[tokio::test]
async fn lost_positions_flush_the_cache() {
    let pod = Pod::new().await;
    pod.storage.put_behind("k", "v");
    pod.read("k").await.unwrap();
    let (reason, epoch) = ("stream recreated".to_owned(), "f".to_owned());
    pod.bus.tell(BusEvent::Reset { reason, epoch, position: 0 }).await;
    pod.until("the reset is applied", |engine| engine.status().0.resets == 1).await;
    assert_eq!(pod.cached("k"), None);
}

#[tokio::test]
async fn what_others_do_to_the_storage_is_forgotten() {
    let pod = Pod::new().await;
    for (event, key) in
        [(StorageEvent::Changed(vec![Key::from("k")]), "k"), (StorageEvent::AnythingChanged, "l")]
    {
        pod.storage.put_behind(key, "v");
        pod.read(key).await.unwrap();
        pod.storage.feed.send(event).await.unwrap();
        pod.until("it is forgotten", move |engine| {
            engine.cached(key.as_bytes(), engine.now()).is_none()
        })
        .await;
    }
}

#[tokio::test]
async fn what_never_reached_the_storage_is_tried_again() {
    let pod = Pod::new().await;
    pod.storage.fail_next(down());
    pod.storage.fail_next(down());
    pod.engine.write(&Key::from("k"), set("v")).await.unwrap();
    assert_eq!(pod.read("k").await, Ok(Some(Bytes::from("v"))));
    for _ in 0..3 {
        pod.storage.fail_next(down());
    }
    assert_eq!(pod.read("l").await, Err(down()));
    assert!(!pod.engine.status().1.available);
    assert_eq!(pod.read("k").await, Ok(Some(Bytes::from("v"))), "hits go on");
    assert_eq!(pod.read("l").await, Ok(None), "recovery alone");
    assert!(pod.engine.status().1.available);
}

#[tokio::test]
async fn a_write_without_an_answer_is_forgotten_announced_and_not_repeated() {
    let pod = Pod::new().await;
    pod.engine.write(&Key::from("k"), set("old")).await.unwrap();
    let unknown = StorageError::Unknown { kind: "scripted", cause: "timeout".to_owned() };
    pod.storage.fail_next(unknown.clone());
    let calls = pod.storage.calls.load(Ordering::SeqCst);
    assert_eq!(pod.engine.write(&Key::from("k"), set("new")).await, Err(unknown));
    assert_eq!(pod.storage.calls.load(Ordering::SeqCst), calls + 1);
    assert_eq!(pod.cached("k"), None);
    assert_eq!(pod.bus.published.lock().len(), 2);
}

#[tokio::test]
async fn readers_of_one_moment_ask_the_storage_once() {
    let pod = Pod::new().await;
    pod.storage.put_behind("k", "v");
    pod.storage.close();
    let calls = pod.storage.calls.load(Ordering::SeqCst);
    let readers: Vec<_> = (0..50)
        .map(|_| {
            let engine = Arc::clone(&pod.engine);
            tokio::spawn(async move { engine.read(&[Key::from("k")]).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    pod.storage.open();
    for reader in readers {
        assert_eq!(reader.await.unwrap().unwrap()[0].as_ref().unwrap().data, "v");
    }
    assert_eq!(pod.storage.calls.load(Ordering::SeqCst), calls + 1);
}

#[tokio::test]
async fn a_changed_ttl_holds_for_what_is_cached_and_a_changed_mode_flushes() {
    let pod = Pod::new().await;
    pod.storage.put_behind("k", "v");
    pod.storage.put_behind("local:k", "v");
    pod.read("k").await.unwrap();
    pod.read("local:k").await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    pod.engine.exchange_classes(classes(
        &POLICIES.replace("defaults: {ttl: 60s}", "defaults: {ttl: 10ms}"),
    ));
    assert_eq!(pod.cached("k"), None);
    assert!(pod.cached("local:k").is_some());
    pod.engine.exchange_classes(classes(&POLICIES.replace("StrongLocal", "EventualDistributed")));
    assert_eq!(pod.cached("local:k"), None);
}

/// A write that PostgreSQL does after its connection was lost, its invalidation was published and
/// the old value was read again.
#[tokio::test]
async fn a_write_that_is_done_after_its_answer_was_lost_is_told_again() {
    let server = Postgres::start();
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = server.url().replace(
        &format!(":{}/", server.port),
        &format!(":{}/", relay.local_addr().unwrap().port()),
    );
    let (cut, _) = broadcast::channel::<()>(1);
    let (cuts, port) = (cut.clone(), server.port);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = relay.accept().await {
            let mut cut = cuts.subscribe();
            tokio::spawn(async move {
                let mut upstream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut upstream) => {}
                    // The server's end stays open: a backend that waits for a lock notices nothing.
                    _ = cut.recv() => { drop(client); std::mem::forget(upstream) }
                }
            });
        }
    });
    let settings = PostgresSettings {
        statement_timeout: Duration::from_secs(2),
        ..PostgresSettings::new(url, "late")
    };
    let pod = Pod::over(Arc::new(PostgresAdapter::connect_lazy(settings).unwrap())).await;
    let key = Key::from("k");
    pod.engine.write(&key, set("old")).await.unwrap();
    let mut stranger = PgConnection::connect(&server.url()).await.unwrap();
    let mut holding = stranger.begin().await.unwrap();
    holding.execute("SELECT FROM late WHERE key = 'k' FOR UPDATE").await.unwrap();
    let engine = Arc::clone(&pod.engine);
    let writing = tokio::spawn(async move { engine.write(&Key::from("k"), set("new")).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    cut.send(()).unwrap();
    let unknown = writing.await.unwrap();
    assert!(matches!(unknown, Err(StorageError::Unknown { .. })), "{unknown:?}");
    assert_eq!(pod.read("k").await, Ok(Some(Bytes::from("old"))));
    assert_eq!(pod.cached("k"), Some(Bytes::from("old")), "it is the truth as yet");
    holding.rollback().await.unwrap();
    // When it was written, when its answer was lost, and when it is settled.
    pod.until("it is told again", |_| pod.bus.published.lock().len() == 3).await;
    pod.bus.prove().await;
    pod.until("the bus is live again", |engine| engine.status().0.live).await;
    pod.until("the copy is forgotten", |_| pod.cached("k").is_none()).await;
    assert_eq!(pod.read("k").await, Ok(Some(Bytes::from("new"))));
}

/// Over a real PostgreSQL: only it has transactions.
mod transactions {
    use super::*;

    async fn pod(
        server: &Postgres,
        change: impl FnOnce(&mut PostgresSettings),
    ) -> Pod<PostgresAdapter> {
        let table = format!("pod_{}", rand::random::<u32>());
        let mut settings = PostgresSettings::new(server.url(), table);
        change(&mut settings);
        let pod = Pod::over(Arc::new(PostgresAdapter::connect_lazy(settings).unwrap())).await;
        // Strings and a copy of each, that nobody was told of.
        let pairs = ["a", "b", "local:k"].map(|key| (Key::from(key), Bytes::from("1")));
        pod.storage.set_many(&pairs).await.unwrap();
        for (key, _) in &pairs {
            pod.engine.read(std::slice::from_ref(key)).await.unwrap();
        }
        assert_eq!(copies(&pod), (true, true, true));
        pod
    }

    fn copies(pod: &Pod<PostgresAdapter>) -> (bool, bool, bool) {
        let [a, b, local] = ["a", "b", "local:k"].map(|key| pod.cached(key).is_some());
        (a, b, local)
    }

    fn keys(names: &[&'static str]) -> Vec<Key> {
        names.iter().map(|name| Key::from(*name)).collect()
    }

    fn told(pod: &Pod<PostgresAdapter>) -> Vec<Scope> {
        pod.bus.published.lock().iter().map(|message| message.scope.clone()).collect()
    }

    fn run(pod: &Pod<PostgresAdapter>, begun: &Begun, key: &str, mutation: &Mutation) -> i64 {
        let view = begun.view(&pod.engine.view());
        view.write_now(key.as_bytes(), mutation).unwrap().unwrap().number
    }

    #[tokio::test]
    async fn a_commit_is_stored_then_told_then_forgotten_and_goes_on_without_its_caller() {
        let server = Postgres::start();
        let pod = pod(&server, |_| ()).await;
        let begun = pod.engine.begin(keys(&["b", "local:k", "a", "new"])).await.unwrap();
        assert_eq!(run(&pod, &begun, "a", &Mutation::Add(1)), 2);
        assert_eq!(run(&pod, &begun, "a", &Mutation::Add(1)), 3);
        run(&pod, &begun, "local:k", &Mutation::Delete);
        server.pause();
        let engine = Arc::clone(&pod.engine);
        let committing = tokio::spawn(async move { engine.commit(begun).await });
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(told(&pod), []);
        assert_eq!(copies(&pod), (true, true, true), "what isn't stored isn't forgotten");
        committing.abort();
        assert!(committing.await.unwrap_err().is_cancelled());
        server.resume();
        pod.until("copies are forgotten", |_| copies(&pod) == (false, true, false)).await;
        assert_eq!(told(&pod), [Scope::Keys(keys(&["a"]))], "only what changed, of those shared");
        assert_eq!(pod.read("a").await, Ok(Some(Bytes::from("3"))));
        assert_eq!(pod.read("local:k").await, Ok(None));
        assert_eq!(pod.read("new").await, Ok(None));
    }

    #[tokio::test]
    async fn what_is_not_committed_is_told_to_nobody() {
        let pod = pod(Postgres::shared(), |_| ()).await;
        for ending in 0..4 {
            let begun = pod.engine.begin(keys(&["a", "b"])).await.unwrap();
            if ending < 3 {
                run(&pod, &begun, "a", &Mutation::Add(1));
            }
            match ending {
                0 => begun.rollback().await,
                1 => drop(begun),
                2 => {
                    run(&pod, &begun, "other", &set("v"));
                    let refused = pod.engine.commit(begun).await.unwrap_err().to_string();
                    assert!(refused.starts_with("ERR "), "{refused}");
                    assert!(refused.contains("only the keys named"), "{refused}");
                    assert!(refused.contains("'other'"), "{refused}");
                }
                _ => pod.engine.commit(begun).await.unwrap(),
            }
        }
        assert_eq!(told(&pod), []);
        assert_eq!(copies(&pod), (true, true, true));
        let stored = pod.storage.get(&keys(&["a", "other"])).await.unwrap();
        assert_eq!(stored[0].as_ref().unwrap().data, "1");
        assert_eq!(stored[1], None);
    }

    #[tokio::test]
    async fn a_collection_has_no_row() {
        let pod = pod(Postgres::shared(), |_| ()).await;
        let begun = pod.engine.begin(keys(&["local:set"])).await.unwrap();
        let add = |set: &mut warp_sidecar::adapter::memory::collection::Set| {
            set.add(b"member");
            Ok::<_, warp_sidecar::adapter::memory::Refusal>(())
        };
        let view = begun.view(&pod.engine.view());
        view.on_keyspace(|keyspace| keyspace.change(b"local:set", add)).unwrap().unwrap();
        let refused = pod.engine.commit(begun).await.unwrap_err().to_string();
        assert!(refused.starts_with("ERR class 'local'"), "{refused}");
        assert!(refused.contains("hold strings only"), "{refused}");
    }

    #[tokio::test]
    async fn a_commit_without_an_answer_is_told_and_forgotten() {
        let server = Postgres::start();
        let hasty = |settings: &mut PostgresSettings| {
            settings.statement_timeout = Duration::from_millis(700);
        };
        let pod = pod(&server, hasty).await;
        let begun = pod.engine.begin(keys(&["a"])).await.unwrap();
        run(&pod, &begun, "a", &Mutation::Add(1));
        server.pause();
        let unknown = pod.engine.commit(begun).await;
        assert!(matches!(unknown, Err(StorageError::Unknown { .. })), "{unknown:?}");
        assert_eq!(told(&pod), [Scope::Keys(keys(&["a"]))]);
        assert_eq!(pod.cached("a"), None);
        server.resume();
    }

    #[tokio::test]
    async fn writers_in_the_pod_wait_for_their_turn_without_a_connection() {
        let one = |settings: &mut PostgresSettings| settings.max_connections = 1;
        let pod = pod(Postgres::shared(), one).await;
        let begun = pod.engine.begin(keys(&["a", "b"])).await.unwrap();
        let engine = Arc::clone(&pod.engine);
        let writing =
            tokio::spawn(async move { engine.write(&Key::from("a"), Mutation::Add(1)).await });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!writing.is_finished());
        run(&pod, &begun, "a", &Mutation::Add(10));
        pod.engine.commit(begun).await.unwrap();
        assert_eq!(writing.await.unwrap().unwrap().number, 12);
    }

    #[tokio::test]
    async fn a_write_by_anybody_changes_what_was_watched() {
        let pod = pod(Postgres::shared(), |_| ()).await;
        let watched = keys(&["a", "b", "new"]);
        let before = pod.engine.versions(&watched).await.unwrap();
        pod.storage.apply(&Key::from("b"), set("2")).await.unwrap();
        let begun = pod.engine.begin(watched.clone()).await.unwrap();
        let now: Vec<_> = begun.versions().collect();
        assert_eq!(now[0], (&watched[0], before[0]));
        assert!(now[1].1 > before[1], "{now:?} after {before:?}");
        assert_eq!(now[2], (&watched[2], 0));
    }

    #[tokio::test]
    async fn without_keys_the_storage_is_not_asked() {
        let server = Postgres::start();
        let pod = pod(&server, |_| ()).await;
        server.kill();
        let begun = pod.engine.begin(Vec::new()).await.unwrap();
        assert_eq!(begun.versions().count(), 0);
        pod.engine.commit(begun).await.unwrap();
        let begun = pod.engine.begin(Vec::new()).await.unwrap();
        run(&pod, &begun, "a", &set("v"));
        assert!(matches!(pod.engine.commit(begun).await, Err(StorageError::Refused(_))));
    }

    #[tokio::test]
    async fn other_storages_have_none_such() {
        let pod = Pod::new().await;
        let refused = pod.engine.begin(keys(&["a"])).await.unwrap_err();
        assert_eq!(refused.to_string(), "ERR storage scripted has no such transactions");
    }
}
