//! What a store takes, lends and gives back: bytes, an integer, or an object on the heap.

use crate::adapter::UnixMillis;
use crate::cache::Millis;

/// An object on the heap that a store can hold: a hash, a list.
pub trait Weigh {
    /// Bytes that it takes on the heap, the allocator's rounding included. Quick: asked at every
    /// change. It changes only within [`Store::with_object`](super::Store::with_object).
    fn weight(&self) -> usize;

    /// Whether nothing is left in it, so that its key goes.
    fn is_empty(&self) -> bool;
}

/// For a store that holds strings alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoObject {}

impl Weigh for NoObject {
    fn weight(&self) -> usize {
        match *self {}
    }

    fn is_empty(&self) -> bool {
        match *self {}
    }
}

/// What is put into a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload<'a, O> {
    /// A string. One that is the canonical text of an integer is kept as that integer.
    Bytes(&'a [u8]),
    /// A string that is the canonical text of this integer.
    Integer(i64),
    /// An object.
    Object(O),
}

impl<O> Payload<'_, O> {
    /// With a string that is an integer's text as that integer.
    pub(super) fn canonical(self) -> Self {
        match self {
            Self::Bytes(text) => match canonical_integer(text) {
                Some(integer) => Self::Integer(integer),
                None => self,
            },
            other => other,
        }
    }
}

/// What is lent by a store. A string that is the canonical text of an integer comes as that integer.
#[derive(Debug, PartialEq, Eq)]
pub enum View<'a, O> {
    /// A string.
    Bytes(&'a [u8]),
    /// A string that is the canonical text of this integer.
    Integer(i64),
    /// An object.
    Object(&'a O),
}

/// A string as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text<'a> {
    /// Its bytes.
    Bytes(&'a [u8]),
    /// The integer of which it is the canonical text.
    Integer(i64),
}

impl<'a, O> View<'a, O> {
    /// The string, if it is one.
    #[inline]
    pub fn text(self) -> Option<Text<'a>> {
        match self {
            Self::Bytes(text) => Some(Text::Bytes(text)),
            Self::Integer(integer) => Some(Text::Integer(integer)),
            Self::Object(_) => None,
        }
    }
}

impl<O> Clone for View<'_, O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<O> Copy for View<'_, O> {}

/// What was taken out of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owned<O> {
    /// A string.
    Bytes(Box<[u8]>),
    /// A string that is the canonical text of this integer.
    Integer(i64),
    /// An object.
    Object(O),
}

impl<O> Owned<O> {
    /// Lends it as what a store takes.
    pub fn with_payload<R>(self, put: impl FnOnce(Payload<'_, O>) -> R) -> R {
        match self {
            Self::Bytes(text) => put(Payload::Bytes(&text)),
            Self::Integer(integer) => put(Payload::Integer(integer)),
            Self::Object(object) => put(Payload::Object(object)),
        }
    }
}

/// What is kept beside a payload. What is left at its default takes no memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// When the entry ends; `None` is never.
    pub expires_at: Option<UnixMillis>,
    /// Where it comes from; a primary data set has no use for it.
    pub origin: Option<Origin>,
}

impl Meta {
    /// Whether the entry has ended at `now`.
    pub fn is_expired(&self, now: UnixMillis) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// What a copy remembers of the storage that it was read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The storage's version of the value.
    pub version: u64,
    /// When the storage was asked for it.
    pub filled_at: Millis,
}

/// An entry, lent by a store.
#[derive(Debug, PartialEq, Eq)]
pub struct Found<'a, O> {
    /// What is under the key.
    pub payload: View<'a, O>,
    /// What is kept beside it.
    pub meta: Meta,
}

impl<O> Clone for Found<'_, O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<O> Copy for Found<'_, O> {}

/// The longest text of an `i64`, sign included.
const LONGEST: usize = 20;

/// The integer of which `text` is the one canonical form: what printing it gives again.
pub fn canonical_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let is_canonical = match digits {
        [b'0'] => !negative,
        [b'1'..=b'9', ..] => text.len() <= LONGEST,
        _ => false,
    };
    if !is_canonical {
        return None;
    }
    digits.iter().try_fold(0i64, |sum, digit| {
        let digit = i64::from(digit.checked_sub(b'0').filter(|digit| *digit <= 9)?);
        let sum = sum.checked_mul(10)?;
        if negative { sum.checked_sub(digit) } else { sum.checked_add(digit) }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_prints_the_same_is_an_integer() {
        for text in ["", "-", "-0", "00", "01", "+1", " 1", "1 ", "1a", "9223372036854775808"] {
            assert_eq!(canonical_integer(text.as_bytes()), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_integer_is_read_from_its_text(integer: i64) {
            prop_assert_eq!(canonical_integer(integer.to_string().as_bytes()), Some(integer));
        }

        #[test]
        fn an_integer_prints_what_it_was_read_from(text in "-?[0-9]{0,21}") {
            if let Some(integer) = canonical_integer(text.as_bytes()) {
                prop_assert_eq!(integer.to_string(), text);
            }
        }
    }
}
