//! What the end-to-end tests of `tests/cluster` stand on: commands, waiting, the one installation
//! of the chart, a shop of two applications, and the checker of what was read.
//!
//! Nothing here is part of the product, and no test is here but those of the checker.

pub mod app;
pub mod command;
pub mod failure;
pub mod fixture;
pub mod history;
pub mod pods;
pub mod shop;
pub mod sidecar;
pub mod traffic;
pub mod wait;

pub use failure::{Failure, Outcome};
