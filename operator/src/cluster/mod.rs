//! The controller of WarpClusters.
//!
//! A reconciliation reads as: dereference, validate, build, apply, observe, status. What decides
//! (validate, build, the conditions) is pure; what reads and writes the API server is thin.

pub mod apply;
pub mod build;
pub mod bus;
pub mod dereference;
pub mod events;
pub mod observe;
pub mod outdated;
pub mod reconcile;
pub mod rollout;
pub mod status;
pub mod touch;
pub mod usage;
pub mod validate;

#[cfg(test)]
mod tests;

pub use reconcile::{Error, reconcile};
