//! Random picks from a collection, as SRANDMEMBER, HRANDFIELD and ZRANDMEMBER make them.

use rand::Rng;
use rand::seq::index;

use super::arguments::integer;
use crate::resp::reply::Reply;

/// How many, and whether one may come twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    /// Each at most once.
    Distinct(usize),
    /// So many, whatever comes.
    WithRepeats(usize),
}

/// The most that may be asked for with repeats: they are all in the reply.
const MOST: i64 = i64::MAX / 2;

impl Count {
    /// As a client says it: a number below zero asks for repeats.
    pub(super) fn parse(argument: &[u8]) -> Result<Self, Reply> {
        let count = integer(argument)?;
        if !(-MOST..=MOST).contains(&count) {
            return Err(Reply::err("value is out of range"));
        }
        let amount = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
        Ok(if count < 0 { Self::WithRepeats(amount) } else { Self::Distinct(amount) })
    }

    /// Places below `length`.
    pub(super) fn pick(self, length: usize, random: &mut impl Rng) -> Vec<usize> {
        match self {
            _ if length == 0 => Vec::new(),
            Self::Distinct(count) if count >= length => (0..length).collect(),
            Self::Distinct(count) => index::sample(random, length, count).into_vec(),
            Self::WithRepeats(count) => {
                (0..count).map(|_| random.random_range(0..length)).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::Count;

    #[test]
    fn picks_are_distinct_unless_repeats_are_asked_for() {
        let mut random = StdRng::seed_from_u64(1);
        let distinct = Count::Distinct(5).pick(9, &mut random);
        assert_eq!(distinct.iter().collect::<HashSet<_>>().len(), 5);
        assert_eq!(Count::Distinct(50).pick(9, &mut random).len(), 9);
        let repeated = Count::WithRepeats(50).pick(9, &mut random);
        assert!(repeated.len() == 50 && repeated.iter().all(|place| *place < 9));
        assert_eq!(Count::WithRepeats(5).pick(0, &mut random), [0; 0]);
    }
}
