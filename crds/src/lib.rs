//! The Kubernetes API of Warp, `warpcache.dev/v1alpha1`, and everything about it that is pure:
//! types, defaults, validation, the names of derived objects, the reading of manifests.
//!
//! The operator and the sidecar both build on this crate and read the very same manifests; nothing
//! here does I/O or knows the time.

#![allow(unreachable_pub, reason = "KubeSchema derives warn at every type")]

pub mod cluster;
pub mod conditions;
pub mod cron;
pub mod manifest;
pub mod names;
pub mod nats;
pub mod pattern;
pub mod policy;
pub mod preset;
pub mod quantity;
pub mod rules;
pub mod socket;
pub mod status;
pub mod stream;
pub mod validation;
pub mod warm_up;

pub use cluster::{WarpCluster, WarpClusterSpec};
pub use policy::{WarpPolicy, WarpPolicySpec};
