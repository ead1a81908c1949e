//! What the tests of the core share.
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test's own module, and a test ends so")]

pub mod doubles;
