//! How long the copies are good that clients keep of what they have read.
//!
//! A client that tracks its keys answers itself from its copies, so they are bound by the rules
//! that Warp's own hits are bound by: *a copy is told to be old when Warp would no longer answer
//! the key from its memory*. That is when the value expires or makes room for another, when the
//! class's TTL has passed, and for a distributed class as long as the bus is not live. What changes
//! is told at once, by [`Engine::forget`] and by the writes.

use std::sync::Arc;
use std::time::Duration;

use super::freshness::judged;
use super::{Engine, Moment, View};
use crate::adapter::UnixMillis;
use crate::adapter::memory::Written;
use crate::cache::Millis;
use crate::preset::lifetime::Copy;
use crate::sync_bus::Scope;

/// How often copies are looked through while somebody keeps any.
const PERIOD: Duration = Duration::from_millis(100);
/// In every how manieth round it is looked for keys that made room for others.
const EVICTION: usize = 10;
/// A copy that is good until it is told otherwise.
const FOR_EVER: Millis = Millis::MAX;

impl Engine {
    /// Tells clients who keep copies that they are old.
    pub(super) fn tell_changed(&self, scope: &Scope) {
        match scope {
            Scope::Everything => self.tracking.everything_changed(),
            Scope::Keys(keys) => self.tracking.changed(keys.iter().map(AsRef::as_ref)),
        }
    }

    /// A storage in memory is truth and copy in one, and tells of its writes itself.
    pub(super) fn observe_memory(&self) {
        let storage = self.storage();
        if let Some(memory) = storage.as_memory() {
            let tracking = Arc::clone(&self.tracking);
            memory.observe(Arc::new(move |written| match written {
                Written::Key(key) => tracking.changed([key]),
                Written::Everything => tracking.everything_changed(),
            }));
        }
    }

    /// Looks through the copies for ever, while there are any.
    pub(super) async fn end_copies(self: Arc<Self>) {
        let mut evicted = 0;
        loop {
            for round in 0..EVICTION {
                self.tracking.begins().await;
                tokio::time::sleep(PERIOD).await;
                let before = evicted;
                if round == 0 {
                    evicted = self.evicted_from_memory();
                }
                self.judge_copies(self.now(), before != evicted);
            }
        }
    }

    /// How many keys made room for others, where what makes room is gone.
    fn evicted_from_memory(&self) -> u64 {
        self.view().on_keyspace(|keyspace| keyspace.figures().evicted).unwrap_or_default()
    }

    fn judge_copies(&self, now: Moment, evicted: bool) {
        let view = self.view();
        // While the strictest class is within its bound all are.
        let strictest = view.table.classes.strictest_bound();
        let live = strictest.is_none_or(|bound| self.coherence.is_proven(bound, now.age));
        for unjudged in self.tracking.unjudged(now.age, !live || evicted) {
            let until = self.good_until(&view, &unjudged.key, now, evicted);
            self.tracking.judge(unjudged, until);
        }
        // Those that were judged to be old already.
        self.tracking.unjudged(now.age, false);
    }

    fn good_until(&self, view: &View, key: &[u8], now: Moment, evicted: bool) -> Millis {
        let age_at = |at: UnixMillis| now.age.saturating_add(at.saturating_sub(now.unix));
        let expiry = view.on_keyspace(|keyspace| keyspace.expires_at(key));
        match expiry {
            // It may have made room for another.
            Some(None) if evicted => return now.age,
            Some(expiry) => return expiry.flatten().map_or(FOR_EVER, age_at),
            None => {}
        }
        let place = view.table.place(key);
        if !self.is_proven(place.class, now.age) {
            return now.age;
        }
        let hash = self.hash(key);
        let lifetime = &place.class.lifetime;
        let held = place.cache.peek(hash, key, |found| {
            let copy = judged(hash, found, now.age);
            let filled_at = now.age.saturating_sub(copy.age);
            let expiry = found.meta.expires_at.map_or(FOR_EVER, age_at);
            filled_at.saturating_add(lifetime.fresh_until(&copy)).min(expiry)
        });
        // A copy that isn't cached here is as old as one that is read now, at most.
        let unread = Copy { age: 0, idle: 0, is_absent: false, steady: 0, draw: u16::MAX };
        held.unwrap_or_else(|| now.age.saturating_add(lifetime.fresh_until(&unread)))
    }
}
