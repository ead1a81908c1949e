//! What pods say of themselves.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;
use kube::api::Api;
use warp_crds::names;

use crate::command::with_image_prefix;
use crate::wait::eventually;
use crate::{Outcome, ensure};

/// The manifest of a pod that sleeps, as Pod Security `restricted` admits it, with `labels` in YAML.
pub fn sleeping(name: &str, labels: &str) -> String {
    with_image_prefix(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {labels}}}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 0
  securityContext: {{runAsNonRoot: true, runAsUser: 65532, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
  - name: app
    image: warp.local/busybox:1
    command: [sleep, '3600']
    securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
"
    ))
}

/// Whether a pod is ready and not on its way out.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Whether the pod's first init container is the sidecar.
pub fn carries_sidecar(pod: &Pod) -> bool {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.init_containers.as_ref()?.first())
        .is_some_and(|container| container.name == names::SIDECAR_CONTAINER)
}

/// All containers of a pod that were started, sidecars included.
pub fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    pod.status.iter().flat_map(|status| {
        let init = status.init_container_statuses.iter().flatten();
        init.chain(status.container_statuses.iter().flatten())
    })
}

/// Waits until the kubelet has noticed that a container was killed, and has made it ready again;
/// `before` is its pod before the kill.
pub async fn restarted(pods: &Api<Pod>, before: &Pod, container: &str) -> Outcome {
    let name = before.name_any();
    let restarts = |pod: &Pod| {
        let status = containers(pod).find(|status| status.name == container);
        status.map(|status| (status.restart_count, status.ready))
    };
    let count = restarts(before).map_or(0, |(count, _)| count);
    eventually(&format!("{container} in {name} is back"), Duration::from_mins(2), async || {
        let now = restarts(&pods.get(&name).await?);
        ensure!(
            now.is_some_and(|(now, ready)| now > count && ready),
            "restarts and readiness were {now:?}, and {count} restarts before"
        );
        Ok(())
    })
    .await
}
