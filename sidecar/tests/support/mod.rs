//! What the tests of the core share.
#![allow(
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    reason = "a test's own module, of which none uses all, and a test ends so"
)]

pub mod doubles;
pub mod pod;
