//! The admission webhook: HTTPS in, [`crate::inject`]'s decision out.
//!
//! Every replica serves it. It keeps its own view of WarpClusters and namespaces, and asks the API
//! server where that view may be behind.

mod answer;
mod review;
mod serve;
mod view;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use kube::Client;
use prometheus::{IntCounterVec, Opts, Registry};

pub use serve::{Error, run};

use crate::certs::Resolver;
use crate::inject;

/// What the webhook needs, and what it tells of itself.
#[derive(Clone)]
pub struct State {
    /// Reads WarpClusters and namespaces.
    pub client: Client,
    /// The server's certificate; the same that [`crate::certs::Settings`] holds.
    pub resolver: Resolver,
    /// The port to serve on.
    pub port: u16,
    /// What every injection depends on.
    pub injection: inject::Settings,
    /// True while requests are answered; for `/readyz`.
    pub ready: Arc<AtomicBool>,
    /// How long requests are still taken after the stop was asked for, while the Service's
    /// endpoints forget this replica.
    pub linger: Duration,
    injections: IntCounterVec,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("port", &self.port).finish_non_exhaustive()
    }
}

impl State {
    /// A webhook that isn't ready yet; its counter is registered with `registry`.
    pub fn new(
        client: Client,
        resolver: Resolver,
        port: u16,
        injection: inject::Settings,
        registry: &Registry,
    ) -> prometheus::Result<Self> {
        let injections = IntCounterVec::new(
            Opts::new(
                "warp_operator_injections_total",
                "Admission requests by what became of them",
            ),
            &["result"],
        )?;
        registry.register(Box::new(injections.clone()))?;
        Ok(Self {
            client,
            resolver,
            port,
            injection,
            ready: Arc::default(),
            linger: Duration::from_secs(5),
            injections,
        })
    }
}

#[cfg(test)]
mod tests;
