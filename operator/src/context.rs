//! What every reconciliation needs, shared by the controllers of both kinds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::Client;
use kube::runtime::controller::Action;
use kube::runtime::events::Recorder;
use kube::runtime::reflector::Lookup;
use tokio_util::task::TaskTracker;

use crate::cluster::build::nats_stateful_set::Image;
use crate::inject;
use crate::metrics::Metrics;
use crate::view::View;

/// See the module.
#[expect(missing_debug_implementations, reason = "a Recorder has none")]
pub struct Context {
    /// Reads and writes the API server.
    pub client: Client,
    /// Writes events; one for all, since it counts repetitions.
    pub recorder: Recorder,
    /// Counts.
    pub metrics: Metrics,
    /// Asks the sidecars.
    pub http: reqwest::Client,
    /// What the watches hold.
    pub view: View,
    /// How pods are injected, by which it is known which of them should be.
    pub injection: inject::Settings,
    /// The servers of a managed NATS.
    pub nats_image: Image,
    /// How often each object failed in a row.
    pub failures: Failures,
    /// Counts the reconciliations that run.
    pub running: TaskTracker,
}

/// When to try again after a failure, for each of the controllers.
#[expect(clippy::needless_pass_by_value, reason = "the signature is the controller's")]
pub fn error_policy<K: Lookup<DynamicType = ()>, E>(
    object: Arc<K>,
    _: &E,
    context: Arc<Context>,
) -> Action {
    Action::requeue(context.failures.next_try(&*object))
}

/// How often each object, by kind, namespace and name, failed in a row, and how long to wait for
/// the next try.
#[derive(Debug, Default)]
pub struct Failures(Mutex<HashMap<(String, String, String), u32>>);

impl Failures {
    /// It failed once more: the time to wait, from one second, doubling, to a minute.
    pub fn next_try<K: Lookup<DynamicType = ()>>(&self, object: &K) -> Duration {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(Self::key(object)).or_default();
        let wait = Duration::from_secs(1 << (*count).min(6)).min(Duration::from_mins(1));
        *count += 1;
        wait
    }

    /// It succeeded, or is gone.
    pub fn forget<K: Lookup<DynamicType = ()>>(&self, object: &K) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&Self::key(object));
    }

    fn key<K: Lookup<DynamicType = ()>>(object: &K) -> (String, String, String) {
        let text = |part: Option<std::borrow::Cow<'_, str>>| part.unwrap_or_default().into_owned();
        (K::kind(&()).into_owned(), text(object.namespace()), text(object.name()))
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    #[test]
    fn the_waits_double_up_to_a_minute_and_start_anew_after_success() {
        let (failures, pod) = (Failures::default(), Pod::default());
        let waits: Vec<u64> = (0..8).map(|_| failures.next_try(&pod).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        failures.forget(&pod);
        assert_eq!(failures.next_try(&pod).as_secs(), 1);
    }
}
