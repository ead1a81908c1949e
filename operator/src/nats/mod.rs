//! NATS as the operator deals with it: users' keys, the servers' configuration, the connection and
//! the stream. The Kubernetes objects that run the servers are in [`crate::cluster::build`].

pub mod config;
pub mod connection;
pub mod keys;
pub mod stream;

#[cfg(test)]
pub(crate) mod server;
