//! Warp on a real Kubernetes cluster: one module for each thing that must be seen to work.
//!
//! These tests share a cluster and one installation of the chart, so they run one at a time, and
//! only when asked for (`make e2e`): each is ignored otherwise. `uninstall` removes the
//! installation, and is run last.

mod bus;
mod chart;
mod coherence;
mod operator;
mod policy;
mod storage;
mod uninstall;
mod workloads;
