//! Keys and certificates: making them, and reading of them what [`super::plan`] looks at.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Lifetime;

/// How far the clock of an API server may be behind. Certificates hold that much earlier.
const CLOCK_SKEW: Duration = Duration::from_mins(5);

/// A certificate and its key, both PEM.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// Why a certificate can't be made or used.
#[derive(Debug, thiserror::Error)]
pub(super) enum PkiError {
    /// Making one failed.
    #[error("can't make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The text isn't PEM.
    #[error("not PEM: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// Key and certificate aren't usable together.
    #[error("certificate and key don't work together: {0}")]
    Pair(#[from] rustls::Error),
}

/// A CA that signs itself.
pub(super) fn authority(now: Timestamp, life: Duration) -> Result<Pair, PkiError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // Two CAs are told apart by their subject where a leaf names its issuer.
    let name = format!("warp-operator CA {}", now.as_millisecond());
    params.distinguished_name.push(DnType::CommonName, name);
    hold(&mut params, now, after(now, life));
    let certificate = params.self_signed(&key)?.pem();
    Ok(Pair { certificate, key: key.serialize_pem() })
}

/// A server's certificate for `names`, signed by `authority`, which it doesn't outlive.
pub(super) fn leaf(
    authority: &Pair,
    names: &[String],
    now: Timestamp,
    life: Duration,
) -> Result<Pair, PkiError> {
    let issuer =
        Issuer::from_ca_cert_pem(&authority.certificate, KeyPair::from_pem(&authority.key)?)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.distinguished_name.push(DnType::CommonName, "warp-operator webhook");
    let end = lifetimes(&authority.certificate).first().map_or(Timestamp::MAX, |ca| ca.not_after);
    hold(&mut params, now, end.min(after(now, life)));
    let certificate = params.signed_by(&key, &issuer)?.pem();
    Ok(Pair { certificate, key: key.serialize_pem() })
}

fn after(now: Timestamp, life: Duration) -> Timestamp {
    now.saturating_add(life).unwrap_or(Timestamp::MAX)
}

fn hold(params: &mut CertificateParams, from: Timestamp, to: Timestamp) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let seconds =
        |at: Timestamp| Duration::from_secs(at.as_second().try_into().unwrap_or_default());
    params.not_before = epoch + seconds(from).saturating_sub(CLOCK_SKEW);
    params.not_after = epoch + seconds(to);
}

/// When each certificate of a PEM text holds. What can't be read is left out.
pub(super) fn lifetimes(pem: &str) -> Vec<Lifetime> {
    certificates(pem).iter().filter_map(|der| lifetime(&parse(der)?)).collect()
}

/// The certificates of a PEM text that hold at `now`, as PEM texts.
pub(super) fn holding(pem: &str, now: Timestamp) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    pem.split_inclusive(END)
        .map(str::trim)
        .filter(|one| lifetimes(one).first().is_some_and(|life| now < life.not_after))
        .map(|one| format!("{one}\n"))
        .collect()
}

/// Whether the first certificate of `authority` signed the first of `leaf`, which is for `names`.
pub(super) fn fits(leaf: &str, authority: &str, names: &[String]) -> bool {
    let (leaf, authority) = (certificates(leaf), certificates(authority));
    let first = |list: &[CertificateDer<'static>]| list.first().cloned();
    let (Some(leaf), Some(authority)) = (first(&leaf), first(&authority)) else { return false };
    let (Some(leaf), Some(authority)) = (parse(&leaf), parse(&authority)) else { return false };
    let Ok(Some(alternatives)) = leaf.subject_alternative_name() else { return false };
    let is_for =
        |name: &String| alternatives.value.general_names.contains(&GeneralName::DNSName(name));
    names.iter().all(is_for) && leaf.verify_signature(Some(authority.public_key())).is_ok()
}

/// What a TLS server answers with.
pub(super) fn certified(pair: &Pair) -> Result<CertifiedKey, PkiError> {
    let chain =
        CertificateDer::pem_slice_iter(pair.certificate.as_bytes()).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes())?;
    Ok(CertifiedKey::from_der(chain, key, &ring::default_provider())?)
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok).collect()
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    X509Certificate::from_der(der.as_ref()).ok().map(|(_, certificate)| certificate)
}

/// The life as it was meant, without what was added for slow clocks.
fn lifetime(certificate: &X509Certificate<'_>) -> Option<Lifetime> {
    let validity = certificate.validity();
    let at = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
    Some(Lifetime {
        not_before: at(validity.not_before)?.saturating_add(CLOCK_SKEW).ok()?,
        not_after: at(validity.not_after)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn names() -> Vec<String> {
        vec!["warp.ns.svc".to_owned(), "warp.ns.svc.cluster.local".to_owned()]
    }

    #[test]
    fn a_leaf_fits_its_authority_and_its_names_only() {
        let ours = authority(now(), 3 * DAY).unwrap();
        let leaf = leaf(&ours, &names(), now(), DAY).unwrap();
        assert!(fits(&leaf.certificate, &ours.certificate, &names()));
        assert!(!fits(&leaf.certificate, &ours.certificate, &["other".to_owned()]));
        let other = authority(now(), 3 * DAY).unwrap();
        assert!(!fits(&leaf.certificate, &other.certificate, &names()));
        certified(&leaf).unwrap();
        let mixed = Pair { certificate: leaf.certificate, key: other.key };
        assert!(matches!(certified(&mixed), Err(PkiError::Pair(_))));
    }

    #[test]
    fn a_lifetime_reads_back_and_a_leaf_does_not_outlive_its_authority() {
        let ca = authority(now(), 3 * DAY).unwrap();
        let until = |life: Duration| {
            let leaf = leaf(&ca, &names(), now(), life).unwrap();
            lifetimes(&leaf.certificate)[0]
        };
        assert_eq!(until(DAY), Lifetime { not_before: now(), not_after: now() + DAY });
        assert_eq!(until(9 * DAY).not_after, now() + 3 * DAY);
    }

    #[test]
    fn only_what_holds_stays_trusted() {
        let old = authority(now(), DAY).unwrap().certificate;
        let new = authority(now(), 3 * DAY).unwrap().certificate;
        let both = format!("{new}{old}");
        assert_eq!(holding(&both, now()), [new.clone(), old]);
        assert_eq!(holding(&both, now() + 2 * DAY), [new]);
        assert_eq!(holding("no certificate", now()), [""; 0]);
    }
}
