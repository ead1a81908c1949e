//! What can't be accepted of a warm-up.

use std::time::Duration;

use super::{Violation, invalid};
use crate::cluster::Storage;
use crate::cron::Schedule;
use crate::quantity;
use crate::warm_up::{LONGEST_READINESS, WarmUp, WarmUpSource};

/// The longest query.
const LONGEST_QUERY: usize = 4096;

pub(super) fn warm_up(given: &WarmUp, storage: &Storage, found: &mut Vec<Violation>) {
    let at = |field: &str| format!("spec.warmUp.{field}");
    if matches!(storage, Storage::Memory(_)) {
        let message = "storage memory is the cache itself, and starts empty; leave it out";
        invalid(found, "spec.warmUp", message);
    }
    if given.from.is_empty() || given.from.len() > 16 {
        invalid(found, at("from"), "give 1 to 16 sources");
    }
    for (number, source) in given.from.iter().enumerate() {
        let field = at(&format!("from[{number}]"));
        match source {
            WarmUpSource::Pattern(pattern) => {
                if pattern.0.is_empty() || pattern.0.len() > 512 {
                    invalid(found, field, "a pattern has 1 to 512 characters");
                }
            }
            WarmUpSource::Query(_) if !matches!(storage, Storage::Postgres(_)) => {
                invalid(found, field, "only storage postgres has queries; use a pattern");
            }
            WarmUpSource::Query(query) => {
                if query.trim().is_empty() || query.len() > LONGEST_QUERY {
                    invalid(found, field, "a query has 1 to 4096 characters");
                }
            }
        }
    }
    if !given.on_start && given.schedule.is_none() {
        invalid(found, at("onStart"), "is false, and there is no schedule: it would never be done");
    }
    if let Some(Err(error)) = given.schedule.as_deref().map(str::parse::<Schedule>) {
        invalid(found, at("schedule"), error.to_string());
    }
    if !(1..=1_000_000).contains(&given.keys_per_second) {
        invalid(found, at("keysPerSecond"), "must be 1 to 1000000");
    }
    match given.max_bytes.as_ref().map(quantity::bytes) {
        Some(Ok(0)) => invalid(found, at("maxBytes"), "must be at least 1"),
        Some(Err(error)) => invalid(found, at("maxBytes"), error.to_string()),
        None | Some(Ok(_)) => {}
    }
    let Some(timeout) = given.readiness_timeout else { return };
    if timeout.is_negative() || Duration::from(timeout) > LONGEST_READINESS {
        invalid(found, at("readinessTimeout"), "must be between 0s (none) and 10m");
    } else if !given.on_start && !Duration::from(timeout).is_zero() {
        invalid(found, at("readinessTimeout"), "waits for a warm-up at the start: set onStart");
    }
}

#[cfg(test)]
mod tests {
    use crate::WarpClusterSpec;
    use crate::validation::cluster;

    fn wrong(storage: &str, warm_up: &str) -> Vec<String> {
        let text = format!("{{storage: {storage}, warmUp: {warm_up}}}");
        let spec: WarpClusterSpec = serde_yaml::from_str(&text).unwrap();
        cluster(&spec).into_iter().map(|violation| violation.field).collect()
    }

    const POSTGRES: &str = "{postgres: {urlSecretRef: {name: db, key: url}}}";
    const REDIS: &str = "{redis: {url: 'redis://r:6379'}}";

    #[test]
    fn each_field_has_its_range_and_its_storage() {
        assert_eq!(wrong(REDIS, "{from: [{pattern: 'a:*'}]}"), [""; 0]);
        assert_eq!(wrong(POSTGRES, "{from: [{query: 'SELECT key FROM warp_cache'}]}"), [""; 0]);
        for (storage, warm_up, field) in [
            ("{memory: {}}", "{from: [{pattern: 'a'}]}", "spec.warmUp"),
            (REDIS, "{from: []}", "spec.warmUp.from"),
            (REDIS, "{from: [{query: 'SELECT 1'}]}", "spec.warmUp.from[0]"),
            (POSTGRES, "{from: [{pattern: 'a'}, {query: ' '}]}", "spec.warmUp.from[1]"),
            (REDIS, "{from: [{pattern: 'a'}], onStart: false}", "spec.warmUp.onStart"),
            (REDIS, "{from: [{pattern: 'a'}], schedule: hourly}", "spec.warmUp.schedule"),
            (REDIS, "{from: [{pattern: 'a'}], keysPerSecond: 0}", "spec.warmUp.keysPerSecond"),
            (REDIS, "{from: [{pattern: 'a'}], maxBytes: '0'}", "spec.warmUp.maxBytes"),
            (
                REDIS,
                "{from: [{pattern: 'a'}], readinessTimeout: 11m}",
                "spec.warmUp.readinessTimeout",
            ),
            (
                REDIS,
                "{from: [{pattern: 'a'}], onStart: false, schedule: '0 * * * *', readinessTimeout: 1s}",
                "spec.warmUp.readinessTimeout",
            ),
        ] {
            assert_eq!(wrong(storage, warm_up), [field], "{warm_up}");
        }
    }
}
