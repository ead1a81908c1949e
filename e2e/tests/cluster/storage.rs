//! PostgreSQL goes away and comes back.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use warp_crds::conditions;
use warp_e2e::app::{Answer, App};
use warp_e2e::command::kubectl;
use warp_e2e::pods::is_ready;
use warp_e2e::shop::{Shop, Store, in_a_shop};
use warp_e2e::wait::eventually;
use warp_e2e::{Failure, Outcome, ensure};

/// To take notice of the outage, and of its end.
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn hits_outlast_a_stopped_postgres_and_the_rest_recovers_with_it() -> Outcome {
    in_a_shop("storage", Store::Postgres, async |shop| {
        let apps = shop.inject().await?;
        for app in &apps {
            app.set(&format!("product:of:{}", app.pod), "before").await?;
        }
        for app in &apps {
            for other in &apps {
                app.get(&format!("product:of:{}", other.pod)).await?;
            }
        }

        scale(shop, 0).await?;
        for app in &apps {
            for other in &apps {
                let value = app.get(&format!("product:of:{}", other.pod)).await?;
                ensure!(value.as_deref() == Some("before"), "{}: hit gave {value:?}", app.pod);
            }
            expect_outage(&app.try_get("product:never:read").await?, &["STORAGEDOWN "])?;
            let write = app.try_set(&format!("product:of:{}", app.pod), "during").await?;
            expect_outage(&write, &["STORAGEDOWN ", "STORAGEUNKNOWN "])?;
        }
        shop.cluster_shows("StorageReady is False", PATIENCE, |cluster| {
            let conditions = cluster.status.iter().flat_map(|status| &status.conditions);
            conditions
                .into_iter()
                .any(|c| c.type_ == conditions::STORAGE_READY && c.status == "False")
        })
        .await?;

        scale(shop, 1).await?;
        for app in &apps {
            recovers(app).await?;
        }
        shop.ready().await?;
        let restarts = shop.restarts().await?;
        ensure!(restarts == 0, "{restarts} containers were restarted");
        Ok(())
    })
    .await
}

async fn scale(shop: &Shop, replicas: u8) -> Outcome {
    let count = format!("--replicas={replicas}");
    kubectl(&["-n", &shop.namespace, "scale", "statefulset/postgres", &count]).await?;
    let pods: Api<Pod> = Api::namespaced(shop.client.clone(), &shop.namespace);
    eventually(&format!("{replicas} pods of PostgreSQL"), PATIENCE, async || {
        let pod = pods.get_opt("postgres-0").await?;
        let ready = pod.as_ref().is_some_and(is_ready);
        ensure!(if replicas == 0 { pod.is_none() } else { ready }, "ready: {ready}");
        Ok(())
    })
    .await
}

fn expect_outage(answer: &Answer, prefixes: &[&str]) -> Outcome {
    let documented = |text: &str| prefixes.iter().any(|prefix| text.contains(prefix));
    if answer.error().is_some_and(documented) {
        return Ok(());
    }
    Err(Failure::new(format!("expected an error with one of {prefixes:?}, got {answer:?}")))
}

async fn recovers(app: &App) -> Outcome {
    eventually(&format!("{} reads and writes again", app.pod), PATIENCE, async || {
        let (key, never) =
            (format!("product:of:{}", app.pod), app.get("product:never:read").await?);
        ensure!(never.is_none(), "a value that nobody wrote: {never:?}");
        app.set(&key, "after").await?;
        let value = app.get(&key).await?;
        ensure!(value.as_deref() == Some("after"), "{key} is {value:?}");
        Ok(())
    })
    .await
}
