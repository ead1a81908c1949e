//! The webhook's certificates: made, stored, rotated, and published to the server on every replica.
//!
//! The leader alone writes. It keeps a CA and a leaf in one Secret and lets the API server trust
//! the CA by the `caBundle` of the webhook configuration. Every replica watches the Secret, so all
//! of them serve the same leaf. What is to be done at a moment is decided by [`plan`], which knows
//! neither Kubernetes nor cryptography.

mod pki;
mod plan;
mod resolver;
mod rotate;
mod store;
#[cfg(test)]
pub(crate) mod testing;

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

pub use plan::{Action, Bundle, Leaf, Lifetime, Present, plan};
pub use resolver::Resolver;
pub use rotate::run;

/// Who makes the certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// The operator itself.
    #[value(name = "self")]
    Operator,
    /// cert-manager, which fills the Secret and the `caBundle`.
    CertManager,
    /// Somebody else; the Secret is only read.
    Provided,
}

/// Which certificates, where, and for how long.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who makes them.
    pub mode: Mode,
    /// The operator's namespace, in which Secret, Service and Deployment are.
    pub namespace: String,
    /// The Secret of type `kubernetes.io/tls` or `Opaque` with `tls.crt` and `tls.key`.
    pub secret: String,
    /// What the Secret goes with if the operator makes it: the operator's Deployment.
    pub owner: Option<OwnerReference>,
    /// The Service by whose name the API server calls the webhook.
    pub service: String,
    /// The MutatingWebhookConfiguration whose `caBundle` is kept.
    pub webhook_configuration: String,
    /// Life of a leaf; it is replaced after two thirds.
    pub cert_lifetime: Duration,
    /// Life of the CA; it is replaced after two thirds.
    pub ca_lifetime: Duration,
    /// Where the leaf is published for the webhook's server; share it with `webhook::State`.
    pub resolver: Resolver,
}
