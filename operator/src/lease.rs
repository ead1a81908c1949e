//! Which replica leads: one `coordination.k8s.io` Lease, taken, renewed and given back.
//!
//! [`Elector::step`] decides from what is read and the time; [`run`] does the reading and writing.
//! As in client-go, another's lease counts as expired when this process has seen it unchanged for
//! its whole duration, so that the replicas' clocks needn't agree. It says who leads, and stops
//! nothing by itself: whoever writes watches the answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use warp_crds::names;

use crate::fault::Fault;

/// How long a lease holds without being renewed.
const DURATION: Duration = Duration::from_secs(15);
/// How long after its last successful renewal the leader stops leading. Less than [`DURATION`],
/// so that it has stopped before another may begin.
const DEADLINE: Duration = Duration::from_secs(10);
/// The leader's pace, and the longest that one attempt may take.
const RENEW: Duration = Duration::from_secs(5);
/// The pace of the others, and of a leader whose renewal failed.
const RETRY: Duration = Duration::from_secs(2);

/// Where the Lease is and who asks for it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The Lease's namespace, the operator's own.
    pub namespace: String,
    /// The replica's own name, its pod's.
    pub identity: String,
    /// What the Lease goes with: the operator's Deployment.
    pub owner: Option<OwnerReference>,
}

/// Decides for one replica.
#[derive(Debug)]
pub struct Elector {
    identity: String,
    /// Another's lease as it was first seen, and when that was.
    seen: Option<(LeaseSpec, Instant)>,
}

impl Elector {
    /// An elector that has seen nothing yet.
    pub fn new(identity: impl Into<String>) -> Self {
        Self { identity: identity.into(), seen: None }
    }

    /// What to write so as to lead, given what stands; `None` while another leads.
    pub fn step(
        &mut self,
        present: Option<&LeaseSpec>,
        now: Instant,
        wall: Timestamp,
    ) -> Option<LeaseSpec> {
        let Some(present) = present else {
            return Some(self.taken(0, wall));
        };
        let transitions = present.lease_transitions.unwrap_or_default();
        match present.holder_identity.as_deref() {
            None | Some("") => Some(self.taken(transitions + 1, wall)),
            Some(holder) if holder == self.identity => Some(LeaseSpec {
                acquire_time: present.acquire_time.clone(),
                ..self.taken(transitions, wall)
            }),
            Some(_) => {
                let first_seen = match &self.seen {
                    Some((spec, at)) if spec == present => *at,
                    _ => {
                        self.seen = Some((present.clone(), now));
                        now
                    }
                };
                let seconds = present.lease_duration_seconds.unwrap_or_default();
                let duration = u64::try_from(seconds)
                    .ok()
                    .filter(|s| *s > 0)
                    .map_or(DURATION, Duration::from_secs);
                (now.duration_since(first_seen) >= duration)
                    .then(|| self.taken(transitions + 1, wall))
            }
        }
    }

    fn taken(&self, transitions: i32, wall: Timestamp) -> LeaseSpec {
        LeaseSpec {
            acquire_time: Some(MicroTime(wall)),
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            lease_transitions: Some(transitions),
            renew_time: Some(MicroTime(wall)),
            ..Default::default()
        }
    }
}

/// Runs for the lease until `stop`, tells `leader` who leads, and gives the lease back at the end.
/// `follows` becomes true once another was seen to lead. Stop it after everything that watches
/// `leader`, so that nothing is written after the lease was given back.
pub async fn run(
    client: Client,
    settings: Settings,
    leader: watch::Sender<bool>,
    follows: Arc<AtomicBool>,
    stop: CancellationToken,
) {
    let api: Api<Lease> = Api::namespaced(client, &settings.namespace);
    let mut elector = Elector::new(&settings.identity);
    // While leading: when the last successful renewal was sent.
    let mut renewed: Option<Instant> = None;
    let mut fault = Fault::new("reading and writing the lease, without which nobody leads");
    loop {
        let sent = Instant::now();
        let until = renewed.map_or(sent + RENEW, |at| (at + DEADLINE).min(sent + RENEW));
        let outcome = timeout_at(until, attempt(&api, &settings, &mut elector, sent)).await;
        let outcome = match outcome {
            Ok(outcome) => fault.check(outcome),
            Err(late) => fault.check(Err(late)),
        };
        if let Some(leads) = outcome {
            renewed = leads.then_some(sent);
            if !leads {
                follows.store(true, Ordering::Relaxed);
            }
        }
        let mut pause = if outcome == Some(true) { RENEW } else { RETRY };
        let leads = renewed.is_some_and(|at| at.elapsed() < DEADLINE);
        renewed = renewed.filter(|_| leads);
        leader.send_if_modified(|was| {
            let changed = *was != leads;
            if changed {
                tracing::info!(leads, identity = settings.identity, "leadership changed");
            }
            *was = leads;
            changed
        });
        if let Some(at) = renewed {
            pause = pause.min((at + DEADLINE).saturating_duration_since(Instant::now()));
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = sleep(pause) => {}
        }
    }
    leader.send_replace(false);
    if renewed.is_some() {
        let released = timeout_at(Instant::now() + RETRY, release(&api, &settings.identity)).await;
        if !matches!(released, Ok(Ok(()))) {
            tracing::info!("the lease wasn't given back; it expires by itself");
        }
    }
}

/// One reading and, where the elector says so, one writing. A conflict means that another was
/// faster; the next reading shows who.
async fn attempt(
    api: &Api<Lease>,
    settings: &Settings,
    elector: &mut Elector,
    now: Instant,
) -> Result<bool, kube::Error> {
    let present = api.get_opt(names::FIELD_MANAGER).await?;
    let spec = present.as_ref().and_then(|lease| lease.spec.as_ref());
    let Some(spec) = elector.step(spec, now, Timestamp::now()) else {
        return Ok(false);
    };
    let written = if let Some(mut lease) = present {
        lease.spec = Some(spec);
        api.replace(names::FIELD_MANAGER, &PostParams::default(), &lease).await
    } else {
        let metadata = ObjectMeta {
            name: Some(names::FIELD_MANAGER.to_owned()),
            owner_references: settings.owner.clone().map(|owner| vec![owner]),
            ..Default::default()
        };
        api.create(&PostParams::default(), &Lease { metadata, spec: Some(spec) }).await
    };
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Takes the leadership from whoever has it, for `duration`, and waits until nobody else leads. For
/// the uninstallation, which mustn't be undone by an operator that still runs.
pub async fn seize(
    client: Client,
    settings: &Settings,
    duration: Duration,
) -> Result<(), kube::Error> {
    let api: Api<Lease> = Api::namespaced(client, &settings.namespace);
    loop {
        // Nobody ever led where there is no Lease.
        let Some(mut lease) = api.get_opt(names::FIELD_MANAGER).await? else { return Ok(()) };
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
        let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0);
        lease.spec = Some(LeaseSpec {
            lease_duration_seconds: i32::try_from(duration.as_secs()).ok(),
            ..Elector::new(&settings.identity).taken(transitions + 1, Timestamp::now())
        });
        match api.replace(names::FIELD_MANAGER, &PostParams::default(), &lease).await {
            Ok(_)
                if holder.is_none_or(|holder| holder.is_empty() || holder == settings.identity) =>
            {
                return Ok(());
            }
            Ok(_) => {
                // The leader learns of it at its next renewal, or gives up without one.
                sleep(DEADLINE).await;
                return Ok(());
            }
            // It was renewed at this very moment.
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            Err(error) => return Err(error),
        }
    }
}

async fn release(api: &Api<Lease>, identity: &str) -> Result<(), kube::Error> {
    let mut lease = api.get(names::FIELD_MANAGER).await?;
    if let Some(spec) = &mut lease.spec
        && spec.holder_identity.as_deref() == Some(identity)
    {
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        api.replace(&lease.name_any(), &PostParams::default(), &lease).await?;
        tracing::info!("the lease was given back");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: Timestamp = Timestamp::UNIX_EPOCH;

    fn holder(spec: Option<&LeaseSpec>) -> Option<&str> {
        spec?.holder_identity.as_deref()
    }

    fn later(wall_seconds: i64) -> Timestamp {
        Timestamp::from_second(wall_seconds).unwrap()
    }

    #[test]
    fn a_lease_that_nobody_holds_is_taken() {
        let mut a = Elector::new("a");
        let now = Instant::now();
        let first = a.step(None, now, WALL);
        assert_eq!(holder(first.as_ref()), Some("a"));
        let released = LeaseSpec { holder_identity: Some(String::new()), ..first.clone().unwrap() };
        let second = Elector::new("b").step(Some(&released), now, WALL).unwrap();
        assert_eq!(second.holder_identity.as_deref(), Some("b"));
        assert_eq!(second.lease_transitions, Some(1));
    }

    #[test]
    fn the_holder_renews_and_keeps_the_time_of_its_taking() {
        let mut a = Elector::new("a");
        let now = Instant::now();
        let taken = a.step(None, now, WALL).unwrap();
        let renewed = a.step(Some(&taken), now + RENEW, later(5)).unwrap();
        assert_eq!(renewed.acquire_time, taken.acquire_time);
        assert_eq!(renewed.renew_time, Some(MicroTime(later(5))));
        assert_eq!(renewed.lease_transitions, Some(0));
    }

    #[test]
    fn anothers_lease_is_taken_only_after_it_stood_still_for_its_duration() {
        let now = Instant::now();
        let taken = Elector::new("a").step(None, now, WALL).unwrap();
        let mut b = Elector::new("b");
        assert_eq!(b.step(Some(&taken), now, WALL), None);
        assert_eq!(b.step(Some(&taken), now + DURATION - RETRY, WALL), None);
        // A renewal, however old its time says it is, starts the wait anew.
        let renewed = LeaseSpec { renew_time: Some(MicroTime(later(1))), ..taken };
        assert_eq!(b.step(Some(&renewed), now + DURATION, WALL), None);
        assert_eq!(b.step(Some(&renewed), now + DURATION * 2 - RETRY, WALL), None);
        let stolen = b.step(Some(&renewed), now + DURATION * 2, WALL).unwrap();
        assert_eq!(stolen.holder_identity.as_deref(), Some("b"));
        assert_eq!(stolen.lease_transitions, Some(1));
    }
}
