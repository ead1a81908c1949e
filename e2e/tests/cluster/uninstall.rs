//! `helm uninstall` leaves the cluster as it was. Run alone and last: it takes the installation
//! from under the other tests.

use std::time::Duration;

use warp_e2e::command::{helm, kubectl};
use warp_e2e::fixture::{Fixture, RELEASE, SYSTEM};
use warp_e2e::shop::{Store, in_a_shop};
use warp_e2e::wait::eventually;
use warp_e2e::{Outcome, ensure};

/// For finalizers, the garbage collector and the pods' grace periods.
const PATIENCE: Duration = Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn uninstalling_leaves_nothing_behind() -> Outcome {
    let fixture = Fixture::new().await?;
    fixture.delete_namespaces().await?;
    eventually("the other tests' namespaces are gone", PATIENCE, async || {
        let left = fixture.namespaces().await?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await?;
    // Uninstalled while it is in use, which is the harder case.
    in_a_shop("uninstall", Store::Postgres, async |shop| {
        shop.inject().await?;
        helm(&["-n", SYSTEM, "uninstall", RELEASE, "--wait", "--timeout", "180s"]).await?;

        let clusterwide = "customresourcedefinitions,mutatingwebhookconfigurations,\
                       validatingwebhookconfigurations,clusterroles,clusterrolebindings,\
                       apiservices,priorityclasses";
        gone("of the cluster", &[], clusterwide, |name| name.contains("warp")).await?;
        let namespaced = "all,configmaps,secrets,leases,persistentvolumeclaims,serviceaccounts,\
                          roles,rolebindings,poddisruptionbudgets,networkpolicies,endpointslices";
        let kubernetes_own = ["configmap/kube-root-ca.crt", "serviceaccount/default"];
        gone("of the operator's namespace", &["-n", SYSTEM], namespaced, |name| {
            !kubernetes_own.contains(&name)
        })
        .await?;
        gone("of the shop's namespace", &["-n", &shop.namespace], namespaced, |name| {
            // What is the user's: the applications, PostgreSQL, their pods and volumes.
            let users = ["demo-python", "demo-node", "postgres"];
            !kubernetes_own.contains(&name) && !users.iter().any(|own| name.contains(own))
        })
        .await?;
        eventually("the applications' pods are as they were", PATIENCE, async || {
            let pods = shop.pods().await?;
            let text = serde_json::to_string(&pods)?;
            ensure!(!text.contains("warp-sidecar"), "a pod still has its sidecar");
            let templates = kubectl(&[
                "-n",
                &shop.namespace,
                "get",
                "deployments",
                "-o",
                "jsonpath={.items[*].spec.template}",
            ])
            .await?;
            ensure!(!templates.contains("warpcache.dev"), "a pod template says {templates}");
            Ok(())
        })
        .await
    })
    .await?;
    kubectl(&["delete", "namespace", SYSTEM, "--wait=false"]).await?;
    Ok(())
}

/// Waits until none of these kinds' objects is one of ours.
async fn gone(what: &str, scope: &[&str], kinds: &str, ours: impl Fn(&str) -> bool) -> Outcome {
    eventually(&format!("nothing {what} is left"), PATIENCE, async || {
        let names = kubectl(&[scope, &["get", kinds, "-o", "name"]].concat()).await?;
        let left: Vec<&str> = names.lines().filter(|name| ours(name)).collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await
}
