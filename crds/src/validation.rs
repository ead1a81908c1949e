//! What can't be accepted, and why. The schema's own rules refuse most of it at admission; these
//! hold wherever a manifest comes from, a file included, and the operator runs them again.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::cluster::{Bus, NatsBus, Storage};
use crate::policy::{PolicyRules, Rules};
use crate::{WarpClusterSpec, WarpPolicySpec, nats, quantity, socket};

mod rules;
mod warm_up;

pub use rules::{Budget, rules};

/// One thing that can't be accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Violation {
    /// Path of the field, such as `spec.bus.kafka`.
    pub field: String,
    /// CamelCase, for a condition.
    pub reason: Reason,
    /// What is wrong and what to do.
    pub message: String,
}

/// Why a manifest is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The value is out of its range or of its form.
    Invalid,
    /// The value is well formed, but this version of Warp can't do it.
    Unsupported,
    /// What the manifest names isn't there.
    NotFound,
    /// Another object says something else about the same.
    Conflict,
}

impl Reason {
    /// As a condition's reason writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "Invalid",
            Self::Unsupported => "Unsupported",
            Self::NotFound => "NotFound",
            Self::Conflict => "Conflict",
        }
    }
}

/// The least memory that a cache is worth running with, in bytes.
const LEAST_MEMORY: u64 = 1 << 20;

/// What the longest TTL of a lock may be.
const LOCK_TTLS: std::ops::RangeInclusive<std::time::Duration> =
    std::time::Duration::from_secs(1)..=std::time::Duration::from_hours(1);

/// Everything that is wrong with a cluster.
pub fn cluster(spec: &WarpClusterSpec) -> Vec<Violation> {
    let mut found = Vec::new();
    bus(&spec.bus, &mut found);
    storage(&spec.storage, &mut found);
    found.extend(within("spec.defaults", rules(&spec.defaults, Rules::BUILT_IN)));
    let longest = std::time::Duration::from(spec.locks.max_ttl);
    if spec.locks.max_ttl.is_negative() || !LOCK_TTLS.contains(&longest) {
        invalid(&mut found, "spec.locks.maxTtl", "must be between 1s and 1h");
    }
    memory_limit(&spec.sidecar.memory_limit, &mut found);
    if let Some(given) = &spec.warm_up {
        warm_up::warm_up(given, &spec.storage, &mut found);
    }
    let quota = spec.defaults.resolve(Rules::BUILT_IN).quota;
    let limit = quantity::bytes(&spec.sidecar.memory_limit).unwrap_or(u64::MAX);
    if quota > limit.saturating_sub(LEAST_MEMORY) {
        invalid(&mut found, "spec.defaults.quota", "must leave 1Mi of sidecar.memoryLimit");
    }
    let sidecar = &spec.sidecar;
    for (field, port) in [("port", sidecar.port), ("metricsPort", sidecar.metrics_port)] {
        if !(1..=65535).contains(&port) {
            invalid(
                &mut found,
                format!("spec.sidecar.{field}"),
                format!("{port} is not a port; give 1 to 65535"),
            );
        }
    }
    if !(1..=64).contains(&sidecar.threads) {
        invalid(&mut found, "spec.sidecar.threads", "must be 1 to 64");
    }
    if sidecar.port == sidecar.metrics_port {
        invalid(&mut found, "spec.sidecar.metricsPort", "is the RESP port too; give another");
    }
    if sidecar.unix_socket.as_deref().is_some_and(|path| !socket::is_fitting(path)) {
        invalid(&mut found, "spec.sidecar.unixSocket", socket::ADVICE);
    }
    for (at, name) in spec.allowed_namespaces.iter().enumerate() {
        if !is_namespace(name) && name != "*" {
            let message = format!("{name:?} is no name of a namespace; give one, or * for all");
            invalid(&mut found, format!("spec.allowedNamespaces[{at}]"), message);
        }
    }
    found
}

/// Whether it could be one: an RFC 1123 label.
fn is_namespace(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&name.len())
        && name.chars().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Everything that is wrong with a policy by itself; `defaults` are its cluster's.
pub fn policy(spec: &WarpPolicySpec, defaults: &PolicyRules) -> Vec<Violation> {
    let mut found = Vec::new();
    if spec.patterns.is_empty() || spec.patterns.len() > 64 {
        invalid(&mut found, "spec.match", "give 1 to 64 patterns");
    }
    for (at, pattern) in spec.patterns.iter().enumerate() {
        if pattern.0.is_empty() || pattern.0.len() > 512 {
            invalid(&mut found, format!("spec.match[{at}]"), "a pattern has 1 to 512 characters");
        }
    }
    found.extend(within("spec", rules(&spec.rules, defaults.resolve(Rules::BUILT_IN))));
    found
}

fn bus(bus: &Bus, found: &mut Vec<Violation>) {
    match bus {
        Bus::Memory(_) => {}
        Bus::Nats(NatsBus::Managed(managed)) => {
            if managed.replicas != 1 && managed.replicas != 3 {
                invalid(
                    found,
                    "spec.bus.nats.managed.replicas",
                    format!("{} can't form a quorum well; give 1 or 3", managed.replicas),
                );
            }
            if let Err(error) = quantity::bytes(&managed.storage.size) {
                invalid(found, "spec.bus.nats.managed.storage.size", error.to_string());
            }
        }
        Bus::Nats(NatsBus::External(external)) => {
            if external.urls.is_empty() {
                invalid(
                    found,
                    "spec.bus.nats.external.urls",
                    "give at least one URL, such as nats://nats:4222",
                );
            }
            for (at, url) in external.urls.iter().enumerate() {
                if !["nats://", "tls://"].iter().any(|scheme| url.starts_with(scheme)) {
                    invalid(
                        found,
                        format!("spec.bus.nats.external.urls[{at}]"),
                        format!(
                            "{} must start with nats:// or tls://",
                            nats::shown(std::slice::from_ref(url))
                        ),
                    );
                }
            }
        }
        Bus::Redis(_) => unsupported(
            found,
            "spec.bus.redis",
            "Redis as a bus is not supported yet; use nats or memory",
        ),
        Bus::Kafka(_) => unsupported(
            found,
            "spec.bus.kafka",
            "Kafka as a bus is not supported yet; use nats or memory",
        ),
    }
}

fn storage(storage: &Storage, found: &mut Vec<Violation>) {
    match storage {
        Storage::Memory(_) => {}
        Storage::Redis(redis) => {
            if !["redis://", "rediss://"].iter().any(|scheme| redis.url.starts_with(scheme)) {
                invalid(found, "spec.storage.redis.url", "must start with redis:// or rediss://");
            }
        }
        Storage::Postgres(postgres) => {
            let name = |part: &str| {
                part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
                    && part.len() <= 55
                    && part
                        .chars()
                        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            };
            let mut parts = postgres.table.split('.');
            if postgres.table.split('.').count() > 2 || !parts.all(name) {
                invalid(
                    found,
                    "spec.storage.postgres.table",
                    "give a lower-case SQL name, optionally with its schema: warp_cache or app.warp_cache",
                );
            }
        }
    }
}

/// What was found in a part, as found in the whole.
fn within(at: &str, found: Vec<Violation>) -> impl Iterator<Item = Violation> {
    found
        .into_iter()
        .map(move |violation| Violation { field: format!("{at}.{}", violation.field), ..violation })
}

fn memory_limit(limit: &Quantity, found: &mut Vec<Violation>) {
    match quantity::bytes(limit) {
        Ok(bytes) if bytes >= LEAST_MEMORY => {}
        Ok(_) => invalid(found, "spec.sidecar.memoryLimit", "must be at least 1Mi"),
        Err(error) => invalid(found, "spec.sidecar.memoryLimit", error.to_string()),
    }
}

fn invalid(found: &mut Vec<Violation>, field: impl Into<String>, message: impl Into<String>) {
    found.push(Violation { field: field.into(), reason: Reason::Invalid, message: message.into() });
}

fn unsupported(found: &mut Vec<Violation>, field: &str, message: &str) {
    found.push(Violation {
        field: field.to_owned(),
        reason: Reason::Unsupported,
        message: message.to_owned(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{
        ExternalNats, KafkaBus, LocksSpec, ManagedNats, RedisBus, RedisTransport, SidecarSpec,
    };
    use crate::pattern::KeyPattern;
    use crate::policy::{ClusterRef, Mode, Preset};

    fn policy_with(rules: PolicyRules) -> WarpPolicySpec {
        WarpPolicySpec {
            cluster_ref: ClusterRef { name: "c".to_owned() },
            patterns: vec![KeyPattern("user:*".to_owned())],
            rules,
        }
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(cluster(&WarpClusterSpec::default()), []);
        assert_eq!(policy(&policy_with(PolicyRules::default()), &PolicyRules::default()), []);
    }

    #[test]
    fn what_is_not_supported_yet_is_refused_with_a_way_out() {
        let kafka = WarpClusterSpec {
            bus: Bus::Kafka(KafkaBus { brokers: vec!["k:9092".to_owned()] }),
            ..Default::default()
        };
        let redis = WarpClusterSpec {
            bus: Bus::Redis(RedisBus {
                transport: RedisTransport::Streams,
                url: "redis://r:6379".to_owned(),
            }),
            ..Default::default()
        };
        let strong = PolicyRules { mode: Some(Mode::StrongDistributed), ..Default::default() };
        for found in [
            cluster(&kafka),
            cluster(&redis),
            policy(&policy_with(strong), &PolicyRules::default()),
        ] {
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].reason, Reason::Unsupported);
            assert!(found[0].message.contains("use "), "{}", found[0]);
        }
    }

    #[test]
    fn a_refused_url_is_shown_without_its_password() {
        let external = ExternalNats {
            urls: vec!["http://me:s3cret@nats:4222".to_owned()],
            credentials_secret_ref: None,
        };
        let spec =
            WarpClusterSpec { bus: Bus::Nats(NatsBus::External(external)), ..Default::default() };
        let message = cluster(&spec)[0].to_string();
        assert!(message.contains("http://nats:4222") && !message.contains("s3cret"), "{message}");
    }

    #[test]
    fn every_wrong_field_is_named() {
        let spec = WarpClusterSpec {
            bus: Bus::Nats(NatsBus::Managed(ManagedNats { replicas: 2, ..Default::default() })),
            sidecar: SidecarSpec {
                port: 0,
                metrics_port: 0,
                memory_limit: Quantity("12".to_owned()),
                unix_socket: Some("/tmp/warp.sock".to_owned()),
                ..Default::default()
            },
            allowed_namespaces: ["*", "shop-1", "Shop", ""].map(str::to_owned).into(),
            locks: LocksSpec { max_ttl: std::time::Duration::from_millis(10).into() },
            ..Default::default()
        };
        let fields: Vec<String> = cluster(&spec).into_iter().map(|v| v.field).collect();
        assert_eq!(
            fields,
            [
                "spec.bus.nats.managed.replicas",
                "spec.locks.maxTtl",
                "spec.sidecar.memoryLimit",
                "spec.sidecar.port",
                "spec.sidecar.metricsPort",
                "spec.sidecar.metricsPort",
                "spec.sidecar.unixSocket",
                "spec.allowedNamespaces[2]",
                "spec.allowedNamespaces[3]"
            ]
        );
    }

    #[test]
    fn a_policy_starts_from_its_preset_then_from_the_defaults() {
        let defaults = PolicyRules { mode: Some(Mode::StrongLocal), ..Default::default() }
            .resolve(Rules::BUILT_IN);
        assert_eq!(PolicyRules::default().resolve(defaults).mode, Mode::StrongLocal);
        let preset = PolicyRules { preset: Some(Preset::Session), ..Default::default() };
        assert_eq!(preset.resolve(defaults), Preset::Session.rules());
    }
}
