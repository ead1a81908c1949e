//! What policies make of reads: copies that are refreshed, that stand in for a storage that fails,
//! that say "no such key", and memory of a class's own.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]

mod fail_safe;
mod lifetimes;
mod negative;
mod over_servers;
mod quotas;
#[path = "../support/servers/mod.rs"]
mod servers;
mod session;
#[path = "../support/mod.rs"]
mod support;
mod warm_up;
