//! The RESP server as its clients see it.

#![allow(unreachable_pub, reason = "a test program has no outside")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests end so")]

mod blocking;
mod client;
mod commands;
mod connections;
mod diagnosis;
mod differential;
mod evaluation;
mod expiry;
mod leases;
mod libraries;
mod locks;
mod passthrough;
mod pod;
mod pubsub;
mod scripts;
mod table_scripts;
mod tracking;
mod transactions;
mod types;
mod warp;

#[allow(dead_code, reason = "each test program uses a part of it")]
#[path = "../support/doubles.rs"]
mod doubles;
#[allow(dead_code, reason = "each test program uses a part of it")]
#[path = "../support/link.rs"]
mod link;
#[path = "../support/servers/mod.rs"]
mod servers;
