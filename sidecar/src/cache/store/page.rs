//! A page: at most 64 buckets of one cache line, and nine entries in each.
//!
//! A key has a home bucket. An entry that finds its home full goes to the next bucket with room, and
//! every bucket that it passes counts it, so that a search knows when to stop. A bucket keeps a byte
//! of each entry's hash, its tag, and a search reads only the entries whose tag matches.

use super::entry::Slot;
use super::prefetch::prefetch;
use super::size::allocated;

/// Entries in a bucket.
pub(super) const SLOTS: usize = 9;
/// The most buckets of a page.
pub(super) const BUCKETS: usize = 1 << HOME_BITS;
/// How many bits of a place choose the home.
pub(super) const HOME_BITS: u32 = 6;

/// One cache line.
#[repr(C, align(64))]
struct Bucket<O> {
    slots: [Slot<O>; SLOTS],
    /// 0 where the slot is empty.
    tags: [u8; SLOTS],
    /// How many entries went further because there was no room. At 255 it is no longer known.
    passed: u8,
}

/// Where an entry is in its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    bucket: u8,
    slot: u8,
}

/// See the module. A page without buckets takes no memory and holds nothing.
pub(super) struct Page<O> {
    buckets: Box<[Bucket<O>]>,
    entries: usize,
}

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);

impl<O> Bucket<O> {
    fn new() -> Self {
        Self { slots: [Slot::EMPTY; SLOTS], tags: [0; SLOTS], passed: 0 }
    }

    /// The slots whose tag is `tag`, and now and then one whose tag isn't.
    #[inline]
    fn candidates(&self, tag: u8) -> Candidates {
        let [first @ .., last] = self.tags;
        let differ = u64::from_le_bytes(first) ^ (ONES * u64::from(tag));
        // The highest bit of each byte that is zero; a borrow may set it above such a byte, too.
        let zero = differ.wrapping_sub(ONES) & !differ & HIGHS;
        Candidates { zero, last: last == tag }
    }

    fn vacancy(&self) -> Option<usize> {
        self.tags.iter().position(|tag| *tag == 0)
    }
}

struct Candidates {
    zero: u64,
    last: bool,
}

impl Iterator for Candidates {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.zero != 0 {
            let at = self.zero.trailing_zeros() / 8;
            self.zero &= self.zero - 1;
            return Some(at as usize);
        }
        std::mem::take(&mut self.last).then_some(SLOTS - 1)
    }
}

/// The home of a place, and its tag.
#[inline]
fn home(place: u32) -> usize {
    place as usize % BUCKETS
}

#[inline]
fn tag(place: u32) -> u8 {
    ((place >> HOME_BITS) as u8).max(1)
}

impl<O> Page<O> {
    /// A page of `buckets` buckets: none, or a power of two up to [`BUCKETS`].
    pub(super) fn new(buckets: usize) -> Self {
        Self { buckets: (0..buckets).map(|_| Bucket::new()).collect(), entries: 0 }
    }

    /// Bytes that a page of `buckets` buckets takes. Where lines are aligned the allocator may lose
    /// one more step.
    pub(super) fn cost_of(buckets: usize) -> usize {
        if buckets == 0 { 0 } else { allocated(buckets * size_of::<Bucket<O>>()) + 16 }
    }

    pub(super) fn cost(&self) -> usize {
        Self::cost_of(self.buckets.len())
    }

    pub(super) fn buckets(&self) -> usize {
        self.buckets.len()
    }

    pub(super) fn entries(&self) -> usize {
        self.entries
    }

    /// How many entries `buckets` buckets take before searches become long.
    pub(super) const fn room_of(buckets: usize) -> usize {
        buckets * SLOTS * 7 / 8
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries >= Self::room_of(self.buckets.len())
    }

    #[inline]
    fn mask(&self) -> usize {
        self.buckets.len().wrapping_sub(1)
    }

    /// The buckets that entries with this home may be in.
    #[inline]
    fn chain(&self, home: usize) -> impl Iterator<Item = usize> {
        let mask = self.mask();
        let mut next = (!self.buckets.is_empty()).then_some(home & mask);
        std::iter::from_fn(move || {
            let at = next?;
            let after = (at + 1) & mask;
            next = (self.buckets[at].passed > 0 && after != home & mask).then_some(after);
            Some(at)
        })
    }

    /// Where the entry of `key` is.
    #[inline]
    pub(super) fn find(&self, place: u32, key: &[u8]) -> Option<Seat> {
        for bucket in self.chain(home(place)) {
            for slot in self.buckets[bucket].candidates(tag(place)) {
                if self.buckets[bucket].slots[slot].is_of(key) {
                    return Some(Seat { bucket: bucket as u8, slot: slot as u8 });
                }
            }
        }
        None
    }

    #[inline]
    pub(super) fn slot(&self, seat: Seat) -> &Slot<O> {
        &self.buckets[usize::from(seat.bucket)].slots[usize::from(seat.slot)]
    }

    #[inline]
    pub(super) fn slot_mut(&mut self, seat: Seat) -> &mut Slot<O> {
        &mut self.buckets[usize::from(seat.bucket)].slots[usize::from(seat.slot)]
    }

    /// The seats of the entries that may have this home, those of other homes among them.
    pub(super) fn seats(&self, home: usize) -> impl Iterator<Item = Seat> {
        self.chain(home).flat_map(move |bucket| {
            let taken = move |slot: &usize| self.buckets[bucket].tags[*slot] != 0;
            (0..SLOTS)
                .filter(taken)
                .map(move |slot| Seat { bucket: bucket as u8, slot: slot as u8 })
        })
    }

    /// The seats of the entries that may be of `place`.
    pub(super) fn seats_of(&self, place: u32) -> impl Iterator<Item = Seat> {
        self.chain(home(place)).flat_map(move |bucket| {
            self.buckets[bucket]
                .candidates(tag(place))
                .map(move |slot| Seat { bucket: bucket as u8, slot: slot as u8 })
        })
    }

    /// Seats an entry, and gives it back when every slot is taken.
    pub(super) fn insert(&mut self, place: u32, entry: Slot<O>) -> Result<(), Slot<O>> {
        let mask = self.mask();
        if self.entries == self.buckets.len() * SLOTS {
            return Err(entry);
        }
        let mut bucket = home(place) & mask;
        let slot = loop {
            if let Some(slot) = self.buckets[bucket].vacancy() {
                break slot;
            }
            self.buckets[bucket].passed = self.buckets[bucket].passed.saturating_add(1);
            bucket = (bucket + 1) & mask;
        };
        self.buckets[bucket].slots[slot] = entry;
        self.buckets[bucket].tags[slot] = tag(place);
        self.entries += 1;
        Ok(())
    }

    /// Takes the entry of `place` from its seat.
    pub(super) fn remove(&mut self, place: u32, seat: Seat) -> Slot<O> {
        let mask = self.mask();
        let entry = std::mem::replace(self.slot_mut(seat), Slot::EMPTY);
        self.buckets[usize::from(seat.bucket)].tags[usize::from(seat.slot)] = 0;
        self.entries -= usize::from(!entry.is_empty());
        let mut bucket = home(place) & mask;
        while bucket != usize::from(seat.bucket) {
            let passed = &mut self.buckets[bucket].passed;
            if *passed < u8::MAX {
                *passed = passed.saturating_sub(1);
            }
            bucket = (bucket + 1) & mask;
        }
        entry
    }

    /// All entries, while the next ones are being fetched.
    pub(super) fn into_entries(self) -> impl Iterator<Item = Slot<O>> {
        let mut buckets = self.buckets.into_iter().peekable();
        std::iter::from_fn(move || {
            let bucket = buckets.next()?;
            let next = buckets.peek().into_iter().flat_map(|next| next.slots.iter());
            next.for_each(|slot| prefetch(slot.start()));
            Some(bucket.slots)
        })
        .flatten()
        .filter(|slot| !slot.is_empty())
    }

    /// Has the line of the home fetched.
    #[inline]
    pub(super) fn prefetch(&self, place: u32) {
        if let Some(bucket) = self.buckets.get(home(place) & self.mask()) {
            prefetch(bucket);
        }
    }

    /// Has the first two lines fetched of the entry that probably is of `place`.
    #[inline]
    pub(super) fn prefetch_entry(&self, place: u32) {
        let Some(bucket) = self.buckets.get(home(place) & self.mask()) else { return };
        if let Some(slot) = bucket.candidates(tag(place)).next() {
            let start = bucket.slots[slot].start();
            prefetch(start);
            prefetch(start.wrapping_add(64));
        }
    }
}
