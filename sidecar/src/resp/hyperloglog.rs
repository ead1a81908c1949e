//! HyperLogLog as Redis keeps it: a string that counts distinct elements in 16384 registers.
//!
//! *What is written here a Redis reads, and the other way round*: the header, the dense form and the
//! sparse one are those of Redis' `hyperloglog.c`, and so are the hash and the estimate, after Ertl,
//! "New cardinality estimation algorithms for HyperLogLog sketches" (2017). A sparse string may be
//! cut into runs differently than a Redis cuts it, which both read.
//!
//! ```text
//! "HYLL" | form: 0 dense, 1 sparse | 3 unused | 8 the count, little-endian; first bit: it is old
//! dense   a register is 6 bits, the lowest first
//! sparse  00xxxxxx           x + 1 registers are 0
//!         01xxxxxx yyyyyyyy  xy + 1 registers are 0
//!         1vvvvvxx           x + 1 registers are v + 1
//! ```

/// How many bits of a hash choose the register.
const INDEX_BITS: u32 = 14;
const REGISTERS: usize = 1 << INDEX_BITS;
/// How many bits are left, whose zeros are counted.
const COUNTED_BITS: u32 = 64 - INDEX_BITS;
const HEADER: usize = 16;
const MAGIC: &[u8] = b"HYLL";
const DENSE_SIZE: usize = HEADER + REGISTERS * 6 / 8;
/// A longer sparse string becomes a dense one: `hll-sparse-max-bytes`, as it comes.
const SPARSE_SIZE: usize = HEADER + 3000;
/// The greatest number that the sparse form can say.
const SPARSE_MOST: u8 = 32;
const SEED: u64 = 0xadc8_3b19;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HyperLogLog {
    registers: Box<[u8; REGISTERS]>,
    is_dense: bool,
    /// The count that the string says, while it is good.
    count: Option<u64>,
}

/// Why a string isn't one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoHyperLogLog {
    /// It is something else.
    #[error("WRONGTYPE Key is not a valid HyperLogLog string value.")]
    Other,
    /// It begins as one.
    #[error("INVALIDOBJ Corrupted HLL object detected")]
    Corrupted,
}

impl Default for HyperLogLog {
    fn default() -> Self {
        Self { registers: Box::new([0; REGISTERS]), is_dense: false, count: None }
    }
}

impl HyperLogLog {
    /// Reads the string of one.
    pub fn read(string: &[u8]) -> Result<Self, NoHyperLogLog> {
        let (header, body) = string.split_at_checked(HEADER).ok_or(NoHyperLogLog::Other)?;
        if !header.starts_with(MAGIC) {
            return Err(NoHyperLogLog::Other);
        }
        let mut read = Self { count: count_of(header), ..Self::default() };
        match header[4] {
            0 if string.len() == DENSE_SIZE => {
                read.is_dense = true;
                read.read_dense(body);
            }
            1 => read.read_sparse(body).ok_or(NoHyperLogLog::Corrupted)?,
            _ => return Err(NoHyperLogLog::Other),
        }
        Ok(read)
    }

    fn read_dense(&mut self, body: &[u8]) {
        // Three bytes are four registers.
        for (bytes, registers) in body.chunks_exact(3).zip(self.registers.chunks_exact_mut(4)) {
            let bits = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
            for (at, register) in (0..).zip(registers) {
                *register = six_bits(bits >> (6 * at));
            }
        }
    }

    fn read_sparse(&mut self, body: &[u8]) -> Option<()> {
        let (mut bytes, mut at) = (body.iter(), 0);
        while let Some(byte) = bytes.next() {
            let (length, value) = match byte >> 6 {
                0 => (usize::from(byte & 0x3f) + 1, 0),
                1 => (usize::from(byte & 0x3f) << 8 | usize::from(*bytes.next()?), 0),
                _ => (usize::from(byte & 3) + 1, (byte >> 2 & 0x1f) + 1),
            };
            let length = length + usize::from(byte >> 6 == 1);
            self.registers.get_mut(at..at + length)?.fill(value);
            at += length;
        }
        (at == REGISTERS).then_some(())
    }

    /// Its string. One that was dense stays so.
    pub fn write(&self) -> Vec<u8> {
        let sparse = if self.is_dense { None } else { self.sparse() };
        let mut string = Vec::with_capacity(HEADER);
        string.extend_from_slice(MAGIC);
        string.extend([u8::from(sparse.is_some()), 0, 0, 0]);
        string.extend(self.count.unwrap_or(1 << 63).to_le_bytes());
        if let Some(body) = sparse {
            string.extend(body);
            return string;
        }
        string.reserve_exact(DENSE_SIZE - HEADER);
        for registers in self.registers.chunks_exact(4) {
            let places = registers.iter().zip([0, 6, 12, 18]);
            let bits = places.map(|(register, at)| u32::from(*register) << at);
            string.extend_from_slice(&bits.sum::<u32>().to_le_bytes()[..3]);
        }
        string
    }

    /// The sparse form, if it has one that is short enough.
    fn sparse(&self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        for run in self.registers.chunk_by(|one, other| one == other) {
            let value = run[0];
            if value > SPARSE_MOST {
                return None;
            }
            let mut left = run.len();
            while left > 0 {
                let longest = if value > 0 { 4 } else { REGISTERS };
                let length = left.min(longest);
                left -= length;
                let said = u16::try_from(length - 1).ok()?;
                let [high, low] = said.to_be_bytes();
                match (value, length) {
                    (0, ..=64) => body.push(low),
                    (0, _) => body.extend([0x40 | high, low]),
                    _ => body.push(0x80 | (value - 1) << 2 | low),
                }
            }
            if HEADER + body.len() > SPARSE_SIZE {
                return None;
            }
        }
        Some(body)
    }

    /// Counts an element; whether that changes anything.
    pub fn add(&mut self, element: &[u8]) -> bool {
        let hash = murmur(element, SEED);
        let at = usize::try_from(hash % REGISTERS as u64).unwrap_or_default();
        // The highest bit ends the zeros, if nothing else does.
        let rest = hash >> INDEX_BITS | 1 << COUNTED_BITS;
        let zeros = u8::try_from(rest.trailing_zeros()).unwrap_or(u8::MAX);
        self.raise(at, zeros + 1)
    }

    fn raise(&mut self, at: usize, to: u8) -> bool {
        let raised = self.registers[at] < to;
        if raised {
            self.registers[at] = to;
            self.count = None;
        }
        raised
    }

    /// Counts what another has counted.
    pub fn merge(&mut self, other: &Self) {
        for (at, to) in other.registers.iter().enumerate() {
            self.raise(at, *to);
        }
        self.is_dense |= other.is_dense;
    }

    /// About how many distinct elements it has counted.
    pub fn count(&self) -> u64 {
        self.count.unwrap_or_else(|| self.estimate())
    }

    #[expect(clippy::cast_precision_loss, reason = "numbers up to that of the registers")]
    fn estimate(&self) -> u64 {
        /// 1 / (2 ln 2).
        const ALPHA: f64 = 0.721_347_520_444_481_7;
        let mut histogram = [0_u32; 64];
        for register in self.registers.iter() {
            histogram[usize::from(*register % 64)] += 1;
        }
        let all = REGISTERS as f64;
        let last = COUNTED_BITS as usize + 1;
        let mut sum = all * tau((all - f64::from(histogram[last])) / all);
        for count in histogram[1..last].iter().rev() {
            sum = (sum + f64::from(*count)) * 0.5;
        }
        sum += all * sigma(f64::from(histogram[0]) / all);
        let estimate = (ALPHA * all * all / sum).round();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
        let estimate = estimate as u64;
        estimate
    }
}

fn six_bits(bits: u32) -> u8 {
    u8::try_from(bits & 0x3f).unwrap_or_default()
}

fn count_of(header: &[u8]) -> Option<u64> {
    let count = header[8..].try_into().map(u64::from_le_bytes).ok()?;
    (count >> 63 == 0).then_some(count)
}

fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        y *= 0.5;
        let before = z;
        z -= (1.0 - x).powi(2) * y;
        #[expect(clippy::float_cmp, reason = "until nothing changes any more")]
        if before == z {
            return z / 3.0;
        }
    }
}

fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        #[expect(clippy::float_cmp, reason = "until nothing changes any more")]
        if before == z {
            return z;
        }
    }
}

/// `MurmurHash64A`, the bytes read as a little-endian machine does.
fn murmur(data: &[u8], seed: u64) -> u64 {
    const MULTIPLIER: u64 = 0xc6a4_a793_5bd1_e995;
    const SHIFT: u32 = 47;
    let mut hash = seed ^ (data.len() as u64).wrapping_mul(MULTIPLIER);
    let mut words = data.chunks_exact(8);
    for word in &mut words {
        let mut word = word.try_into().map(u64::from_le_bytes).unwrap_or_default();
        word = word.wrapping_mul(MULTIPLIER);
        word ^= word >> SHIFT;
        word = word.wrapping_mul(MULTIPLIER);
        hash = (hash ^ word).wrapping_mul(MULTIPLIER);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u64::from_le_bytes(last)).wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> SHIFT;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ hash >> SHIFT
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{DENSE_SIZE, HEADER, HyperLogLog, NoHyperLogLog, REGISTERS, SPARSE_SIZE};

    fn of(elements: std::ops::Range<u32>) -> HyperLogLog {
        let mut counted = HyperLogLog::default();
        for element in elements {
            counted.add(&element.to_le_bytes());
        }
        counted
    }

    #[test]
    fn an_empty_one_is_one_run_of_zeros() {
        let mut empty = HyperLogLog::default();
        assert_eq!(empty.count(), 0);
        assert_eq!(empty.write(), b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80\x7f\xff");
        assert!(empty.add(b"a") && !empty.add(b"a"));
        assert_eq!(empty.count(), 1);
    }

    #[test]
    fn the_estimate_is_about_right() {
        for many in [10, 100, 1_000, 10_000, 100_000, 1_000_000] {
            let estimate = of(0..many).count();
            assert!(estimate.abs_diff(many.into()) <= u64::from(many / 30), "{estimate} of {many}");
        }
    }

    #[test]
    fn a_long_one_becomes_dense_and_stays_so() {
        let few = of(0..500).write();
        assert!(few[4] == 1 && few.len() <= SPARSE_SIZE);
        let many = of(0..5_000).write();
        assert_eq!((many[4], many.len()), (0, DENSE_SIZE));
        let mut merged = HyperLogLog::default();
        merged.merge(&HyperLogLog::read(&many).unwrap());
        assert_eq!(merged.write(), many);
    }

    #[test]
    fn what_is_no_string_of_one_is_refused() {
        let read = |string: &[u8]| HyperLogLog::read(string).unwrap_err();
        let good = of(0..50).write();
        assert_eq!(read(b""), NoHyperLogLog::Other);
        assert_eq!(read(&good[..HEADER - 1]), NoHyperLogLog::Other);
        assert_eq!(read(&good[..good.len() - 1]), NoHyperLogLog::Corrupted);
        assert_eq!(read(&[&good[..], &[0]].concat()), NoHyperLogLog::Corrupted);
        let dense = of(0..5_000).write();
        assert_eq!(read(&dense[..DENSE_SIZE - 1]), NoHyperLogLog::Other);
        let other_form = [&good[..4], &[2], &good[5..]].concat();
        assert_eq!(read(&other_form), NoHyperLogLog::Other);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            registers in prop::collection::vec((0..REGISTERS, 0..52_u8), 0..400),
            is_dense: bool,
            count in prop::option::of(0..1_u64 << 63),
        ) {
            let mut written = HyperLogLog { is_dense, ..HyperLogLog::default() };
            for (at, value) in registers {
                written.registers[at] = value;
            }
            written.count = count;
            let string = written.write();
            // What doesn't fit the sparse form is dense from then on.
            written.is_dense = string[4] == 0;
            prop_assert_eq!(HyperLogLog::read(&string).unwrap(), written);
        }

        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            bytes.splice(0..bytes.len().min(5), *b"HYLL\x01");
            let _ = HyperLogLog::read(&bytes);
        }
    }
}
