//! Reading the manifests that `kubectl apply` takes from one YAML text, without Kubernetes.
//!
//! The operator writes the same text into the ConfigMap that the sidecars read, so there is one
//! reader and one hash.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::{CustomResourceExt, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::policy::{ClusterRef, PolicyRules, Rules};
use crate::validation::{self, Budget, Reason, Violation};
use crate::{WarpCluster, WarpPolicy};

/// What one sidecar runs: a cluster and the policies for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifests {
    /// The one cluster.
    pub cluster: WarpCluster,
    /// Its policies.
    pub policies: Vec<WarpPolicy>,
    /// Values of Secrets given in the same text, by Secret and key.
    pub secrets: BTreeMap<(String, String), Vec<u8>>,
}

/// Why a text can't be run.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It isn't YAML, or not of the form that its kind has.
    #[error("document {document}: {message}")]
    Malformed {
        /// Counted from 1.
        document: usize,
        /// The parser's words.
        message: String,
    },
    /// A field that the kind doesn't have.
    #[error(
        "document {document}: unknown field {path}; check its spelling, or run a newer version"
    )]
    UnknownField {
        /// Counted from 1.
        document: usize,
        /// Path of the field.
        path: String,
    },
    /// A kind that isn't Warp's.
    #[error("document {document}: kind {kind:?} is not one of WarpCluster, WarpPolicy and Secret")]
    UnknownKind {
        /// Counted from 1.
        document: usize,
        /// As it is written.
        kind: String,
    },
    /// Not exactly one cluster.
    #[error("there must be one WarpCluster, and there are {0}")]
    Clusters(usize),
    /// Well formed, and can't be accepted.
    #[error("{}", join(.0))]
    Refused(Vec<Violation>),
}

fn join(violations: &[Violation]) -> String {
    violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Reads and validates a text of one WarpCluster, its WarpPolicies and, where there is no
/// Kubernetes, the Secrets that they name.
pub fn parse(text: &str) -> Result<Manifests, ManifestError> {
    let documents: Vec<Value> = serde_yaml::from_multiple(text)
        .map_err(|error| ManifestError::Malformed { document: 1, message: error.to_string() })?;
    let mut clusters: Vec<WarpCluster> = Vec::new();
    let mut policies: Vec<WarpPolicy> = Vec::new();
    let mut secrets = BTreeMap::new();
    for (at, value) in documents.into_iter().enumerate() {
        let document = at + 1;
        if value.is_null() {
            continue;
        }
        let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        match kind.as_str() {
            "WarpCluster" => clusters.push(strict(&value, document)?),
            "WarpPolicy" => policies.push(strict(&value, document)?),
            "Secret" => {
                let secret: Secret = typed(value, document)?;
                let name = secret.name_any();
                let data = secret.data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.0));
                let text = secret
                    .string_data
                    .unwrap_or_default()
                    .into_iter()
                    .map(|(k, v)| (k, v.into_bytes()));
                secrets.extend(data.chain(text).map(|(key, value)| ((name.clone(), key), value)));
            }
            _ => return Err(ManifestError::UnknownKind { document, kind }),
        }
    }
    let count = clusters.len();
    let (Some(cluster), 1) = (clusters.pop(), count) else {
        return Err(ManifestError::Clusters(count));
    };
    let manifests = Manifests { cluster, policies, secrets };
    let refused = violations(&manifests);
    if refused.is_empty() { Ok(manifests) } else { Err(ManifestError::Refused(refused)) }
}

fn violations(manifests: &Manifests) -> Vec<Violation> {
    let spec = &manifests.cluster.spec;
    let mut found = validation::cluster(spec);
    let mut budget = Budget::of(spec);
    for policy in &manifests.policies {
        let name = policy.name_any();
        let rules = policy.spec.rules.resolve(spec.defaults.resolve(Rules::BUILT_IN));
        found.extend(
            validation::policy(&policy.spec, &spec.defaults)
                .into_iter()
                .chain(budget.take(&rules).err())
                .map(|v| Violation { field: format!("WarpPolicy {name} {}", v.field), ..v }),
        );
        if policy.spec.cluster_ref.name != manifests.cluster.name_any() {
            found.push(Violation {
                field: format!("WarpPolicy {name} spec.clusterRef.name"),
                reason: Reason::NotFound,
                message: format!(
                    "is {:?}, and the cluster here is {:?}",
                    policy.spec.cluster_ref.name,
                    manifests.cluster.name_any()
                ),
            });
        }
    }
    found
}

/// Deserializes and refuses what the kind's schema doesn't have, as a strict API server does, so
/// that no field is accepted and ignored.
///
/// Making the schema takes a hundred times as long as all else that a sidecar does when it starts,
/// so it is asked only if the object, written again, lacks something that was given: an unknown
/// field, or a known one with the value that it has anyway.
fn strict<T: CustomResourceExt + DeserializeOwned + Serialize>(
    value: &Value,
    document: usize,
) -> Result<T, ManifestError> {
    let read = typed::<T>(value.clone(), document);
    let again = read.as_ref().ok().and_then(|read| serde_json::to_value(read).ok());
    if !again.is_some_and(|again| has_all(&again, value))
        && let Some(path) = unknown_field::<T>(value)
    {
        return Err(ManifestError::UnknownField { document, path });
    }
    read
}

/// Whether `known` has every field of `given`.
fn has_all(known: &Value, given: &Value) -> bool {
    match (known, given) {
        (Value::Object(known), Value::Object(given)) => given
            .iter()
            .all(|(key, given)| known.get(key).is_some_and(|known| has_all(known, given))),
        (Value::Array(known), Value::Array(given)) => {
            known.len() == given.len() && known.iter().zip(given).all(|(k, g)| has_all(k, g))
        }
        (_, Value::Object(_) | Value::Array(_)) => false,
        _ => true,
    }
}

/// The path of the first field that the schema of the kind doesn't have.
fn unknown_field<T: CustomResourceExt>(value: &Value) -> Option<String> {
    let mut crd = T::crd();
    let schema = crd.spec.versions.pop()?.schema?.open_api_v3_schema?;
    // What every object has stands in no schema.
    let own = value
        .as_object()?
        .iter()
        .filter(|(key, _)| !["apiVersion", "kind", "metadata"].contains(&key.as_str()));
    own.into_iter().find_map(|(key, value)| unknown_below(&schema, key, value, ""))
}

fn typed<T: DeserializeOwned>(value: Value, document: usize) -> Result<T, ManifestError> {
    serde_json::from_value(value)
        .map_err(|error| ManifestError::Malformed { document, message: error.to_string() })
}

/// The path of the first field, `key` or below it, that `schema` doesn't have.
fn unknown_below(schema: &JSONSchemaProps, key: &str, value: &Value, at: &str) -> Option<String> {
    let path = if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
    let schema = match (&schema.properties, &schema.additional_properties) {
        (Some(properties), _) if properties.contains_key(key) => &properties[key],
        (_, Some(JSONSchemaPropsOrBool::Schema(every))) => every,
        (None, _) => return None,
        _ => return Some(path),
    };
    match (value, &schema.items) {
        (Value::Object(fields), _) => {
            fields.iter().find_map(|(key, value)| unknown_below(schema, key, value, &path))
        }
        (Value::Array(items), Some(JSONSchemaPropsOrArray::Schema(of))) => items
            .iter()
            .filter_map(Value::as_object)
            .flatten()
            .find_map(|(key, value)| unknown_below(of, key, value, &path)),
        _ => None,
    }
}

/// The text of a cluster and its policies that every sidecar of theirs reads: without what the API
/// server adds, and in an order that doesn't depend on the policies' arrival.
pub fn render(
    cluster: &WarpCluster,
    policies: &[WarpPolicy],
) -> Result<String, serde_yaml::ser::Error> {
    let mut bare = WarpCluster::new(&cluster.name_any(), cluster.spec.clone());
    bare.metadata.namespace = cluster.namespace();
    let mut text = serde_yaml::to_string(&bare)?;
    let mut sorted: Vec<&WarpPolicy> = policies.iter().collect();
    sorted.sort_by_key(|policy| policy.name_any());
    for policy in sorted {
        let mut bare = WarpPolicy::new(&policy.name_any(), policy.spec.clone());
        bare.metadata.namespace = policy.namespace();
        text.push_str("---\n");
        text.push_str(&serde_yaml::to_string(&bare)?);
    }
    Ok(text)
}

/// What tells one configuration from another: 16 hexadecimal digits of the text's SHA-256.
pub fn hash(text: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    let first = digest.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    format!("{first:016x}")
}

/// The cluster of a sidecar that was given no file: memory for all of it.
pub fn standalone() -> Manifests {
    use crate::cluster::{Bus, MemoryBus, MemoryStorage, Storage, WarpClusterSpec, WhenFull};
    let spec = WarpClusterSpec {
        bus: Bus::Memory(MemoryBus {}),
        storage: Storage::Memory(MemoryStorage { when_full: WhenFull::Evict }),
        defaults: PolicyRules::default(),
        ..Default::default()
    };
    Manifests {
        cluster: WarpCluster::new("standalone", spec),
        policies: Vec::new(),
        secrets: BTreeMap::new(),
    }
}

impl ClusterRef {
    /// A reference to the cluster of that name.
    pub fn to(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Bus, NatsBus, Storage};
    use crate::policy::Mode;

    const SHOP: &str = "
apiVersion: warpcache.dev/v1alpha1
kind: WarpCluster
metadata: {name: shop, namespace: prod}
spec:
  bus: {nats: {managed: {replicas: 3}}}
  storage: {postgres: {urlSecretRef: {name: db, key: url}}}
---
apiVersion: warpcache.dev/v1alpha1
kind: WarpPolicy
metadata: {name: users}
spec: {clusterRef: {name: shop}, match: ['user:*'], mode: EventualDistributed, ttl: 30s}
---
apiVersion: v1
kind: Secret
metadata: {name: db}
stringData: {url: 'postgres://localhost/shop'}
";

    #[test]
    fn reads_what_kubectl_takes() {
        let read = parse(SHOP).unwrap();
        assert!(
            matches!(&read.cluster.spec.bus, Bus::Nats(NatsBus::Managed(m)) if m.replicas == 3)
        );
        assert!(
            matches!(&read.cluster.spec.storage, Storage::Postgres(p) if p.table == "warp_cache")
        );
        assert_eq!(read.policies[0].spec.rules.mode, Some(Mode::EventualDistributed));
        assert_eq!(
            read.secrets[&("db".to_owned(), "url".to_owned())],
            b"postgres://localhost/shop"
        );
    }

    #[test]
    fn what_is_rendered_reads_back_the_same() {
        let mut read = parse(SHOP).unwrap();
        read.secrets.clear();
        let text = render(&read.cluster, &read.policies).unwrap();
        let again = parse(&text).unwrap();
        assert_eq!(again, read);
        assert_eq!(hash(&text), hash(&render(&again.cluster, &again.policies).unwrap()));
    }

    #[test]
    fn nothing_is_accepted_and_ignored() {
        let typo = SHOP.replace("ttl: 30s", "tll: 30s");
        let error = parse(&typo).unwrap_err().to_string();
        assert!(error.contains("unknown field") && error.contains("tll"), "{error}");
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        for (from, to, expected) in [
            ("kind: Secret", "kind: Pod", "is not one of"),
            ("mode: EventualDistributed", "mode: StrongDistributed", "not supported yet"),
            ("clusterRef: {name: shop}", "clusterRef: {name: other}", "the cluster here is"),
            ("ttl: 30s", "ttl: 30", "expected a string in Go"),
            ("ttl: 30s", "ttl: 30x", "invalid unit"),
            ("ttl: 30s", "ttl: -30s", "between 1ms and 8760h"),
            ("replicas: 3", "replicas: 2", "give 1 or 3"),
            ("kind: WarpCluster", "kind: WarpPolicy", ""),
        ] {
            let error = parse(&SHOP.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(expected), "{to}: {error}");
        }
    }
}
