//! What a store does, by example.

use super::*;

#[derive(Debug, PartialEq, Eq, Clone, Default)]
pub(super) struct List(pub(super) Vec<u64>);

impl Weigh for List {
    fn weight(&self) -> usize {
        allocated(self.0.capacity() * size_of::<u64>())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

pub(super) fn store(limit: usize, when_full: WhenFull) -> Store<List> {
    Store::new(Hasher::of_process(), limit, when_full)
}

fn put(store: &mut Store<List>, key: &str, payload: Payload<'_, List>, meta: Meta) {
    let hash = store.hash(key.as_bytes());
    store.insert(hash, key.as_bytes(), payload, meta, 0).unwrap();
}

fn until(expires_at: UnixMillis) -> Meta {
    Meta { expires_at: Some(expires_at), ..Meta::default() }
}

fn look<'a>(store: &'a Store<List>, key: &str, now: UnixMillis) -> Option<Found<'a, List>> {
    store.peek(store.hash(key.as_bytes()), key.as_bytes(), now)
}

#[test]
fn an_integers_text_is_kept_as_the_integer() {
    let mut store = store(1 << 20, WhenFull::Refuse);
    put(&mut store, "a", Payload::Bytes(b"-17"), Meta::default());
    put(&mut store, "b", Payload::Bytes(b"017"), Meta::default());
    assert_eq!(look(&store, "a", 0).unwrap().payload, View::Integer(-17));
    assert_eq!(look(&store, "b", 0).unwrap().payload, View::Bytes(b"017"));
}

#[test]
fn what_has_expired_is_absent_and_is_freed_when_met() {
    let mut store = store(1 << 20, WhenFull::Refuse);
    put(&mut store, "k", Payload::Bytes(b"v"), until(10));
    assert!(look(&store, "k", 9).is_some());
    assert_eq!(look(&store, "k", 10), None);
    assert_eq!(store.len(), 1);
    let hash = store.hash(b"k");
    assert_eq!(store.get(hash, b"k", 10), None);
    assert_eq!(
        store.figures(),
        Figures { expired: 1, bytes: store.figures().bytes, ..Figures::default() }
    );
}

#[test]
fn an_object_is_weighed_again_and_goes_when_it_is_empty() {
    let mut store = store(1 << 20, WhenFull::Refuse);
    let hash = store.hash(b"l");
    put(&mut store, "l", Payload::Object(List(vec![1])), Meta::default());
    let before = store.figures().bytes;
    let grown = store.with_object(hash, b"l", 0, |list| {
        list.0.extend(0..1000);
        list.0.len()
    });
    assert_eq!(grown, Ok(Some(1001)));
    assert!(store.figures().bytes >= before + 7900);
    store.with_object(hash, b"l", 0, |list| list.0.clear()).unwrap();
    assert_eq!(store.len(), 0);
    assert_eq!(store.with_object(hash, b"l", 0, |_| ()), Ok(None));
    put(&mut store, "l", Payload::Bytes(b"text"), Meta::default());
    assert_eq!(store.with_object(hash, b"l", 0, |_| ()), Err(NotAnObject));
}

#[test]
fn a_full_store_that_refuses_changes_nothing() {
    let mut store = store(4096, WhenFull::Refuse);
    let text = [b'x'; 200];
    let mut kept = 0;
    let refused = loop {
        let key = format!("k{kept}");
        let hash = store.hash(key.as_bytes());
        if store.insert(hash, key.as_bytes(), Payload::Bytes(&text), Meta::default(), 0).is_err() {
            break key;
        }
        kept += 1;
    };
    assert!(kept > 5);
    assert_eq!(look(&store, &refused, 0), None);
    let before = store.figures();
    let hash = store.hash(b"k0");
    let big = [b'y'; 4000];
    assert_eq!(store.insert(hash, b"k0", Payload::Bytes(&big), Meta::default(), 0), Err(NoRoom));
    assert_eq!(look(&store, "k0", 0).unwrap().payload, View::Bytes(&text));
    assert_eq!(store.figures(), before);
}

#[test]
fn a_full_store_that_refuses_frees_what_has_expired() {
    let mut store = store(4096, WhenFull::Refuse);
    let text = [b'x'; 200];
    let insert = |store: &mut Store<List>, i: u64, now| {
        let key = i.to_string();
        let hash = store.hash(key.as_bytes());
        store.insert(hash, key.as_bytes(), Payload::Bytes(&text), until(100), now)
    };
    let full = (0..1000).find(|i| insert(&mut store, *i, 0).is_err()).unwrap();
    assert_eq!(insert(&mut store, full, 99), Err(NoRoom));
    assert_eq!(insert(&mut store, full, 100), Ok(()));
}

#[test]
fn a_renamed_key_keeps_its_end_and_replaces() {
    let mut store = store(1 << 20, WhenFull::Refuse);
    put(&mut store, "old", Payload::Object(List(vec![7])), until(50));
    put(&mut store, "new", Payload::Bytes(b"text"), Meta::default());
    let (old, new) = (store.hash(b"old"), store.hash(b"new"));
    assert_eq!(store.rename((old, b"old"), (new, b"new"), 0), Ok(true));
    assert_eq!(look(&store, "old", 0), None);
    let moved = Found { payload: View::Object(&List(vec![7])), meta: until(50) };
    assert_eq!(look(&store, "new", 0), Some(moved));
    assert_eq!(store.rename((old, b"old"), (new, b"new"), 0), Ok(false));
    assert_eq!(store.len(), 1);
}

#[test]
fn a_random_key_is_a_live_one() {
    let mut store = store(1 << 20, WhenFull::Refuse);
    assert_eq!(store.random_key(1, 0), None);
    put(&mut store, "dead", Payload::Bytes(b"v"), until(1));
    put(&mut store, "live", Payload::Bytes(b"v"), Meta::default());
    for random in (0..100u64).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15)) {
        assert_eq!(store.random_key(random, 1), Some(&b"live"[..]));
    }
}

#[test]
fn a_store_that_evicts_stays_below_its_limit_and_keeps_what_is_used() {
    let mut store = store(100_000, WhenFull::Evict);
    let text = [b'x'; 100];
    for i in 0..20_000 {
        for key in [format!("hot{}", i % 100), format!("cold{i}")] {
            let hash = store.hash(key.as_bytes());
            if store.get(hash, key.as_bytes(), 0).is_none() {
                store
                    .insert(hash, key.as_bytes(), Payload::Bytes(&text), Meta::default(), 0)
                    .unwrap();
            }
            assert!(store.bytes() <= store.limit());
        }
    }
    let hot = (0..100).filter(|i| look(&store, &format!("hot{i}"), 0).is_some()).count();
    assert!(hot > 95, "{hot} of 100 hot keys are left");
    assert!(store.len() > 550, "{} entries", store.len());
}

#[test]
fn keys_that_come_and_go_leave_no_tickets_and_no_table_behind() {
    let mut store = store(1 << 20, WhenFull::Evict);
    for i in 0..10_000 {
        let key = (i % 7).to_string();
        put(&mut store, &key, Payload::Bytes(b"v"), Meta::default());
        let hash = store.hash(key.as_bytes());
        assert!(store.remove(hash, key.as_bytes(), 0));
    }
    assert!(store.eviction.as_ref().unwrap().tickets() < 200);
    for i in 0..5000 {
        put(&mut store, &i.to_string(), Payload::Bytes(b"v"), Meta::default());
    }
    let full = store.table.cost();
    for i in 1..5000 {
        let key = i.to_string();
        let hash = store.hash(key.as_bytes());
        assert!(store.remove(hash, key.as_bytes(), 0));
    }
    assert!(store.table.cost() < full / 10, "{} of {full} bytes", store.table.cost());
    assert!(look(&store, "0", 0).is_some());
}

#[test]
fn what_is_too_big_is_not_entered_and_evicts_nothing() {
    let mut store = store(2048, WhenFull::Evict);
    put(&mut store, "small", Payload::Bytes(b"v"), Meta::default());
    let hash = store.hash(b"big");
    let big = Payload::Bytes(&[0; 2048]);
    assert_eq!(store.insert(hash, b"big", big, Meta::default(), 0), Err(NoRoom));
    assert!(look(&store, "small", 0).is_some());
}

#[test]
fn a_walk_frees_all_that_has_expired_and_rests_until_more_can_have() {
    let mut store = store(1 << 20, WhenFull::Refuse);
    for i in 0..2000 {
        put(&mut store, &i.to_string(), Payload::Bytes(b"v"), until(100 + i % 2 * 100));
    }
    assert_eq!(store.expire_some(99, usize::MAX), 0);
    let mut freed = 0;
    for _ in 0..500 {
        freed += store.expire_some(100, 10);
    }
    assert_eq!((freed, store.len(), store.figures().expiring), (1000, 1000, 1000));
    assert_eq!(store.expire_some(199, usize::MAX), 0);
    assert_eq!(store.expire_some(200, usize::MAX), 1000);
    assert_eq!(store.bytes(), 0);
}

#[test]
fn an_object_is_dropped_once_whichever_way_it_goes() {
    use std::rc::Rc;
    struct Counted {
        _alive: Rc<()>,
    }
    impl Weigh for Counted {
        fn weight(&self) -> usize {
            8
        }
        fn is_empty(&self) -> bool {
            false
        }
    }
    let alive = Rc::new(());
    let mut store = Store::new(Hasher::of_process(), 1 << 20, WhenFull::Refuse);
    for key in [b"a", b"b", b"c", b"d", b"e"] {
        let object = Payload::Object(Counted { _alive: alive.clone() });
        store.insert(store.hash(key), key, object, Meta::default(), 0).unwrap();
    }
    assert_eq!(Rc::strong_count(&alive), 6);
    store.remove(store.hash(b"a"), b"a", 0);
    assert_eq!(Rc::strong_count(&alive), 5);
    let overwritten = Payload::Bytes(b"text");
    store.insert(store.hash(b"b"), b"b", overwritten, Meta::default(), 0).unwrap();
    assert_eq!(Rc::strong_count(&alive), 4);
    let taken = store.take(store.hash(b"c"), b"c", 0).unwrap();
    assert_eq!(Rc::strong_count(&alive), 4);
    drop(taken);
    assert_eq!(Rc::strong_count(&alive), 3);
    store.set_expiry(store.hash(b"d"), b"d", Some(9), 0).unwrap();
    assert_eq!(Rc::strong_count(&alive), 3);
    drop(store);
    assert_eq!(Rc::strong_count(&alive), 1);
}
