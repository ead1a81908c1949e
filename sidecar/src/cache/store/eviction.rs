//! Which entry has to make room: S3-FIFO (Yang et al., "FIFO queues are all you need for cache
//! eviction", SOSP 2023).
//!
//! A new entry waits in a small queue. Used again, it moves to the main queue; else it leaves, and is
//! remembered for a while as a ghost, so that a quick return goes to the main queue at once. What
//! leaves the main queue goes round once more for each use.

use super::entry::{Entry, Marks};
use super::fifo::{Fifo, Ticket};
use super::ghosts::Ghosts;
use super::table::{Spot, Table};

/// The share of the small queue in the limit, as a divisor: a tenth.
const SMALL: usize = 10;
/// After so many turns an entry leaves though it was used, so that no operation takes long.
const MOST_TURNS: usize = 256;
/// Void tickets that aren't worth a sweep.
const FEW: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Eviction {
    small: Queue,
    main: Queue,
    ghosts: Ghosts,
    generation: u8,
}

#[derive(Debug, Default)]
struct Queue {
    tickets: Fifo,
    /// Entries that stand in it, and their bytes.
    entries: usize,
    bytes: usize,
}

impl Queue {
    fn add(&mut self, ticket: Ticket, bytes: usize) {
        self.tickets.push(ticket);
        self.entries += 1;
        self.bytes += bytes;
    }
}

/// What has to leave.
pub(super) struct Victim {
    pub(super) spot: Spot,
    pub(super) place: u32,
}

fn stands<O>(table: &Table<O>, ticket: Ticket, in_main: bool) -> Option<Spot> {
    let marked = |entry: &Entry<'_, O>| {
        let marks = entry.marks();
        marks.generation() == ticket.generation() && marks.in_main() == in_main
    };
    table.find_place(ticket.place(), marked)
}

impl Eviction {
    pub(super) fn cost(&self) -> usize {
        self.small.tickets.cost() + self.main.tickets.cost() + self.ghosts.cost()
    }

    /// What the next entry costs here at most.
    pub(super) fn push_cost(&self) -> usize {
        self.small.tickets.push_cost().max(self.main.tickets.push_cost())
    }

    /// Enters a new entry of `bytes` bytes, and gives the marks that it must have.
    pub(super) fn enter(&mut self, place: u32, bytes: usize) -> Marks {
        let in_main = self.ghosts.take(place);
        self.generation = self.generation.wrapping_add(1) % Marks::GENERATIONS;
        let ticket = Ticket::new(place, self.generation);
        self.queue(in_main).add(ticket, bytes);
        Marks::new(self.generation, in_main)
    }

    /// An entry with these marks was removed.
    pub(super) fn leave(&mut self, marks: Marks, bytes: usize) {
        let queue = self.queue(marks.in_main());
        queue.entries -= 1;
        queue.bytes -= bytes;
    }

    /// An entry with these marks has another size.
    pub(super) fn resize(&mut self, marks: Marks, from: usize, to: usize) {
        let queue = self.queue(marks.in_main());
        queue.bytes = queue.bytes - from + to;
    }

    /// Chooses an entry. Its ticket is gone, so it must be removed. `None` when there is no entry.
    pub(super) fn choose<O>(
        &mut self,
        table: &mut Table<O>,
        limit: usize,
        size: impl Fn(&Entry<'_, O>) -> usize,
    ) -> Option<Victim> {
        let mut turns = 0;
        loop {
            let in_main = self.main.entries > 0
                && (self.small.bytes <= limit / SMALL || self.small.entries == 0);
            let Some(ticket) = self.queue(in_main).tickets.pop() else {
                if self.small.entries + self.main.entries == 0 {
                    return None;
                }
                // Every entry has a ticket in its queue, so this isn't reached; it ends the loop.
                debug_assert!(false, "an entry without a ticket");
                return None;
            };
            turns += 1;
            let place = ticket.place();
            let Some(spot) = stands(table, ticket, in_main) else { continue };
            let Some(entry) = table.entry(spot) else { continue };
            let (marks, bytes) = (entry.marks(), size(&entry));
            if marks.uses() == 0 || turns > MOST_TURNS {
                if !in_main {
                    self.ghosts.insert(place);
                }
                return Some(Victim { spot, place });
            }
            if in_main {
                table.slot_mut(spot).set_marks(marks.less_used());
                self.main.tickets.push(ticket);
            } else {
                table.slot_mut(spot).set_marks(Marks::new(marks.generation(), true));
                self.leave(marks, bytes);
                self.main.add(ticket, bytes);
            }
        }
    }

    /// Keeps the queues in proportion to the entries, by a few steps for each change.
    pub(super) fn sweep<O>(&mut self, table: &Table<O>) {
        for (queue, in_main) in [(&mut self.small, false), (&mut self.main, true)] {
            if queue.tickets.len() <= queue.entries * 3 / 2 + FEW {
                continue;
            }
            for _ in 0..4 {
                queue.tickets.sweep(|ticket| stands(table, ticket, in_main).is_some());
            }
        }
    }

    /// Room for the ghosts in proportion to `entries`, if it fits in `room` bytes.
    pub(super) fn size_ghosts(&mut self, entries: usize, room: usize) {
        if entries <= self.ghosts.capacity() {
            return;
        }
        let more = entries + entries / 4;
        if Ghosts::cost_for(more) <= room {
            self.ghosts.resize(more);
        }
    }

    /// Gives all memory back when there is no entry; whether there was any.
    pub(super) fn release(&mut self) -> bool {
        let had = self.cost() > 0;
        *self = Self { generation: self.generation, ..Self::default() };
        had
    }

    fn queue(&mut self, is_main: bool) -> &mut Queue {
        if is_main { &mut self.main } else { &mut self.small }
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn tickets(&self) -> usize {
        self.small.tickets.len() + self.main.tickets.len()
    }
}
