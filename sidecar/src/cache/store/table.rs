//! The table: pages of entries, found through a directory (extendible hashing).
//!
//! The first bits of a place choose an item of the directory, which names a page; the last bits choose
//! the home in the page. A full page is split in two by one more bit, and two that are nearly empty
//! become one: *no operation touches more than two pages*, however large the table is. The first page
//! grows from one bucket, so that a small table is small.
//!
//! Positions, by which scans and expiry walk the table, are in the order of homes first and of first
//! bits second. *Where a walk has passed a position it has seen every entry before it that was there
//! all the time*: an entry's position never changes, and a step covers a whole interval of them,
//! however the pages were split or merged since the last.

use super::entry::{Entry, Slot};
use super::hash::Hasher;
use super::page::{BUCKETS, HOME_BITS, Page, Seat};
use super::size::allocated;

/// Bits of a place that the directory can tell apart.
const PREFIX_BITS: u32 = u32::BITS - HOME_BITS;

/// Where an entry is, until the table is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    leaf: u32,
    seat: Seat,
}

/// Where a walk is: the home in the highest bits, the first bits of the place in the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position(u32);

impl Position {
    pub(super) const START: Self = Self(0);

    pub(super) fn new(position: u32) -> Self {
        Self(position)
    }

    pub(super) fn get(self) -> u32 {
        self.0
    }

    fn home(self) -> u32 {
        self.0 >> PREFIX_BITS
    }

    fn place(self) -> u32 {
        self.0 << HOME_BITS | self.home()
    }

    /// The first position behind those of this home in a page of `depth`.
    fn after(self, depth: u32) -> Option<Self> {
        let width = 1u64 << (PREFIX_BITS - depth);
        let next = (u64::from(self.0) / width + 1) * width;
        u32::try_from(next).ok().map(Self)
    }
}

/// A page, and how many first bits its entries share.
struct Leaf<O> {
    page: Page<O>,
    depth: u32,
}

/// See the module.
pub(super) struct Table<O> {
    hasher: Hasher,
    /// How many first bits of a place choose an item of the directory.
    bits: u32,
    /// Empty, as long as the table is.
    directory: Vec<u32>,
    leaves: Vec<Leaf<O>>,
    /// Leaves that are in no directory, with pages that have no buckets.
    vacant: Vec<u32>,
    /// How many leaves of the directory have the depth `bits`.
    deepest: usize,
    page_bytes: usize,
    entries: usize,
}

impl<O> Table<O> {
    pub(super) fn new(hasher: Hasher) -> Self {
        Self {
            hasher,
            bits: 0,
            directory: Vec::new(),
            leaves: Vec::new(),
            vacant: Vec::new(),
            deepest: 0,
            page_bytes: 0,
            entries: 0,
        }
    }

    pub(super) fn hasher(&self) -> &Hasher {
        &self.hasher
    }

    pub(super) fn len(&self) -> usize {
        self.entries
    }

    /// Bytes that it takes, without those of the entries.
    pub(super) fn cost(&self) -> usize {
        self.page_bytes
            + allocated(self.directory.capacity() * size_of::<u32>())
            + allocated(self.leaves.capacity() * size_of::<Leaf<O>>())
            + allocated(self.vacant.capacity() * size_of::<u32>())
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new(self.hasher.clone());
    }

    fn place_of(&self, entry: &Entry<'_, O>) -> u32 {
        self.hasher.hash(entry.key()).place()
    }

    #[inline]
    fn item(&self, place: u32) -> usize {
        // At zero bits a shift of 32 gives the one item.
        (u64::from(place) >> (u32::BITS - self.bits)) as usize
    }

    #[inline]
    fn leaf(&self, place: u32) -> Option<(u32, &Leaf<O>)> {
        let leaf = *self.directory.get(self.item(place))?;
        Some((leaf, &self.leaves[leaf as usize]))
    }

    #[inline]
    pub(super) fn find(&self, place: u32, key: &[u8]) -> Option<Spot> {
        let (leaf, found) = self.leaf(place)?;
        Some(Spot { leaf, seat: found.page.find(place, key)? })
    }

    /// An entry of exactly this place for which `is_it` holds.
    pub(super) fn find_place(
        &self,
        place: u32,
        is_it: impl Fn(&Entry<'_, O>) -> bool,
    ) -> Option<Spot> {
        let (leaf, found) = self.leaf(place)?;
        let is_it = |seat: &Seat| {
            let entry = found.page.slot(*seat).entry();
            entry.is_some_and(|entry| is_it(&entry) && self.place_of(&entry) == place)
        };
        found.page.seats_of(place).find(is_it).map(|seat| Spot { leaf, seat })
    }

    #[inline]
    pub(super) fn entry(&self, spot: Spot) -> Option<Entry<'_, O>> {
        self.leaves[spot.leaf as usize].page.slot(spot.seat).entry()
    }

    #[inline]
    pub(super) fn slot_mut(&mut self, spot: Spot) -> &mut Slot<O> {
        self.leaves[spot.leaf as usize].page.slot_mut(spot.seat)
    }

    /// The bytes that have to be there for [`Table::grow`]: 0 where it isn't needed, `None` where
    /// it can't help, because too many entries have the same place.
    pub(super) fn growth(&self, place: u32) -> Option<usize> {
        let Some((_, leaf)) = self.leaf(place) else {
            return Some(
                Page::<O>::cost_of(1) + allocated(size_of::<u32>()) + self.cost_of_more_leaves(),
            );
        };
        if !leaf.page.is_full() {
            return Some(0);
        }
        if leaf.page.buckets() < BUCKETS {
            return Some(Page::<O>::cost_of(2 * leaf.page.buckets()));
        }
        if leaf.depth == PREFIX_BITS {
            return None;
        }
        let directory = if leaf.depth == self.bits {
            allocated(2 * self.directory.len() * size_of::<u32>())
        } else {
            0
        };
        Some(2 * leaf.page.cost() + directory + self.cost_of_more_leaves())
    }

    fn more_leaves(&self) -> usize {
        (2 * self.leaves.len()).max(1)
    }

    fn cost_of_more_leaves(&self) -> usize {
        if !self.vacant.is_empty() || self.leaves.len() < self.leaves.capacity() {
            return 0;
        }
        allocated(self.more_leaves() * size_of::<Leaf<O>>())
            + allocated(self.more_leaves() * size_of::<u32>())
    }

    /// Makes room for an entry of `place`: by a first page, a larger one, or a split.
    pub(super) fn grow(&mut self, place: u32) {
        let Some((at, leaf)) = self.leaf(place) else {
            let leaf = self.add_leaf(Leaf { page: Page::new(1), depth: 0 });
            self.directory = vec![leaf];
            self.deepest = 1;
            return;
        };
        let (buckets, depth) = (leaf.page.buckets(), leaf.depth);
        if buckets < BUCKETS {
            self.rebuild(at, 2 * buckets);
        } else if depth < PREFIX_BITS {
            self.split(place, at, depth);
        }
    }

    fn rebuild(&mut self, at: u32, buckets: usize) {
        let old = self.put_page(at, Page::new(buckets));
        for entry in old.into_entries() {
            self.reseat(at, entry);
        }
    }

    fn split(&mut self, place: u32, at: u32, depth: u32) {
        if depth == self.bits {
            self.directory = self.directory.iter().flat_map(|leaf| [*leaf; 2]).collect();
            self.bits += 1;
            self.deepest = 0;
        }
        let depth = depth + 1;
        let old = self.put_page(at, Page::new(BUCKETS));
        self.leaves[at as usize].depth = depth;
        let sibling = self.add_leaf(Leaf { page: Page::new(BUCKETS), depth });
        // The items of the sibling: those with a one in the bit that is new.
        let bit = 1 << (u32::BITS - depth);
        self.name(place | bit, depth, sibling);
        self.deepest += if depth == self.bits { 2 } else { 0 };
        for entry in old.into_entries() {
            let is_ones = entry.entry().is_some_and(|entry| self.place_of(&entry) & bit != 0);
            self.reseat(if is_ones { sibling } else { at }, entry);
        }
    }

    /// Has all items that share the first `depth` bits of `place` name `leaf`.
    fn name(&mut self, place: u32, depth: u32, leaf: u32) {
        let count = 1 << (self.bits - depth);
        let first = self.item(place) & !(count - 1);
        self.directory[first..first + count].fill(leaf);
    }

    fn reseat(&mut self, at: u32, entry: Slot<O>) {
        let Some(place) = entry.entry().map(|entry| self.place_of(&entry)) else { return };
        // A page never gets more entries than it has slots: what comes here is at most what one held.
        let seated = self.leaves[at as usize].page.insert(place, entry);
        debug_assert!(seated.is_ok());
    }

    fn put_page(&mut self, at: u32, page: Page<O>) -> Page<O> {
        self.page_bytes += page.cost();
        let old = std::mem::replace(&mut self.leaves[at as usize].page, page);
        self.page_bytes -= old.cost();
        old
    }

    fn add_leaf(&mut self, leaf: Leaf<O>) -> u32 {
        self.page_bytes += leaf.page.cost();
        if let Some(at) = self.vacant.pop() {
            self.leaves[at as usize] = leaf;
            return at;
        }
        if self.leaves.len() == self.leaves.capacity() {
            let more = self.more_leaves();
            self.leaves.reserve_exact(more - self.leaves.len());
            // Every leaf may be vacant one day; then there is no need to ask for memory.
            self.vacant.reserve_exact(more - self.vacant.len());
        }
        self.leaves.push(leaf);
        (self.leaves.len() - 1) as u32
    }

    /// Puts a new entry into the table, and gives it back when its page has no slot for it.
    pub(super) fn insert(&mut self, place: u32, entry: Slot<O>) -> Result<(), Slot<O>> {
        let Some(leaf) = self.directory.get(self.item(place)) else { return Err(entry) };
        self.leaves[*leaf as usize].page.insert(place, entry)?;
        self.entries += 1;
        Ok(())
    }

    /// Takes the entry of `place` out. Other spots stay as they are until [`Table::tidy`].
    pub(super) fn remove(&mut self, place: u32, spot: Spot) -> Slot<O> {
        let entry = self.leaves[spot.leaf as usize].page.remove(place, spot.seat);
        self.entries -= usize::from(!entry.is_empty());
        entry
    }

    /// Gives back memory around `place` that removals have left empty.
    pub(super) fn tidy(&mut self, place: u32) {
        if self.entries == 0 {
            self.clear();
            return;
        }
        let Some((at, leaf)) = self.leaf(place) else { return };
        let (buckets, entries, depth) = (leaf.page.buckets(), leaf.page.entries(), leaf.depth);
        if depth == 0 {
            if buckets > 1 && entries < Page::<O>::room_of(buckets) / 4 {
                self.rebuild(at, buckets / 2);
            }
            return;
        }
        let most = Page::<O>::room_of(BUCKETS) * 3 / 8;
        if entries >= most {
            return;
        }
        let Some((other, sibling)) = self.leaf(place ^ (1 << (u32::BITS - depth))) else { return };
        if sibling.depth == depth && entries + sibling.page.entries() < most {
            self.merge(place, depth, at, other);
        }
    }

    fn merge(&mut self, place: u32, depth: u32, at: u32, other: u32) {
        let old = self.put_page(other, Page::new(0));
        for entry in old.into_entries() {
            self.reseat(at, entry);
        }
        self.name(place, depth - 1, at);
        self.leaves[at as usize].depth = depth - 1;
        self.vacant.push(other);
        self.deepest -= if depth == self.bits { 2 } else { 0 };
        if self.deepest == 0 {
            self.bits -= 1;
            self.directory = self.directory.iter().step_by(2).copied().collect();
            let in_use = |at: &u32| self.leaves[*at as usize].depth == self.bits;
            // One item each: a leaf of the full depth is named once.
            self.deepest = self.directory.iter().filter(|at| in_use(at)).count();
        }
    }

    /// Shows the entries at `position` with their places and spots, and gives the next position;
    /// `None` at the end.
    pub(super) fn visit<'a>(
        &'a self,
        position: Position,
        mut show: impl FnMut(Spot, u32, Entry<'a, O>),
    ) -> Option<Position> {
        let (at, leaf) = self.leaf(position.place())?;
        for seat in leaf.page.seats(position.home() as usize) {
            let Some(entry) = leaf.page.slot(seat).entry() else { continue };
            let place = self.place_of(&entry);
            if place % BUCKETS as u32 == position.home() {
                show(Spot { leaf: at, seat }, place, entry);
            }
        }
        position.after(leaf.depth)
    }

    #[inline]
    pub(super) fn prefetch(&self, place: u32) {
        if let Some((_, leaf)) = self.leaf(place) {
            leaf.page.prefetch(place);
        }
    }

    #[inline]
    pub(super) fn prefetch_entry(&self, place: u32) {
        if let Some((_, leaf)) = self.leaf(place) {
            leaf.page.prefetch_entry(place);
        }
    }
}
