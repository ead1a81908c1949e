//! Members, each once.

use foldhash::fast::RandomState;
use indexmap::IndexSet;

use super::{PACKED_ELEMENTS, PACKED_LENGTH, page};
use crate::adapter::mutation::parse_integer;

/// The most members of a set of integers that Redis packs.
const PACKED_INTEGERS: usize = 512;
/// What a member takes besides its bytes.
const MEMBER_OVERHEAD: usize = 56;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Set {
    members: IndexSet<Box<[u8]>, RandomState>,
    bytes: usize,
    encoding: Encoding,
}

/// What Redis would make of it; never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Encoding {
    #[default]
    Integers,
    Packed,
    Table,
}

impl Set {
    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether `member` is one.
    pub fn contains(&self, member: &[u8]) -> bool {
        self.members.contains(member)
    }

    /// Adds a member; whether it is new.
    pub fn add(&mut self, member: &[u8]) -> bool {
        if self.contains(member) {
            return false;
        }
        self.members.insert(member.into());
        self.bytes += member.len() + MEMBER_OVERHEAD;
        let is_short = self.len() <= PACKED_ELEMENTS && member.len() <= PACKED_LENGTH;
        self.encoding = match self.encoding {
            Encoding::Integers if parse_integer(member).is_some() => {
                if self.len() <= PACKED_INTEGERS { Encoding::Integers } else { Encoding::Table }
            }
            Encoding::Integers | Encoding::Packed if is_short => Encoding::Packed,
            _ => Encoding::Table,
        };
        true
    }

    /// Takes a member out; whether it was one.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        let removed = if self.encoding == Encoding::Table {
            self.members.swap_remove(member)
        } else {
            self.members.shift_remove(member)
        };
        if removed {
            self.bytes -= member.len() + MEMBER_OVERHEAD;
        }
        removed
    }

    /// All members.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.members.iter().map(|member| &**member)
    }

    /// The member at a place below [`Set::len`], for random picks.
    pub fn at(&self, place: usize) -> Option<&[u8]> {
        self.members.get_index(place).map(|member| &**member)
    }

    /// Shows a page of about `count` members; the cursor of the next.
    pub fn scan(&self, cursor: u64, count: usize, mut show: impl FnMut(&[u8])) -> u64 {
        let count = if self.encoding == Encoding::Table { count } else { usize::MAX };
        let (places, next) = page(self.len(), cursor, count);
        places.filter_map(|place| self.at(place)).for_each(&mut show);
        next
    }

    /// See [`super::Collection::bytes`].
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// See [`super::Collection::encoding`].
    pub fn encoding(&self) -> &'static str {
        match self.encoding {
            Encoding::Integers => "intset",
            Encoding::Packed => "listpack",
            Encoding::Table => "hashtable",
        }
    }
}

impl<'a> FromIterator<&'a [u8]> for Set {
    fn from_iter<I: IntoIterator<Item = &'a [u8]>>(members: I) -> Self {
        let mut set = Self::default();
        for member in members {
            set.add(member);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::Set;

    proptest! {
        #[test]
        fn does_what_a_set_does(steps in vec((any::<bool>(), "[a-c0-3]{0,2}"), 0..80)) {
            let (mut set, mut model) = (Set::default(), HashSet::new());
            for (add, member) in steps {
                let member = member.into_bytes();
                if add {
                    prop_assert_eq!(set.add(&member), model.insert(member));
                } else {
                    prop_assert_eq!(set.remove(&member), model.remove(&member));
                }
                prop_assert_eq!(set.iter().map(<[u8]>::to_vec).collect::<HashSet<_>>(), model.clone());
            }
            model.iter().for_each(|member| { set.remove(member); });
            prop_assert_eq!(set.bytes(), 0);
        }
    }

    #[test]
    fn is_encoded_by_what_is_in_it() {
        let mut set: Set = [b"1".as_slice(), b"-5"].into_iter().collect();
        assert_eq!(set.encoding(), "intset");
        set.add(b"007");
        assert_eq!(set.encoding(), "listpack");
        set.remove(b"007");
        assert_eq!(set.encoding(), "listpack");
        set.add(&[b'x'; 65]);
        assert_eq!(set.encoding(), "hashtable");
        let numbers = |count: u32| {
            let mut set = Set::default();
            (0..count).for_each(|number| {
                set.add(number.to_string().as_bytes());
            });
            set
        };
        assert_eq!((numbers(512).encoding(), numbers(513).encoding()), ("intset", "hashtable"));
    }
}
