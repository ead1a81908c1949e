//! Elements in a row, reached by their place and cheap to add or take at both ends.

use std::collections::VecDeque;
use std::ops::Range;

/// What an element takes besides its bytes.
const ELEMENT_OVERHEAD: usize = 32;
/// The most bytes of a list that Redis packs into one piece.
const PACKED_BYTES: usize = 8 * 1024;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct List {
    elements: VecDeque<Box<[u8]>>,
    /// Those of the elements alone.
    payload: usize,
    /// Has been longer than what Redis packs.
    grown: bool,
}

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The head.
    Left,
    /// The tail.
    Right,
}

impl List {
    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// The element at `place`; negative counts from the end.
    pub fn get(&self, place: i64) -> Option<&[u8]> {
        self.place(place).and_then(|place| self.elements.get(place)).map(|element| &**element)
    }

    /// Adds an element at an end.
    pub fn push(&mut self, side: Side, element: &[u8]) {
        self.grow(element);
        match side {
            Side::Left => self.elements.push_front(element.into()),
            Side::Right => self.elements.push_back(element.into()),
        }
    }

    /// Takes the element at an end.
    pub fn pop(&mut self, side: Side) -> Option<Box<[u8]>> {
        let element = match side {
            Side::Left => self.elements.pop_front(),
            Side::Right => self.elements.pop_back(),
        };
        self.shrink(element.as_deref().map_or(0, <[u8]>::len));
        element
    }

    /// Exchanges the element at `place`; whether there is one.
    pub fn set(&mut self, place: i64, element: &[u8]) -> bool {
        let Some(old) = self.place(place).and_then(|place| self.elements.get_mut(place)) else {
            return false;
        };
        let length = std::mem::replace(old, element.into()).len();
        self.grow(element);
        self.shrink(length);
        true
    }

    /// Puts an element before or behind the first that equals `pivot`; whether there is one.
    pub fn insert(&mut self, pivot: &[u8], behind: bool, element: &[u8]) -> bool {
        let Some(place) = self.elements.iter().position(|other| &**other == pivot) else {
            return false;
        };
        self.grow(element);
        self.elements.insert(place + usize::from(behind), element.into());
        true
    }

    /// Takes out up to `most` elements that equal `element`, from the head on, or from the tail;
    /// how many.
    pub fn remove(&mut self, element: &[u8], from: Side, most: usize) -> usize {
        let mut places: Vec<usize> = self.positions(element, from).take(most).collect();
        places.sort_unstable();
        let (mut gone, mut place) = (places.iter().peekable(), 0);
        self.elements.retain(|_| {
            let keep = gone.next_if_eq(&&place).is_none();
            place += 1;
            keep
        });
        self.shrink(places.len() * element.len());
        places.len()
    }

    /// The places of the elements that equal `element`, from the head on, or from the tail.
    pub fn positions<'a>(
        &'a self,
        element: &'a [u8],
        from: Side,
    ) -> Box<dyn Iterator<Item = usize> + 'a> {
        let places = self.elements.iter().enumerate();
        match from {
            Side::Left => Box::new(
                places.filter(move |(_, other)| &***other == element).map(|(place, _)| place),
            ),
            Side::Right => Box::new(
                places.rev().filter(move |(_, other)| &***other == element).map(|(place, _)| place),
            ),
        }
    }

    /// Leaves what lies in `places` alone.
    pub fn trim(&mut self, places: Range<usize>) {
        self.elements.truncate(places.end);
        self.elements.drain(..places.start.min(self.elements.len()));
        self.payload = self.elements.iter().map(|element| element.len()).sum();
    }

    /// The elements in `places`.
    pub fn range(&self, places: Range<usize>) -> impl ExactSizeIterator<Item = &[u8]> {
        self.elements.range(places).map(|element| &**element)
    }

    /// All elements.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.range(0..self.len())
    }

    /// See [`super::Collection::bytes`].
    pub fn bytes(&self) -> usize {
        self.payload + self.len() * ELEMENT_OVERHEAD
    }

    /// See [`super::Collection::encoding`].
    pub fn encoding(&self) -> &'static str {
        if self.grown { "quicklist" } else { "listpack" }
    }

    fn place(&self, place: i64) -> Option<usize> {
        let place = if place < 0 { place.checked_add_unsigned(self.len() as u64)? } else { place };
        usize::try_from(place).ok()
    }

    fn grow(&mut self, element: &[u8]) {
        self.payload += element.len();
        self.grown |= self.payload + 2 * (self.len() + 1) > PACKED_BYTES;
    }

    fn shrink(&mut self, bytes: usize) {
        self.payload -= bytes;
        // Redis packs it again when it is half of that.
        self.grown &= self.payload + 2 * self.len() > PACKED_BYTES / 2;
    }
}

impl<'a> FromIterator<&'a [u8]> for List {
    fn from_iter<I: IntoIterator<Item = &'a [u8]>>(elements: I) -> Self {
        let mut list = Self::default();
        for element in elements {
            list.push(Side::Right, element);
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::{List, Side};

    fn list(elements: &[&str]) -> List {
        elements.iter().map(|element| element.as_bytes()).collect()
    }

    fn shown(list: &List) -> Vec<&str> {
        list.iter().map(|element| std::str::from_utf8(element).unwrap()).collect()
    }

    #[test]
    fn elements_are_removed_from_either_end() {
        let mut it = list(&["a", "b", "a", "b", "a"]);
        assert_eq!(it.remove(b"a", Side::Right, 2), 2);
        assert_eq!(shown(&it), ["a", "b", "b"]);
        assert_eq!(it.remove(b"b", Side::Left, 1), 1);
        assert_eq!(shown(&it), ["a", "b"]);
        assert_eq!(it.remove(b"x", Side::Left, 9), 0);
    }

    #[test]
    fn places_count_from_both_ends() {
        let mut it = list(&["a", "b", "c"]);
        assert_eq!(it.get(-1), Some(b"c".as_slice()));
        assert_eq!((it.get(-4), it.get(3), it.get(i64::MIN)), (None, None, None));
        assert!(it.set(-3, b"x") && !it.set(3, b"y"));
        assert!(it.insert(b"b", true, b"z") && !it.insert(b"q", false, b"z"));
        assert_eq!(shown(&it), ["x", "b", "z", "c"]);
        it.trim(1..3);
        assert_eq!(shown(&it), ["b", "z"]);
    }

    proptest! {
        #[test]
        fn counts_its_bytes(steps in vec((0..8, "[ab]{0,3}"), 0..60)) {
            let mut it = List::default();
            for (step, element) in steps {
                let element = element.as_bytes();
                match step {
                    0 => drop(it.pop(Side::Left)),
                    1 => drop(it.remove(element, Side::Left, 2)),
                    2 => drop(it.set(0, element)),
                    3 => drop(it.insert(b"a", false, element)),
                    4 => it.trim(1..it.len().max(1)),
                    _ => it.push(Side::Right, element),
                }
                let fresh: List = it.iter().collect();
                prop_assert_eq!(it.bytes(), fresh.bytes());
            }
        }
    }
}
