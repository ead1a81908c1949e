//! WarpPolicies: which are accepted, and the controller that says so in their status.

pub mod accept;
pub mod reconcile;
pub mod status;

pub use reconcile::{Error, reconcile};
