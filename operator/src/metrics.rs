//! The operator's metrics and the one registry that all of it registers with.

use std::time::Duration;

use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use warp_crds::status::SidecarsSummary;

/// What is counted. Labels are bounded: kinds, results, and the WarpClusters there are.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    reconciliations: IntCounterVec,
    durations: HistogramVec,
    sidecars: IntGaugeVec,
    /// 1 on the replica that leads.
    pub leader: IntGauge,
}

impl Metrics {
    /// Metrics registered with a registry of their own.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let reconciliations = IntCounterVec::new(
            Opts::new("warp_operator_reconciliations_total", "Reconciliations by kind and result"),
            &["kind", "result"],
        )?;
        let durations = HistogramVec::new(
            HistogramOpts::new(
                "warp_operator_reconcile_duration_seconds",
                "Time per reconciliation",
            )
            .buckets(vec![0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]),
            &["kind"],
        )?;
        let sidecars = IntGaugeVec::new(
            Opts::new("warp_operator_sidecars", "Sidecars of each WarpCluster by state"),
            &["namespace", "cluster", "state"],
        )?;
        let leader = IntGauge::new("warp_operator_leader", "1 on the replica that leads")?;
        registry.register(Box::new(reconciliations.clone()))?;
        registry.register(Box::new(durations.clone()))?;
        registry.register(Box::new(sidecars.clone()))?;
        registry.register(Box::new(leader.clone()))?;
        Ok(Self { registry, reconciliations, durations, sidecars, leader })
    }

    /// For metrics that are defined elsewhere.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Counts one reconciliation; `result` is `ok` or an error's category.
    pub fn reconciled(&self, kind: &str, result: &str, took: Duration) {
        self.reconciliations.with_label_values(&[kind, result]).inc();
        self.durations.with_label_values(&[kind]).observe(took.as_secs_f64());
    }

    /// Sets the gauges of one cluster's sidecars.
    pub fn observed(&self, namespace: &str, cluster: &str, seen: &SidecarsSummary) {
        for (state, value) in Self::states(seen) {
            self.sidecars.with_label_values(&[namespace, cluster, state]).set(value.into());
        }
    }

    /// Forgets a cluster that is gone.
    pub fn forget(&self, namespace: &str, cluster: &str) {
        for (state, _) in Self::states(&SidecarsSummary::default()) {
            // An error says that there was nothing to forget.
            let _ = self.sidecars.remove_label_values(&[namespace, cluster, state]);
        }
    }

    fn states(seen: &SidecarsSummary) -> [(&'static str, i32); 6] {
        [
            ("running", seen.running),
            ("reachable", seen.reachable),
            ("current", seen.current),
            ("bus_connected", seen.bus_connected),
            ("storage_connected", seen.storage_connected),
            ("missing", seen.missing),
        ]
    }

    /// The text that Prometheus reads.
    pub fn text(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_that_is_gone_leaves_no_series() {
        let metrics = Metrics::new().unwrap();
        let text = || String::from_utf8(metrics.text().unwrap()).unwrap();
        metrics.observed("ns", "c", &SidecarsSummary { running: 3, ..Default::default() });
        metrics.reconciled("WarpCluster", "ok", Duration::from_millis(3));
        assert!(text().contains(
            "warp_operator_sidecars{cluster=\"c\",namespace=\"ns\",state=\"running\"} 3"
        ));
        metrics.forget("ns", "c");
        assert!(!text().contains("state=\"running\""));
        assert!(text().contains("result=\"ok\"} 1"));
    }
}
