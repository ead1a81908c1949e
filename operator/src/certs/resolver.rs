//! The certificate that the TLS server answers with, replaced while it serves.
//!
//! A handshake takes whichever certificate is published at that moment; connections that stand
//! keep theirs. So a reload costs nobody a request.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

/// Hands the published certificate to handshakes. Clones share it.
#[derive(Clone, Debug)]
pub struct Resolver {
    current: Arc<ArcSwapOption<CertifiedKey>>,
    present: watch::Sender<bool>,
}

impl Default for Resolver {
    fn default() -> Self {
        Self { current: Arc::default(), present: watch::Sender::new(false) }
    }
}

impl Resolver {
    /// Replaces the certificate for every handshake from now on.
    pub fn publish(&self, certificate: CertifiedKey) {
        self.current.store(Some(Arc::new(certificate)));
        self.present.send_replace(true);
    }

    /// Waits until there is a certificate.
    pub async fn present(&self) {
        // An error would mean that the sender is gone, and `self` holds it.
        let _ = self.present.subscribe().wait_for(|present| *present).await;
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load_full()
    }
}
