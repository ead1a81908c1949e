//! The ghosts: keys that were evicted unused not long ago, remembered by two bytes each.
//!
//! A set of 31 fingerprints is a cache line and a queue of its own: a new one takes the place of the
//! oldest. A wrong match, one in two thousand, lets a new key into the main queue, no more.

use super::size::allocated;

/// Fingerprints in a set.
const MEMBERS: usize = 31;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ghosts {
    /// The first of each set says which of the others is the oldest; 0 is none.
    sets: Vec<[u16; MEMBERS + 1]>,
}

impl Ghosts {
    fn cost_of(sets: usize) -> usize {
        allocated(sets * size_of::<[u16; MEMBERS + 1]>())
    }

    pub(super) fn cost(&self) -> usize {
        Self::cost_of(self.sets.capacity())
    }

    /// The most that are remembered.
    pub(super) fn capacity(&self) -> usize {
        self.sets.len() * MEMBERS
    }

    /// What room for `ghosts` costs.
    pub(super) fn cost_for(ghosts: usize) -> usize {
        Self::cost_of(ghosts.div_ceil(MEMBERS))
    }

    /// Forgets all, and takes room for `ghosts`.
    pub(super) fn resize(&mut self, ghosts: usize) {
        self.sets = vec![[0; MEMBERS + 1]; ghosts.div_ceil(MEMBERS)];
    }

    fn set(&mut self, place: u32) -> Option<&mut [u16; MEMBERS + 1]> {
        let at = (u64::from(place) * self.sets.len() as u64) >> 32;
        self.sets.get_mut(at as usize)
    }

    /// Remembers a key.
    pub(super) fn insert(&mut self, place: u32) {
        if let Some(set) = self.set(place) {
            let oldest = usize::from(set[0]) % MEMBERS;
            set[1 + oldest] = fingerprint(place);
            set[0] = (oldest + 1) as u16;
        }
    }

    /// Whether a key is remembered; it no longer is.
    pub(super) fn take(&mut self, place: u32) -> bool {
        let Some([_, members @ ..]) = self.set(place) else { return false };
        let member = members.iter_mut().find(|member| **member == fingerprint(place));
        member.map(|member| *member = 0).is_some()
    }
}

fn fingerprint(place: u32) -> u16 {
    (place as u16).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ghost_is_remembered_once_and_until_others_take_its_place() {
        let mut ghosts = Ghosts::default();
        ghosts.insert(7);
        assert!(!ghosts.take(7), "there is no room yet");
        ghosts.resize(MEMBERS);
        ghosts.insert(7);
        assert!(ghosts.take(7));
        assert!(!ghosts.take(7));
        for place in 1..=MEMBERS as u32 + 1 {
            ghosts.insert(place);
        }
        assert!(!ghosts.take(1));
        assert!((2..=MEMBERS as u32 + 1).all(|place| ghosts.take(place)));
    }
}
