//! The operator is killed and its certificates are exchanged, and nobody is the worse for it.

use std::cell::Cell;
use std::time::{Duration, Instant};

use futures::try_join;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{Client, ResourceExt};
use warp_e2e::command::{kubectl, node_script};
use warp_e2e::fixture::{RELEASE, SYSTEM};
use warp_e2e::history::Cut;
use warp_e2e::pods::{carries_sidecar, is_ready, restarted, sleeping};
use warp_e2e::shop::{Shop, Store, in_a_shop};
use warp_e2e::traffic::Traffic;
use warp_e2e::wait::eventually;
use warp_e2e::{Failure, Outcome, ensure};

/// Pods that are created while the operator has its troubles, at least.
const PODS: usize = 60;
/// A pod's creation may be refused for this long while one of two replicas serves: until the API
/// server has noticed that the other one is gone, with which it tries every second time.
const HALF_SERVED: Duration = Duration::from_secs(10);
/// And for this long while both are made anew.
const UNSERVED: Duration = Duration::from_secs(30);
/// For the operator to recover.
const PATIENCE: Duration = Duration::from_mins(2);
/// The operator's pods.
const OPERATOR: &str = "app.kubernetes.io/name=warp";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn pods_get_their_sidecar_while_operators_die_and_certificates_rotate() -> Outcome {
    in_a_shop("operator", Store::Redis, async |shop| {
        let apps = shop.inject().await?;
        let traffic = Traffic::start(&apps).await?;
        let troubles = Troubles::default();
        let pods: Api<Pod> = Api::namespaced(shop.client.clone(), &shop.namespace);
        let (creation, ()) = try_join!(create(&pods, &troubles), undergo(shop, &troubles))?;
        println!("{creation:.1?}");
        ensure!(creation.half_served <= HALF_SERVED, "a replica served, and: {creation:.1?}");
        ensure!(creation.unserved <= UNSERVED, "the next replicas were waited for: {creation:.1?}");
        all_ready(shop).await?;
        let history = traffic.stop().await?;
        let none: [Cut; 0] = [];
        let stale = history.violations(Duration::from_secs(3), &none);
        ensure!(stale.is_empty(), "{} stale reads; the first: {}", stale.len(), stale[0]);
        let failures = &history.failures;
        ensure!(failures.is_empty(), "{} failed requests: {}", failures.len(), failures[0]);
        shop.ready().await
    })
    .await
}

/// What the operator goes through at the moment.
#[derive(Default)]
struct Troubles {
    /// No replica serves.
    unserved: Cell<bool>,
    over: Cell<bool>,
}

/// All that the operator goes through, one after the other.
async fn undergo(shop: &Shop, troubles: &Troubles) -> Outcome {
    let pods: Api<Pod> = Api::namespaced(shop.client.clone(), SYSTEM);
    for pod in operators(&pods).await? {
        node_script("kill9.sh", &[SYSTEM, &pod.name_any(), "operator"]).await?;
        restarted(&pods, &pod, "operator").await?;
    }
    certificates_exchanged(&shop.client).await?;
    // Both at once, the leader with them, and a change that only the next leader can make.
    let before = shop.cluster().await?.status.and_then(|status| status.config_hash);
    troubles.unserved.set(true);
    kubectl(&["-n", SYSTEM, "delete", "pod", "-l", OPERATOR, "--force", "--wait=false"]).await?;
    shop.patch_policy("products", r#"{"spec":{"ttl":"9m"}}"#).await?;
    recovered(&pods).await?;
    troubles.unserved.set(false);
    shop.cluster_shows("the next leader has compiled the change", PATIENCE, |cluster| {
        cluster.status.as_ref().is_some_and(|s| s.config_hash.is_some() && s.config_hash != before)
    })
    .await?;
    troubles.over.set(true);
    Ok(())
}

#[derive(Debug, Default)]
struct Creation {
    created: usize,
    refusals: usize,
    /// The longest time that it took to create a pod while a replica served.
    half_served: Duration,
    /// And while none did, or had not for all of the time.
    unserved: Duration,
}

/// Creates pods until it is `over`, and at least [`PODS`]. Each that asks for a sidecar must have
/// it; each that doesn't ask must be created at the first try.
async fn create(pods: &Api<Pod>, troubles: &Troubles) -> Outcome<Creation> {
    let mut seen = Creation::default();
    while seen.created < PODS || !troubles.over.get() {
        let n = seen.created;
        let (started, mut unserved) = (Instant::now(), troubles.unserved.get());
        let wanted = pod(&format!("late-{n}"), true)?;
        let made = eventually(&format!("pod late-{n} is created"), PATIENCE, async || {
            let made = pods.create(&PostParams::default(), &wanted).await;
            seen.refusals += usize::from(made.is_err());
            unserved |= troubles.unserved.get();
            Ok(made?)
        })
        .await?;
        let longest = if unserved { &mut seen.unserved } else { &mut seen.half_served };
        *longest = started.elapsed().max(*longest);
        ensure!(carries_sidecar(&made), "pod late-{n} was created without a sidecar");
        let plain = pod(&format!("plain-{n}"), false)?;
        let plain = pods.create(&PostParams::default(), &plain).await.map_err(|error| {
            Failure::from(error).within(format!("creating plain-{n}, which asks for nothing"))
        })?;
        seen.created += 1;
        // Most have shown what they were made for; one in ten goes on to run.
        let gone = DeleteParams::default().grace_period(0);
        pods.delete(&plain.name_any(), &gone).await?;
        if !n.is_multiple_of(10) {
            pods.delete(&made.name_any(), &gone).await?;
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    Ok(seen)
}

fn pod(name: &str, asks: bool) -> Outcome<Pod> {
    let labels = if asks { "{warpcache.dev/inject: enabled, late: pod}" } else { "{}" };
    Ok(serde_yaml::from_str(&sleeping(name, labels))?)
}

async fn all_ready(shop: &Shop) -> Outcome {
    let pods: Api<Pod> = Api::namespaced(shop.client.clone(), &shop.namespace);
    eventually("the pods created meanwhile are ready", PATIENCE, async || {
        let late = pods.list(&ListParams::default().labels("late=pod")).await?.items;
        let waiting: Vec<String> =
            late.iter().filter(|pod| !is_ready(pod)).map(ResourceExt::name_any).collect();
        ensure!(late.len() >= PODS / 10 && waiting.is_empty(), "{waiting:?} of {}", late.len());
        Ok(())
    })
    .await
}

async fn operators(pods: &Api<Pod>) -> Outcome<Vec<Pod>> {
    Ok(pods.list(&ListParams::default().labels(OPERATOR)).await?.items)
}

async fn recovered(pods: &Api<Pod>) -> Outcome {
    eventually("two ready operators", PATIENCE, async || {
        let ready = operators(pods).await?.iter().filter(|pod| is_ready(pod)).count();
        ensure!(ready == 2, "{ready} are");
        Ok(())
    })
    .await
}

/// Deletes the Secret with the CA and the certificate, and waits until others are in use.
async fn certificates_exchanged(client: &Client) -> Outcome {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM);
    let webhooks: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let name = format!("{RELEASE}-webhook-tls");
    let leaf = |secret: Option<Secret>| secret?.data?.remove("tls.crt").map(|ByteString(pem)| pem);
    let bundles = async || -> Outcome<Vec<Vec<u8>>> {
        let all = webhooks.list(&ListParams::default().labels(OPERATOR)).await?;
        let hooks = all.items.into_iter().flat_map(|item| item.webhooks.unwrap_or_default());
        let bundles = hooks.filter_map(|hook| hook.client_config.ca_bundle.map(|b| b.0));
        Ok(bundles.collect())
    };
    let (old_leaf, old_bundles) = (leaf(secrets.get_opt(&name).await?), bundles().await?);
    ensure!(old_leaf.is_some(), "there is no Secret {name} with tls.crt");
    ensure!(!old_bundles.is_empty(), "no webhook with the label {OPERATOR} has a caBundle");
    secrets.delete(&name, &DeleteParams::default()).await?;
    let started = Instant::now();
    eventually("another certificate and another caBundle", PATIENCE, async || {
        let new = leaf(secrets.get_opt(&name).await?);
        ensure!(new.is_some() && new != old_leaf, "the certificate is the old one, or none");
        let now = bundles().await?;
        ensure!(now.iter().zip(&old_bundles).all(|(now, old)| now != old), "an old caBundle");
        Ok(())
    })
    .await?;
    println!("certificates were exchanged in {:.1?}", started.elapsed());
    Ok(())
}
