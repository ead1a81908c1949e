//! A queue of tickets, five bytes each.
//!
//! A ticket stands for an entry without being known to it: a removed entry leaves its ticket behind,
//! void. So that void ones don't pile up, the queue can be swept a step at a time: two fingers go
//! from the front to the end, and what still stands is moved from the one to the other.

use std::collections::VecDeque;

use super::size::allocated;

/// An entry's place and the generation of its marks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ticket {
    place: [u8; 4],
    generation: u8,
}

impl Ticket {
    pub(super) fn new(place: u32, generation: u8) -> Self {
        Self { place: place.to_le_bytes(), generation }
    }

    pub(super) fn place(self) -> u32 {
        u32::from_le_bytes(self.place)
    }

    pub(super) fn generation(self) -> u8 {
        self.generation
    }
}

/// Tickets in one allocation.
const CHUNK: usize = 100;

type Chunk = [Ticket; CHUNK];

/// See the module. *`head ≤ write ≤ read ≤ tail`*; positions count from the start of the first chunk,
/// and what lies from `write` to `read` is garbage.
#[derive(Debug, Default)]
pub(super) struct Fifo {
    chunks: VecDeque<Box<Chunk>>,
    head: usize,
    tail: usize,
    sweep: Option<Sweep>,
}

#[derive(Clone, Copy, Debug)]
struct Sweep {
    write: usize,
    read: usize,
}

impl Fifo {
    pub(super) fn len(&self) -> usize {
        self.tail - self.head - self.sweep.map_or(0, |sweep| sweep.read - sweep.write)
    }

    pub(super) fn cost(&self) -> usize {
        allocated(self.chunks.capacity() * size_of::<Box<Chunk>>())
            + self.chunks.len() * allocated(size_of::<Chunk>())
    }

    /// What the next push costs at most.
    pub(super) fn push_cost(&self) -> usize {
        if self.tail < self.chunks.len() * CHUNK {
            return 0;
        }
        let grows = self.chunks.len() == self.chunks.capacity();
        let slots = if grows { 2 * self.chunks.len().max(4) } else { 0 };
        allocated(size_of::<Chunk>()) + allocated(slots * size_of::<Box<Chunk>>())
    }

    pub(super) fn push(&mut self, ticket: Ticket) {
        if self.tail == self.chunks.len() * CHUNK {
            self.chunks.push_back(Box::new([Ticket::default(); CHUNK]));
        }
        *self.at(self.tail) = ticket;
        self.tail += 1;
    }

    pub(super) fn pop(&mut self) -> Option<Ticket> {
        if let Some(sweep) = self.sweep
            && sweep.write == self.head
        {
            self.head = sweep.read;
            self.sweep = None;
        }
        if self.head == self.tail {
            *self = Self::default();
            return None;
        }
        let ticket = *self.at(self.head);
        self.head += 1;
        while self.head >= CHUNK {
            self.chunks.pop_front();
            self.head -= CHUNK;
            self.tail -= CHUNK;
            if let Some(sweep) = &mut self.sweep {
                sweep.write -= CHUNK;
                sweep.read -= CHUNK;
            }
        }
        Some(ticket)
    }

    /// Looks at one more ticket, and drops it if it doesn't stand.
    pub(super) fn sweep(&mut self, stands: impl FnOnce(Ticket) -> bool) {
        let mut sweep = self.sweep.unwrap_or(Sweep { write: self.head, read: self.head });
        if sweep.read == self.tail {
            self.tail = sweep.write;
            self.chunks.truncate(self.tail.div_ceil(CHUNK));
            self.sweep = None;
            return;
        }
        let ticket = *self.at(sweep.read);
        sweep.read += 1;
        if stands(ticket) {
            *self.at(sweep.write) = ticket;
            sweep.write += 1;
        }
        self.sweep = Some(sweep);
    }

    fn at(&mut self, position: usize) -> &mut Ticket {
        &mut self.chunks[position / CHUNK][position % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Push(u32),
        Pop(usize),
        Sweep(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..400u32).prop_map(Step::Push),
            (0..300usize).prop_map(Step::Pop),
            (0..600usize).prop_map(Step::Sweep),
        ]
    }

    proptest! {
        /// Here the tickets with an odd place are void.
        #[test]
        fn what_stands_comes_out_in_order_however_it_is_swept(
            steps in prop::collection::vec(step(), 1..40),
        ) {
            let mut fifo = Fifo::default();
            let mut standing = VecDeque::new();
            let mut next = 0;
            let stands = |ticket: &Ticket| ticket.place().is_multiple_of(2);
            for step in steps {
                match step {
                    Step::Push(count) => for _ in 0..count {
                        fifo.push(Ticket::new(next, 0));
                        standing.extend((next % 2 == 0).then_some(next));
                        next += 1;
                    },
                    Step::Pop(count) => for _ in 0..count {
                        let ticket = std::iter::from_fn(|| fifo.pop()).find(stands);
                        prop_assert_eq!(ticket.map(Ticket::place), standing.pop_front());
                    },
                    Step::Sweep(count) => (0..count).for_each(|_| fifo.sweep(|t| stands(&t))),
                }
                prop_assert!(fifo.len() >= standing.len());
            }
            // Once round for a sweep under way, and once more for all.
            (0..2 * next + 2).for_each(|_| fifo.sweep(|t| stands(&t)));
            prop_assert!(fifo.len() == standing.len());
        }
    }
}
