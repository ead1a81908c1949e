//! One shard: a table, the counters of the guard, and S3-FIFO eviction by bytes.
//!
//! S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023): a new
//! entry waits in a small queue; used again it moves to the main queue, else it leaves and its
//! hash is remembered for a while, so that a quick return goes to the main queue at once.

use std::collections::VecDeque;

use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::{HashSet, HashTable};

use super::{Entry, Usage, owned};
use crate::adapter::Value;

/// Keys that share a counter are forgotten by the guard together; more counters, fewer refused fills.
const COUNTERS: usize = 256;
/// The share of the small queue in the limit, as a divisor: a tenth.
const SMALL: usize = 10;
/// How often an entry may be used and still count.
const MOST_USES: u8 = 3;

#[derive(Debug)]
pub(super) struct Shard {
    limit: usize,
    counters: Box<[u64; COUNTERS]>,
    table: HashTable<Slot>,
    small: VecDeque<Ticket>,
    main: VecDeque<Ticket>,
    ghosts: VecDeque<u64>,
    ghost_set: HashSet<u64, FixedState>,
    bytes: usize,
    small_bytes: usize,
    next_ticket: u64,
    evicted: u64,
}

#[derive(Debug)]
struct Slot {
    hash: u64,
    key: Bytes,
    entry: Entry,
    ticket: u64,
    uses: u8,
    in_small: bool,
}

/// A place in a queue. It is void when the table holds no slot with this number: a forgotten
/// entry leaves its ticket behind.
#[derive(Clone, Copy, Debug)]
struct Ticket {
    hash: u64,
    number: u64,
}

impl Slot {
    /// Bytes beyond key and value: the slot with the table's slack, a ticket with its queue's
    /// slack, a ghost, and the two allocations' headers.
    const OVERHEAD: usize = size_of::<Self>() * 8 / 7 + 1 + 2 * size_of::<Ticket>() + 32;

    fn cost(key: &[u8], entry: &Entry) -> usize {
        key.len() + entry.value.data.len() + Self::OVERHEAD
    }

    fn size(&self) -> usize {
        Self::cost(&self.key, &self.entry)
    }
}

impl Shard {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            counters: Box::new([0; COUNTERS]),
            table: HashTable::new(),
            small: VecDeque::new(),
            main: VecDeque::new(),
            ghosts: VecDeque::new(),
            ghost_set: HashSet::with_hasher(FixedState::default()),
            bytes: 0,
            small_bytes: 0,
            next_ticket: 0,
            evicted: 0,
        }
    }

    pub(super) fn counter(&self, hash: u64) -> u64 {
        self.counters[counter_of(hash)]
    }

    pub(super) fn get(&mut self, hash: u64, key: &[u8]) -> Option<Entry> {
        let slot = self.table.find_mut(hash, |slot| slot.key == key)?;
        slot.uses = (slot.uses + 1).min(MOST_USES);
        Some(slot.entry.clone())
    }

    /// Enters or replaces; false when the entry is too big for the shard.
    pub(super) fn insert(&mut self, hash: u64, key: &[u8], entry: &Entry) -> bool {
        self.take(hash, |slot| slot.key == key);
        let size = Slot::cost(key, entry);
        if size > self.limit {
            return false;
        }
        self.make_room(size);
        let in_small = !self.ghost_set.remove(&hash);
        let number = self.next_ticket;
        self.next_ticket += 1;
        let queue = if in_small { &mut self.small } else { &mut self.main };
        queue.push_back(Ticket { hash, number });
        self.bytes += size;
        self.small_bytes += if in_small { size } else { 0 };
        let value = Value { data: owned(&entry.value.data), ..entry.value };
        let entry = Entry { value, filled_at: entry.filled_at };
        let slot = Slot { hash, key: owned(key), entry, ticket: number, uses: 0, in_small };
        self.table.insert_unique(hash, slot, |slot| slot.hash);
        self.drop_void_tickets();
        true
    }

    pub(super) fn forget(&mut self, hash: u64, key: &[u8]) -> bool {
        self.counters[counter_of(hash)] += 1;
        self.take(hash, |slot| slot.key == key).is_some()
    }

    pub(super) fn forget_all(&mut self) {
        self.counters.iter_mut().for_each(|counter| *counter += 1);
        self.table.clear();
        self.small.clear();
        self.main.clear();
        self.bytes = 0;
        self.small_bytes = 0;
    }

    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        self.make_room(0);
    }

    pub(super) fn usage(&self) -> Usage {
        Usage { entries: self.table.len(), bytes: self.bytes, evicted: self.evicted }
    }

    fn take(&mut self, hash: u64, is_it: impl Fn(&Slot) -> bool) -> Option<Slot> {
        let (slot, _) = self.table.find_entry(hash, is_it).ok()?.remove();
        self.bytes -= slot.size();
        self.small_bytes -= if slot.in_small { slot.size() } else { 0 };
        Some(slot)
    }

    /// Evicts until `size` more bytes fit. Ends because each turn takes a ticket from a queue and
    /// an entry goes round the main queue at most [`MOST_USES`] times.
    fn make_room(&mut self, size: usize) {
        while self.bytes + size > self.limit {
            let from_small = self.small_bytes > self.limit / SMALL || self.main.is_empty();
            let evicted = if from_small { self.turn_small() } else { self.turn_main() };
            if !evicted && self.small.is_empty() && self.main.is_empty() {
                return;
            }
        }
    }

    fn turn_small(&mut self) -> bool {
        let Some(ticket) = self.small.pop_front() else { return false };
        let Some(slot) = self.table.find_mut(ticket.hash, |slot| slot.ticket == ticket.number)
        else {
            return false;
        };
        if slot.uses > 0 {
            slot.uses = 0;
            slot.in_small = false;
            self.small_bytes -= slot.size();
            self.main.push_back(ticket);
            return false;
        }
        self.take(ticket.hash, |slot| slot.ticket == ticket.number);
        self.evicted += 1;
        self.remember(ticket.hash);
        true
    }

    fn turn_main(&mut self) -> bool {
        let Some(ticket) = self.main.pop_front() else { return false };
        let Some(slot) = self.table.find_mut(ticket.hash, |slot| slot.ticket == ticket.number)
        else {
            return false;
        };
        if slot.uses > 0 {
            slot.uses -= 1;
            self.main.push_back(ticket);
            return false;
        }
        self.take(ticket.hash, |slot| slot.ticket == ticket.number);
        self.evicted += 1;
        true
    }

    /// Remembers as many hashes as there are entries.
    fn remember(&mut self, hash: u64) {
        if self.ghost_set.insert(hash) {
            self.ghosts.push_back(hash);
        }
        while self.ghosts.len() > self.table.len().max(16) {
            if let Some(oldest) = self.ghosts.pop_front() {
                self.ghost_set.remove(&oldest);
            }
        }
    }

    /// Keeps the queues in proportion to the entries when keys come and are forgotten over and
    /// over without any eviction.
    fn drop_void_tickets(&mut self) {
        let tickets = self.small.len() + self.main.len();
        if tickets <= 2 * self.table.len() + 64 {
            return;
        }
        let table = &self.table;
        let stands = |t: &Ticket| table.find(t.hash, |slot| slot.ticket == t.number).is_some();
        self.small.retain(&stands);
        self.main.retain(&stands);
    }
}

fn counter_of(hash: u64) -> usize {
    (hash >> 16) as usize % COUNTERS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry { value: Value { data: Bytes::new(), expires_at: None, version: 0 }, filled_at: 0 }
    }

    #[test]
    fn keys_that_come_and_go_leave_no_queue_behind() {
        let mut shard = Shard::new(1 << 20);
        for round in 0..10_000u64 {
            assert!(shard.insert(round % 7, b"k", &entry()));
            assert!(shard.forget(round % 7, b"k"));
        }
        assert!(shard.small.len() + shard.main.len() <= 66);
        assert_eq!((shard.bytes, shard.small_bytes), (0, 0));
    }

    #[test]
    fn the_ghosts_stay_in_proportion_when_they_return() {
        let mut shard = Shard::new(4096);
        for round in 0..10_000u64 {
            shard.insert(round % 100, &(round % 100).to_le_bytes(), &entry());
        }
        assert!(shard.ghosts.len() <= shard.table.len().max(16) + 1, "{}", shard.ghosts.len());
    }

    #[test]
    fn what_is_too_big_is_not_entered_and_evicts_nothing() {
        let mut shard = Shard::new(1024);
        assert!(shard.insert(1, b"small", &entry()));
        let big = Value { data: Bytes::from(vec![0; 2048]), expires_at: None, version: 0 };
        assert!(!shard.insert(2, b"big", &Entry { value: big, filled_at: 0 }));
        assert_eq!(shard.usage().entries, 1);
    }
}
