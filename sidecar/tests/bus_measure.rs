//! How quick the bus over NATS is on loopback. Not run by itself:
//! `cargo test -p warp-sidecar --test bus_measure -- --ignored --nocapture`.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]

#[path = "support/listener.rs"]
mod listener;
#[path = "support/servers/mod.rs"]
mod servers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use futures::StreamExt;
use futures::stream;
use warp_crds::names::invalidation_stream;
use warp_sidecar::sync_bus::{NatsBus, NatsSettings, Origin, SyncBus};

use listener::{Listener, invalidation};
use servers::nats::Nats;

const TENANT: &str = "default_main";
const ROUNDS: u64 = 2_000;
const WARM_UP: u64 = 100;

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss
        )]
        let rank = (times.len() as f64 * share) as usize;
        times[rank.min(times.len() - 1)]
    };
    println!("{what}: p50 {:?}, p99 {:?}, p99.9 {:?}", at(0.5), at(0.99), at(0.999));
}

/// One writer, one reader, a publish each 2 ms.
async fn delivery(server: &Nats) {
    let settings = NatsSettings {
        create_stream: true,
        ..NatsSettings::new(vec![server.url()], TENANT.to_owned())
    };
    let [writer, reader] = [(); 2].map(|()| Arc::new(NatsBus::start(settings.clone()).unwrap()));
    let mut unread = Listener::to(&*writer);
    unread.until_current().await;
    let drained = tokio::spawn(async move { while unread.next().await {} });
    let mut listener = Listener::to(&*reader);
    listener.until_current().await;
    let reading = tokio::spawn(async move {
        let mut arrivals = Vec::new();
        while arrivals.len() < usize::try_from(ROUNDS).unwrap() {
            listener.next().await;
            if listener.messages.len() > arrivals.len() {
                arrivals.push(Instant::now());
            }
        }
        assert!(listener.replayed.is_empty());
        arrivals
    });
    let mut sent = Vec::new();
    let mut acknowledged = Vec::new();
    for sequence in 1..=ROUNDS {
        let begun = Instant::now();
        writer.publish(&invalidation(Origin(1), sequence)).await.unwrap();
        sent.push(begun);
        acknowledged.push(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let arrivals = reading.await.unwrap();
    let warm = usize::try_from(WARM_UP).unwrap();
    let delivered = arrivals.iter().zip(&sent).map(|(at, sent)| *at - *sent);
    show("publish to the peer's event", delivered.skip(warm).collect());
    show("publish to acknowledgement", acknowledged.into_iter().skip(warm).collect());
    drop(writer);
    drained.await.unwrap();
}

/// What a proof asks of the server.
async fn question(server: &Nats) {
    let admin = jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let subject = format!("STREAM.INFO.{}", invalidation_stream(TENANT));
    let ask = || async {
        let begun = Instant::now();
        let reply: serde_json::Value = admin.request(subject.clone(), &()).await.unwrap();
        (begun.elapsed(), reply.to_string().len())
    };
    let mut times = Vec::new();
    let mut size = 0;
    for _ in 0..ROUNDS {
        let (time, bytes) = ask().await;
        times.push(time);
        size = bytes;
    }
    show(&format!("a question, {size} bytes of answer"), times);
    let begun = Instant::now();
    stream::iter(0..ROUNDS)
        .for_each_concurrent(32, |_| async {
            let _ = ask().await;
        })
        .await;
    let rate = f64::from(u32::try_from(ROUNDS).unwrap()) / begun.elapsed().as_secs_f64();
    println!("questions, 32 at a time: {rate:.0} a second");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it measures"]
async fn measure() {
    for (name, server) in [("sync always", Nats::start()), ("sync 2m", Nats::start_unsynced())] {
        println!("-- {name}");
        delivery(&server).await;
        question(&server).await;
    }
}
