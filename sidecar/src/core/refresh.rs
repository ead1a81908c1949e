//! Eager refresh: a hit on a copy that will soon end has the storage asked, behind the answer, for the
//! next one. So a key that is in use is never waited for.
//!
//! A refresh is a load like any other, under the same guard and shared with the readers of the
//! moment. Where the storage is away none is begun; the copy goes on until it ends.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Engine;
use crate::adapter::Key;

/// Refreshes that wait or are under way. Beyond that a hit asks in vain; the next one asks again.
const MOST: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Refresher {
    asked: Mutex<Asked>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Asked {
    /// Those that wait.
    waiting: Vec<Key>,
    /// Those, and the ones under way: no key is refreshed twice at a time.
    all: HashSet<Key>,
}

impl Refresher {
    /// Asks for another copy of `key`. Doesn't wait.
    pub(super) fn ask_for(&self, key: &[u8]) {
        let mut asked = self.asked.lock();
        if asked.all.len() < MOST && !asked.all.contains(key) {
            let key = Key::copy_from_slice(key);
            asked.all.insert(key.clone());
            asked.waiting.push(key);
            self.wake.notify_one();
        }
    }

    async fn next(&self) -> Vec<Key> {
        loop {
            let waiting = std::mem::take(&mut self.asked.lock().waiting);
            if !waiting.is_empty() {
                return waiting;
            }
            self.wake.notified().await;
        }
    }

    fn done(&self, key: &Key) {
        self.asked.lock().all.remove(key);
    }
}

impl Engine {
    /// Refreshes what is asked for, for ever.
    pub(super) async fn refresh_copies(self: Arc<Self>) {
        loop {
            for key in self.refresher.next().await {
                if self.health.error().is_some() {
                    self.refresher.done(&key);
                    continue;
                }
                let engine = Arc::clone(&self);
                tokio::spawn(async move {
                    engine.refresh_copy(&key).await;
                    engine.refresher.done(&key);
                });
            }
        }
    }

    async fn refresh_copy(self: &Arc<Self>, key: &Key) {
        let stamp = self.room_of(key, |room| room.stamp(key));
        let (_, landing) = self.fly(key, stamp);
        // A failure is counted by the storage's health; the copy is as good as before.
        let refreshed = landing.await.is_ok();
        let table = self.table.load();
        let counters = table.place(key).counters;
        if refreshed {
            counters.refreshed.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_is_asked_for_once_until_it_is_done() {
        let refresher = Refresher::default();
        for _ in 0..3 {
            refresher.ask_for(b"a");
        }
        refresher.ask_for(b"b");
        assert_eq!(refresher.next().await, ["a", "b"]);
        refresher.ask_for(b"a");
        refresher.done(&Key::from("b"));
        refresher.ask_for(b"b");
        assert_eq!(refresher.next().await, ["b"]);
    }

    #[test]
    fn what_waits_is_bounded() {
        let refresher = Refresher::default();
        for number in 0..5 * MOST {
            refresher.ask_for(&number.to_le_bytes());
        }
        assert_eq!(refresher.asked.lock().waiting.len(), MOST);
    }
}
