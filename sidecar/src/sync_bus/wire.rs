//! How an invalidation is written in a message: MessagePack with named fields and a version.
//!
//! A message that can't be read was meant to say something, so it is read as "everything, from an
//! origin unknown": a newer sidecar may speak to an older one, which then caches less, not wrongly.
//!
//! An invalidation of many keys is split into parts of about [`PART`] bytes, which bounds what
//! waits in any queue on the way. It collapses to "everything" when it would take more than
//! [`MOST_PARTS`] parts, or when one key alone is more than the server takes in a message.

use std::fmt;

use bytes::Bytes;
use serde::de::{Deserializer, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use super::{Invalidation, Origin, Scope};
use crate::adapter::Key;

const VERSION: u8 = 1;
/// Bytes of keys after which a new part begins.
const PART: usize = 16 << 10;
const MOST_PARTS: usize = 64;
/// More than all that surrounds the keys in a message, and than a key's own length takes.
const ENVELOPE: usize = 64;
const LENGTH: usize = 5;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The same for the same part of the same invalidation, and for nothing else: the parts of an
    /// invalidation that is published again must not be taken for other parts of it, even where
    /// the server's limit, and with it the split, has changed in between.
    pub(super) id: String,
    pub(super) payload: Bytes,
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    v: u8,
}

#[derive(Serialize, Deserialize)]
struct Message {
    v: u8,
    origin: Origin,
    sequence: u64,
    /// None is every key.
    keys: Option<Vec<Binary>>,
}

/// The messages that say `invalidation`, at least one, none larger than `limit` bytes. They carry
/// the same origin and sequence.
pub(super) fn encode(invalidation: &Invalidation, limit: usize) -> Vec<Part> {
    let split = match &invalidation.scope {
        Scope::Keys(keys) => split(keys, limit.saturating_sub(ENVELOPE)),
        Scope::Everything => None,
    };
    let Some(parts) = split else { return vec![part(invalidation, "all", None)] };
    let mut offset = 0;
    parts
        .into_iter()
        .map(|keys| {
            let name = format!("{offset}+{}", keys.len());
            offset += keys.len();
            part(invalidation, &name, Some(keys.iter().cloned().map(Binary).collect()))
        })
        .collect()
}

/// What a message says; never fails, see the module.
pub(super) fn decode(payload: &[u8]) -> Invalidation {
    let unreadable =
        Invalidation { origin: Origin::UNKNOWN, sequence: 0, scope: Scope::Everything };
    match rmp_serde::from_slice::<Envelope>(payload) {
        Ok(Envelope { v: VERSION }) => {}
        _ => return unreadable,
    }
    let Ok(message) = rmp_serde::from_slice::<Message>(payload) else { return unreadable };
    let scope = match message.keys {
        Some(keys) => Scope::Keys(keys.into_iter().map(|Binary(key)| key).collect()),
        None => Scope::Everything,
    };
    Invalidation { origin: message.origin, sequence: message.sequence, scope }
}

/// `keys` in parts whose keys take at most `limit` bytes; `None` where "everything" says it better.
fn split(keys: &[Key], limit: usize) -> Option<Vec<&[Key]>> {
    let most = PART.min(limit);
    let mut parts = Vec::new();
    let (mut start, mut size) = (0, 0);
    for (at, key) in keys.iter().enumerate() {
        let taken = key.len() + LENGTH;
        if taken > limit {
            return None;
        }
        if size + taken > most && at > start {
            parts.push(&keys[start..at]);
            (start, size) = (at, 0);
        }
        size += taken;
    }
    parts.push(&keys[start..]);
    (parts.len() <= MOST_PARTS).then_some(parts)
}

fn part(invalidation: &Invalidation, name: &str, keys: Option<Vec<Binary>>) -> Part {
    let Invalidation { origin, sequence, .. } = *invalidation;
    let message = Message { v: VERSION, origin, sequence, keys };
    Part {
        id: format!("{:016x}-{sequence}-{name}", origin.0),
        // Writing to memory can't fail; an empty message would be read as "everything".
        payload: rmp_serde::to_vec_named(&message).unwrap_or_default().into(),
    }
}

/// A key as MessagePack's `bin`, which is what it is; serde's own way would be an array of numbers.
pub(super) struct Binary(pub(super) Key);

impl Serialize for Binary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Binary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Copied;

        impl Visitor<'_> for Copied {
            type Value = Binary;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            // A copy, so that a short key doesn't keep a whole network buffer.
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Binary, E> {
                Ok(Binary(Bytes::copy_from_slice(bytes)))
            }
        }

        deserializer.deserialize_bytes(Copied)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1 << 20;

    fn keys(keys: impl IntoIterator<Item = Vec<u8>>) -> Invalidation {
        let keys = keys.into_iter().map(Bytes::from).collect();
        Invalidation { origin: Origin(7), sequence: 3, scope: Scope::Keys(keys) }
    }

    fn told(parts: &[Part]) -> Vec<Key> {
        parts
            .iter()
            .flat_map(|part| match decode(&part.payload).scope {
                Scope::Keys(keys) => keys,
                Scope::Everything => panic!("everything"),
            })
            .collect()
    }

    #[test]
    fn a_key_costs_little_more_than_its_bytes() {
        let parts = encode(&keys([b"user:1".to_vec()]), LIMIT);
        assert_eq!(parts.len(), 1);
        assert!(parts[0].payload.len() <= 6 + ENVELOPE, "{}", parts[0].payload.len());
        assert_eq!(parts[0].id, "0000000000000007-3-0+1");
    }

    #[test]
    fn many_keys_go_in_several_parts_and_very_many_are_everything() {
        let many = keys((0..3000_u32).map(|n| format!("key:{n:09}").into_bytes()));
        let parts = encode(&many, LIMIT);
        assert!((2..=6).contains(&parts.len()), "{}", parts.len());
        let Scope::Keys(given) = &many.scope else { unreachable!() };
        assert_eq!(&told(&parts), given);
        let very_many = keys((0..200_000_u32).map(|n| format!("key:{n:09}").into_bytes()));
        let parts = encode(&very_many, LIMIT);
        assert_eq!(parts.len(), 1);
        assert_eq!(decode(&parts[0].payload).scope, Scope::Everything);
        assert_eq!(parts[0].id, "0000000000000007-3-all");
    }

    #[test]
    fn a_large_key_has_a_part_of_its_own_and_one_above_the_limit_is_everything() {
        let large = keys([b"a".to_vec(), vec![b'x'; 500_000], b"b".to_vec()]);
        assert_eq!(encode(&large, LIMIT).len(), 3);
        let too_large = keys([b"a".to_vec(), vec![b'x'; LIMIT], b"b".to_vec()]);
        let parts = encode(&too_large, LIMIT);
        assert_eq!(parts.len(), 1);
        assert_eq!(decode(&parts[0].payload).scope, Scope::Everything);
    }

    #[test]
    fn an_unknown_version_is_everything_from_nobody_and_unknown_fields_are_passed_over() {
        #[derive(Serialize)]
        struct Later {
            v: u8,
            origin: u64,
            sequence: u64,
            keys: Option<Vec<Binary>>,
            tags: Vec<String>,
        }
        let later = |v| Later {
            v,
            origin: 9,
            sequence: 1,
            keys: Some(vec![Binary(Bytes::from_static(b"k"))]),
            tags: vec!["t".to_owned()],
        };
        let unknown = decode(&rmp_serde::to_vec_named(&later(2)).unwrap());
        assert_eq!((unknown.origin, unknown.scope), (Origin::UNKNOWN, Scope::Everything));
        let known = decode(&rmp_serde::to_vec_named(&later(1)).unwrap());
        assert_eq!(known.scope, Scope::Keys(vec![Bytes::from_static(b"k")]));
        assert_eq!(decode(b"").scope, Scope::Everything);
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            origin in 1_u64..,
            sequence: u64,
            given in vec(vec(any::<u8>(), 0..200), 0..300),
            limit in 300_usize..40_000,
        ) {
            let given: Vec<Key> = given.into_iter().map(Bytes::from).collect();
            let scope = Scope::Keys(given.clone());
            let parts = encode(&Invalidation { origin: Origin(origin), sequence, scope }, limit);
            if parts.len() == 1 && decode(&parts[0].payload).scope == Scope::Everything {
                prop_assert!(given.iter().map(|key| key.len() + LENGTH).sum::<usize>() > limit);
                return Ok(());
            }
            prop_assert_eq!(told(&parts), given);
            let mut ids: Vec<_> = parts.iter().map(|part| &part.id).collect();
            ids.dedup();
            prop_assert_eq!(ids.len(), parts.len());
            for part in &parts {
                prop_assert!(part.payload.len() <= limit);
                let told = decode(&part.payload);
                prop_assert_eq!((told.origin, told.sequence), (Origin(origin), sequence));
            }
        }

        #[test]
        fn any_bytes_are_read_as_something(bytes in vec(any::<u8>(), 0..400)) {
            let _ = decode(&bytes);
        }

        /// Near misses reach deeper into the reader than noise does.
        #[test]
        fn a_damaged_message_is_read_as_something(
            at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>(),
        ) {
            let part = encode(&keys([b"one".to_vec(), b"two".to_vec()]), LIMIT).remove(0);
            let mut damaged = part.payload.to_vec();
            let at = at.index(damaged.len());
            damaged[at] = byte;
            let cut = cut.index(damaged.len());
            let _ = decode(&damaged);
            let _ = decode(&damaged[..cut]);
        }
    }
}
