//! The ends of a range as clients write them: `(1.5`, `+inf`, `[a`, `-`.

use std::ops::{Bound, Range};

use crate::adapter::memory::collection::{Score, SortedSet};
use crate::resp::command::arguments::{integer, places};
use crate::resp::number::parse_f64_as_c;
use crate::resp::reply::Reply;

/// A part of a sorted set.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    /// From one place to another, both included; negative counts from the end.
    Places(i64, i64),
    /// By scores.
    Scores(Bound<Score>, Bound<Score>),
    /// By the members' bytes.
    Names(Bound<Vec<u8>>, Bound<Vec<u8>>),
    /// Nothing: it begins behind all others, or ends before.
    Nothing,
}

impl Part {
    pub(super) fn by_place(start: &[u8], end: &[u8]) -> Result<Self, Reply> {
        Ok(Self::Places(integer(start)?, integer(end)?))
    }

    pub(super) fn by_score(min: &[u8], max: &[u8]) -> Result<Self, Reply> {
        let ends = (score(min), score(max));
        let (Some(min), Some(max)) = ends else {
            return Err(Reply::err("min or max is not a float"));
        };
        Ok(Self::Scores(min, max))
    }

    pub(super) fn by_name(min: &[u8], max: &[u8]) -> Result<Self, Reply> {
        let (Some(min), Some(max)) = (Name::parse(min), Name::parse(max)) else {
            return Err(Reply::err("min or max not valid string range item"));
        };
        Ok(match (min, max) {
            (Name::Greatest, _) | (_, Name::Least) => Self::Nothing,
            (min, max) => Self::Names(min.bound(), max.bound()),
        })
    }

    /// The ranks of its members, counted from the last with `backward`.
    pub(super) fn ranks(&self, set: &SortedSet, backward: bool) -> Range<usize> {
        fn by_bytes(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
            bound.as_ref().map(Vec::as_slice)
        }
        match self {
            Self::Places(start, end) => {
                let places = places(*start, *end, set.len());
                if backward { set.len() - places.end..set.len() - places.start } else { places }
            }
            Self::Scores(min, max) => set.ranks_by_score(*min, *max),
            Self::Names(min, max) => set.ranks_by_name(by_bytes(min), by_bytes(max)),
            Self::Nothing => 0..0,
        }
    }
}

fn score(text: &[u8]) -> Option<Bound<Score>> {
    let score = |text: &[u8]| parse_f64_as_c(text).and_then(Score::new);
    match text {
        [b'(', text @ ..] => score(text).map(Bound::Excluded),
        text => score(text).map(Bound::Included),
    }
}

/// An end by bytes.
enum Name<'a> {
    Least,
    Greatest,
    At(Bound<&'a [u8]>),
}

impl<'a> Name<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        Some(match text {
            b"-" => Self::Least,
            b"+" => Self::Greatest,
            [b'(', name @ ..] => Self::At(Bound::Excluded(name)),
            [b'[', name @ ..] => Self::At(Bound::Included(name)),
            _ => return None,
        })
    }

    fn bound(self) -> Bound<Vec<u8>> {
        match self {
            Self::Least | Self::Greatest => Bound::Unbounded,
            Self::At(bound) => bound.map(<[u8]>::to_vec),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_included_unless_they_say_otherwise() {
        let score = |number| Score::new(number).unwrap();
        assert_eq!(
            Part::by_score(b"(1.5", b"+inf").unwrap(),
            Part::Scores(Bound::Excluded(score(1.5)), Bound::Included(score(f64::INFINITY)))
        );
        assert_eq!(
            Part::by_name(b"-", b"(x").unwrap(),
            Part::Names(Bound::Unbounded, Bound::Excluded(b"x".to_vec()))
        );
        assert_eq!(Part::by_name(b"+", b"[x").unwrap(), Part::Nothing);
        for (min, max) in [("x", "1"), ("1", "nan"), ("(x", "1"), ("[1", "2")] {
            assert!(Part::by_score(min.as_bytes(), max.as_bytes()).is_err(), "{min} {max}");
        }
        assert!(Part::by_name(b"a", b"[b").is_err());
        assert!(Part::by_name(b"", b"+").is_err());
    }

    #[test]
    fn places_are_counted_from_the_last_backward() {
        let mut set = SortedSet::default();
        for member in [b"a", b"b", b"c"] {
            set.insert(member, Score::default());
        }
        assert_eq!(Part::Places(0, 0).ranks(&set, false), 0..1);
        assert_eq!(Part::Places(0, 0).ranks(&set, true), 2..3);
        assert_eq!(Part::Places(-1, -1).ranks(&set, true), 0..1);
    }
}
