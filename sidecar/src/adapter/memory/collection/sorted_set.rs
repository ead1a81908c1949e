//! Members with scores, in the order of the scores and, where these are equal, of the bytes.

use std::cmp::Ordering;
use std::ops::{Bound, Range};
use std::sync::Arc;

use super::ordered::Ordered;
use super::{PACKED_ELEMENTS, PACKED_LENGTH, Table, page};

/// What a member takes besides its bytes: its places in the table and in the order.
const MEMBER_OVERHEAD: usize = 104;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct SortedSet {
    scores: Table<Arc<[u8]>, Score>,
    /// *Holds the same members with the same scores.*
    order: Ordered<(Score, Arc<[u8]>)>,
    bytes: usize,
    grown: bool,
}

/// A number that has a place in an order: any but NaN.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score(f64);

impl Score {
    /// Nothing for NaN. There is one zero.
    pub fn new(number: f64) -> Option<Self> {
        (!number.is_nan()).then_some(Self(number + 0.0))
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        // There is no NaN.
        self.0.partial_cmp(&other.0).unwrap_or(Ordering::Equal)
    }
}

impl SortedSet {
    /// How many members there are.
    pub fn len(&self) -> usize {
        self.scores.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.scores.is_empty()
    }

    /// The score of `member`.
    pub fn score(&self, member: &[u8]) -> Option<Score> {
        self.scores.get(member).copied()
    }

    /// Gives `member` a score; the one that it had.
    pub fn insert(&mut self, member: &[u8], score: Score) -> Option<Score> {
        if let Some((_, member, held)) = self.scores.get_full_mut(member) {
            let old = std::mem::replace(held, score);
            if old != score {
                let member = Arc::clone(member);
                let mut item = (old, member);
                self.order.remove(&item);
                item.0 = score;
                self.order.insert(item);
            }
            return Some(old);
        }
        let shared: Arc<[u8]> = member.into();
        self.order.insert((score, Arc::clone(&shared)));
        self.scores.insert(shared, score);
        self.bytes += member.len() + MEMBER_OVERHEAD;
        self.grown |= member.len() > PACKED_LENGTH || self.len() > PACKED_ELEMENTS;
        None
    }

    /// Takes a member out; its score.
    pub fn remove(&mut self, member: &[u8]) -> Option<Score> {
        let (member, score) = self.scores.swap_remove_entry(member)?;
        self.bytes -= member.len() + MEMBER_OVERHEAD;
        self.order.remove(&(score, member));
        Some(score)
    }

    /// How many members come before `member`.
    pub fn rank(&self, member: &[u8]) -> Option<usize> {
        let score = self.score(member)?;
        Some(self.order.count(|(other, name)| (*other, &**name) < (score, member)))
    }

    /// The members at `ranks`.
    pub fn range(&self, ranks: Range<usize>) -> impl DoubleEndedIterator<Item = (&[u8], Score)> {
        self.order.range(ranks).map(|(score, member)| (&**member, *score))
    }

    /// All members, in their order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], Score)> {
        self.range(0..self.len())
    }

    /// The member at a rank.
    pub fn at(&self, rank: usize) -> Option<(&[u8], Score)> {
        self.order.get(rank).map(|(score, member)| (&**member, *score))
    }

    /// The ranks of the members whose scores lie between two ends.
    pub fn ranks_by_score(&self, from: Bound<Score>, to: Bound<Score>) -> Range<usize> {
        self.ranks(&from, &to, |(score, _), end| score.cmp(end))
    }

    /// The ranks of the members that lie between two ends by their bytes alone. *They are all of
    /// one score; else it is left open which they are, as in Redis.*
    pub fn ranks_by_name(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Range<usize> {
        self.ranks(&from, &to, |(_, member), end| (**member).cmp(end))
    }

    /// `compare` compares an item with an end.
    fn ranks<K>(
        &self,
        from: &Bound<K>,
        to: &Bound<K>,
        compare: impl Fn(&(Score, Arc<[u8]>), &K) -> Ordering,
    ) -> Range<usize> {
        let start = self.order.count(|item| match from {
            Bound::Included(end) => compare(item, end).is_lt(),
            Bound::Excluded(end) => compare(item, end).is_le(),
            Bound::Unbounded => false,
        });
        let end = self.order.count(|item| match to {
            Bound::Included(end) => compare(item, end).is_le(),
            Bound::Excluded(end) => compare(item, end).is_lt(),
            Bound::Unbounded => true,
        });
        start..end.max(start)
    }

    /// Shows a page of about `count` members; the cursor of the next.
    pub fn scan(&self, cursor: u64, count: usize, mut show: impl FnMut(&[u8], Score)) -> u64 {
        let count = if self.grown { count } else { usize::MAX };
        let (places, next) = page(self.len(), cursor, count);
        for (member, score) in places.filter_map(|place| self.scores.get_index(place)) {
            show(member, *score);
        }
        next
    }

    /// See [`super::Collection::bytes`].
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// See [`super::Collection::encoding`].
    pub fn encoding(&self) -> &'static str {
        if self.grown { "skiplist" } else { "listpack" }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn score(number: i32) -> Score {
        Score::new(f64::from(number)).unwrap()
    }

    #[test]
    fn members_of_one_score_are_in_the_order_of_their_bytes() {
        let mut set = SortedSet::default();
        for (member, number) in [("b", 1), ("a", 1), ("c", 0), ("A", 1)] {
            set.insert(member.as_bytes(), score(number));
        }
        let order: Vec<_> = set.iter().map(|(member, _)| member.to_vec()).collect();
        assert_eq!(order, [b"c", b"A", b"a", b"b"]);
        assert_eq!(set.rank(b"a"), Some(2));
        assert_eq!(set.ranks_by_score(Bound::Excluded(score(0)), Bound::Unbounded), 1..4);
        assert_eq!(set.ranks_by_score(Bound::Included(score(2)), Bound::Included(score(0))), 4..4);
    }

    #[test]
    fn there_is_one_zero_and_nan_is_no_score() {
        let mut set = SortedSet::default();
        set.insert(b"b", Score::new(-0.0).unwrap());
        set.insert(b"a", Score::new(0.0).unwrap());
        assert_eq!((set.rank(b"a"), set.rank(b"b")), (Some(0), Some(1)));
        assert_eq!(set.remove(b"b"), Score::new(0.0));
        assert!(Score::new(-0.0).unwrap().get().is_sign_positive());
        assert_eq!(Score::new(f64::NAN), None);
    }

    proptest! {
        #[test]
        fn does_what_a_sorted_list_does(
            steps in vec((0..4, "[a-f]{1,2}", -3..3_i32), 0..120),
            from in -4..4_i32,
            to in -4..4_i32,
        ) {
            let (mut set, mut model) = (SortedSet::default(), BTreeMap::new());
            for (step, member, number) in steps {
                let member = member.into_bytes();
                if step == 0 {
                    prop_assert_eq!(set.remove(&member), model.remove(&member).map(score));
                } else {
                    let old = model.insert(member.clone(), number).map(score);
                    prop_assert_eq!(set.insert(&member, score(number)), old);
                }
            }
            let mut sorted: Vec<(i32, Vec<u8>)> =
                model.iter().map(|(member, number)| (*number, member.clone())).collect();
            sorted.sort();
            for (rank, (number, member)) in sorted.iter().enumerate() {
                prop_assert_eq!(set.rank(member), Some(rank));
                prop_assert_eq!(set.at(rank), Some((&member[..], score(*number))));
            }
            let ranks =
                set.ranks_by_score(Bound::Included(score(from)), Bound::Excluded(score(to)));
            let inside: Vec<_> =
                sorted.iter().filter(|(number, _)| (from..to).contains(number)).collect();
            prop_assert_eq!(set.range(ranks).count(), inside.len());
            model.keys().for_each(|member| { set.remove(member); });
            prop_assert_eq!((set.bytes(), set.order.len()), (0, 0));
        }
    }
}
