//! A cluster's conditions, from what was seen of it, and writing its status. What the conditions
//! say is pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::core::object::HasStatus;
use kube::{Client, ResourceExt};
use serde_json::json;
use warp_crds::cluster::{SecretKeyRef, Storage};
use warp_crds::conditions::{self, Observation};
use warp_crds::status::{SidecarStatus, SidecarsSummary, WarpClusterStatus};
use warp_crds::validation::Violation;
use warp_crds::{WarpCluster, names};

use super::outdated::Outdated;
use super::{bus, observe};

/// What was seen in one reconciliation.
#[derive(Debug)]
pub struct Seen<'a> {
    /// Why the cluster as it is isn't accepted.
    pub refused: &'a [Violation],
    /// The bus.
    pub bus: &'a bus::View,
    /// Servers of a managed NATS that aren't ready.
    pub servers_down: i32,
    /// The storage that the sidecars are told of.
    pub storage: &'a Storage,
    /// What the cluster names, and isn't there.
    pub missing_secrets: &'a [SecretKeyRef],
    /// The sidecars' answers.
    pub sidecars: &'a [observe::Observation],
    /// Their sum.
    pub summary: &'a SidecarsSummary,
    /// Those that should be made anew.
    pub outdated: &'a Outdated,
    /// Namespaces that the configuration couldn't be written to, with an error's words.
    pub failed_namespaces: &'a [(String, String)],
}

/// What a fault that keeps the operator from its work is told as. The rest stays as it was. But a
/// generation that it never got through to isn't ready, whatever the one before was.
pub fn failed(cluster: &WarpCluster, category: &str, message: &str) -> Vec<Observation> {
    let before = cluster.status.iter().flat_map(|status| &status.conditions);
    let judged = before.into_iter().any(|condition| {
        condition.type_ == conditions::READY
            && condition.observed_generation == cluster.metadata.generation
    });
    let unready = (!judged).then(|| {
        let message = format!("the WarpCluster as it is now isn't applied yet: {message}");
        Observation::new(conditions::READY, false, category, message)
    });
    let degraded = Observation::new(conditions::DEGRADED, true, category, message);
    unready.into_iter().chain([degraded]).collect()
}

/// What is told of a cluster that isn't accepted, where none was before. The rest stays as it was.
pub fn refused(previous: &WarpClusterStatus, refused: &[Violation]) -> Vec<Observation> {
    let unset = [conditions::BUS_READY, conditions::STORAGE_READY]
        .into_iter()
        .filter(|type_| previous.conditions.iter().all(|condition| condition.type_ != *type_))
        .map(|type_| Observation::new(type_, None, "NotAccepted", "nothing was set up"));
    [ready_when_refused(refused, "")].into_iter().chain(unset).collect()
}

/// The conditions of a cluster that runs.
pub fn conditions(seen: &Seen<'_>) -> Vec<Observation> {
    let bus = bus_ready(seen);
    let storage = storage_ready(seen);
    vec![ready(seen, &bus, &storage), bus, storage, sidecars_current(seen), degraded(seen)]
}

fn ready(seen: &Seen<'_>, bus: &Observation, storage: &Observation) -> Observation {
    if !seen.refused.is_empty() {
        return ready_when_refused(
            seen.refused,
            "; the sidecars go on with what was accepted before",
        );
    }
    for part in [bus, storage] {
        if part.status == Some(false) {
            return Observation::new(conditions::READY, false, &part.reason, &part.message);
        }
    }
    Observation::new(
        conditions::READY,
        true,
        "Ready",
        "the bus is up and the configuration is written",
    )
}

fn ready_when_refused(refused: &[Violation], consequence: &str) -> Observation {
    let reason = refused.first().map_or("Invalid", |violation| violation.reason.as_str());
    let words: Vec<String> = refused.iter().map(ToString::to_string).collect();
    Observation::new(conditions::READY, false, reason, words.join("; ") + consequence)
}

fn bus_ready(seen: &Seen<'_>) -> Observation {
    let connected = seen.summary.bus_connected;
    let (status, reason, message) = match seen.bus {
        bus::View::Memory => (true, "Memory", "no bus: each sidecar is on its own".to_owned()),
        bus::View::Provisioning { ready, wanted } => {
            (false, "Provisioning", format!("{ready} of {wanted} NATS servers are ready"))
        }
        bus::View::NoCredentials(reference) => (false, "SecretNotFound", absent(reference)),
        bus::View::Connected(_) => (true, "Connected", "the stream is there".to_owned()),
        // The sidecars know better: the operator may be kept from servers that aren't its own.
        bus::View::Unreachable(_) | bus::View::NoStream(_) if connected > 0 => {
            (true, "Connected", format!("{connected} sidecars are connected"))
        }
        bus::View::Unreachable(error) => (false, "Unreachable", error.clone()),
        bus::View::NoStream(error) => (false, "NoStream", error.clone()),
    };
    Observation::new(conditions::BUS_READY, status, reason, message)
}

fn storage_ready(seen: &Seen<'_>) -> Observation {
    let summary = seen.summary;
    let observation = |status: Option<bool>, reason: &str, message: String| {
        Observation::new(conditions::STORAGE_READY, status, reason, message)
    };
    if matches!(seen.storage, Storage::Memory(_)) {
        let message = "the sidecars' own memory: gone with the pod, not shared";
        return observation(Some(true), "Memory", message.to_owned());
    }
    if summary.storage_connected > 0 {
        let message = format!("{} sidecars are connected", summary.storage_connected);
        return observation(Some(true), "Connected", message);
    }
    if let Some(reference) = seen.missing_secrets.first() {
        return observation(Some(false), "SecretNotFound", absent(reference));
    }
    if summary.reachable > 0 {
        let error = first(seen, |status| status.storage.error.clone());
        return observation(Some(false), "Unavailable", error.unwrap_or_default());
    }
    let message = "only sidecars reach the storage, and none has answered yet";
    observation(None, "NoSidecars", message.to_owned())
}

fn sidecars_current(seen: &Seen<'_>) -> Observation {
    let summary = seen.summary;
    let numbers = format!("{} of {} run it", summary.current, summary.running);
    let (status, reason, message) = if let Some(error) =
        first(seen, |status| status.config_error.clone())
    {
        (false, "Refused", format!("{numbers}; a sidecar refuses it: {error}"))
    } else if summary.current < summary.reachable {
        (false, "Updating", numbers)
    } else if summary.outdated > 0 {
        let message = format!(
            "{numbers}, but {} pods carry a sidecar that was made for another spec.sidecar or by another version of the operator, and stay as they are until they are made anew; {}",
            summary.outdated,
            seen.outdated.advice()
        );
        (false, "RolloutNeeded", message)
    } else if summary.running == 0 {
        (true, "NoSidecars", "no sidecar runs".to_owned())
    } else if summary.reachable < summary.running {
        (false, "Unreachable", format!("{numbers}; the others don't answer"))
    } else {
        (true, "Current", numbers)
    };
    Observation::new(conditions::SIDECARS_CURRENT, status, reason, message)
}

fn degraded(seen: &Seen<'_>) -> Observation {
    let summary = seen.summary;
    let mut faults: Vec<(&str, String)> = Vec::new();
    for reference in seen.missing_secrets {
        faults.push(("SecretNotFound", absent(reference)));
    }
    for (namespace, error) in seen.failed_namespaces {
        faults.push((
            "NamespaceFailed",
            format!("namespace {namespace} has no configuration: {error}"),
        ));
    }
    match seen.bus {
        bus::View::Unreachable(error) | bus::View::NoStream(error) => {
            faults.push(("BusUnreachable", error.clone()));
        }
        bus::View::Connected(found) if !found.behind.is_empty() => {
            faults.push((
                "BusBehind",
                format!("the copies of {} are behind", found.behind.join(", ")),
            ));
        }
        _ => {}
    }
    // While the first servers come up, that is all there is to say.
    if seen.servers_down > 0 && !matches!(seen.bus, bus::View::Provisioning { .. }) {
        faults.push(("ServersDown", format!("{} NATS servers aren't ready", seen.servers_down)));
    }
    if summary.missing > 0 {
        faults.push((
            "SidecarsMissing",
            format!(
                "{} pods run without the sidecar that they ask for, since they are older than the WarpCluster or were made while the webhook was away; restart them (kubectl rollout restart)",
                summary.missing
            ),
        ));
    }
    if let Some(error) = first(seen, |status| status.config_error.clone()) {
        faults.push(("ConfigRefused", format!("a sidecar refuses its configuration: {error}")));
    }
    let silent = summary.running - summary.reachable;
    if silent > 0 {
        faults.push(("SidecarsUnreachable", format!("{silent} sidecars don't answer")));
    }
    let cut_off = summary.reachable - summary.bus_connected;
    if cut_off > 0 {
        faults.push(("BusPartlyConnected", format!("{cut_off} sidecars are cut off from the bus")));
    }
    let apart = summary.reachable - summary.storage_connected;
    if apart > 0 {
        faults
            .push(("StoragePartlyConnected", format!("{apart} sidecars can't reach the storage")));
    }
    match faults.first() {
        None => Observation::new(conditions::DEGRADED, false, "AsExpected", "nothing is wrong"),
        Some((reason, _)) => {
            let words: Vec<&str> = faults.iter().map(|(_, message)| message.as_str()).collect();
            Observation::new(conditions::DEGRADED, true, *reason, words.join("; "))
        }
    }
}

fn absent(reference: &SecretKeyRef) -> String {
    format!("Secret {} with key {} isn't there; create it", reference.name, reference.key)
}

/// The first of what the sidecars say. Of the same order every time, as long as they are.
fn first(seen: &Seen<'_>, of: impl Fn(&SidecarStatus) -> Option<String>) -> Option<String> {
    seen.sidecars.iter().flat_map(|o| o.answer.iter().flatten()).filter_map(of).min()
}

/// The status that follows from `observations`.
pub fn next(
    cluster: &WarpCluster,
    observations: &[Observation],
    hash: Option<&str>,
    sidecars: SidecarsSummary,
    now: Timestamp,
) -> WarpClusterStatus {
    let generation = cluster.metadata.generation;
    let previous = cluster.status.as_ref();
    let before: &[Condition] = previous.map_or(&[], |status| &status.conditions);
    WarpClusterStatus {
        observed_generation: generation,
        conditions: conditions::merge(before, observations, generation, now),
        config_hash: hash.map(str::to_owned),
        sidecars,
    }
}

/// Writes the status where it differs from the one that stands.
pub async fn write(
    client: &Client,
    cluster: &WarpCluster,
    status: &WarpClusterStatus,
) -> Result<(), kube::Error> {
    if cluster.status() == Some(status) {
        return Ok(());
    }
    let api: Api<WarpCluster> =
        Api::namespaced(client.clone(), &cluster.namespace().unwrap_or_default());
    // Applied, not merged, so that a field that is absent now goes.
    let patch = json!({
        "apiVersion": "warpcache.dev/v1alpha1",
        "kind": "WarpCluster",
        "metadata": {"name": cluster.name_any(), "uid": cluster.uid()},
        "status": status,
    });
    let params = PatchParams::apply(names::FIELD_MANAGER).force();
    api.patch_status(&cluster.name_any(), &params, &Patch::Apply(patch)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use warp_crds::cluster::{MemoryStorage, PostgresStorage};
    use warp_crds::validation::Reason;

    use super::super::observe::summarize;
    use super::super::observe::tests::{answer, observed};
    use super::*;
    use crate::nats::stream::Found;

    fn postgres() -> Storage {
        Storage::Postgres(PostgresStorage { url_secret_ref: secret(), table: "t".to_owned() })
    }

    fn secret() -> SecretKeyRef {
        SecretKeyRef { name: "db".to_owned(), key: "url".to_owned() }
    }

    struct World {
        refused: Vec<Violation>,
        bus: bus::View,
        storage: Storage,
        missing_secrets: Vec<SecretKeyRef>,
        sidecars: Vec<observe::Observation>,
        missing: usize,
        outdated: Outdated,
    }

    impl World {
        fn well() -> Self {
            Self {
                refused: vec![],
                bus: bus::View::Connected(Found::default()),
                storage: postgres(),
                missing_secrets: vec![],
                sidecars: vec![],
                missing: 0,
                outdated: Outdated::default(),
            }
        }

        /// Each condition as `Type=Status/Reason`.
        fn told(&self) -> Vec<String> {
            let summary = summarize(&self.sidecars, "h", self.missing, self.outdated.pods);
            let seen = Seen {
                refused: &self.refused,
                bus: &self.bus,
                servers_down: 0,
                storage: &self.storage,
                missing_secrets: &self.missing_secrets,
                sidecars: &self.sidecars,
                summary: &summary,
                outdated: &self.outdated,
                failed_namespaces: &[],
            };
            let word = |status| match status {
                Some(true) => "True",
                Some(false) => "False",
                None => "Unknown",
            };
            conditions(&seen)
                .iter()
                .map(|c| format!("{}={}/{}", c.type_, word(c.status), c.reason))
                .collect()
        }
    }

    #[test]
    fn a_cluster_is_ready_before_its_first_sidecar() {
        assert_eq!(
            World::well().told(),
            [
                "Ready=True/Ready",
                "BusReady=True/Connected",
                "StorageReady=Unknown/NoSidecars",
                "SidecarsCurrent=True/NoSidecars",
                "Degraded=False/AsExpected"
            ]
        );
    }

    #[test]
    fn a_cluster_is_well_with_its_sidecars() {
        let mut world = World::well();
        world.sidecars = vec![observed(Some(Ok(answer("h")))), observed(None)];
        assert_eq!(
            world.told(),
            [
                "Ready=True/Ready",
                "BusReady=True/Connected",
                "StorageReady=True/Connected",
                "SidecarsCurrent=True/Current",
                "Degraded=False/AsExpected"
            ]
        );
    }

    #[test]
    fn a_sidecar_that_was_made_otherwise_needs_a_rollout() {
        let mut world = World::well();
        world.sidecars = vec![observed(Some(Ok(answer("h"))))];
        world.outdated.pods = 1;
        assert_eq!(world.told()[3], "SidecarsCurrent=False/RolloutNeeded");
        assert_eq!(world.told()[0], "Ready=True/Ready");
        world.sidecars = vec![observed(Some(Ok(answer("older"))))];
        assert_eq!(world.told()[3], "SidecarsCurrent=False/Updating", "first things first");
        world.sidecars = vec![observed(None)];
        assert_eq!(world.told()[3], "SidecarsCurrent=False/RolloutNeeded", "it may never start");
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut world = World::well();
        world.bus = bus::View::Provisioning { ready: 0, wanted: 1 };
        world.missing_secrets = vec![secret()];
        world.missing = 2;
        assert_eq!(
            world.told(),
            [
                "Ready=False/Provisioning",
                "BusReady=False/Provisioning",
                "StorageReady=False/SecretNotFound",
                "SidecarsCurrent=True/NoSidecars",
                "Degraded=True/SecretNotFound"
            ]
        );
    }

    #[test]
    fn a_refused_change_is_told_while_all_goes_on() {
        let mut world = World::well();
        world.refused = vec![Violation {
            field: "spec.bus.kafka".to_owned(),
            reason: Reason::Unsupported,
            message: "use nats".to_owned(),
        }];
        world.storage = Storage::Memory(MemoryStorage::default());
        assert_eq!(
            world.told(),
            [
                "Ready=False/Unsupported",
                "BusReady=True/Connected",
                "StorageReady=True/Memory",
                "SidecarsCurrent=True/NoSidecars",
                "Degraded=False/AsExpected"
            ]
        );
    }

    #[test]
    fn the_sidecars_say_how_they_are() {
        let mut cut_off = answer("h");
        cut_off.bus.live = false;
        let mut world = World::well();
        world.sidecars = vec![
            observed(Some(Ok(cut_off))),
            observed(Some(Ok(answer("old")))),
            observed(Some(Err("timeout".to_owned()))),
        ];
        assert_eq!(
            world.told()[3..],
            ["SidecarsCurrent=False/Updating", "Degraded=True/SidecarsUnreachable"]
        );
        let mut refusing = answer("old");
        refusing.config_error = Some("no such mode".to_owned());
        refusing.storage.available = false;
        world.sidecars = vec![observed(Some(Ok(refusing)))];
        assert_eq!(
            world.told(),
            [
                "Ready=False/Unavailable",
                "BusReady=True/Connected",
                "StorageReady=False/Unavailable",
                "SidecarsCurrent=False/Refused",
                "Degraded=True/ConfigRefused"
            ]
        );
    }

    #[test]
    fn the_sidecars_are_believed_where_the_operator_is_kept_out() {
        let mut world = World::well();
        world.bus = bus::View::Unreachable("denied".to_owned());
        assert_eq!(world.told()[..2], ["Ready=False/Unreachable", "BusReady=False/Unreachable"]);
        world.sidecars = vec![observed(Some(Ok(answer("h"))))];
        assert_eq!(world.told()[..2], ["Ready=True/Ready", "BusReady=True/Connected"]);
    }

    #[test]
    fn an_unchanged_world_gives_an_unchanged_status() {
        let mut cluster = WarpCluster::new("c", Default::default());
        let observations = refused(&WarpClusterStatus::default(), &[]);
        let make = |cluster: &WarpCluster, now| {
            next(cluster, &observations, Some("h"), SidecarsSummary::default(), now)
        };
        let first = make(&cluster, Timestamp::UNIX_EPOCH);
        cluster.status = Some(first.clone());
        assert_eq!(make(&cluster, Timestamp::MAX), first);
    }

    #[test]
    fn a_generation_that_was_never_applied_is_not_ready() {
        let mut cluster = WarpCluster::new("c", Default::default());
        let told = |cluster: &WarpCluster| -> Vec<(&'static str, Option<bool>)> {
            failed(cluster, "ApplyFailed", "no").iter().map(|c| (c.type_, c.status)).collect()
        };
        let both = [(conditions::READY, Some(false)), (conditions::DEGRADED, Some(true))];
        cluster.metadata.generation = Some(1);
        assert_eq!(told(&cluster), both, "nothing was ever said of it");
        let ready = [Observation::new(conditions::READY, true, "Ready", "")];
        let now = Timestamp::UNIX_EPOCH;
        cluster.status = Some(next(&cluster, &ready, None, SidecarsSummary::default(), now));
        assert_eq!(told(&cluster), both[1..], "this one was ready before the fault");
        cluster.metadata.generation = Some(2);
        assert_eq!(told(&cluster), both);
        let observations = failed(&cluster, "ApplyFailed", "no");
        let after = next(&cluster, &observations, None, SidecarsSummary::default(), now);
        assert!(!conditions::is_true(&after.conditions, conditions::READY));
        assert_eq!(after.conditions[0].observed_generation, Some(2));
    }
}
