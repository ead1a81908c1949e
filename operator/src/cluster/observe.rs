//! Asking the sidecars how they are, and summing up what they say.

use std::time::Duration;

use futures::{StreamExt, stream};
use warp_crds::status::{SidecarStatus, SidecarsSummary};

use super::usage::Sidecar;

/// How long a sidecar may take to answer.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// Sidecars asked at once.
const CONCURRENCY: usize = 32;

/// What came of asking one sidecar.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// The sidecar.
    pub sidecar: Sidecar,
    /// Its answer; an error's words when there was none. Absent when it wasn't asked, since it
    /// isn't running yet.
    pub answer: Option<Result<SidecarStatus, String>>,
}

/// Asks all that run.
pub async fn ask(http: &reqwest::Client, sidecars: Vec<Sidecar>) -> Vec<Observation> {
    stream::iter(sidecars)
        .map(|sidecar| async move {
            let answer = match &sidecar.address {
                Some(address) => Some(status(http, address).await.map_err(|e| e.to_string())),
                None => None,
            };
            Observation { sidecar, answer }
        })
        .buffer_unordered(CONCURRENCY)
        .collect()
        .await
}

async fn status(http: &reqwest::Client, address: &str) -> reqwest::Result<SidecarStatus> {
    let request = http.get(format!("http://{address}/status")).timeout(PATIENCE);
    request.send().await?.error_for_status()?.json().await
}

/// Whether the sidecar runs the configuration `hash`, or has read it and said why it doesn't.
pub fn has_read(observation: &Observation, hash: &str) -> bool {
    observation
        .answer
        .iter()
        .flatten()
        .any(|status| status.config_hash == hash || status.config_error.is_some())
}

/// The numbers of the status. `hash` is the configuration that the sidecars are to run, `missing`
/// how many pods should have one and don't, `outdated` how many should have another one.
pub fn summarize(
    observations: &[Observation],
    hash: &str,
    missing: usize,
    outdated: usize,
) -> SidecarsSummary {
    let running: Vec<_> = observations.iter().filter_map(|o| o.answer.as_ref()).collect();
    let answered: Vec<&SidecarStatus> = running.iter().filter_map(|a| a.as_ref().ok()).collect();
    let count = |wanted: &dyn Fn(&SidecarStatus) -> bool| {
        number(answered.iter().filter(|status| wanted(status)).count())
    };
    let sum = |of: &dyn Fn(&SidecarStatus) -> u64| {
        let total = answered.iter().map(|status| of(status)).fold(0, u64::saturating_add);
        signed(total)
    };
    let (hits, misses) = (sum(&|s| s.cache.hits), sum(&|s| s.cache.misses));
    SidecarsSummary {
        running: number(running.len()),
        reachable: number(answered.len()),
        current: count(&|s| s.config_hash == hash),
        bus_connected: count(&|s| s.bus.live),
        storage_connected: count(&|s| s.storage.available),
        hits,
        misses,
        hit_ratio: ratio(hits, misses),
        locks_held: sum(&|s| s.locks.held),
        // All of them watch the same ones.
        leases: answered.iter().map(|s| signed(s.leases.known)).max().unwrap_or(0),
        missing: number(missing),
        outdated: number(outdated),
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// hits / (hits + misses) in thousandths, rounded to the nearest.
fn ratio(hits: i64, misses: i64) -> Option<String> {
    let (hits, reads) = (i128::from(hits), i128::from(hits) + i128::from(misses));
    if reads == 0 {
        return None;
    }
    let thousandths = (hits * 2000 + reads) / (reads * 2);
    Some(format!("{}.{:03}", thousandths / 1000, thousandths % 1000))
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use axum::http::StatusCode;
    use axum::routing::get;
    use axum::{Json, Router};
    use tokio::net::TcpListener;
    use warp_crds::status::{BusStatus, CacheStatus, LeasesStatus, LocksStatus, StorageStatus};

    use super::*;

    pub(in super::super) fn answer(hash: &str) -> SidecarStatus {
        SidecarStatus {
            version: "0.1.0".to_owned(),
            config_hash: hash.to_owned(),
            config_error: None,
            bus: BusStatus { kind: "nats".to_owned(), live: true, ..Default::default() },
            storage: StorageStatus { kind: "redis".to_owned(), available: true, error: None },
            cache: CacheStatus { hits: 2, misses: 1, ..Default::default() },
            classes: Vec::new(),
            origin: String::new(),
            warm_up: None,
            locks: LocksStatus { available: true, held: 3, ..Default::default() },
            leases: LeasesStatus { known: 5, ..Default::default() },
            uptime_seconds: 1,
        }
    }

    pub(in super::super) fn observed(answer: Option<Result<SidecarStatus, String>>) -> Observation {
        Observation { sidecar: at(None), answer }
    }

    fn at(address: Option<String>) -> Sidecar {
        Sidecar {
            namespace: "n".to_owned(),
            pod: "p".to_owned(),
            uid: None,
            workload: None,
            address,
            told: None,
            made: None,
        }
    }

    #[test]
    fn every_number_is_of_those_that_answered() {
        let mut stale = answer("old");
        stale.bus.live = false;
        stale.storage.available = false;
        stale.leases.known = 4;
        let seen = [
            observed(Some(Ok(answer("new")))),
            observed(Some(Ok(stale))),
            observed(Some(Err("refused".to_owned()))),
            observed(None),
        ];
        assert_eq!(
            summarize(&seen, "new", 2, 1),
            SidecarsSummary {
                running: 3,
                reachable: 2,
                current: 1,
                bus_connected: 1,
                storage_connected: 1,
                hits: 4,
                misses: 2,
                hit_ratio: Some("0.667".to_owned()),
                locks_held: 6,
                leases: 5,
                missing: 2,
                outdated: 1,
            }
        );
        assert_eq!(summarize(&[], "new", 0, 0), SidecarsSummary::default());
    }

    #[test]
    fn ratios_have_three_decimals() {
        for (hits, misses, expected) in
            [(0, 0, None), (0, 9, Some("0.000")), (1, 0, Some("1.000")), (1999, 1, Some("1.000"))]
        {
            assert_eq!(ratio(hits, misses).as_deref(), expected);
        }
    }

    #[test]
    fn a_refused_configuration_counts_as_read() {
        let mut refusing = answer("old");
        assert!(!has_read(&observed(Some(Ok(refusing.clone()))), "new"));
        refusing.config_error = Some("bad".to_owned());
        assert!(has_read(&observed(Some(Ok(refusing))), "new"));
        assert!(!has_read(&observed(None), "new"));
    }

    #[tokio::test]
    async fn sidecars_are_asked_over_http() {
        let app = Router::new()
            .route("/status", get(|| async { Json(answer("h")) }))
            .route("/broken/status", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, app).await });
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let sidecars = [
            Some(address.to_string()),
            Some(format!("{address}/broken")),
            Some(closed.to_string()),
            None,
        ];
        let mut seen = ask(&reqwest::Client::new(), sidecars.map(at).into()).await;
        seen.sort_by_key(|o| matches!(o.answer, Some(Ok(_))));
        assert_eq!(seen.pop().unwrap().answer, Some(Ok(answer("h"))));
        assert_eq!(summarize(&seen, "h", 0, 0).running, 2);
        assert_eq!(summarize(&seen, "h", 0, 0).reachable, 0);
        server.abort();
    }
}
