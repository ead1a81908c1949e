//! The numbers of `math.random`: the generator `drand48` of POSIX, seeded alike for every run, so
//! that a script gives the same on every run as it does in Redis.

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Self(0x1234_ABCD_330E)
    }
}

impl Random {
    pub(super) fn seeded(seed: i32) -> Self {
        Self((u64::from(seed.cast_unsigned()) << 16) + 0x330E)
    }

    /// A number from 0 up to but not including 1.
    pub(super) fn next(&mut self) -> f64 {
        const MAX: u32 = i32::MAX.cast_unsigned();
        self.0 = self.0.wrapping_mul(0x5_DEEC_E66D).wrapping_add(0xB) & ((1 << 48) - 1);
        // 31 bits are left.
        let high = u32::try_from(self.0 >> 17).unwrap_or_default();
        f64::from(high % MAX) / f64::from(MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn the_numbers_are_those_of_drand48() {
        let mut random = Random::default();
        assert!((random.next() - 0.396_464_773_760_275).abs() < 1e-9);
        assert!((random.next() - 0.840_485_368_838_4).abs() < 1e-8);
    }
}
