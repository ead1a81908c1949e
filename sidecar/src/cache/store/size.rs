//! What an allocation really takes.
//!
//! By the rules of the allocator of glibc, which are close to those of others: eight bytes of header,
//! steps of sixteen, thirty-two at least; whole pages from 128 KiB on.

const HEADER: usize = 8;
const STEP: usize = 16;
const LEAST: usize = 32;
const MAPPED: usize = 128 << 10;
const PAGE: usize = 4096;

/// The bytes that an allocation of `size` bytes takes.
pub const fn allocated(size: usize) -> usize {
    if size == 0 {
        return 0;
    }
    if size >= MAPPED {
        return (size + 2 * HEADER).next_multiple_of(PAGE);
    }
    let taken = (size + HEADER).next_multiple_of(STEP);
    if taken < LEAST { LEAST } else { taken }
}

/// The most bytes that can be asked for at the price of `size` bytes.
pub(super) const fn capacity(size: usize) -> usize {
    if size >= MAPPED { size } else { allocated(if size == 0 { 1 } else { size }) - HEADER }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capacity_costs_what_its_size_does() {
        for size in 1..2000 {
            assert!(capacity(size) >= size);
            assert_eq!(allocated(capacity(size)), allocated(size));
            assert_eq!(allocated(capacity(size) + 1), allocated(size) + STEP);
        }
    }
}
