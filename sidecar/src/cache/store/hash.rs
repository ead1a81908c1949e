//! The hash of a key: made once for a command, and used for all that follows.
//!
//! The bits have their places: the upper half finds an entry in a [`Store`](super::Store) and stands
//! in its queues; the lower half is left to those who divide keys among stores.

use std::hash::{BuildHasher, Hasher as _};
use std::sync::OnceLock;

use foldhash::quality::RandomState;

/// The hash of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hash(u64);

impl Hash {
    /// Bits that no store looks at: for shards, counters and the like.
    pub fn spare(self) -> u32 {
        (self.0 & u64::from(u32::MAX)) as u32
    }

    /// All of them.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The bits that a store goes by.
    pub(super) fn place(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Makes hashes that nobody outside the process can foresee.
#[derive(Clone, Debug)]
pub struct Hasher(RandomState);

impl Hasher {
    /// The hasher of this process: always the same one, so that a hash is good for every store.
    pub fn of_process() -> Self {
        static SEED: OnceLock<RandomState> = OnceLock::new();
        Self(SEED.get_or_init(RandomState::default).clone())
    }

    /// The hash of `key`.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> Hash {
        let mut hasher = self.0.build_hasher();
        hasher.write(key);
        Hash(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hasher_of_the_process_agrees() {
        let hashes: Vec<_> = (0..3).map(|_| Hasher::of_process().hash(b"user:1")).collect();
        assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]));
        assert_ne!(Hasher::of_process().hash(b"user:2"), hashes[0]);
    }
}
