//! What every storage must do alike, asked of each against a real server.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of tests fail like tests")]

#[path = "support/servers/mod.rs"]
mod servers;

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use warp_sidecar::adapter::{
    Current, ExpireCondition, Key, MemoryAdapter, Mutation, PostgresAdapter, PostgresSettings,
    RedisAdapter, RedisSettings, SetCondition, SetExpiry, Storage, UnixMillis, WhenFull,
    unix_millis,
};

use servers::pgbouncer::PgBouncer;
use servers::postgres::Postgres;
use servers::redis::Redis;

/// An empty storage, and what it needs to live.
struct Fixture {
    storage: Arc<dyn Storage>,
    _server: Box<dyn Any + Send>,
}

fn memory() -> Fixture {
    let storage = Arc::new(MemoryAdapter::new(64 << 20, WhenFull::Refuse, unix_millis));
    Fixture { storage, _server: Box::new(()) }
}

fn redis() -> Fixture {
    let server = Redis::start();
    let storage = RedisAdapter::connect(RedisSettings::new(server.url(), None)).unwrap();
    Fixture { storage: Arc::new(storage), _server: Box::new(server) }
}

fn postgres() -> Fixture {
    let storage = PostgresAdapter::connect_lazy(settings(Postgres::shared().url())).unwrap();
    Fixture { storage: Arc::new(storage), _server: Box::new(()) }
}

fn pgbouncer() -> Fixture {
    let server = PgBouncer::start(Postgres::shared());
    let storage = PostgresAdapter::connect_lazy(settings(server.url())).unwrap();
    Fixture { storage: Arc::new(storage), _server: Box::new(server) }
}

/// For a table of the test's own.
fn settings(url: String) -> PostgresSettings {
    static TABLES: AtomicU64 = AtomicU64::new(0);
    let table = format!("warp_{}", TABLES.fetch_add(1, Ordering::Relaxed));
    // Enough for the tests' own concurrency to reach the server.
    PostgresSettings { max_connections: 4, ..PostgresSettings::new(url, table) }
}

macro_rules! for_each_storage {
    ($($test:ident)*) => {
        for_each_storage! { @ memory $($test)* }
        for_each_storage! { @ redis $($test)* }
        for_each_storage! { @ postgres $($test)* }
        for_each_storage! { @ pgbouncer $($test)* }
    };
    (@ $storage:ident $($test:ident)*) => {
        mod $storage {
            $(
                #[tokio::test]
                async fn $test() {
                    let fixture = super::$storage();
                    super::$test(&fixture.storage).await;
                }
            )*
        }
    };
}

for_each_storage! {
    what_was_set_is_got_with_its_expiry
    any_bytes_come_back_as_they_were
    values_come_in_the_order_of_the_keys
    each_mutation_does_what_the_commands_pages_say
    an_expired_key_is_gone_for_everything
    many_are_set_at_once_and_forever
    delete_counts_what_was_there
    a_scan_gives_every_key_that_stays
    flush_leaves_nothing
    concurrent_additions_are_exact
    one_of_many_wins_a_set_nx
}

fn key(text: &str) -> Key {
    Bytes::copy_from_slice(text.as_bytes())
}

fn set(data: impl Into<Bytes>, expiry: SetExpiry) -> Mutation {
    Mutation::Set { data: data.into(), condition: SetCondition::Always, expiry, get: false }
}

async fn got(storage: &Arc<dyn Storage>, name: &str) -> Option<Bytes> {
    storage.get(&[key(name)]).await.unwrap().remove(0).map(|value| value.data)
}

/// Times cross the wire as time left, and the answer is never later than the truth.
fn assert_about(expires_at: Option<UnixMillis>, expected: Option<UnixMillis>, what: &str) {
    match (expires_at, expected) {
        (Some(at), Some(expected)) => {
            assert!(at.abs_diff(expected) < 2_000, "{what}: {at} is not about {expected}");
        }
        (at, expected) => assert_eq!(at, expected, "{what}"),
    }
}

async fn what_was_set_is_got_with_its_expiry(storage: &Arc<dyn Storage>) {
    storage.probe().await.unwrap();
    assert_eq!(got(storage, "k").await, None);
    let later = unix_millis() + 100_000;
    for (name, expiry, expires_at) in
        [("forever", SetExpiry::Clear, None), ("brief", SetExpiry::At(later), Some(later))]
    {
        let applied = storage.apply(&key(name), set("v", expiry)).await.unwrap();
        assert!(applied.done);
        let Current::Value(current) = applied.current else { panic!("{applied:?}") };
        assert_eq!((current.data.as_ref(), current.expires_at), (b"v".as_slice(), expires_at));
        let value = storage.get(&[key(name)]).await.unwrap().remove(0).unwrap();
        assert_eq!((&value.data, value.version), (&current.data, current.version));
        assert_about(value.expires_at, expires_at, name);
    }
}

async fn any_bytes_come_back_as_they_were(storage: &Arc<dyn Storage>) {
    let all: Vec<u8> = (0..=255).collect();
    let texts =
        [all, b"\r\n".to_vec(), b"'; DROP TABLE x; --\\".to_vec(), Vec::new(), vec![0; 70_000]];
    for text in &texts {
        let (name, data) = (Bytes::from(text.clone()), Bytes::from(text.clone()));
        storage.apply(&name, set(data.clone(), SetExpiry::Clear)).await.unwrap();
        storage.apply(&name, Mutation::Append(data.clone())).await.unwrap();
        let twice = Bytes::from([text.as_slice(), text].concat());
        let value = storage.get(std::slice::from_ref(&name)).await.unwrap().remove(0).unwrap();
        assert_eq!(value.data, twice);
        let applied = storage.apply(&name, Mutation::Delete).await.unwrap();
        assert_eq!(applied.previous, Some(twice));
    }
}

async fn values_come_in_the_order_of_the_keys(storage: &Arc<dyn Storage>) {
    let pairs: Vec<_> = ["a", "b", "c"].map(|name| (key(name), key(name))).to_vec();
    storage.set_many(&pairs).await.unwrap();
    let asked = ["c", "none", "a", "c", "b"];
    let values = storage.get(&asked.map(key)).await.unwrap();
    let data: Vec<_> = values.into_iter().map(|value| value.map(|value| value.data)).collect();
    assert_eq!(data, asked.map(|name| (name != "none").then(|| key(name))));
    assert_eq!(storage.get(&[]).await.unwrap(), []);
}

/// The memory adapter does what `Mutation` says, and that is tested against a model; here every
/// storage is held against it, and a real Redis holds it to what the commands really do.
async fn each_mutation_does_what_the_commands_pages_say(storage: &Arc<dyn Storage>) {
    let model = MemoryAdapter::new(64 << 20, WhenFull::Refuse, unix_millis);
    for seed in 0..3 {
        let mut random = StdRng::seed_from_u64(seed);
        for step in 0..150 {
            let name = key(["a", "b", "c"][random.random_range(0..3)]);
            let mutation = any_mutation(&mut random);
            let what = format!("seed {seed} step {step}: {mutation:?} on {name:?}");
            let told = model.apply(&name, mutation.clone()).await;
            let done = storage.apply(&name, mutation).await;
            match (&done, &told) {
                (Ok(done), Ok(told)) => {
                    assert_eq!(
                        (done.done, &done.previous, done.number),
                        (told.done, &told.previous, told.number),
                        "{what}"
                    );
                    match (&done.current, &told.current) {
                        (Current::Unknown, _) => {}
                        (Current::Value(done), Current::Value(told)) => {
                            assert_eq!(done.data, told.data, "{what}");
                            assert_about(done.expires_at, told.expires_at, &what);
                        }
                        (done, told) => assert_eq!(done, told, "{what}"),
                    }
                }
                (done, told) => {
                    assert_eq!(done.as_ref().err(), told.as_ref().err(), "{what}");
                }
            }
            // What expires in the past may live for a last millisecond.
            tokio::time::sleep(Duration::from_millis(2)).await;
            let names = [name];
            let is = storage.get(&names).await.unwrap().remove(0);
            let should_be = model.get(&names).await.unwrap().remove(0);
            assert_eq!(
                is.as_ref().map(|value| &value.data),
                should_be.as_ref().map(|value| &value.data),
                "{what}"
            );
            assert_about(
                is.and_then(|value| value.expires_at),
                should_be.and_then(|value| value.expires_at),
                &what,
            );
        }
    }
}

/// Times are far enough apart that a slow machine doesn't change what they mean.
fn any_mutation(random: &mut StdRng) -> Mutation {
    let now = unix_millis();
    let times = [now - 60_000, now + 100_000, now + 200_000, now + 300_000];
    let at = times[random.random_range(0..4)];
    let data = match random.random_range(0..4) {
        0 => Bytes::from(random.random_range(-5..5_i64).to_string()),
        1 => Bytes::from(random.random::<i64>().to_string()),
        2 => Bytes::from_static(b"007"),
        _ => Bytes::from(random.random::<[u8; 5]>().to_vec()),
    };
    match random.random_range(0..12) {
        0..4 => Mutation::Set {
            data,
            condition: [SetCondition::Always, SetCondition::IfAbsent, SetCondition::IfPresent]
                [random.random_range(0..3)],
            expiry: [SetExpiry::Clear, SetExpiry::Keep, SetExpiry::At(at)]
                [random.random_range(0..3)],
            get: random.random(),
        },
        4 => Mutation::Delete,
        5 => Mutation::GetExpire { at: random.random_bool(0.8).then_some(at) },
        6 => Mutation::Expire { at: None, condition: ExpireCondition::Always },
        7 | 8 => Mutation::Expire {
            at: Some(at),
            condition: [
                ExpireCondition::Always,
                ExpireCondition::IfNone,
                ExpireCondition::IfSome,
                ExpireCondition::IfLater,
                ExpireCondition::IfEarlier,
            ][random.random_range(0..5)],
        },
        9 | 10 => Mutation::Add(match random.random_range(0..3) {
            0 => random.random(),
            _ => random.random_range(-3..3),
        }),
        _ => Mutation::Append(data),
    }
}

async fn an_expired_key_is_gone_for_everything(storage: &Arc<dyn Storage>) {
    let soon = || SetExpiry::At(unix_millis() + 150);
    for name in ["read", "added", "set", "deleted"] {
        storage.apply(&key(name), set("7", soon())).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(got(storage, "read").await, None);
    assert_eq!(storage.apply(&key("added"), Mutation::Add(1)).await.unwrap().number, 1);
    let nx = Mutation::Set {
        data: key("new"),
        condition: SetCondition::IfAbsent,
        expiry: SetExpiry::Clear,
        get: false,
    };
    assert!(storage.apply(&key("set"), nx).await.unwrap().done);
    assert_eq!(storage.delete(&[key("deleted")]).await.unwrap(), 0);
    assert_eq!(storage.count().await.unwrap(), 2);
    let mut page = storage.scan(0, None, 100).await.unwrap();
    page.keys.sort();
    assert_eq!(page.keys, ["added", "set"]);
}

async fn many_are_set_at_once_and_forever(storage: &Arc<dyn Storage>) {
    let later = SetExpiry::At(unix_millis() + 100_000);
    storage.apply(&key("b"), set("old", later)).await.unwrap();
    let pairs = [("b", "1"), ("a", "2"), ("b", "3")].map(|(name, data)| (key(name), key(data)));
    storage.set_many(&pairs).await.unwrap();
    storage.set_many(&[]).await.unwrap();
    assert_eq!(got(storage, "a").await.unwrap(), "2");
    let b = storage.get(&[key("b")]).await.unwrap().remove(0).unwrap();
    assert_eq!((b.data.as_ref(), b.expires_at), (b"3".as_slice(), None));
}

async fn delete_counts_what_was_there(storage: &Arc<dyn Storage>) {
    let pairs = ["a", "b", "c"].map(|name| (key(name), key("v")));
    storage.set_many(&pairs).await.unwrap();
    assert_eq!(storage.delete(&["a", "none", "a", "c"].map(key)).await.unwrap(), 2);
    assert_eq!(storage.delete(&[]).await.unwrap(), 0);
    assert_eq!(storage.count().await.unwrap(), 1);
}

async fn a_scan_gives_every_key_that_stays(storage: &Arc<dyn Storage>) {
    let name = |prefix: &str, at: u32| key(&format!("{prefix}:{at}"));
    let pairs: Vec<_> = (0..300).map(|at| (name("stays", at), key("v"))).collect();
    storage.set_many(&pairs).await.unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (storage, ended) = (Arc::clone(storage), Arc::clone(&ended));
        async move {
            let mut at = 0;
            while !ended.load(Ordering::Relaxed) {
                storage.apply(&name("comes", at), set("v", SetExpiry::Clear)).await.unwrap();
                storage.apply(&name("stays", at % 300), set("w", SetExpiry::Clear)).await.unwrap();
                storage.delete(&[name("comes", at / 2)]).await.unwrap();
                at += 1;
                tokio::task::yield_now().await;
            }
        }
    });
    for round in 0..5 {
        let (mut cursor, mut seen) = (0, BTreeSet::new());
        loop {
            let page = storage.scan(cursor, Some(b"stays:*"), 20).await.unwrap();
            assert!(page.keys.iter().all(|key| key.starts_with(b"stays:")));
            seen.extend(page.keys);
            cursor = page.cursor;
            if cursor == 0 {
                break;
            }
        }
        assert_eq!(seen.len(), 300, "round {round}");
    }
    ended.store(true, Ordering::Relaxed);
    writer.await.unwrap();
}

async fn flush_leaves_nothing(storage: &Arc<dyn Storage>) {
    let pairs: Vec<_> = (0..50).map(|at| (key(&at.to_string()), key("v"))).collect();
    storage.set_many(&pairs).await.unwrap();
    assert_eq!(storage.count().await.unwrap(), 50);
    storage.flush().await.unwrap();
    assert_eq!(storage.count().await.unwrap(), 0);
    assert_eq!(got(storage, "7").await, None);
    assert_eq!(storage.scan(0, None, 10).await.unwrap().keys, [""; 0]);
}

async fn concurrent_additions_are_exact(storage: &Arc<dyn Storage>) {
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let storage = Arc::clone(storage);
            tokio::spawn(async move {
                let mut sums = Vec::new();
                for _ in 0..25 {
                    sums.push(storage.apply(&key("n"), Mutation::Add(1)).await.unwrap().number);
                }
                sums
            })
        })
        .collect();
    let mut sums = Vec::new();
    for task in tasks {
        sums.extend(task.await.unwrap());
    }
    sums.sort_unstable();
    assert_eq!(sums, (1..=200).collect::<Vec<_>>());
}

async fn one_of_many_wins_a_set_nx(storage: &Arc<dyn Storage>) {
    for round in 0..10 {
        for get in [false, true] {
            let name = key(&format!("{round}:{get}"));
            let tasks: Vec<_> = (0..4)
                .map(|at: u8| {
                    let (storage, name) = (Arc::clone(storage), name.clone());
                    tokio::spawn(async move {
                        let nx = Mutation::Set {
                            data: Bytes::from(vec![at]),
                            condition: SetCondition::IfAbsent,
                            expiry: SetExpiry::Clear,
                            get,
                        };
                        storage.apply(&name, nx).await.unwrap().done
                    })
                })
                .collect();
            let mut winners = 0;
            for task in tasks {
                winners += u32::from(task.await.unwrap());
            }
            assert_eq!(winners, 1);
        }
    }
}
