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

/// The conditions after `observations`, in their order. `lastTransitionTime` moves only where the
/// status does, so that an unchanged world gives an unchanged object.
pub fn merge(
    previous: &[Condition],
    observations: &[Observation],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    observations
        .iter()
        .map(|seen| {
            let status = match seen.status {
                Some(true) => "True",
                Some(false) => "False",
                None => "Unknown",
            };
            let since = previous
                .iter()
                .find(|c| c.type_ == seen.type_ && c.status == status)
                .map_or(Time(now), |c| c.last_transition_time.clone());
            Condition {
                type_: seen.type_.to_owned(),
                status: status.to_owned(),
                reason: seen.reason.clone(),
                message: seen.message.clone(),
                observed_generation: generation,
                last_transition_time: since,
            }
        })
        .collect()
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
}
