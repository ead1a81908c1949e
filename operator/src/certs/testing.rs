//! Certificates for the tests of other modules.

use std::time::Duration;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::CertifiedKey;

use super::pki;

/// A new CA, and a leaf for `name` that it signed.
pub(crate) fn issued(name: &str) -> (CertificateDer<'static>, CertifiedKey) {
    let now = Timestamp::now();
    let life = Duration::from_hours(1);
    let authority = pki::authority(now, life).unwrap();
    let leaf = pki::leaf(&authority, &[name.to_owned()], now, life).unwrap();
    let root = CertificateDer::from_pem_slice(authority.certificate.as_bytes()).unwrap();
    (root, pki::certified(&leaf).unwrap())
}
