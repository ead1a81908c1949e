//! Workloads of other kinds. (That a namespace under `restricted` works is seen in every test: all
//! their namespaces are.)

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use warp_crds::conditions;
use warp_e2e::command::{apply, apply_text, kubectl};
use warp_e2e::fixture::{Fixture, explain};
use warp_e2e::pods::{carries_sidecar, is_ready, sleeping};
use warp_e2e::shop::{Shop, Store, in_a_shop};
use warp_e2e::wait::eventually;
use warp_e2e::{Failure, Outcome, ensure};

/// Images are there and nothing is big; a busy machine gets minutes.
const PATIENCE: Duration = Duration::from_mins(2);
/// A namespace that asks for sidecars, and whose pods use another namespace's WarpCluster.
const GUEST: &str = "e2e-workloads-guest";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_job_with_a_sidecar_completes() -> Outcome {
    in_a_shop("job", Store::Redis, async |shop| {
        let apps = shop.inject().await?;
        apply(&shop.namespace, "job.yaml").await?;
        let jobs: Api<Job> = Api::namespaced(shop.client.clone(), &shop.namespace);
        complete(&jobs, "restock").await?;
        let pods: Api<Pod> = Api::namespaced(shop.client.clone(), &shop.namespace);
        let pods = pods.list(&ListParams::default().labels("app=restock")).await?.items;
        ensure!(pods.len() == 1 && carries_sidecar(&pods[0]), "{} pods, or no sidecar", pods.len());
        for app in &apps {
            app.poll("product:restocked", "yes", Duration::from_secs(5)).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn every_kind_of_workload_and_a_whole_namespace_get_sidecars_and_new_ones_on_demand()
-> Outcome {
    let fixture = Fixture::new().await?;
    let namespace = fixture.namespace("workloads").await?;
    let shop = Shop { namespace, client: fixture.client.clone() };
    let outcome = Box::pin(workloads(&shop)).await;
    if outcome.is_err() {
        eprintln!("{}\n{}", explain(&shop.namespace).await, explain(GUEST).await);
        return outcome;
    }
    fixture.delete_namespaces().await
}

async fn workloads(shop: &Shop) -> Outcome {
    let pods: Api<Pod> = Api::namespaced(shop.client.clone(), &shop.namespace);
    apply(&shop.namespace, "workloads.yaml").await?;
    injected(&pods, "app=stateful-set").await?;
    injected(&pods, "app=daemon-set").await?;

    let run = ["create", "job", "one-run", "--from=cronjob/one-cron-job"];
    eventually("the CronJob's template is marked", PATIENCE, async || {
        let template = ["get", "cronjob", "one-cron-job", "-o", "jsonpath={.spec.jobTemplate}"];
        let template = kubectl(&[&["-n", &shop.namespace], &template[..]].concat()).await?;
        ensure!(template.contains("warpcache.dev/inject"), "{template}");
        Ok(())
    })
    .await?;
    kubectl(&[&["-n", &shop.namespace], &run[..]].concat()).await?;
    // It has talked to its sidecar, then.
    complete(&Api::namespaced(shop.client.clone(), &shop.namespace), "one-run").await?;

    guests(shop).await?;
    renewed(shop, &pods).await
}

/// Pods of a namespace that asks and is allowed get the sidecar, but for those that refuse.
async fn guests(shop: &Shop) -> Outcome {
    apply_text(
        "default",
        &format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {GUEST}\n  labels:\n    \
             warpcache.dev/inject: enabled\n    pod-security.kubernetes.io/enforce: restricted\n"
        ),
    )
    .await?;
    let pods: Api<Pod> = Api::namespaced(shop.client.clone(), GUEST);
    apply_text(GUEST, &sleeping("plain", "{app: guest}")).await?;
    let refuses = "{app: refuses, warpcache.dev/inject: disabled}";
    apply_text(GUEST, &sleeping("refuses", refuses)).await?;
    injected(&pods, "app=guest").await?;
    ensure!(!carries_sidecar(&pods.get("refuses").await?), "a pod that refused got a sidecar");
    Ok(())
}

/// A change of what is injected is told with the command that brings it about.
async fn renewed(shop: &Shop, pods: &Api<Pod>) -> Outcome {
    // Made by no workload, so that no rollout renews it.
    kubectl(&["-n", GUEST, "delete", "pod", "plain"]).await?;
    let patch = r#"{"spec":{"sidecar":{"port":7000}}}"#;
    let patch = ["patch", "warpcluster", "shop", "--type=merge", "-p", patch];
    kubectl(&[&["-n", &shop.namespace], &patch[..]].concat()).await?;
    let message = eventually("a rollout is said to be needed", PATIENCE, async || {
        let status = shop.cluster().await?.status.unwrap_or_default();
        let told = status
            .conditions
            .iter()
            .find(|c| c.type_ == conditions::SIDECARS_CURRENT && c.reason == "RolloutNeeded");
        let told = told.ok_or_else(|| Failure::new(format!("{status:?}")))?;
        ensure!(status.sidecars.outdated == 2, "{status:?}");
        Ok(told.message.clone())
    })
    .await?;
    let command = message
        .split_once("kubectl ")
        .ok_or_else(|| Failure::new(format!("no command in: {message}")))?
        .1;
    kubectl(&command.split_whitespace().collect::<Vec<_>>()).await?;
    eventually("the new pods have the new port", PATIENCE, async || {
        for label in ["app=stateful-set", "app=daemon-set"] {
            let pods = pods.list(&ListParams::default().labels(label)).await?.items;
            let text = serde_json::to_string(&pods)?;
            ensure!(pods.len() == 1 && text.contains("redis://127.0.0.1:7000"), "{label}");
        }
        Ok(())
    })
    .await?;
    injected(pods, "app=stateful-set").await?;
    injected(pods, "app=daemon-set").await?;
    shop.cluster_shows("no rollout is needed any more", PATIENCE, |cluster| {
        cluster.status.as_ref().is_some_and(|status| {
            status.sidecars.outdated == 0
                && conditions::is_true(&status.conditions, conditions::SIDECARS_CURRENT)
        })
    })
    .await
}

/// Waits until the one pod with that label is ready and has its sidecar.
async fn injected(pods: &Api<Pod>, label: &str) -> Outcome {
    eventually(&format!("the pod with {label} has its sidecar"), PATIENCE, async || {
        let found = pods.list(&ListParams::default().labels(label)).await?.items;
        let well = |pod: &Pod| carries_sidecar(pod) && is_ready(pod);
        ensure!(found.len() == 1 && found.iter().all(well), "{} pods", found.len());
        Ok(())
    })
    .await
}

async fn complete(jobs: &Api<Job>, name: &str) -> Outcome {
    eventually(&format!("Job {name} is complete"), PATIENCE, async || {
        let status = jobs.get(name).await?.status.unwrap_or_default();
        let conditions = status.conditions.as_deref().unwrap_or_default();
        let complete = conditions.iter().any(|c| c.type_ == "Complete" && c.status == "True");
        ensure!(complete, "{status:?}");
        Ok(())
    })
    .await
}
