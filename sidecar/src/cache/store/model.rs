//! A store beside a plain map: the same steps are done to both, and what the one holds must be what
//! the other holds.
//!
//! Where the steps come from isn't decided here: `histories` draws them at random, and a fuzzer
//! searches for those that reach something new (`crate::fuzzing`).

use std::collections::{HashMap, HashSet};

use super::*;

/// What is done to both.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Insert(u16, Put, Option<u8>),
    Get(u16),
    Remove(u16),
    Take(u16),
    SetExpiry(u16, Option<u8>),
    Extend(u16, u8),
    Shorten(u16),
    Rename(u16, u16),
    /// So many keys from the first on.
    Fill(u16, u16),
    Drain(u16, u16),
    Later(u8),
    Expire(u16),
    Clear,
    Limit(u32),
}

/// What is put under a key.
#[derive(Clone, Debug)]
pub(crate) enum Put {
    Text(u16),
    Integer(i64),
    List(u8),
}

/// Few enough that they meet, and enough for several pages.
pub(crate) const KEYS: u16 = if cfg!(miri) { 300 } else { 3000 };

/// An object on the heap.
#[derive(Debug, PartialEq, Eq, Clone, Default)]
pub(crate) struct List(pub(super) Vec<u64>);

impl Weigh for List {
    fn weight(&self) -> usize {
        allocated(self.0.capacity() * size_of::<u64>())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// An empty store.
pub(crate) fn store(limit: usize, when_full: WhenFull) -> Store<List> {
    Store::new(Hasher::of_process(), limit, when_full)
}

/// Keys of very different lengths.
pub(super) fn name(key: u16) -> Vec<u8> {
    let length = if key.is_multiple_of(50) { 300 } else { usize::from(key % 20) };
    let mut name = key.to_le_bytes().to_vec();
    name.resize(2 + length, b'k');
    name
}

pub(super) struct Model {
    now: UnixMillis,
    items: HashMap<u16, (Owned<List>, Meta)>,
}

impl Model {
    /// Later than no end at all.
    pub(super) fn new() -> Self {
        Self { now: 1, items: HashMap::new() }
    }

    fn live(&self, key: u16) -> Option<&(Owned<List>, Meta)> {
        self.items.get(&key).filter(|(_, meta)| !meta.is_expired(self.now))
    }

    fn end(&self, end: Option<u8>) -> Option<UnixMillis> {
        end.map(|end| self.now + u64::from(end))
    }
}

fn owned(found: Found<'_, List>) -> (Owned<List>, Meta) {
    let payload = match found.payload {
        View::Bytes(text) => Owned::Bytes(text.into()),
        View::Integer(integer) => Owned::Integer(integer),
        View::Object(object) => Owned::Object(object.clone()),
    };
    (payload, found.meta)
}

fn payload(put: &Put, text: &'static [u8]) -> (Payload<'static, List>, Owned<List>) {
    match put {
        Put::Text(length) => {
            let text = &text[..usize::from(*length)];
            (Payload::Bytes(text), Owned::Bytes(text.into()))
        }
        Put::Integer(integer) => (Payload::Integer(*integer), Owned::Integer(*integer)),
        Put::List(length) => {
            let list = List((0..u64::from(*length)).collect());
            (Payload::Object(list.clone()), Owned::Object(list))
        }
    }
}

/// Applies a step to both. Where the store may evict, what it lost is lost to the model, too.
pub(super) fn apply(store: &mut Store<List>, model: &mut Model, step: &Step) {
    let before = store.figures().evicted;
    act(store, model, step);
    if store.figures().evicted > before {
        let is_there = |key: &u16| store.peek(store.hash(&name(*key)), &name(*key), 0).is_some();
        model.items.retain(|key, _| is_there(key));
    }
}

fn act(store: &mut Store<List>, model: &mut Model, step: &Step) {
    let now = model.now;
    let evicts = store.eviction.is_some();
    let before = store.figures().evicted;
    match step {
        Step::Insert(key, put, end) => {
            static TEXT: [u8; 400] = [b't'; 400];
            let (payload, expected) = payload(put, &TEXT);
            let origin =
                (key % 3 == 0).then_some(Origin { version: u64::from(key % 2), filled_at: now });
            let meta = Meta { expires_at: model.end(*end), origin };
            let hash = store.hash(&name(*key));
            if store.insert(hash, &name(*key), payload, meta, now).is_ok() {
                model.items.insert(*key, (expected, meta));
            }
        }
        Step::Get(key) => {
            let found = store.get(store.hash(&name(*key)), &name(*key), now).map(owned);
            assert_eq!(found.as_ref(), model.live(*key));
        }
        Step::Remove(key) => {
            let removed = store.remove(store.hash(&name(*key)), &name(*key), now);
            assert_eq!(removed, model.live(*key).is_some());
            model.items.remove(key);
        }
        Step::Take(key) => {
            let taken = store.take(store.hash(&name(*key)), &name(*key), now);
            assert_eq!(taken.as_ref(), model.live(*key));
            model.items.remove(key);
        }
        Step::SetExpiry(key, end) => {
            let expires_at = model.end(*end);
            let set = store.set_expiry(store.hash(&name(*key)), &name(*key), expires_at, now);
            if let Ok(set) = set {
                // What was to be given an end may have made room for it.
                assert!(set == model.live(*key).is_some() || store.figures().evicted > before);
                if let Some((_, meta)) = model.items.get_mut(key).filter(|_| set) {
                    meta.expires_at = expires_at;
                }
            }
        }
        Step::Extend(key, count) => {
            let more = 0..u64::from(*count);
            let hash = store.hash(&name(*key));
            let extended =
                store.with_object(hash, &name(*key), now, |list| list.0.extend(more.clone()));
            let is_list = matches!(model.live(*key), Some((Owned::Object(_), _)));
            assert_eq!(extended == Ok(Some(())), is_list);
            if let Some((Owned::Object(list), _)) = model.items.get_mut(key).filter(|_| is_list) {
                list.0.extend(more);
            }
        }
        Step::Shorten(key) => {
            let shorten = |list: &mut List| list.0.truncate(list.0.len() / 4);
            let hash = store.hash(&name(*key));
            let is_list = matches!(model.live(*key), Some((Owned::Object(_), _)));
            assert_eq!(store.with_object(hash, &name(*key), now, shorten) == Ok(Some(())), is_list);
            if let Some((Owned::Object(list), _)) = model.items.get_mut(key).filter(|_| is_list) {
                shorten(list);
                if list.0.is_empty() {
                    model.items.remove(key);
                }
            }
        }
        Step::Rename(from, to) => {
            let (a, b) = (name(*from), name(*to));
            let (from_hash, to_hash) = (store.hash(&a), store.hash(&b));
            if let Ok(renamed) = store.rename((from_hash, &a), (to_hash, &b), now) {
                assert!(renamed == model.live(*from).is_some() || store.figures().evicted > before);
                if renamed && let Some(item) = model.items.remove(from) {
                    model.items.insert(*to, item);
                }
            }
        }
        Step::Fill(from, count) => {
            for key in *from..from.saturating_add(*count).min(KEYS) {
                act(store, model, &Step::Insert(key, Put::Text(key % 90), None));
            }
        }
        Step::Drain(from, count) => {
            for key in *from..from.saturating_add(*count).min(KEYS) {
                act(store, model, &Step::Remove(key));
            }
        }
        Step::Later(by) => model.now += u64::from(*by),
        Step::Expire(budget) => {
            let freed = store.expire_some(now, usize::from(*budget));
            let dead = model.items.values().filter(|(_, meta)| meta.is_expired(now)).count();
            assert!(freed <= dead);
        }
        Step::Clear => {
            store.clear();
            model.items.clear();
        }
        Step::Limit(limit) if evicts => store.set_limit(*limit as usize, now),
        Step::Limit(_) => {}
    }
}

/// Whether what is counted is what is there.
fn check(store: &Store<List>, model: &Model) {
    let (mut entries, mut bytes, mut expiring) = (0, 0, 0);
    let mut position = Some(Position::START);
    while let Some(at) = position {
        position = store.table.visit(at, |_, _, entry| {
            entries += 1;
            bytes += size(&entry);
            expiring += usize::from(entry.meta().expires_at.is_some());
        });
    }
    assert_eq!((entries, bytes, expiring), (store.len(), store.entry_bytes, store.expiring));
    if let Some(eviction) = &store.eviction {
        assert!(store.bytes() <= store.limit());
        assert!(eviction.tickets() >= entries);
    }
    for (key, item) in model.items.iter().filter(|(_, (_, meta))| !meta.is_expired(model.now)) {
        let found = store.peek(store.hash(&name(*key)), &name(*key), model.now).map(owned);
        assert_eq!(found.as_ref(), Some(item));
    }
    let mut seen = HashSet::new();
    let mut cursor = 0;
    loop {
        cursor = store.scan(cursor, 100, model.now, |key, _| {
            seen.insert(key.to_vec());
        });
        if cursor == 0 {
            break;
        }
    }
    let live = model.items.keys().filter(|key| model.live(**key).is_some());
    assert_eq!(seen, live.map(|key| name(*key)).collect::<HashSet<_>>());
}

/// Does the steps to a store and to a map, and compares them.
pub(crate) fn run(mut store: Store<List>, steps: &[Step]) {
    let mut model = Model::new();
    for step in steps {
        apply(&mut store, &mut model, step);
    }
    check(&store, &model);
}
