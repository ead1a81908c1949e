//! What the cache keeps under a key where a string alone doesn't say it: that there is no such key, or
//! a string of a class whose hits are noted or whose readings are compared.
//!
//! It is an object on the heap of the [`store`](super::store), so that plain strings, which most
//! copies are, cost and do nothing for it.

use std::cell::Cell;

use super::Millis;
use super::store::{Weigh, allocated};

/// See the module.
#[derive(Debug, PartialEq, Eq)]
pub struct Annotated {
    text: Option<Box<[u8]>>,
    used_at: Cell<Option<Millis>>,
    steady: u8,
}

impl Annotated {
    /// That there is no such key.
    pub(super) const fn absent() -> Self {
        Self { text: None, used_at: Cell::new(None), steady: 0 }
    }

    /// A string, filled at `used_at` if its hits are noted, that so many readings in a row have found.
    pub(super) fn text_of(text: &[u8], used_at: Option<Millis>, steady: u8) -> Self {
        Self { text: Some(text.into()), used_at: Cell::new(used_at), steady }
    }

    /// How many readings in a row have found the same, besides the first.
    pub fn steady(&self) -> u8 {
        self.steady
    }

    /// The string; `None` says that there is no such key.
    pub fn text(&self) -> Option<&[u8]> {
        self.text.as_deref()
    }

    /// When it was filled or hit last, if that is noted.
    pub fn used_at(&self) -> Option<Millis> {
        self.used_at.get()
    }

    /// Notes a hit, if hits are noted. The shard's lock is held wherever an entry is lent.
    pub fn note_use(&self, at: Millis) {
        if let Some(before) = self.used_at.get() {
            self.used_at.set(Some(before.max(at)));
        }
    }
}

impl Weigh for Annotated {
    fn weight(&self) -> usize {
        self.text.as_ref().map_or(0, |text| allocated(text.len()))
    }

    /// That there is no such key is something, too.
    fn is_empty(&self) -> bool {
        false
    }
}
