//! The sidecar's metrics, in Prometheus' naming. Labels are bounded: classes come from policies,
//! results and kinds from fixed lists.

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use crate::preset::Classes;

pub mod latency;

use latency::Latency;

/// All of them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    hits: IntCounterVec,
    misses: IntCounterVec,
    refreshes: IntCounterVec,
    /// Bytes that the copies of a class with a quota take.
    pub class_bytes: IntGaugeVec,
    /// Bytes that a class with a quota may take.
    pub class_quota_bytes: IntGaugeVec,
    /// Bus messages applied.
    pub bus_messages: IntCounter,
    /// Positions missed on the live path and replayed from the bus.
    pub bus_replayed: IntCounter,
    /// Flushes because positions were lost.
    pub bus_resets: IntCounter,
    /// Gaps seen on the live path.
    pub bus_gaps: IntCounter,
    /// Whether the bus is live.
    pub bus_live: IntGauge,
    /// Keys whose invalidation waits to be published.
    pub bus_pending: IntGauge,
    /// Writes answered before the bus had acknowledged their invalidation.
    pub bus_deferred: IntCounter,
    /// Seconds from an invalidation's announcement to its acknowledgement.
    pub bus_publish_seconds: Histogram,
    /// Whether the storage answers.
    pub storage_up: IntGauge,
    storage_errors: IntCounterVec,
    /// Seconds of a storage call, by operation.
    pub storage_seconds: HistogramVec,
    /// Configurations applied, by result.
    config_reloads: IntCounterVec,
    /// Whether the configuration on disk is the one applied.
    pub config_current: IntGauge,
    /// Cached entries.
    pub cache_entries: IntGauge,
    /// Bytes of cached entries.
    pub cache_bytes: IntGauge,
    /// Bytes that cached entries may take.
    pub cache_limit_bytes: IntGauge,
    /// Entries evicted to make room.
    pub cache_evictions: IntCounter,
    /// Whether a warm-up is under way.
    pub warmup_running: IntGauge,
    /// Keys that warm-ups have read.
    pub warmup_keys: IntCounter,
    /// Bytes of these keys and their values.
    pub warmup_bytes: IntCounter,
    /// Messages that clients published.
    pub channels_published: IntCounter,
    /// Messages that came from other pods.
    pub channels_received: IntCounter,
    /// Messages that the bus didn't take.
    pub channels_lost: IntCounter,
    /// Keys that clients with copies were told of.
    pub channels_invalidations: IntCounter,
    /// What took long, for LATENCY.
    pub latency: Latency,
    /// Locks that clients asked for, by what came of it.
    pub lock_requests: IntCounterVec,
    /// Locks that were lost before they were released, by why.
    pub lock_lost: IntCounterVec,
    /// Locks that are held through this sidecar.
    pub lock_held: IntGauge,
    /// Its clients that wait for a lock.
    pub lock_waiting: IntGauge,
    /// Leases of the cluster that live.
    pub lease_known: IntGauge,
    /// Leases that were granted here.
    pub lease_granted: IntCounter,
    /// Leases that ended here, by why.
    pub lease_ended: IntCounterVec,
    /// Keys that were removed with them.
    pub lease_keys_removed: IntCounter,
}

/// The counters of one class, looked up once.
#[derive(Clone, Debug)]
pub struct ClassCounters {
    /// Reads answered from memory.
    pub hits: IntCounter,
    /// Reads answered from memory: there is no such key.
    pub negative: IntCounter,
    /// Reads answered with an older copy that stood in for the storage.
    pub stale: IntCounter,
    /// Copies read anew before they ended.
    pub refreshed: IntCounter,
    /// Reads that shared another read's answer from storage.
    pub coalesced: IntCounter,
    /// Reads that the storage answered with a value.
    pub loaded: IntCounter,
    /// Reads that the storage answered with nothing.
    pub absent: IntCounter,
    /// Reads that went to storage because the bus isn't live.
    pub bypassed: IntCounter,
    /// Reads that failed.
    pub failed: IntCounter,
}

impl Metrics {
    /// Registers them all in a new registry.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let seconds =
            vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
        let counter = |name: &str, help: &str| register(&registry, IntCounter::new(name, help)?);
        let gauge = |name: &str, help: &str| register(&registry, IntGauge::new(name, help)?);
        let counters = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        let gauges = |name: &str, help: &str| {
            register(&registry, IntGaugeVec::new(Opts::new(name, help), &["class"])?)
        };
        Ok(Self {
            hits: counters(
                "warp_cache_hits_total",
                "Reads answered without asking the storage for them alone.",
                &["class", "result"],
            )?,
            misses: counters(
                "warp_cache_misses_total",
                "Reads that went to the storage.",
                &["class", "result"],
            )?,
            refreshes: counters(
                "warp_cache_refreshes_total",
                "Copies read anew from storage, behind a hit, before they ended.",
                &["class"],
            )?,
            class_bytes: gauges(
                "warp_cache_class_bytes",
                "Bytes that the copies of a class with a quota take.",
            )?,
            class_quota_bytes: gauges(
                "warp_cache_class_quota_bytes",
                "Bytes that the copies of a class with a quota may take.",
            )?,
            bus_messages: counter("warp_bus_messages_total", "Invalidations applied.")?,
            bus_replayed: counter(
                "warp_bus_replayed_total",
                "Invalidations missed on the live path and replayed from the bus.",
            )?,
            bus_resets: counter(
                "warp_bus_resets_total",
                "Flushes of the cache because invalidations were lost for good.",
            )?,
            bus_gaps: counter("warp_bus_gaps_total", "Gaps seen on the live path.")?,
            bus_live: gauge(
                "warp_bus_live",
                "1 while the cache is known to be no older than its bound, else 0.",
            )?,
            bus_pending: gauge(
                "warp_bus_pending_invalidations",
                "Keys written here whose invalidation the bus hasn't acknowledged.",
            )?,
            bus_deferred: counter(
                "warp_bus_deferred_total",
                "Writes answered before the bus acknowledged their invalidation.",
            )?,
            bus_publish_seconds: register(
                &registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "warp_bus_publish_duration_seconds",
                        "Seconds from a write's announcement to the bus's acknowledgement.",
                    )
                    .buckets(seconds.clone()),
                )?,
            )?,
            storage_up: gauge("warp_storage_up", "1 while the storage answers, else 0.")?,
            storage_errors: counters(
                "warp_storage_errors_total",
                "Storage calls that failed: unavailable, unknown or refused.",
                &["error"],
            )?,
            storage_seconds: register(
                &registry,
                HistogramVec::new(
                    HistogramOpts::new(
                        "warp_storage_duration_seconds",
                        "Seconds of a storage call.",
                    )
                    .buckets(seconds),
                    &["operation"],
                )?,
            )?,
            config_reloads: counters(
                "warp_config_reloads_total",
                "Configurations read from disk: applied or refused.",
                &["result"],
            )?,
            config_current: gauge(
                "warp_config_current",
                "1 while the configuration on disk is the one applied, else 0.",
            )?,
            cache_entries: gauge("warp_cache_entries", "Cached entries.")?,
            cache_bytes: gauge("warp_cache_bytes", "Bytes of cached entries, overhead included.")?,
            cache_limit_bytes: gauge(
                "warp_cache_limit_bytes",
                "Bytes that cached entries may take.",
            )?,
            cache_evictions: counter(
                "warp_cache_evictions_total",
                "Entries evicted to make room.",
            )?,
            warmup_running: gauge(
                "warp_warmup_running",
                "1 while a warm-up is under way, else 0.",
            )?,
            warmup_keys: counter("warp_warmup_keys_total", "Keys that warm-ups have read.")?,
            warmup_bytes: counter(
                "warp_warmup_bytes_total",
                "Bytes of the keys and values that warm-ups have read.",
            )?,
            channels_published: counter(
                "warp_channels_published_total",
                "Messages that clients published on channels.",
            )?,
            channels_received: counter(
                "warp_channels_received_total",
                "Messages on channels that came from other pods.",
            )?,
            channels_lost: counter(
                "warp_channels_lost_total",
                "Messages on channels that other pods don't get, since the bus was away or slow.",
            )?,
            channels_invalidations: counter(
                "warp_channels_invalidations_total",
                "Keys that clients with copies of them were told to forget.",
            )?,
            lock_requests: counters(
                "warp_lock_requests_total",
                "Locks that clients asked for: granted, refused because another has it, or failed.",
                &["result"],
            )?,
            lock_lost: counters(
                "warp_lock_lost_total",
                "Locks that were lost before they were released.",
                &["reason"],
            )?,
            lock_held: gauge("warp_lock_held", "Locks that are held through this sidecar.")?,
            lock_waiting: gauge("warp_lock_waiting", "Clients here that wait for a lock.")?,
            lease_known: gauge("warp_lease_known", "Leases of the cluster that live.")?,
            lease_granted: counter("warp_lease_granted_total", "Leases that were granted here.")?,
            lease_ended: counters(
                "warp_lease_ended_total",
                "Leases whose keys this sidecar removed: expired or revoked.",
                &["reason"],
            )?,
            lease_keys_removed: counter(
                "warp_lease_keys_removed_total",
                "Keys that this sidecar removed with their leases.",
            )?,
            registry,
            latency: Latency::default(),
        })
    }

    /// Where other rooms register their own.
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The counters of each class, in the order of [`Classes::all`]. Counters of classes that are
    /// gone go too, so that names can't pile up.
    pub fn of_classes(&self, classes: &Classes) -> Vec<ClassCounters> {
        let of = |family: &IntCounterVec, class: &str, result: &str| {
            family.with_label_values(&[class, result])
        };
        classes
            .all()
            .iter()
            .map(|class| ClassCounters {
                hits: of(&self.hits, &class.name, "local"),
                negative: of(&self.hits, &class.name, "negative"),
                stale: of(&self.hits, &class.name, "stale"),
                refreshed: self.refreshes.with_label_values(&[&class.name]),
                coalesced: of(&self.hits, &class.name, "coalesced"),
                loaded: of(&self.misses, &class.name, "loaded"),
                absent: of(&self.misses, &class.name, "absent"),
                bypassed: of(&self.misses, &class.name, "bypassed"),
                failed: of(&self.misses, &class.name, "error"),
            })
            .collect()
    }

    /// Forgets the counters of a class that is gone.
    pub fn drop_class(&self, class: &str) {
        let _ = self.refreshes.remove_label_values(&[class]);
        for (family, results) in [
            (&self.hits, ["local", "negative", "stale", "coalesced"].as_slice()),
            (&self.misses, ["loaded", "absent", "bypassed", "error"].as_slice()),
        ] {
            for result in results {
                // Absent already is as good.
                let _ = family.remove_label_values(&[class, result]);
            }
        }
    }

    /// All reads answered from memory, and all that went to storage, since the start.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        let sum = |family: &IntCounterVec| {
            let values = family.collect();
            let metrics = values.iter().flat_map(MetricFamily::get_metric);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
            let total = metrics.map(|m| m.get_counter().get_value() as u64).sum::<u64>();
            total
        };
        (sum(&self.hits), sum(&self.misses))
    }

    /// Counts a failed storage call.
    pub fn storage_error(&self, error: &crate::adapter::StorageError) {
        use crate::adapter::StorageError as E;
        let label = match error {
            E::Unavailable { .. } => "unavailable",
            E::Unknown { .. } => "unknown",
            E::Refused(_) => "refused",
        };
        self.storage_errors.with_label_values(&[label]).inc();
    }

    /// Counts a configuration that was read.
    pub fn config_read(&self, applied: bool) {
        let result = if applied { "applied" } else { "refused" };
        self.config_reloads.with_label_values(&[result]).inc();
        self.config_current.set(i64::from(applied));
    }

    /// The text of `/metrics`.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
