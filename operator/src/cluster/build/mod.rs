//! The Kubernetes objects of a WarpCluster, one file for each. All of it is pure.

pub mod config_map;
pub mod credentials;
pub mod labels;
pub mod nats_config;
pub mod nats_pdb;
pub mod nats_services;
pub mod nats_stateful_set;
