//! Expiry while nobody asks: what has ended leaves memory by itself.
//!
//! A key that has ended is never answered, whether it is still in memory or not; here its memory is
//! given back, in the memory storage and in the cache. The walk looks at a part of the entries in
//! each round and goes on while it finds much, as Redis' `activeExpireCycle` does: *a round takes
//! [`MOST_WORK`] at most, and holds no lock for longer than [`SLICE`] entries take*. Where no entry
//! can have ended there is nothing to walk, so a sidecar that does nothing wakes once a second.
//!
//! A copy that is older than its class's TTL is never answered again either. How old that is can
//! change with every policy, so no time is known at which it is over, and a slow second walk looks
//! for such copies: it is once through in [`ROUNDS`] seconds.
//!
//! What the memory storage gives up is told to the clients that keep copies of it, as a write is. A
//! copy of the cache says nothing of its key: clients' copies of it are judged by `copies`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::freshness::judged;
use super::{Engine, Moment};
use crate::adapter::UnixMillis;
use crate::cache::{Cache, Lent, Millis, Walk};
use crate::metrics::latency;
use crate::preset::lifetime::Verdict;

/// Between two rounds while entries may have ended.
const PERIOD: Duration = Duration::from_millis(100);
/// Between two looks at when the first one ends.
const REST: Duration = Duration::from_secs(1);
/// Between two parts of the walk for copies that are too old, in milliseconds.
const RETIRING: Millis = 1_000;
/// Entries that are looked at while a lock is held.
const SLICE: usize = 256;
/// How long a round works.
const MOST_WORK: Duration = Duration::from_millis(5);
/// In so many rounds all entries are looked at where few have ended: what is dead and in memory
/// still is a tenth of it at most, and for half a minute at most.
const ROUNDS: usize = 256;
/// A slice of which less than one in so many had ended is a poor one.
const POOR: usize = 10;

impl Engine {
    /// Frees what has ended, for ever.
    pub(super) async fn expire(self: Arc<Self>) {
        let (mut walks, mut retired) = (Vec::new(), 0);
        loop {
            tokio::time::sleep(self.rest_until_next_end()).await;
            let now = self.now();
            let begun = Instant::now();
            self.expire_some(now.unix, begun);
            if now.age.saturating_sub(retired) >= RETIRING {
                retired = now.age;
                self.retire_some(now, &mut walks);
            }
            self.metrics.latency.note(latency::Event::ExpireCycle, begun.elapsed(), now.unix);
        }
    }

    /// Frees copies that are older than their classes let them be; each room has a walk of its own.
    fn retire_some(&self, now: Moment, walks: &mut Vec<Walk>) {
        let table = self.table.load();
        let is_over = |key: &[u8], found: Lent<'_>| {
            let copy = judged(self.hash(key), found, now.age);
            table.place(key).class.lifetime.judge(&copy) == Verdict::Ended
        };
        for (at, room) in table.rooms.all().enumerate() {
            if walks.len() == at {
                walks.push(Walk::default());
            }
            let entries = room.usage().entries;
            if entries > 0 {
                room.retire(&mut walks[at], entries / ROUNDS + SLICE, is_over);
            }
        }
    }

    fn rest_until_next_end(&self) -> Duration {
        let now = self.now().unix;
        let rest = self.next_end().map(|at| Duration::from_millis(at.saturating_sub(now)));
        rest.map_or(REST, |rest| rest.clamp(PERIOD, REST))
    }

    /// Nothing in memory ends before that.
    fn next_end(&self) -> Option<UnixMillis> {
        let of_memory = self.view().on_keyspace_if_free(|keyspace| keyspace.next_end());
        let table = self.table.load();
        of_memory.flatten().into_iter().chain(table.rooms.all().filter_map(Cache::next_end)).min()
    }

    /// A round.
    fn expire_some(&self, now: UnixMillis, begun: Instant) {
        let view = self.view();
        let of_memory = view.on_keyspace_if_free(|keyspace| keyspace.figures().entries);
        let table = self.table.load();
        let entries = of_memory.unwrap_or_default() + table.rooms.usage().entries;
        let mut left = entries / ROUNDS + SLICE;
        while left > 0 && begun.elapsed() < MOST_WORK {
            let of_memory = view.on_keyspace_if_free(|keyspace| keyspace.expire_some(SLICE));
            let of_rooms = table.rooms.all().map(|room| room.expire_some(now, SLICE));
            let freed = of_memory.unwrap_or_default() + of_rooms.sum::<usize>();
            if freed == 0 && self.next_end().is_none_or(|at| at > now) {
                break;
            }
            if freed < SLICE / POOR {
                left = left.saturating_sub(SLICE);
            }
        }
    }
}
