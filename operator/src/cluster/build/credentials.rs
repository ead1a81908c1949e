//! The Secret that carries a cluster's credentials to the pods of one namespace, a file for each.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use warp_crds::cluster::{Bus, NatsBus, SecretKeyRef, Storage};
use warp_crds::{WarpCluster, WarpClusterSpec, names};

use super::config_map;

/// The values of Secrets; `None` where there is no such Secret or key.
pub type Values = BTreeMap<SecretKeyRef, Option<Vec<u8>>>;

/// The keys of Secrets that a spec names.
pub fn references(spec: &WarpClusterSpec) -> Vec<&SecretKeyRef> {
    let storage = match &spec.storage {
        Storage::Memory(_) => None,
        Storage::Redis(redis) => redis.password_secret_ref.as_ref(),
        Storage::Postgres(postgres) => Some(&postgres.url_secret_ref),
    };
    let bus = match &spec.bus {
        Bus::Nats(NatsBus::External(external)) => external.credentials_secret_ref.as_ref(),
        _ => None,
    };
    storage.into_iter().chain(bus).collect()
}

/// The files' contents: what the spec names out of `values`, and the seed of a managed NATS. What
/// is missing now but stood in `previous` stays, so that a deleted Secret doesn't disturb the pods
/// that run.
pub fn files(
    spec: &WarpClusterSpec,
    values: &Values,
    nats_seed: Option<(&str, &str)>,
    previous: &BTreeMap<String, ByteString>,
) -> BTreeMap<String, ByteString> {
    let named = references(spec).into_iter().filter_map(|reference| {
        let file = names::secret_file(&reference.name, &reference.key);
        let value = match values.get(reference) {
            Some(Some(value)) => ByteString(value.clone()),
            _ => previous.get(&file)?.clone(),
        };
        Some((file, value))
    });
    let seed = nats_seed.map(|(secret, seed)| {
        let file = names::secret_file(secret, names::NATS_SIDECAR_SEED);
        (file, ByteString(seed.as_bytes().to_vec()))
    });
    named.chain(seed).collect()
}

/// The Secret for `namespace`.
pub fn secret(
    cluster: &WarpCluster,
    namespace: &str,
    files: &BTreeMap<String, ByteString>,
) -> Secret {
    Secret {
        metadata: config_map::metadata(cluster, namespace),
        data: Some(files.clone()),
        type_: Some("Opaque".to_owned()),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use warp_crds::cluster::PostgresStorage;

    use super::*;

    fn reference() -> SecretKeyRef {
        SecretKeyRef { name: "db".to_owned(), key: "url".to_owned() }
    }

    fn spec() -> WarpClusterSpec {
        let postgres = PostgresStorage { url_secret_ref: reference(), table: "t".to_owned() };
        WarpClusterSpec { storage: Storage::Postgres(postgres), ..Default::default() }
    }

    #[test]
    fn each_credential_is_a_file() {
        let values = Values::from([(reference(), Some(b"postgres://".to_vec()))]);
        let files = files(&spec(), &values, Some(("shop-nats", "SU1")), &BTreeMap::new());
        assert_eq!(
            files,
            BTreeMap::from([
                ("db_url".to_owned(), ByteString(b"postgres://".to_vec())),
                ("shop-nats_sidecar.nk".to_owned(), ByteString(b"SU1".to_vec())),
            ])
        );
    }

    #[test]
    fn a_deleted_secret_leaves_its_last_value_with_the_pods() {
        let previous = BTreeMap::from([
            ("db_url".to_owned(), ByteString(b"old".to_vec())),
            ("other_key".to_owned(), ByteString(b"gone".to_vec())),
        ]);
        let kept = files(&spec(), &Values::from([(reference(), None)]), None, &previous);
        assert_eq!(kept.into_keys().collect::<Vec<_>>(), ["db_url"]);
    }
}
