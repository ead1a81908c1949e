//! Telling the kubelets of a new configuration.
//!
//! A kubelet brings a changed ConfigMap into a pod when it next looks at the pod, up to a minute
//! and a half later. A change of the pod's annotations makes it look at once. What was told is the
//! annotation's value: `HASH/CONFIGMAP-VERSION/SECRET-VERSION/UNIX-SECONDS/REPETITIONS`. It is
//! repeated a few times, ever more rarely, while the sidecar doesn't run the configuration: the
//! kubelet may have looked before the new ConfigMap had reached it.

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use warp_crds::names;

use super::usage::Sidecar;

/// Seconds before the first repetition; each further one waits twice as long.
const FIRST_REPETITION: i64 = 3;
/// Repetitions, after which the kubelet's own pace is left to do it.
const REPETITIONS: u32 = 6;
/// Pods told at once.
const CONCURRENCY: usize = 16;

/// What the kubelets of one namespace are to know.
pub fn version(hash: &str, config_map: &impl ResourceExt, secret: &impl ResourceExt) -> String {
    let version = |of: Option<String>| of.unwrap_or_default();
    format!(
        "{hash}/{}/{}",
        version(config_map.resource_version()),
        version(secret.resource_version())
    )
}

/// The annotation to write, if any, given the one that stands.
fn next(told: Option<&str>, version: &str, current: bool, now: i64) -> Option<String> {
    let before = told
        .and_then(|told| told.strip_prefix(version)?.strip_prefix('/')?.split_once('/'))
        .and_then(|(at, repetitions)| Some((at.parse().ok()?, repetitions.parse().ok()?)));
    let Some((at, repetitions)): Option<(i64, u32)> = before else {
        return Some(format!("{version}/{now}/0"));
    };
    let wait = FIRST_REPETITION << repetitions.min(REPETITIONS);
    (!current && repetitions < REPETITIONS && now - at >= wait)
        .then(|| format!("{version}/{now}/{}", repetitions + 1))
}

/// A kubelet to be told: its pod, and what to write on it.
#[derive(Debug)]
pub struct Due {
    namespace: String,
    pod: String,
    uid: Option<String>,
    value: String,
}

/// The kubelet of `sidecar`, if it needs to be told. `version` is that of the sidecar's namespace;
/// `current` whether the sidecar is known to run it.
pub fn due(sidecar: &Sidecar, version: &str, current: bool, now: i64) -> Option<Due> {
    let value = next(sidecar.told.as_deref(), version, current, now)?;
    let Sidecar { namespace, pod, uid, .. } = sidecar.clone();
    Some(Due { namespace, pod, uid, value })
}

/// Tells the kubelets.
pub async fn tell(client: &Client, due: Vec<Due>) {
    stream::iter(due)
        .for_each_concurrent(CONCURRENCY, async |Due { namespace, pod, uid, value }| {
            let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
            let patch = json!({
                "apiVersion": "v1",
                "kind": "Pod",
                // With the uid, a pod that is gone isn't made anew.
                "metadata": {"name": pod, "uid": uid, "annotations": {(names::CONFIG_HASH): value}},
            });
            let params = PatchParams::apply(names::FIELD_MANAGER).force();
            match api.patch_metadata(&pod, &params, &Patch::Apply(patch)).await {
                Ok(_) => {}
                // Gone, or another of its name.
                Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
                // The next reconciliation tries again.
                Err(error) => tracing::debug!(namespace, pod, %error, "the pod wasn't annotated"),
            }
        })
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once() {
        let told = next(None, "h/1/2", false, 100).unwrap();
        assert_eq!(told, "h/1/2/100/0");
        assert_eq!(next(Some(&told), "h/1/2", true, 1000), None);
        assert_eq!(next(Some(&told), "h/1/3", true, 101).unwrap(), "h/1/3/101/0");
        assert_eq!(next(Some("h/1/22/5/0"), "h/1/2", true, 101).unwrap(), "h/1/2/101/0");
        assert_eq!(next(Some("nonsense"), "h/1/2", true, 7).unwrap(), "h/1/2/7/0");
    }

    #[test]
    fn it_is_repeated_ever_more_rarely_and_not_for_ever() {
        let (mut told, mut at) = (next(None, "v", false, 0), Vec::new());
        for now in 0..10_000 {
            if let Some(again) = next(told.as_deref(), "v", false, now) {
                told = Some(again);
                at.push(now);
            }
        }
        assert_eq!(at, [3, 9, 21, 45, 93, 189]);
    }
}
