//! The types of Redis that hold more than one string: what each holds and what is done to it.
//!
//! Pure data: no keys, no time, no expiry, no protocol. A collection knows how many bytes it takes
//! and under which name Redis would encode one of its size, which clients ask with OBJECT ENCODING.

use std::ops::Range;

use foldhash::fast::RandomState;
use indexmap::IndexMap;

use crate::cache::store::Weigh;

mod hash;
mod list;
mod ordered;
mod set;
mod sorted_set;

pub use hash::Hash;
pub use list::{List, Side};
pub use set::Set;
pub use sorted_set::{Score, SortedSet};

/// A map that is also a list: its entries can be counted through, which random picks and scans
/// need.
type Table<K, V> = IndexMap<K, V, RandomState>;

/// The longest element of a collection that Redis packs into one piece of memory.
const PACKED_LENGTH: usize = 64;
/// The most elements of a set or a sorted set that Redis packs.
const PACKED_ELEMENTS: usize = 128;

/// What a key holds, besides a string.
#[derive(Clone, Debug)]
pub enum Collection {
    /// Fields with values.
    Hash(Hash),
    /// Members, each once.
    Set(Set),
    /// Members with scores.
    SortedSet(SortedSet),
    /// Elements in a row.
    List(List),
}

/// The type of what a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    String,
    /// See [`Collection`].
    Hash,
    /// See [`Collection`].
    Set,
    /// See [`Collection`].
    SortedSet,
    /// See [`Collection`].
    List,
}

impl Kind {
    /// As TYPE answers it.
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Hash => "hash",
            Self::Set => "set",
            Self::SortedSet => "zset",
            Self::List => "list",
        }
    }
}

/// One type of collection.
pub trait Typed: Default {
    /// What `collection` holds, if it is of this type.
    fn of(collection: &Collection) -> Option<&Self>;
    /// The same, to be changed.
    fn of_mut(collection: &mut Collection) -> Option<&mut Self>;
    /// As a collection of any type.
    fn into_collection(self) -> Collection;
    /// Whether there is nothing in it.
    fn is_empty(&self) -> bool;
}

macro_rules! typed {
    ($($type:ident),*) => {$(
        impl Typed for $type {
            fn of(collection: &Collection) -> Option<&Self> {
                match collection {
                    Collection::$type(it) => Some(it),
                    _ => None,
                }
            }
            fn of_mut(collection: &mut Collection) -> Option<&mut Self> {
                match collection {
                    Collection::$type(it) => Some(it),
                    _ => None,
                }
            }
            fn into_collection(self) -> Collection {
                Collection::$type(self)
            }
            fn is_empty(&self) -> bool {
                Self::is_empty(self)
            }
        }

        impl From<$type> for Collection {
            fn from(it: $type) -> Self {
                Self::$type(it)
            }
        }
    )*};
}
typed!(Hash, Set, SortedSet, List);

impl Collection {
    /// Its type.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Hash(_) => Kind::Hash,
            Self::Set(_) => Kind::Set,
            Self::SortedSet(_) => Kind::SortedSet,
            Self::List(_) => Kind::List,
        }
    }

    /// How many elements it has.
    pub fn len(&self) -> usize {
        match self {
            Self::Hash(hash) => hash.len(),
            Self::Set(set) => set.len(),
            Self::SortedSet(set) => set.len(),
            Self::List(list) => list.len(),
        }
    }

    /// Whether there is nothing in it, and its key is to go.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// About how many bytes it takes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Hash(hash) => hash.bytes(),
                Self::Set(set) => set.bytes(),
                Self::SortedSet(set) => set.bytes(),
                Self::List(list) => list.bytes(),
            }
    }

    /// The name of Redis' encoding of such a collection.
    pub fn encoding(&self) -> &'static str {
        match self {
            Self::Hash(hash) => hash.encoding(),
            Self::Set(set) => set.encoding(),
            Self::SortedSet(set) => set.encoding(),
            Self::List(list) => list.encoding(),
        }
    }
}

impl Weigh for Collection {
    fn weight(&self) -> usize {
        self.bytes()
    }

    fn is_empty(&self) -> bool {
        Self::is_empty(self)
    }
}

/// The entries of a table of `length` that a page of about `count` shows which starts at `cursor`
/// (0 is the start of a scan), and the cursor of the next page (0 is the end).
///
/// A scan goes from the last entry to the first. *Taking an entry out moves the last one into its
/// place, and a new one is put at the end: so what was not yet seen stays in front of the cursor,
/// and an entry that is there from the first page to the last is seen.*
fn page(length: usize, cursor: u64, count: usize) -> (Range<usize>, u64) {
    let end = match usize::try_from(cursor) {
        Ok(0) | Err(_) => length,
        Ok(cursor) => cursor.min(length),
    };
    let start = end.saturating_sub(count.max(1));
    (start..end, start as u64)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::Set;

    proptest! {
        #[test]
        fn a_scan_sees_all_that_stays(
            size in 1..200_u32,
            count in 1..20_usize,
            between in vec((any::<bool>(), 0..400_u32), 0..100),
        ) {
            let name = |number: u32| format!("m{number}").into_bytes();
            let mut set = Set::default();
            (0..size).for_each(|number| { set.add(&name(number)); });
            let mut staying: HashSet<Vec<u8>> = (0..size).map(name).collect();
            let (mut cursor, mut between) = (0, between.into_iter());
            let mut seen = HashSet::new();
            loop {
                cursor = set.scan(cursor, count, |member| { seen.insert(member.to_vec()); });
                if cursor == 0 {
                    break;
                }
                for (add, number) in between.by_ref().take(3) {
                    if add {
                        set.add(&name(number));
                    } else {
                        set.remove(&name(number));
                        staying.remove(&name(number));
                    }
                }
            }
            prop_assert!(staying.is_subset(&seen));
        }
    }
}
