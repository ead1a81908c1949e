//! What the memory storage promises beyond what every storage does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::collection::{Hash, Kind, List, Set, Side};
use super::*;
use crate::adapter::{Current, ExpireCondition, SetCondition, SetExpiry, StorageError};

const KEY: &[u8] = b"key";

fn noon() -> UnixMillis {
    1_000
}

fn adapter(limit: usize) -> MemoryAdapter {
    MemoryAdapter::new(limit, WhenFull::Refuse, noon)
}

fn set(data: impl Into<Bytes>, expiry: SetExpiry) -> Mutation {
    Mutation::Set { data: data.into(), condition: SetCondition::Always, expiry, get: false }
}

fn push(keyspace: &mut Keyspace, key: &[u8], element: &[u8]) -> std::result::Result<(), Refusal> {
    keyspace.change(key, |list: &mut List| {
        list.push(Side::Right, element);
        Ok(())
    })
}

#[test]
fn a_write_beyond_the_limit_is_refused_and_changes_nothing() {
    let adapter = adapter(64 * 1024);
    adapter.apply_now(KEY, &set("old", SetExpiry::Clear)).unwrap();
    let long = Bytes::from(vec![b'x'; 64 * 1024]);
    let pairs: [(&[u8], &[u8]); 2] = [(b"other", b""), (KEY, &long)];
    for refused in [
        adapter.apply_now(KEY, &set(long.clone(), SetExpiry::Clear)).unwrap_err(),
        adapter.set_many_now(&pairs).unwrap_err(),
    ] {
        assert_eq!(refused.to_string(), "OOM command not allowed when used memory > 'maxmemory'.");
    }
    assert_eq!(adapter.get_now(KEY).unwrap().unwrap().data, "old");
    assert_eq!(adapter.count_now(), 1);
}

#[test]
fn a_memory_that_may_evict_takes_every_write() {
    let adapter = MemoryAdapter::new(64 * 1024, WhenFull::Evict, noon);
    for at in 0..1_000_u32 {
        adapter.apply_now(&at.to_be_bytes(), &set(vec![0; 1_000], SetExpiry::Clear)).unwrap();
    }
    assert!((1..100).contains(&adapter.count_now()));
    assert!(adapter.with(|keyspace| keyspace.figures().evicted) > 900);
}

static NOW: AtomicU64 = AtomicU64::new(0);

#[test]
fn room_is_made_of_what_has_expired() {
    NOW.store(100, Ordering::Relaxed);
    let adapter = MemoryAdapter::new(256 * 1024, WhenFull::Refuse, || NOW.load(Ordering::Relaxed));
    for at in 0..150_u32 {
        let data = vec![0; 1_000];
        adapter.apply_now(&at.to_be_bytes(), &set(data, SetExpiry::At(200))).unwrap();
    }
    let big = set(vec![0; 128 * 1024], SetExpiry::Clear);
    adapter.apply_now(KEY, &big).unwrap_err();
    NOW.store(200, Ordering::Relaxed);
    assert_eq!(adapter.count_now(), 0, "expired keys are gone at once");
    adapter.apply_now(KEY, &big).unwrap();
    assert_eq!(adapter.count_now(), 1);
}

#[test]
fn what_has_expired_is_not_counted_wherever_the_walk_is() {
    let mut keyspace = Keyspace::new(1 << 20, WhenFull::Refuse);
    keyspace.set_now(1);
    for key in 0..20_u8 {
        keyspace.put_string(&[key], b"text", Some(100)).unwrap();
    }
    keyspace.put_string(b"first", b"text", Some(50)).unwrap();
    keyspace.set_now(60);
    // A write takes the walk some way, past keys that have not expired yet.
    keyspace.apply(KEY, &set("text", SetExpiry::Clear)).unwrap();
    keyspace.set_now(100);
    assert_eq!(keyspace.count(), 1);
}

#[test]
fn what_is_taken_over_from_another_buffer_is_copied() {
    let adapter = adapter(1 << 20);
    let buffer = Bytes::from(vec![b'k'; 1000]);
    let applied = adapter.apply_now(KEY, &set(buffer.slice(1..2), SetExpiry::Clear)).unwrap();
    let Current::Value(value) = applied.current else { panic!("{applied:?}") };
    assert!(!buffer.as_ptr_range().contains(&value.data.as_ptr()));
}

#[test]
fn a_collection_is_no_string_and_no_other_collection() {
    let adapter = adapter(1 << 20);
    adapter.with(|keyspace| push(keyspace, KEY, b"element")).unwrap();
    let wrong = StorageError::from(Refusal::WrongType);
    assert_eq!(adapter.get_now(KEY).unwrap_err(), wrong);
    for refused in [
        Mutation::Append(Bytes::new()),
        Mutation::Add(1),
        Mutation::Delete,
        Mutation::GetExpire { at: None },
    ] {
        assert_eq!(adapter.apply_now(KEY, &refused).unwrap_err(), wrong, "{refused:?}");
    }
    adapter.with(|keyspace| {
        assert_eq!(keyspace.collection::<Hash>(KEY).unwrap_err(), Refusal::WrongType);
        let changed = keyspace.change(KEY, |set: &mut Set| Ok::<_, Refusal>(set.add(b"member")));
        assert_eq!(changed, Err(Refusal::WrongType));
        assert_eq!(keyspace.kind(KEY), Some(Kind::List));
    });
}

#[test]
fn a_collection_expires_and_is_overwritten_by_a_string() {
    let adapter = adapter(1 << 20);
    adapter.with(|keyspace| push(keyspace, KEY, b"element")).unwrap();
    let expire = |at| Mutation::Expire { at: Some(at), condition: ExpireCondition::Always };
    assert!(adapter.apply_now(KEY, &expire(5_000)).unwrap().done);
    assert_eq!(adapter.with(|keyspace| keyspace.expires_at(KEY)), Some(Some(5_000)));
    assert!(adapter.apply_now(KEY, &set("text", SetExpiry::Keep)).unwrap().done);
    let value = adapter.get_now(KEY).unwrap().unwrap();
    assert_eq!((&*value.data, value.expires_at), (b"text".as_slice(), Some(5_000)));
    adapter.with(|keyspace| push(keyspace, b"other", b"element")).unwrap();
    assert!(adapter.apply_now(b"other", &expire(1)).unwrap().done);
    assert_eq!(adapter.with(|keyspace| keyspace.kind(b"other")), None);
}

#[test]
fn an_empty_collection_is_no_key() {
    let mut keyspace = Keyspace::new(1 << 20, WhenFull::Refuse);
    push(&mut keyspace, KEY, b"element").unwrap();
    let popped =
        keyspace.change_found(KEY, |list: &mut List| Ok::<_, Refusal>(list.pop(Side::Left)));
    assert!(popped.unwrap().flatten().is_some());
    assert!(!keyspace.contains(KEY));
    keyspace.put_string(KEY, b"text", None).unwrap();
    keyspace.put_collection(KEY, Set::default()).unwrap();
    assert!(!keyspace.contains(KEY));
    keyspace.change(KEY, |_: &mut Set| Ok::<_, Refusal>(())).unwrap();
    assert!(!keyspace.contains(KEY));
}

#[test]
fn a_failed_change_leaves_no_trace() {
    let mut keyspace = Keyspace::new(1 << 20, WhenFull::Refuse);
    let failed = keyspace.change(KEY, |set: &mut Set| {
        set.add(b"member");
        Err::<(), _>(Refusal::NoRoom)
    });
    assert_eq!((failed, keyspace.contains(KEY)), (Err(Refusal::NoRoom), false));
}

#[test]
fn every_write_gives_a_watched_key_another_version() {
    let adapter = adapter(1 << 20);
    let first = adapter.with(|keyspace| keyspace.watch(KEY));
    adapter.apply_now(b"other", &set("text", SetExpiry::Clear)).unwrap();
    assert_eq!(adapter.with(|keyspace| keyspace.version(KEY)), Some(first));
    let mut seen = vec![first];
    let writes: [&dyn Fn(&mut Keyspace) -> bool; 7] = [
        &|keyspace| keyspace.put_string(KEY, b"text", None).is_ok(),
        &|keyspace| keyspace.set_expiry(KEY, Some(9_000)).unwrap(),
        &|keyspace| keyspace.rename(KEY, b"third").unwrap(),
        &|keyspace| keyspace.copy(b"third", KEY).unwrap(),
        &|keyspace| keyspace.remove(KEY),
        &|keyspace| push(keyspace, KEY, b"element").is_ok(),
        &|keyspace| {
            drop(keyspace.flush());
            !keyspace.contains(KEY)
        },
    ];
    for write in writes {
        assert!(adapter.with(write));
        let version = adapter.with(|keyspace| keyspace.version(KEY)).unwrap();
        assert!(!seen.contains(&version));
        seen.push(version);
    }
    adapter.with(|keyspace| keyspace.unwatch(KEY));
    assert_eq!(adapter.with(|keyspace| keyspace.version(KEY)), None);
}

#[test]
fn forgetting_every_key_touches_no_watched_key_that_is_not_there() {
    let mut keyspace = Keyspace::new(1 << 20, WhenFull::Refuse);
    keyspace.put_string(KEY, b"text", None).unwrap();
    let (there, absent) = (keyspace.watch(KEY), keyspace.watch(b"absent"));
    drop(keyspace.flush());
    assert_ne!(keyspace.version(KEY), Some(there));
    assert_eq!(keyspace.version(b"absent"), Some(absent));
}

#[test]
fn a_changed_limit_keeps_the_keys() {
    let adapter = adapter(1 << 20);
    let long = || set(vec![b'x'; 100_000], SetExpiry::Clear);
    adapter.apply_now(KEY, &long()).unwrap();
    adapter.set_limit(64 * 1024);
    adapter.apply_now(b"other", &long()).unwrap_err();
    assert_eq!(adapter.get_now(KEY).unwrap().unwrap().data.len(), 100_000);
    adapter.set_limit(1 << 20);
    adapter.apply_now(b"other", &long()).unwrap();
}

#[test]
fn who_observes_is_told_once_of_each_key_that_ends_whoever_comes_upon_it() {
    static NOW: AtomicU64 = AtomicU64::new(0);
    let adapter = MemoryAdapter::new(1 << 20, WhenFull::Refuse, || NOW.load(Ordering::Relaxed));
    let told = Arc::new(Mutex::new(Vec::new()));
    let put = |key: &[u8], end| adapter.with(|keyspace| keyspace.put_string(key, b"v", end));
    assert_eq!(adapter.with(|keyspace| keyspace.next_end()), None);
    for (key, end) in
        [(b"stays", None), (b"walk1", Some(5)), (b"walk2", Some(6)), (b"asked", Some(5))]
    {
        put(key, end).unwrap();
    }
    assert_eq!(adapter.with(|keyspace| keyspace.next_end()), Some(5));
    let seen = Arc::clone(&told);
    adapter.observe(Arc::new(move |written| {
        if let Written::Key(key) = written {
            seen.lock().push(key.to_vec());
        }
    }));
    NOW.store(5, Ordering::Relaxed);
    assert!(adapter.get_now(b"asked").unwrap().is_none());
    assert_eq!(adapter.with(|keyspace| keyspace.expire_some(10_000)), 1);
    assert_eq!(*told.lock(), [b"asked", b"walk1"]);
    // After a round in which nothing was entered it is known when the other one ends.
    assert_eq!(adapter.with(|keyspace| keyspace.expire_some(10_000)), 0);
    assert_eq!(adapter.with(|keyspace| keyspace.next_end()), Some(6));
    NOW.store(6, Ordering::Relaxed);
    assert_eq!(adapter.with(|keyspace| keyspace.expire_some(10_000)), 1);
    assert_eq!(adapter.with(|keyspace| (keyspace.next_end(), keyspace.count())), (None, 1));
    // Of what is put after a flush it is told as well.
    adapter.flush_now();
    put(b"later", Some(7)).unwrap();
    told.lock().clear();
    NOW.store(7, Ordering::Relaxed);
    assert_eq!(adapter.with(|keyspace| keyspace.expire_some(10_000)), 1);
    assert_eq!(*told.lock(), [b"later"]);
}
