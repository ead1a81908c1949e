//! Single flight: readers who miss the same key at the same time ask the storage once.
//!
//! A reader joins a flight only if its key was not forgotten since the flight began: otherwise the
//! flight may bring a value older than a write that the reader knows of.

use std::collections::HashMap;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;

use crate::adapter::{Key, Result, StorageError, Value};
use crate::cache::Stamp;

/// What a flight brings.
pub type Landing = Result<Option<Value>>;

/// See the module.
#[derive(Debug, Default)]
pub struct Flights {
    under_way: Arc<Mutex<HashMap<Key, Flight>>>,
}

#[derive(Debug)]
struct Flight {
    stamp: Stamp,
    landing: Shared<BoxFuture<'static, Landing>>,
}

impl Flights {
    /// Joins the flight for `key` that began at `stamp`, or starts `load` as one; whether it
    /// joined, and what comes of it. A flight goes on when its readers have gone.
    pub fn join_or_start<F>(
        &self,
        key: &Key,
        stamp: Stamp,
        load: impl FnOnce() -> F,
    ) -> (bool, Shared<BoxFuture<'static, Landing>>)
    where
        F: Future<Output = Landing> + Send + 'static,
    {
        let mut under_way = self.under_way.lock();
        if let Some(flight) = under_way.get(key).filter(|flight| flight.stamp == stamp) {
            return (true, flight.landing.clone());
        }
        let ending = Ending { under_way: Arc::clone(&self.under_way), key: key.clone(), stamp };
        let load = load();
        let task = tokio::spawn(async move {
            let _ending = ending;
            load.await
        });
        let landing = task
            .map(|ended| {
                ended.unwrap_or_else(|error| {
                    Err(StorageError::Unavailable { kind: "storage", cause: error.to_string() })
                })
            })
            .boxed()
            .shared();
        under_way.insert(key.clone(), Flight { stamp, landing: landing.clone() });
        (false, landing)
    }
}

/// Takes the flight off the list when it ends, however it ends.
struct Ending {
    under_way: Arc<Mutex<HashMap<Key, Flight>>>,
    key: Key,
    stamp: Stamp,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let mut under_way = self.under_way.lock();
        // A later flight for the key may have taken the place.
        if under_way.get(&self.key).is_some_and(|flight| flight.stamp == self.stamp) {
            under_way.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use bytes::Bytes;
    use tokio::sync::oneshot;

    use super::*;
    use crate::cache::Cache;

    #[tokio::test]
    async fn readers_of_one_moment_share_one_load_and_later_ones_do_not() {
        let flights = Flights::default();
        let cache = Cache::new(1 << 20);
        let key = Key::from_static(b"k");
        let loads = AtomicU32::new(0);
        let (open, gate) = oneshot::channel::<()>();
        let value = |text: &'static str| {
            Some(Value { data: Bytes::from(text), expires_at: None, version: 0 })
        };

        let (_, first) = flights.join_or_start(&key, cache.stamp(&key), || {
            loads.fetch_add(1, Ordering::Relaxed);
            async move {
                let _ = gate.await;
                Ok(value("old"))
            }
        });
        let (joined, second) =
            flights.join_or_start(&key, cache.stamp(&key), || async { unreachable!() });
        assert!(joined);

        cache.forget(&key);
        let (joined, third) =
            flights.join_or_start(&key, cache.stamp(&key), || async move { Ok(value("new")) });
        assert!(!joined, "a reader who knows of the write must not share the older read");

        open.send(()).unwrap();
        assert_eq!(first.await, Ok(value("old")));
        assert_eq!(second.await, Ok(value("old")));
        assert_eq!(third.await, Ok(value("new")));
        assert_eq!(loads.load(Ordering::Relaxed), 1);
        tokio::task::yield_now().await;
        assert!(flights.under_way.lock().is_empty());
    }
}
