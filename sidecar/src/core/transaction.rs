//! Transactions over a storage that is asked over the network: MULTI and scripts over PostgreSQL.
//!
//! A transaction locks its keys in the storage and reads them. Its commands run on a memory of its
//! own that is filled with what was read, at once and one after the other, as they run on the
//! memory storage. Its end compares that memory with what was read, and the difference is one write
//! under the rules of every write: the storage first, then the invalidation, then the local copies,
//! which are forgotten. *What isn't committed is told to nobody.*

use std::sync::Arc;

use super::turns::Turn;
use super::{Engine, View};
use crate::adapter::memory::Keyspace;
use crate::adapter::{
    Change, Key, MemoryAdapter, PostgresAdapter, PostgresTransaction, Result, Storage,
    StorageError, Value, WhenFull, unix_millis,
};

/// A transaction that has begun. Dropped, it is rolled back. It is to be ended soon: others wait for
/// its keys, and it waits for itself if its holder writes them otherwise.
#[derive(Debug)]
pub struct Begun {
    /// Where there are keys: without them there is nothing to lock and nothing to write.
    open: Option<PostgresTransaction>,
    scratch: Arc<MemoryAdapter>,
    turn: Turn,
}

impl Begun {
    /// A view in which commands run on the transaction's memory.
    pub fn view(&self, view: &View) -> View {
        view.over_scratch(Arc::<MemoryAdapter>::clone(&self.scratch))
    }

    /// The versions of its keys, which come in order and each once; 0 where there is no such key.
    pub fn versions(&self) -> impl Iterator<Item = (&Key, u64)> {
        let version = |value: &Option<Value>| value.as_ref().map_or(0, |value| value.version);
        self.values().iter().map(move |(key, value)| (key, version(value)))
    }

    /// Ends it with nothing done. Dropping it does the same and costs a connection.
    pub async fn rollback(self) {
        if let Some(transaction) = self.open {
            transaction.rollback().await;
        }
    }

    fn values(&self) -> &[(Key, Option<Value>)] {
        self.open.as_ref().map_or(&[], PostgresTransaction::values)
    }
}

impl Engine {
    /// Locks `keys` and reads them, for a transaction that reads and writes no others.
    pub async fn begin(self: &Arc<Self>, keys: Vec<Key>) -> Result<Begun> {
        let turn = self.turns.of(&keys).await;
        let storage = self.storage();
        let postgres = postgres(&storage)?;
        let scratch = MemoryAdapter::new(usize::MAX, WhenFull::Refuse, unix_millis);
        let mut open = None;
        if !keys.is_empty() {
            let begin = || postgres.begin(keys.clone());
            let transaction = self.health.call("begin", begin).await?;
            scratch.with(|keyspace| fill(keyspace, transaction.values()))?;
            open = Some(transaction);
        }
        Ok(Begun { open, scratch: Arc::new(scratch), turn })
    }

    /// The versions of `keys` in the storage, in their order; 0 where there is no such key. Each
    /// write gives a key another one, which WATCH compares with [`Begun::versions`].
    pub async fn versions(&self, keys: &[Key]) -> Result<Vec<u64>> {
        let storage = self.storage();
        let postgres = postgres(&storage)?;
        self.health.call("versions", || postgres.versions(keys)).await
    }

    /// Stores what the transaction's commands have changed, all or nothing.
    pub async fn commit(self: &Arc<Self>, begun: Begun) -> Result<()> {
        let differs = begun.scratch.with(|keyspace| differences(begun.values(), keyspace));
        let changes = match differs {
            Ok(changes) if !changes.is_empty() => changes,
            nothing => {
                begun.rollback().await;
                return match nothing {
                    Ok(_) => Ok(()),
                    Err(refusal) => Err(self.refused(refusal)),
                };
            }
        };
        let Begun { open: Some(transaction), turn, .. } = begun else {
            // Without keys there is none that may have changed.
            return Ok(());
        };
        let engine = Arc::clone(self);
        self.carried_through(async move {
            let _turn = turn;
            let keys: Vec<Key> = changes.iter().map(|(key, _)| key.clone()).collect();
            let result = engine.health.once("commit", transaction.commit(changes)).await;
            engine.settle_keys(&result, || keys.clone()).await;
            result
        })
        .await
    }

    fn refused(&self, refusal: Refusal) -> StorageError {
        StorageError::Refused(match refusal {
            Refusal::NotNamed(key) => format!(
                "ERR a transaction over a SQL table locks its keys when it begins: only the keys \
                 named by then can be written, and '{}' isn't one of them",
                key[..key.len().min(SHOWN)].escape_ascii(),
            ),
            Refusal::NoString(key) => format!(
                "ERR class '{}' keeps its keys as rows of a SQL table (storage postgres), which \
                 hold strings only",
                self.view().class_of(&key),
            ),
        })
    }
}

/// So much of a key is shown in an error.
const SHOWN: usize = 64;

/// Why what a transaction has done can't be stored.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// It wrote a key that it didn't begin with.
    NotNamed(Key),
    /// It left something else than a string.
    NoString(Key),
}

fn postgres(storage: &Arc<dyn Storage>) -> Result<&PostgresAdapter> {
    storage.as_postgres().ok_or_else(|| {
        StorageError::Refused(format!("ERR storage {} has no such transactions", storage.kind()))
    })
}

fn fill(scratch: &mut Keyspace, loaded: &[(Key, Option<Value>)]) -> Result<()> {
    for (key, value) in loaded {
        if let Some(Value { data, expires_at, .. }) = value {
            scratch.put_string(key, data, *expires_at)?;
        }
    }
    Ok(())
}

/// What has to be stored so that the keys hold what the scratch does. `loaded` is in order.
fn differences(
    loaded: &[(Key, Option<Value>)],
    scratch: &mut Keyspace,
) -> std::result::Result<Vec<(Key, Change)>, Refusal> {
    if let Some(key) = not_named(loaded, scratch) {
        return Err(Refusal::NotNamed(key));
    }
    let mut changes = Vec::new();
    for (key, before) in loaded {
        let after = scratch.value(key).map_err(|_| Refusal::NoString(key.clone()))?;
        let change = match (before, after) {
            // What has expired meanwhile is gone in the storage too, or will be.
            (Some(before), None) if !before.is_expired(scratch.now()) => Change::Remove,
            (_, None) => continue,
            (Some(before), Some(after))
                if (&before.data, before.expires_at) == (&after.data, after.expires_at) =>
            {
                continue;
            }
            (_, Some(after)) => Change::Put { data: after.data, expires_at: after.expires_at },
        };
        changes.push((key.clone(), change));
    }
    Ok(changes)
}

/// A key in the scratch that isn't in `loaded`.
fn not_named(loaded: &[(Key, Option<Value>)], scratch: &Keyspace) -> Option<Key> {
    /// Keys that are looked at between two looks at what was found.
    const PAGE: usize = 1000;
    let mut cursor = 0;
    loop {
        let mut found = None;
        cursor = scratch.scan(cursor, PAGE, |key, _| {
            if found.is_none() && loaded.binary_search_by(|(named, _)| (**named).cmp(key)).is_err()
            {
                found = Some(Key::copy_from_slice(key));
            }
        });
        if found.is_some() || cursor == 0 {
            return found;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::adapter::UnixMillis;
    use crate::adapter::memory::collection::Set;

    const NOW: UnixMillis = 1_000_000;

    fn scratch(loaded: &[(Key, Option<Value>)]) -> MemoryAdapter {
        let scratch = MemoryAdapter::new(usize::MAX, WhenFull::Refuse, || NOW);
        scratch.with(|keyspace| fill(keyspace, loaded)).unwrap();
        scratch
    }

    fn value(data: &str, expires_at: Option<UnixMillis>) -> Value {
        Value { data: Key::copy_from_slice(data.as_bytes()), expires_at, version: 7 }
    }

    fn key(name: &'static str) -> Key {
        Key::from_static(name.as_bytes())
    }

    #[test]
    fn what_was_only_read_is_no_difference() {
        let loaded = [(key("a"), Some(value("007", Some(NOW + 1)))), (key("b"), None)];
        assert_eq!(scratch(&loaded).with(|keyspace| differences(&loaded, keyspace)), Ok(vec![]));
    }

    #[test]
    fn a_key_that_expired_meanwhile_is_left_to_the_storage() {
        let loaded = [(key("a"), Some(value("v", Some(NOW + 5))))];
        let scratch = scratch(&loaded);
        let later = scratch.with_at(NOW + 6, |keyspace| differences(&loaded, keyspace));
        assert_eq!(later, Ok(vec![]));
        scratch.with(|keyspace| keyspace.remove(b"a"));
        let removed = vec![(key("a"), Change::Remove)];
        assert_eq!(scratch.with(|keyspace| differences(&loaded, keyspace)), Ok(removed));
    }

    #[test]
    fn a_key_that_was_not_named_and_a_collection_are_refused() {
        let loaded = [(key("a"), None)];
        let scratch = scratch(&loaded);
        let mut set = Set::default();
        set.add(b"member");
        scratch.with(|keyspace| {
            keyspace.put_collection(b"a", set).unwrap();
            let refused = differences(&loaded, keyspace);
            assert_eq!(refused, Err(Refusal::NoString(key("a"))));
            keyspace.put_string(b"b", b"v", None).unwrap();
            assert_eq!(differences(&loaded, keyspace), Err(Refusal::NotNamed(key("b"))));
        });
    }

    type State = BTreeMap<u8, (String, Option<u8>)>;

    fn states() -> impl Strategy<Value = State> {
        let value = ("[0-9a-b]{0,2}", proptest::option::of(0..3u8));
        proptest::collection::btree_map(0..6u8, value, 0..6)
    }

    fn told(state: &State, at: u8) -> Option<Value> {
        let (data, left) = state.get(&at)?;
        Some(value(data, left.map(|left| NOW + 1 + u64::from(left))))
    }

    proptest! {
        #[test]
        fn the_differences_make_of_what_was_loaded_what_was_left(before in states(), after in states()) {
            let named = |at: u8| Key::from(vec![at]);
            let loaded: Vec<_> = (0..6).map(|at| (named(at), told(&before, at))).collect();
            let scratch = scratch(&loaded);
            let changes = scratch.with(|keyspace| {
                for at in 0..6u8 {
                    match told(&after, at) {
                        Some(value) => {
                            keyspace.put_string(&[at], &value.data, value.expires_at).unwrap();
                        }
                        None => drop(keyspace.remove(&[at])),
                    }
                }
                differences(&loaded, keyspace)
            });
            let changes = changes.unwrap();
            for at in 0..6 {
                let changed: Vec<_> = changes.iter().filter(|(key, _)| *key == named(at)).collect();
                match (told(&before, at), told(&after, at)) {
                    (before, after) if before == after => prop_assert!(changed.is_empty()),
                    (_, None) => prop_assert_eq!(&changed[0].1, &Change::Remove),
                    (_, Some(Value { data, expires_at, .. })) => {
                        prop_assert_eq!(&changed[0].1, &Change::Put { data, expires_at });
                    }
                }
                prop_assert!(changed.len() <= 1);
            }
        }
    }
}
