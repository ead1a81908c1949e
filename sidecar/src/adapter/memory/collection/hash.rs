//! Fields with values.

use super::{PACKED_LENGTH, Table, page};

/// The most fields that Redis packs.
const PACKED_FIELDS: usize = 512;
/// What a field takes besides its bytes and those of its value.
const FIELD_OVERHEAD: usize = 80;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Hash {
    fields: Table<Box<[u8]>, Box<[u8]>>,
    bytes: usize,
    /// Has been longer than what Redis packs, which never packs it again.
    grown: bool,
}

impl Hash {
    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The value of `field`.
    pub fn get(&self, field: &[u8]) -> Option<&[u8]> {
        self.fields.get(field).map(|value| &**value)
    }

    /// Sets a field; whether it is new.
    pub fn set(&mut self, field: &[u8], value: &[u8]) -> bool {
        self.grown |= field.len() > PACKED_LENGTH || value.len() > PACKED_LENGTH;
        self.bytes += value.len();
        if let Some(old) = self.fields.get_mut(field) {
            self.bytes -= old.len();
            *old = value.into();
            return false;
        }
        self.bytes += field.len() + FIELD_OVERHEAD;
        self.fields.insert(field.into(), value.into());
        self.grown |= self.len() > PACKED_FIELDS;
        true
    }

    /// Takes a field out; its value.
    pub fn remove(&mut self, field: &[u8]) -> Option<Box<[u8]>> {
        // A packed one keeps its order, as in Redis.
        let removed = if self.grown {
            self.fields.swap_remove(field)
        } else {
            self.fields.shift_remove(field)
        };
        if let Some(value) = &removed {
            self.bytes -= field.len() + value.len() + FIELD_OVERHEAD;
        }
        removed
    }

    /// All fields with their values.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|(field, value)| (&**field, &**value))
    }

    /// The field at a place below [`Hash::len`], for random picks.
    pub fn at(&self, place: usize) -> Option<(&[u8], &[u8])> {
        self.fields.get_index(place).map(|(field, value)| (&**field, &**value))
    }

    /// Shows a page of about `count` fields; the cursor of the next.
    pub fn scan(&self, cursor: u64, count: usize, mut show: impl FnMut(&[u8], &[u8])) -> u64 {
        let count = if self.grown { count } else { usize::MAX };
        let (places, next) = page(self.len(), cursor, count);
        places.filter_map(|place| self.at(place)).for_each(|(field, value)| show(field, value));
        next
    }

    /// See [`super::Collection::bytes`].
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// See [`super::Collection::encoding`].
    pub fn encoding(&self) -> &'static str {
        if self.grown { "hashtable" } else { "listpack" }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::Hash;

    proptest! {
        #[test]
        fn does_what_a_map_does(steps in vec((0..4, "[a-d]{0,2}", "[x-z]{0,3}"), 0..60)) {
            let (mut hash, mut model) = (Hash::default(), HashMap::new());
            for (step, field, value) in steps {
                let (field, value) = (field.into_bytes(), value.into_bytes());
                if step == 0 {
                    let removed = hash.remove(&field).map(Vec::from);
                    prop_assert_eq!(removed, model.remove(&field));
                } else {
                    let is_new = model.insert(field.clone(), value.clone()).is_none();
                    prop_assert_eq!(hash.set(&field, &value), is_new);
                }
                let held: HashMap<_, _> =
                    hash.iter().map(|(field, value)| (field.to_vec(), value.to_vec())).collect();
                prop_assert_eq!(&held, &model);
                prop_assert_eq!(hash.get(&field), model.get(&field).map(Vec::as_slice));
            }
            let fields: Vec<_> = model.into_keys().collect();
            fields.iter().for_each(|field| { hash.remove(field); });
            prop_assert_eq!(hash.bytes(), 0);
        }
    }

    #[test]
    fn is_encoded_by_its_size() {
        let mut hash = Hash::default();
        for at in 0..512_u16 {
            hash.set(&at.to_be_bytes(), b"v");
        }
        assert_eq!(hash.encoding(), "listpack");
        hash.set(b"one more", b"v");
        assert_eq!(hash.encoding(), "hashtable");
        hash.remove(b"one more");
        assert_eq!(hash.encoding(), "hashtable");
        let mut hash = Hash::default();
        hash.set(b"f", &[0; 65]);
        assert_eq!(hash.encoding(), "hashtable");
    }
}
