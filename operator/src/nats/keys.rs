//! The NKEY users of a managed NATS and the password between its servers: made once, kept in the
//! Secret beside it. The servers' configuration holds the public keys alone.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use nkeys::{KeyPair, KeyPairType};
use rand::Rng;
use rand::distr::{Alphanumeric, SampleString};
use warp_crds::names;

/// The key of the operator's own seed in the Secret.
const OPERATOR_SEED: &str = "operator.nk";
/// The key of the system account's seed, for a person who looks into the servers.
const SYSTEM_SEED: &str = "system.nk";
/// The key of the password between the servers.
const ROUTE_PASSWORD: &str = "route-password";

/// A Secret that holds something else than it should.
#[derive(Debug, thiserror::Error)]
#[error(
    "key {key} of the NATS Secret is not an NKEY user seed; delete the Secret, and new ones are made: {source}"
)]
pub struct KeyError {
    key: &'static str,
    source: nkeys::error::Error,
}

/// One NKEY user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// What the user proves itself with.
    pub seed: String,
    /// What the servers know it by.
    pub public: String,
}

/// All secrets of one managed NATS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The system account's user.
    pub system: User,
    /// The operator, who administers the stream.
    pub operator: User,
    /// The user that all sidecars of the cluster share.
    pub sidecar: User,
    /// What the servers prove themselves to each other with.
    pub route_password: String,
}

impl Keys {
    /// What stands in the Secret's `data`; what is missing there is made from `random`.
    pub fn complete(
        data: &BTreeMap<String, ByteString>,
        random: &mut impl Rng,
    ) -> Result<Self, KeyError> {
        let mut user = |key: &'static str| {
            let refused = |source| KeyError { key, source };
            let pair = match text(data, key) {
                Some(seed) => KeyPair::from_seed(seed),
                None => KeyPair::new_from_raw(KeyPairType::User, random.random()),
            }
            .map_err(refused)?;
            Ok(User { seed: pair.seed().map_err(refused)?, public: pair.public_key() })
        };
        Ok(Self {
            system: user(SYSTEM_SEED)?,
            operator: user(OPERATOR_SEED)?,
            sidecar: user(names::NATS_SIDECAR_SEED)?,
            route_password: text(data, ROUTE_PASSWORD)
                .map_or_else(|| Alphanumeric.sample_string(random, 32), str::to_owned),
        })
    }

    /// As the Secret's `data` holds them.
    pub fn data(&self) -> BTreeMap<String, ByteString> {
        [
            (SYSTEM_SEED, &self.system.seed),
            (OPERATOR_SEED, &self.operator.seed),
            (names::NATS_SIDECAR_SEED, &self.sidecar.seed),
            (ROUTE_PASSWORD, &self.route_password),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), ByteString(value.clone().into_bytes())))
        .collect()
    }
}

fn text<'a>(data: &'a BTreeMap<String, ByteString>, key: &str) -> Option<&'a str> {
    std::str::from_utf8(&data.get(key)?.0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_is_kept_and_what_is_missing_is_made() {
        let mut random = rand::rng();
        let first = Keys::complete(&BTreeMap::new(), &mut random).unwrap();
        assert!(first.sidecar.seed.starts_with("SU") && first.sidecar.public.starts_with('U'));
        assert_ne!(first.sidecar, first.operator);
        let mut data = first.data();
        assert_eq!(Keys::complete(&data, &mut random).unwrap(), first);
        data.remove(OPERATOR_SEED);
        let second = Keys::complete(&data, &mut random).unwrap();
        assert_ne!(second.operator, first.operator);
        assert_eq!((second.sidecar, second.route_password), (first.sidecar, first.route_password));
    }

    #[test]
    fn a_spoilt_seed_is_refused_by_name() {
        let mut data = BTreeMap::new();
        data.insert(names::NATS_SIDECAR_SEED.to_owned(), ByteString(b"nonsense".to_vec()));
        let error = Keys::complete(&data, &mut rand::rng()).unwrap_err().to_string();
        assert!(error.contains("sidecar.nk") && error.contains("delete the Secret"), "{error}");
    }
}
