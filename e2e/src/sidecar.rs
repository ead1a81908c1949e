//! What a pod's sidecar says of itself on its metrics port.

use warp_crds::status::SidecarStatus;

use crate::{Failure, Outcome};

/// The sidecar in one pod.
#[derive(Clone, Debug)]
pub struct Sidecar {
    address: String,
    http: reqwest::Client,
}

impl Sidecar {
    /// The sidecar of the pod with this address, on the default metrics port.
    pub fn new(pod_ip: &str, http: reqwest::Client) -> Self {
        Self { address: format!("http://{pod_ip}:8080"), http }
    }

    /// Its `/status`.
    pub async fn status(&self) -> Outcome<SidecarStatus> {
        let url = format!("{}/status", self.address);
        Ok(self.http.get(url).send().await?.error_for_status()?.json().await?)
    }

    /// The sum of a counter over its labels.
    pub async fn counter(&self, name: &str) -> Outcome<u64> {
        self.sum(name, "").await
    }

    /// The reads that were answered by the storage because the bus had no proof.
    pub async fn bypassed(&self) -> Outcome<u64> {
        self.sum("warp_cache_misses_total", r#"result="bypassed""#).await
    }

    /// The sum of a counter over those of its series that have a label.
    async fn sum(&self, name: &str, label: &str) -> Outcome<u64> {
        let url = format!("{}/metrics", self.address);
        let text = self.http.get(url).send().await?.error_for_status()?.text().await?;
        let series: Vec<&str> = text
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])))
            .collect();
        if series.is_empty() {
            return Err(Failure::new(format!("{} has no metric {name}", self.address)));
        }
        let values = series.iter().filter(|line| line.contains(label));
        Ok(values.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
    }
}
