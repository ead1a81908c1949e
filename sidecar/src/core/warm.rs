//! Reading keys into the cache before anybody asks for them.

use super::{Engine, Table};
use crate::adapter::{Key, Result, StorageError};

/// What became of some keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Warmed {
    /// Keys that were read, and what they and their values take, in bytes.
    pub loaded: u64,
    /// See `loaded`.
    pub bytes: u64,
    /// Keys that memory had already.
    pub held: u64,
    /// Keys that the storage doesn't have, or not as strings.
    pub absent: u64,
}

impl Engine {
    /// Reads those of `keys` that memory doesn't hold. They are entered under the guard of every read,
    /// and count as no one's hit or miss.
    pub async fn warm(&self, keys: Vec<Key>) -> Result<Warmed> {
        let table = self.table.load_full();
        let now = self.now();
        let all = keys.len() as u64;
        let wanted: Vec<Key> =
            keys.into_iter().filter(|key| self.miss(&table, key, now).is_some()).collect();
        let mut warmed = Warmed { held: all - wanted.len() as u64, ..Warmed::default() };
        match self.warm_together(&table, &wanted).await {
            Ok(read) => warmed.add(read),
            // One of them holds another type, which a Redis refuses the whole call for.
            Err(StorageError::Refused(_)) => {
                for key in &wanted {
                    match self.warm_together(&table, std::slice::from_ref(key)).await {
                        Ok(read) => warmed.add(read),
                        Err(StorageError::Refused(_)) => warmed.absent += 1,
                        Err(error) => return Err(error),
                    }
                }
            }
            Err(error) => return Err(error),
        }
        Ok(warmed)
    }

    /// The keys that `query` gives, where the storage has queries.
    pub async fn keys_of(&self, query: &str) -> Result<Vec<Key>> {
        let storage = self.storage();
        match storage.as_postgres() {
            Some(postgres) => self.health.call("keys_of", || postgres.keys_of(query)).await,
            None => {
                Err(StorageError::Refused(format!("ERR storage {} has no queries", storage.kind())))
            }
        }
    }

    async fn warm_together(&self, table: &Table, keys: &[Key]) -> Result<Warmed> {
        if keys.is_empty() {
            return Ok(Warmed::default());
        }
        let stamps: Vec<_> = keys.iter().map(|key| table.place(key).cache.stamp(key)).collect();
        let values = self.load(keys, &stamps).await?;
        let mut warmed = Warmed::default();
        for (key, value) in keys.iter().zip(values) {
            match value {
                Some(value) => {
                    warmed.loaded += 1;
                    warmed.bytes += (key.len() + value.data.len()) as u64;
                }
                None => warmed.absent += 1,
            }
        }
        Ok(warmed)
    }
}

impl Warmed {
    /// Both together.
    pub fn add(&mut self, other: Self) {
        self.loaded += other.loaded;
        self.bytes += other.bytes;
        self.held += other.held;
        self.absent += other.absent;
    }
}
