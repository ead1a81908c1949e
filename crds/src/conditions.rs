//! Kubernetes conditions: their names, their reasons, and how one replaces another.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// The cluster serves: its bus, its storage and its sidecars do.
pub const READY: &str = "Ready";
/// The bus carries invalidations.
pub const BUS_READY: &str = "BusReady";
/// The storage answers the sidecars.
pub const STORAGE_READY: &str = "StorageReady";
/// Every running sidecar runs the latest configuration.
pub const SIDECARS_CURRENT: &str = "SidecarsCurrent";
/// Something works less well than it was asked to.
pub const DEGRADED: &str = "Degraded";
/// The policy is well formed and its cluster exists.
pub const ACCEPTED: &str = "Accepted";
/// Every running sidecar runs the policy.
pub const PROGRAMMED: &str = "Programmed";

/// A condition without its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// One of this module's names.
    pub type_: &'static str,
    /// `None` is `Unknown`.
    pub status: Option<bool>,
    /// CamelCase.
    pub reason: String,
    /// For a person: what is, and what to do.
    pub message: String,
}

impl Observation {
    /// An observation of `type_`.
    pub fn new(
        type_: &'static str,
        status: impl Into<Option<bool>>,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { type_, status: status.into(), reason: reason.into(), message: message.into() }
    }
}

/// The conditions after `observations`. What wasn't observed stays as it was, and goes on speaking
/// of the generation that it was seen at. `lastTransitionTime` moves only where the status does, so
/// that an unchanged world gives an unchanged object.
pub fn merge(
    previous: &[Condition],
    observations: &[Observation],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let condition = |seen: &Observation, before: Option<&Condition>| {
        let status = match seen.status {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        };
        let since = before
            .filter(|before| before.status == status)
            .map_or(Time(now), |before| before.last_transition_time.clone());
        Condition {
            type_: seen.type_.to_owned(),
            status: status.to_owned(),
            reason: seen.reason.clone(),
            message: seen.message.clone(),
            observed_generation: generation,
            last_transition_time: since,
        }
    };
    let standing = previous.iter().map(|before| {
        let seen = observations.iter().find(|seen| seen.type_ == before.type_);
        seen.map_or_else(|| before.clone(), |seen| condition(seen, Some(before)))
    });
    let new = observations
        .iter()
        .filter(|seen| previous.iter().all(|before| before.type_ != seen.type_))
        .map(|seen| condition(seen, None));
    standing.chain(new).collect()
}

/// Whether the condition of that name is `True`.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    conditions.iter().any(|c| c.type_ == type_ && c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transition_time_moves_with_the_status_only() {
        let early = Timestamp::UNIX_EPOCH;
        let late = Timestamp::MAX;
        let up = merge(&[], &[Observation::new(READY, true, "Up", "")], Some(1), early);
        let same = merge(&up, &[Observation::new(READY, true, "StillUp", "x")], Some(2), late);
        assert_eq!(same[0].last_transition_time, Time(early));
        assert_eq!((same[0].reason.as_str(), same[0].observed_generation), ("StillUp", Some(2)));
        let down = merge(&same, &[Observation::new(READY, false, "Down", "")], Some(2), late);
        assert_eq!(down[0].last_transition_time, Time(late));
        assert!(is_true(&same, READY) && !is_true(&down, READY));
    }

    #[test]
    fn what_was_not_observed_speaks_of_the_generation_that_it_was_seen_at() {
        let now = Timestamp::UNIX_EPOCH;
        let both =
            [Observation::new(READY, true, "Up", ""), Observation::new(DEGRADED, false, "", "")];
        let first = merge(&[], &both, Some(1), now);
        let then = merge(&first, &[Observation::new(DEGRADED, true, "Broken", "")], Some(2), now);
        assert_eq!(then[0], first[0]);
        assert_eq!((then[1].status.as_str(), then[1].observed_generation), ("True", Some(2)));
    }
}
