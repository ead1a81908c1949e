//! The Warp sidecar: RESP in front, storage behind, coherent over a bus.
//!
//! Dependencies point one way: `resp` and `admin` → `core` → (`lock`, `lease`, `cache`, `channels`,
//! `adapter`, `sync_bus`, `preset`, `metrics`). `config` builds a core from manifests, and what warms
//! it up (`warmup`); `main` runs it.

pub mod adapter;
pub mod admin;
pub mod cache;
pub mod channels;
pub mod config;
pub mod core;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod lease;
pub mod lock;
pub mod metrics;
pub mod preset;
pub mod resp;
pub mod sync_bus;
pub mod warmup;
