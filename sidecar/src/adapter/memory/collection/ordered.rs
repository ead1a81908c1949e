//! Items in their order that are also counted: which place an item has, and which item a place.
//!
//! The items lie in pieces of bounded length, and a tree of sums (a Fenwick tree) over the lengths
//! of the pieces tells the place at which each begins. To look up takes the logarithm of the length;
//! to put in or take out moves a piece's items, and only when a piece is split or gone is the tree
//! made anew, which comes so seldom that its cost is spread thin.

use std::ops::Range;

/// A piece longer than this is split in two.
const LONGEST: usize = 256;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Ordered<T> {
    /// None is empty.
    pieces: Vec<Vec<T>>,
    sums: Sums,
}

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Self { pieces: Vec::new(), sums: Sums::default() }
    }
}

impl<T: Ord> Ordered<T> {
    /// How many items there are.
    pub(super) fn len(&self) -> usize {
        self.sums.total
    }

    /// Puts in an item, which isn't there yet.
    pub(super) fn insert(&mut self, item: T) {
        // Behind the first item of the piece; what is before all others goes to the first piece.
        let at = self.pieces.partition_point(|piece| piece[0] < item).saturating_sub(1);
        let Some(piece) = self.pieces.get_mut(at) else {
            self.pieces.push(vec![item]);
            self.sums = Sums::of(&self.pieces);
            return;
        };
        let place = piece.partition_point(|other| *other < item);
        piece.insert(place, item);
        if piece.len() > LONGEST {
            let tail = piece.split_off(LONGEST / 2);
            self.pieces.insert(at + 1, tail);
            self.sums = Sums::of(&self.pieces);
        } else {
            self.sums.add(at);
        }
    }

    /// Takes out an item; whether it was there.
    pub(super) fn remove(&mut self, item: &T) -> bool {
        let at = self.pieces.partition_point(|piece| piece[0] <= *item).saturating_sub(1);
        let Some(piece) = self.pieces.get_mut(at) else {
            return false;
        };
        let Ok(place) = piece.binary_search(item) else {
            return false;
        };
        piece.remove(place);
        if piece.is_empty() {
            self.pieces.remove(at);
            self.sums = Sums::of(&self.pieces);
        } else {
            self.sums.subtract(at);
        }
        true
    }

    /// How many items are `before` something: the place of the first that isn't. *All that are
    /// before come first.*
    pub(super) fn count(&self, before: impl Fn(&T) -> bool) -> usize {
        let at = self.pieces.partition_point(|piece| before(&piece[0])).saturating_sub(1);
        let within = self.pieces.get(at).map_or(0, |piece| piece.partition_point(&before));
        self.sums.before(at) + within
    }

    /// The item at a place.
    pub(super) fn get(&self, place: usize) -> Option<&T> {
        let (at, within) = self.sums.find(place)?;
        self.pieces.get(at)?.get(within)
    }

    /// The items at `places`.
    pub(super) fn range(&self, places: Range<usize>) -> impl DoubleEndedIterator<Item = &T> {
        let places = places.start..places.end.min(self.len());
        let ends = (!places.is_empty())
            .then(|| Some((self.sums.find(places.start)?, self.sums.find(places.end - 1)?)))
            .flatten();
        let ends = ends.map(|((first, from), (last, to))| {
            let pieces = self.pieces[first..=last].iter().enumerate();
            pieces.flat_map(move |(at, piece)| {
                let start = if at == 0 { from } else { 0 };
                let end = if first + at == last { to + 1 } else { piece.len() };
                &piece[start..end]
            })
        });
        ends.into_iter().flatten()
    }
}

/// Lengths and the sums of those before each.
#[derive(Clone, Debug, Default)]
struct Sums {
    /// `tree[i]` is the sum of the lengths that end with the `i`th (counted from 1), as many as the
    /// lowest bit of `i` says; `tree[0]` is unused.
    tree: Vec<usize>,
    total: usize,
}

impl Sums {
    fn of<T>(pieces: &[Vec<T>]) -> Self {
        let mut tree: Vec<usize> = std::iter::once(0).chain(pieces.iter().map(Vec::len)).collect();
        let total = tree.iter().sum();
        for at in 1..tree.len() {
            let above = at + lowest_bit(at);
            if above < tree.len() {
                tree[above] += tree[at];
            }
        }
        Self { tree, total }
    }

    fn add(&mut self, at: usize) {
        self.total += 1;
        self.change(at, |sum| sum + 1);
    }

    fn subtract(&mut self, at: usize) {
        self.total -= 1;
        self.change(at, |sum| sum - 1);
    }

    fn change(&mut self, at: usize, change: impl Fn(usize) -> usize) {
        let mut at = at + 1;
        while at < self.tree.len() {
            self.tree[at] = change(self.tree[at]);
            at += lowest_bit(at);
        }
    }

    /// The sum of the lengths before the `at`th.
    fn before(&self, mut at: usize) -> usize {
        let mut sum = 0;
        while at > 0 {
            sum += self.tree.get(at).copied().unwrap_or_default();
            at -= lowest_bit(at);
        }
        sum
    }

    /// In which length `place` lies, and where within.
    fn find(&self, place: usize) -> Option<(usize, usize)> {
        if place >= self.total {
            return None;
        }
        let (mut at, mut rest) = (0, place);
        let mut step = self.tree.len().next_power_of_two();
        while step > 0 {
            if let Some(sum) = self.tree.get(at + step).filter(|sum| **sum <= rest) {
                at += step;
                rest -= sum;
            }
            step /= 2;
        }
        Some((at, rest))
    }
}

fn lowest_bit(number: usize) -> usize {
    number & number.wrapping_neg()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::Ordered;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn does_what_a_counted_set_does(
            steps in vec((any::<bool>(), 0..2_000_u32), 0..3_000),
            places in vec((0..3_000_usize, 0..3_000_usize), 0..20),
        ) {
            let (mut ordered, mut model) = (Ordered::default(), BTreeSet::new());
            for (put, item) in steps {
                // Mostly growing, so that pieces are split.
                if put || item % 3 > 0 {
                    if model.insert(item) {
                        ordered.insert(item);
                    }
                } else {
                    prop_assert_eq!(ordered.remove(&item), model.remove(&item));
                }
                prop_assert_eq!(ordered.len(), model.len());
            }
            let model: Vec<u32> = model.into_iter().collect();
            for (start, end) in places {
                prop_assert_eq!(ordered.get(start), model.get(start));
                let cut = start.min(end).min(model.len())..end.min(model.len());
                let range: Vec<u32> = ordered.range(start.min(end)..end).copied().collect();
                prop_assert_eq!(&range[..], &model[cut]);
                let mut backward: Vec<u32> =
                    ordered.range(start.min(end)..end).rev().copied().collect();
                backward.reverse();
                prop_assert_eq!(backward, range);
                let bound = u32::try_from(end).unwrap();
                let before = model.iter().filter(|item| **item < bound).count();
                prop_assert_eq!(ordered.count(|item| *item < bound), before);
            }
            for item in &model {
                prop_assert!(ordered.remove(item));
            }
            prop_assert!(ordered.len() == 0 && ordered.pieces.is_empty());
        }
    }
}
