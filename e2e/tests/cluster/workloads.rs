//! Workloads of other kinds. (That a namespace under `restricted` works is seen in every test: all
//! their namespaces are.)

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use warp_e2e::command::apply;
use warp_e2e::pods::carries_sidecar;
use warp_e2e::shop::{Store, in_a_shop};
use warp_e2e::wait::eventually;
use warp_e2e::{Outcome, ensure};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_job_with_a_sidecar_completes() -> Outcome {
    in_a_shop("job", Store::Redis, async |shop| {
        let apps = shop.inject().await?;
        apply(&shop.namespace, "job.yaml").await?;
        let jobs: Api<Job> = Api::namespaced(shop.client.clone(), &shop.namespace);
        eventually("the Job is complete", Duration::from_mins(2), async || {
            let status = jobs.get("restock").await?.status.unwrap_or_default();
            let conditions = status.conditions.as_deref().unwrap_or_default();
            let complete = conditions.iter().any(|c| c.type_ == "Complete" && c.status == "True");
            ensure!(complete, "{status:?}");
            Ok(())
        })
        .await?;
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
