//! Which keys are asked for, in which order: drawn before the clock runs, so that drawing costs
//! nothing while it does, and that every server is asked the same.

use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rand_distr::Zipf;

use crate::failure::{Failure, Outcome};

/// The length of every key's text.
pub(crate) const KEY_SIZE: usize = 16;

/// A key, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key(pub(crate) u32);

impl Key {
    /// `key:` and the number in twelve digits.
    pub(crate) fn text(self) -> [u8; KEY_SIZE] {
        let mut text = *b"key:000000000000";
        let mut rest = self.0;
        for digit in text.iter_mut().skip(4).rev() {
            if rest == 0 {
                break;
            }
            // Below ten it is a byte for certain.
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
        }
        text
    }

    /// What its value begins with, by which a reply proves to be this key's.
    pub(crate) fn mark(self) -> [u8; 8] {
        (u64::from(self.0) ^ 0xA5A5_5A5A_C3C3_3C3C).to_le_bytes()
    }
}

/// An endless order of keys; it begins again at its end.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    drawn: Arc<[Key]>,
    at: usize,
}

impl Keys {
    /// Each of the first `count` keys once.
    pub(crate) fn each(count: u32) -> Self {
        Self::of((0..count).map(Key).collect())
    }

    /// `length` draws, each of `count` keys as likely as the others.
    pub(crate) fn uniform(count: u32, length: usize, seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        Self::of((0..length).map(|_| Key(random.random_range(0..count.max(1)))).collect())
    }

    /// `length` draws of `count` keys by Zipf's law: the key of rank `r` as often as `1 / r^s`.
    pub(crate) fn zipf(count: u32, s: f64, length: usize, seed: u64) -> Outcome<Self> {
        let law = Zipf::new(f64::from(count), s)
            .map_err(|error| Failure::Other(format!("no Zipf's law of {count} keys: {error}")))?;
        let mut random = SmallRng::seed_from_u64(seed);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank is a whole number from 1 to `count`"
        )]
        let draw = |_| Key(random.sample(law) as u32 - 1);
        Ok(Self::of((0..length).map(draw).collect()))
    }

    fn of(drawn: Arc<[Key]>) -> Self {
        Self { drawn, at: 0 }
    }

    /// The next key.
    pub(crate) fn next(&mut self) -> Key {
        let key = self.drawn[self.at];
        self.at += 1;
        if self.at == self.drawn.len() {
            self.at = 0;
        }
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_number_in_twelve_digits() {
        assert_eq!(&Key(0).text(), b"key:000000000000");
        assert_eq!(&Key(1_234_567).text(), b"key:000001234567");
        assert_eq!(&Key(u32::MAX).text(), b"key:004294967295");
    }

    #[test]
    fn every_key_comes_once_and_then_again() {
        let mut keys = Keys::each(3);
        let drawn: Vec<u32> = (0..7).map(|_| keys.next().0).collect();
        assert_eq!(drawn, [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn the_same_seed_draws_the_same_keys() {
        let drawn = |seed| Keys::uniform(1000, 100, seed).drawn;
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
        assert!(drawn(1).iter().all(|key| key.0 < 1000));
    }

    #[test]
    fn the_first_of_a_million_by_zipf_is_drawn_as_often_as_the_law_says() {
        let drawn = Keys::zipf(1_000_000, 0.99, 200_000, 7).unwrap().drawn;
        assert!(drawn.iter().all(|key| key.0 < 1_000_000));
        let first = drawn.iter().filter(|key| key.0 == 0).count();
        // 1 / the sum of 1 / r^0.99 for a million is 6.6 %.
        assert!((12_000..14_500).contains(&first), "{first}");
    }
}
