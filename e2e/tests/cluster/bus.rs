//! Faults of the bus: nothing is read that is older than the bound, and what was missed is replayed.

use std::ops::Range;
use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use warp_crds::conditions;
use warp_e2e::app::App;
use warp_e2e::command::node_script;
use warp_e2e::history::{Cut, History};
use warp_e2e::pods::{containers, restarted};
use warp_e2e::shop::{Shop, Store, in_a_shop};
use warp_e2e::traffic::Traffic;
use warp_e2e::wait::eventually;
use warp_e2e::{Failure, Outcome, ensure};

/// The documented bound of staleness.
const BOUND: Duration = Duration::from_secs(3);
/// What a busy machine adds between the sidecar's decision and the test's clock.
const SLACK: Duration = Duration::from_millis(500);
/// The managed NATS server of the shop, or the first of three.
const NATS: &str = "shop-nats-0";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_killed_nats_leaves_nothing_stale() -> Outcome {
    in_a_shop("bus-killed", Store::Postgres, async |shop| {
        let apps = shop.inject().await?;
        let before = Counters::of(&apps).await?;
        let traffic = Traffic::start(&apps).await?;
        all_live(&apps, Duration::from_secs(20)).await?;
        warmed(&apps).await?;

        let from = traffic.now();
        let outage = outage(shop, &traffic, &apps).await?;
        all_live(&apps, Duration::from_mins(1)).await?;
        let until = traffic.now();
        println!(
            "NATS was down for {:.1?}; all sidecars were live again {:.1?} after it",
            outage.end.abs_diff(outage.start),
            until.abs_diff(outage.end)
        );

        warmed(&apps).await?;
        let pods = apps.iter().map(|app| app.pod.clone()).collect();
        let history = traffic.stop().await?;
        let bypassed = Some(outage.start + BOUND..outage.end);
        judge(&history, &[Cut { pods, from, until, bypassed }])?;
        let after = Counters::of(&apps).await?;
        ensure!(after.replayed > before.replayed, "nothing was replayed: {before:?}, {after:?}");
        ensure!(after.resets == before.resets, "caches were flushed: {before:?}, then {after:?}");
        Ok(())
    })
    .await
}

/// Kills the NATS server until the kubelet lets it lie for well over the bound, which it does from
/// the second time on, and sees every pod read from the storage then; gives the time in which no
/// server ran.
async fn outage(shop: &Shop, traffic: &Traffic, apps: &[App]) -> Outcome<Range<Duration>> {
    let pods: Api<Pod> = Api::namespaced(shop.client.clone(), &shop.namespace);
    for _ in 0..4 {
        let server = pods.get(NATS).await?;
        node_script("kill9.sh", &[&shop.namespace, NATS, "nats"]).await?;
        let from = traffic.now();
        let before = bypassed(apps).await?;
        restarted(&pods, &server, "nats").await?;
        let after = bypassed(apps).await?;
        // To the second, and so not after the fact.
        let since = running_since(&pods.get(NATS).await?)?;
        let age = Timestamp::now().duration_since(since).unsigned_abs();
        let until = traffic.now().saturating_sub(age);
        if until > from + BOUND * 2 {
            for (app, (before, after)) in apps.iter().zip(before.iter().zip(after)) {
                ensure!(after > *before, "{} never read from the storage meanwhile", app.pod);
            }
            return Ok(from..until);
        }
    }
    Err(Failure::new("the killed NATS server always came back at once"))
}

async fn bypassed(apps: &[App]) -> Outcome<Vec<u64>> {
    try_join_all(apps.iter().map(|app| app.sidecar.bypassed())).await
}

fn running_since(pod: &Pod) -> Outcome<Timestamp> {
    containers(pod)
        .find(|container| container.name == "nats")
        .and_then(|container| container.state.as_ref()?.running.as_ref()?.started_at.as_ref())
        .map(|time| time.0)
        .ok_or_else(|| Failure::new("NATS doesn't run"))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_pod_cut_off_from_nats_is_never_stale_and_catches_up_by_replay() -> Outcome {
    in_a_shop("bus-cut", Store::Postgres, async |shop| {
        let apps = shop.inject().await?;
        let cut_off = &apps[0];
        let traffic = Traffic::start(&apps).await?;
        all_live(&apps, Duration::from_secs(20)).await?;
        warmed(&apps).await?;
        let before = Counters::of(&apps).await?;
        let bypassed = cut_off.sidecar.bypassed().await?;

        let peer = format!("{}/{NATS}", shop.namespace);
        let from = traffic.now();
        node_script("partition.sh", &["cut", &shop.namespace, &cut_off.pod, &peer]).await?;
        // The fault itself has this length; nothing is waited for.
        tokio::time::sleep(Duration::from_secs(20)).await;
        let during = cut_off.sidecar.status().await?;
        node_script("partition.sh", &["heal", &shop.namespace, &cut_off.pod]).await?;
        let healed = traffic.now();
        all_live(&apps, Duration::from_mins(1)).await?;
        let until = traffic.now();
        println!(
            "cut for {:.1?}; caught up {:.1?} after",
            healed.abs_diff(from),
            until.abs_diff(healed)
        );

        let history = traffic.stop().await?;
        let pods = vec![cut_off.pod.clone()];
        judge(&history, &[Cut { pods, from, until, bypassed: None }])?;
        ensure!(!during.bus.live, "{} called its bus live while cut off", cut_off.pod);
        ensure!(during.bus.pending > 0, "{} had nothing to publish while cut off", cut_off.pod);
        let after = cut_off.sidecar.bypassed().await?;
        ensure!(after > bypassed, "{} answered from memory while cut off", cut_off.pod);
        let after = Counters::of(&apps).await?;
        ensure!(after.replayed > before.replayed, "nothing was replayed: {before:?}, {after:?}");
        ensure!(after.resets == before.resets, "caches were flushed: {before:?}, then {after:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn each_of_three_nats_servers_can_be_killed() -> Outcome {
    in_a_shop("bus-three", Store::Redis, async |shop| {
        let apps = shop.inject().await?;
        let pods: Api<Pod> = Api::namespaced(shop.client.clone(), &shop.namespace);
        let before = Counters::of(&apps).await?;
        let traffic = Traffic::start(&apps).await?;
        all_live(&apps, Duration::from_secs(20)).await?;
        warmed(&apps).await?;

        let mut cuts = Vec::new();
        for ordinal in 0..3 {
            let name = format!("{}-{ordinal}", NATS.trim_end_matches("-0"));
            let server = pods.get(&name).await?;
            let from = traffic.now();
            node_script("kill9.sh", &[&shop.namespace, &name, "nats"]).await?;
            // With the two others, and before the killed one is back for certain.
            all_live(&apps, Duration::from_secs(20)).await?;
            let until = traffic.now();
            println!("{name} killed; all sidecars live {:.1?} after", until.abs_diff(from));
            let all = apps.iter().map(|app| app.pod.clone()).collect();
            cuts.push(Cut { pods: all, from, until, bypassed: None });
            restarted(&pods, &server, "nats").await?;
            // Two of three have to be current before the next goes.
            shop.cluster_shows("no server is missed", Duration::from_mins(2), |cluster| {
                cluster.status.as_ref().is_some_and(|status| {
                    !conditions::is_true(&status.conditions, conditions::DEGRADED)
                })
            })
            .await?;
        }

        warmed(&apps).await?;
        judge(&traffic.stop().await?, &cuts)?;
        let after = Counters::of(&apps).await?;
        ensure!(after.resets == before.resets, "caches were flushed: {before:?}, then {after:?}");
        Ok(())
    })
    .await
}

/// Sums over the sidecars.
#[derive(Debug)]
struct Counters {
    replayed: u64,
    resets: u64,
}

impl Counters {
    async fn of(apps: &[App]) -> Outcome<Self> {
        let (mut replayed, mut resets) = (0, 0);
        for app in apps {
            replayed += app.sidecar.counter("warp_bus_replayed_total").await?;
            resets += app.sidecar.counter("warp_bus_resets_total").await?;
        }
        Ok(Self { replayed, resets })
    }
}

/// Waits until every sidecar's bus is live and has published all.
async fn all_live(apps: &[App], within: Duration) -> Outcome {
    eventually("every sidecar's bus is live, with nothing pending", within, async || {
        for app in apps {
            let bus = app.sidecar.status().await?.bus;
            ensure!(bus.live && bus.pending == 0, "{}: {bus:?}", app.pod);
        }
        Ok(())
    })
    .await
}

/// Waits until every sidecar has answered from memory, so that there is something to be stale.
async fn warmed(apps: &[App]) -> Outcome {
    for app in apps {
        let before = app.sidecar.status().await?.cache.hits;
        let what = format!("{} answers from memory", app.pod);
        eventually(&what, Duration::from_secs(20), async || {
            let hits = app.sidecar.status().await?.cache.hits - before;
            ensure!(hits >= 20, "{hits} hits");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

fn judge(history: &History, cuts: &[Cut]) -> Outcome {
    println!(
        "{} writes and {} reads; greatest age of a value read: {:.3?}",
        history.writes.len(),
        history.reads.len(),
        history.greatest_age(cuts),
    );
    let violations = history.violations(BOUND + SLACK, cuts);
    if let Some(first) = violations.first() {
        return Err(Failure::new(format!("{} stale reads; the first: {first}", violations.len())));
    }
    if let Some(first) = history.failures.first() {
        let count = history.failures.len();
        return Err(Failure::new(format!("{count} requests failed; the first: {first}")));
    }
    Ok(())
}
