//! Policies: a good one is applied in seconds, a wrong one is refused and disturbs nobody.

use std::time::{Duration, Instant};

use warp_crds::conditions;
use warp_crds::status::WarpPolicyStatus;
use warp_e2e::app::App;
use warp_e2e::command::apply_text;
use warp_e2e::shop::{Shop, Store, in_a_shop};
use warp_e2e::wait::eventually;
use warp_e2e::{Failure, Outcome, ensure};

/// Within this, a changed policy is applied in every sidecar.
const TARGET: Duration = Duration::from_secs(5);
/// For the operator to look at a policy.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_changed_ttl_is_applied_within_5_s_and_a_wrong_policy_disturbs_nobody() -> Outcome {
    in_a_shop("policy", Store::Postgres, async |shop| {
        let apps = shop.inject().await?;
        // First, so that the good change after it shows that the operator went on.
        refuses_what_is_wrong(shop, &apps).await?;

        let (writer, reader) = (&apps[0], &apps[1]);
        // Carts are StrongLocal: the reader keeps its copy until the TTL, an hour, is over.
        writer.set("cart:1", "old").await?;
        reader.get("cart:1").await?;
        writer.set("cart:1", "new").await?;
        let kept = reader.get("cart:1").await?;
        ensure!(kept.as_deref() == Some("old"), "the TTL of an hour gave {kept:?}");

        let before = hashes(&apps).await?;
        let changed = Instant::now();
        shop.patch_policy("carts", r#"{"spec":{"ttl":"1s"}}"#).await?;
        eventually("every sidecar has another configuration", PATIENCE, async || {
            let now = hashes(&apps).await?;
            ensure!(now.iter().zip(&before).all(|(now, before)| now != before), "{now:?}");
            Ok(())
        })
        .await?;
        let took = changed.elapsed();
        programmed(shop, "carts").await?;
        let told = changed.elapsed();
        println!(
            "a changed TTL was applied in all sidecars after {took:.1?}, told after {told:.1?}"
        );
        ensure!(told <= TARGET, "it took {told:.1?}, expected at most {TARGET:?}");

        eventually("the reader's copy is over its new TTL", TARGET, async || {
            let value = reader.get("cart:1").await?;
            ensure!(value.as_deref() == Some("new"), "cart:1 is {value:?}");
            Ok(())
        })
        .await?;
        shop.ready().await?;
        let (hash, now) =
            (shop.cluster().await?.status.and_then(|s| s.config_hash), hashes(&apps).await?);
        ensure!(
            now.iter().all(|applied| Some(applied) == hash.as_ref()),
            "the status names {hash:?}, the sidecars run {now:?}"
        );
        Ok(())
    })
    .await
}

async fn refuses_what_is_wrong(shop: &Shop, apps: &[App]) -> Outcome {
    let before = hashes(apps).await?;
    let refused = apply_text(&shop.namespace, &policy("too-short", "shop", "ttl: 0s")).await;
    let said = refused.err().ok_or_else(|| Failure::new("a TTL of 0s was admitted"))?.to_string();
    ensure!(said.contains("ttl must be between 1ms and 8760h"), "kubectl said: {said}");

    for (spec, expected) in [
        ("sidecar: {memoryLimit: 64MB}", "memoryLimit must be a number of bytes"),
        ("sidecar: {memoryLimit: 64Ki}", "memoryLimit must be a number of bytes"),
        ("sidecar: {unixSocket: /tmp/warp.sock}", "a folder that is the socket's alone"),
        ("sidecar: {unixSocket: /usr/lib/warp/warp.sock}", "a folder that is the socket's alone"),
        ("allowedNamespaces: [Web]", "names of namespaces, or *"),
        (
            "bus: {nats: {external: {urls: ['http://nats:4222']}}}",
            "each URL must start with nats:// or tls://",
        ),
    ] {
        let refused = apply_text(&shop.namespace, &cluster(spec)).await.err();
        let said = refused.ok_or_else(|| Failure::new(format!("{spec} was admitted")))?.to_string();
        ensure!(said.contains(expected), "{spec}: kubectl said: {said}");
    }
    let long = policy(&"x".repeat(513), "shop", "ttl: 5s").replacen(&"x".repeat(513), "long", 1);
    ensure!(apply_text(&shop.namespace, &long).await.is_err(), "a pattern of 515 was admitted");

    let strong = policy("strong", "shop", "mode: StrongDistributed");
    apply_text(&shop.namespace, &strong).await?;
    not_accepted(shop, "strong", "Unsupported", "use EventualDistributed").await?;

    apply_text(&shop.namespace, &policy("lost", "nowhere", "ttl: 5s")).await?;
    not_accepted(shop, "lost", "NotFound", "nowhere").await?;

    let after = hashes(apps).await?;
    ensure!(before == after, "the sidecars' configuration changed: {before:?}, then {after:?}");
    let restarts = shop.restarts().await?;
    ensure!(restarts == 0, "{restarts} containers were restarted");
    Ok(())
}

fn policy(name: &str, cluster: &str, rule: &str) -> String {
    format!(
        "apiVersion: warpcache.dev/v1alpha1\nkind: WarpPolicy\nmetadata:\n  name: {name}\nspec:\n  \
         clusterRef: {{name: {cluster}}}\n  match: [\"{name}:*\"]\n  {rule}\n"
    )
}

fn cluster(spec: &str) -> String {
    format!(
        "apiVersion: warpcache.dev/v1alpha1\nkind: WarpCluster\nmetadata: {{name: wrong}}\nspec:\n  \
         {spec}\n"
    )
}

async fn hashes(apps: &[App]) -> Outcome<Vec<String>> {
    let mut all = Vec::new();
    for app in apps {
        all.push(app.sidecar.status().await?.config_hash);
    }
    Ok(all)
}

/// Waits until the policy as it is now is told to run in all sidecars.
async fn programmed(shop: &Shop, name: &str) -> Outcome {
    eventually(&format!("WarpPolicy {name} is Accepted and Programmed"), PATIENCE, async || {
        let policy = shop.policy(name).await?;
        let status = policy.status.unwrap_or_default();
        let generation = policy.metadata.generation;
        let is = |type_: &str| {
            conditions::is_true(&status.conditions, type_)
                && status.conditions.iter().all(|c| c.observed_generation == generation)
        };
        ensure!(is(conditions::ACCEPTED) && is(conditions::PROGRAMMED), "{status:?}");
        Ok(())
    })
    .await
}

async fn not_accepted(shop: &Shop, name: &str, reason: &str, advice: &str) -> Outcome {
    eventually(&format!("WarpPolicy {name} is refused as {reason}"), PATIENCE, async || {
        let status: WarpPolicyStatus = shop.policy(name).await?.status.unwrap_or_default();
        let refused = status.conditions.iter().any(|c| {
            c.type_ == conditions::ACCEPTED
                && c.status == "False"
                && c.reason == reason
                && c.message.contains(advice)
        });
        ensure!(refused, "{status:?}");
        Ok(())
    })
    .await
}
