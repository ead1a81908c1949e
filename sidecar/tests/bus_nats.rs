//! The bus over NATS when things go wrong: connections, servers, streams, permissions.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]

#[path = "support/link.rs"]
mod link;
#[path = "support/listener.rs"]
mod listener;
#[path = "support/servers/mod.rs"]
mod servers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use futures::future::{join_all, try_join_all};
use warp_crds::names::{invalidation_stream, message_subject, republish_subject};
use warp_crds::nats::Credentials;
use warp_crds::stream;
use warp_sidecar::sync_bus::{
    ChannelMessage, NatsBus, NatsSettings, Origin, SettingsError, SyncBus, Timings,
};

use link::Link;
use listener::{Listener, PATIENCE, invalidation, publish};
use servers::nats::Nats;

const TENANT: &str = "default_main";
const ME: Origin = Origin(1);
const PEER: Origin = Origin(2);

fn settings(url: String) -> NatsSettings {
    let timings = Timings {
        // A dead connection is given up after 600 ms.
        ping_interval: Duration::from_millis(200),
        connect_timeout: Duration::from_millis(500),
        longest_backoff: Duration::from_millis(200),
        ..Timings::default()
    };
    let settings = NatsSettings::new(vec![url], TENANT.to_owned());
    NatsSettings { create_stream: true, timings, ..settings }
}

fn start(settings: NatsSettings) -> Arc<dyn SyncBus> {
    Arc::new(NatsBus::start(settings).unwrap())
}

/// A bus over a link, whose events are read, and a peer beside it that only publishes.
struct Pair {
    link: Link,
    bus: Arc<dyn SyncBus>,
    listener: Listener,
    peer: Arc<dyn SyncBus>,
    _unread: Listener,
}

impl Pair {
    async fn on(server: &Nats) -> Self {
        Self::with(server, Timings::default().proof_period).await
    }

    async fn with(server: &Nats, proof_period: Duration) -> Self {
        let link = Link::to(server.port).await;
        let mut own = settings(link.url());
        own.timings.proof_period = proof_period;
        let bus = start(own);
        let peer = start(settings(server.url()));
        let mut listener = Listener::to(&*bus);
        listener.until(|listener| listener.proof.is_some()).await;
        let mut unread = Listener::to(&*peer);
        unread.until(|listener| listener.proof.is_some()).await;
        Self { link, bus, listener, peer, _unread: unread }
    }

    /// The peer publishes what `sequences` name; their positions.
    async fn publish(&self, sequences: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let mut positions = Vec::new();
        for sequence in sequences {
            positions.push(publish(&self.peer, &invalidation(PEER, sequence)).await);
        }
        positions
    }
}

async fn admin(server: &Nats) -> jetstream::Context {
    jetstream::new(async_nats::connect(server.url()).await.unwrap())
}

async fn create_stream(admin: &jetstream::Context, epoch: &str) {
    let name = invalidation_stream(TENANT);
    let request = stream::config(TENANT, 1, epoch);
    let reply: serde_json::Value =
        admin.request(format!("STREAM.CREATE.{name}"), &request).await.unwrap();
    assert!(reply.get("error").is_none(), "{reply}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cut_connection_missed_is_replayed_exactly() {
    let server = Nats::start();
    let mut pair = Pair::on(&server).await;
    let before = pair.publish(1..=5).await;
    pair.listener.until_current().await;
    assert!(pair.listener.replayed.is_empty());

    pair.link.cut();
    pair.listener.until(|listener| !listener.downs.is_empty()).await;
    let error = pair.bus.publish(&invalidation(ME, 1)).await.unwrap_err();
    assert!(
        error.0.contains("connection was lost") || error.0.contains("can't connect"),
        "{error}"
    );
    let missed = pair.publish(6..=305).await;
    pair.link.mend();
    pair.listener.until_current().await;

    assert_eq!(pair.listener.sequences(PEER), (1..=305).collect::<Vec<_>>());
    assert_eq!(pair.listener.replayed, missed);
    assert_eq!(pair.listener.gaps, [(before[4] + 1, missed[299])]);
    assert!(pair.listener.resets.is_empty());
    let own = publish(&pair.bus, &invalidation(ME, 1)).await;
    pair.listener.until(|listener| listener.position == Some(own)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_goes_black_is_replaced() {
    let server = Nats::start();
    let mut pair = Pair::on(&server).await;
    pair.link.blacken();
    let proven = Instant::now();
    let missed = pair.publish(1..=20).await;
    // Nothing reaches it, so nothing may be proven.
    pair.listener.listen_for(Duration::from_secs(3)).await;
    assert!(pair.listener.proof.as_ref().unwrap().0 < proven);
    assert!(!pair.listener.downs.is_empty());
    pair.link.mend();
    pair.listener.until_current().await;
    assert_eq!(pair.listener.sequences(PEER), (1..=20).collect::<Vec<_>>());
    assert!(pair.listener.position >= missed.last().copied());
    assert!(pair.listener.resets.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_loses_nothing() {
    let server = Nats::start();
    let mut pair = Pair::on(&server).await;
    pair.publish(1..=5).await;
    server.pause();
    let paused = Instant::now();
    pair.listener.until(|listener| !listener.downs.is_empty()).await;
    let error = pair.bus.publish(&invalidation(ME, 1)).await;
    assert!(error.is_err());
    assert!(pair.listener.proof.as_ref().unwrap().0 < paused);
    server.resume();
    pair.publish(6..=10).await;
    pair.listener.until_current().await;
    assert_eq!(pair.listener.sequences(PEER), (1..=10).collect::<Vec<_>>());
    assert!(pair.listener.resets.is_empty(), "{:?}", pair.listener.resets);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_message_is_fetched_when_the_next_one_comes() {
    let server = Nats::start();
    // Without the help of a proof.
    let mut pair = Pair::with(&server, 10 * PATIENCE).await;
    let first = pair.publish([1]).await[0];
    pair.listener.until(|listener| listener.position == Some(first)).await;
    pair.link.lose(2);
    let lost = pair.publish([2, 3]).await;
    let next = pair.publish([4]).await[0];
    pair.listener.until(|listener| listener.position == Some(next)).await;
    assert_eq!(pair.listener.replayed, lost);
    assert_eq!(pair.listener.gaps, [(lost[0], lost[1])]);
    assert_eq!(pair.listener.sequences(PEER), [1, 2, 3, 4]);
    assert!(pair.listener.downs.is_empty(), "a gap is no outage");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_tail_is_found_by_a_proof() {
    let server = Nats::start();
    let mut pair = Pair::on(&server).await;
    let first = pair.publish([1]).await[0];
    pair.listener.until(|listener| listener.position == Some(first)).await;
    pair.link.lose(3);
    let lost = pair.publish([2, 3, 4]).await;
    pair.listener.until_current().await;
    assert_eq!(pair.link.losing(), 0);
    assert!(pair.listener.behind.contains(&lost[2]), "{:?}", pair.listener.behind);
    assert_eq!(pair.listener.replayed, lost);
    assert_eq!(pair.listener.sequences(PEER), [1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_and_started_again_has_lost_nothing() {
    let server = Nats::start();
    let mut pair = Pair::on(&server).await;
    let before = pair.publish(1..=10).await;
    pair.listener.until_current().await;
    let epoch = pair.listener.epoch().to_owned();
    server.kill();
    pair.listener.until(|listener| !listener.downs.is_empty()).await;
    server.start_again();
    let after = pair.publish(11..=20).await;
    assert_eq!(after[0], before[9] + 1);
    pair.listener.until_current().await;
    assert_eq!(pair.listener.sequences(PEER), (1..=20).collect::<Vec<_>>());
    assert_eq!(pair.listener.epoch(), epoch);
    assert!(pair.listener.resets.is_empty(), "{:?}", pair.listener.resets);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lost_its_data_resets() {
    let server = Nats::start();
    let mut pair = Pair::on(&server).await;
    pair.publish(1..=10).await;
    pair.listener.until_current().await;
    server.kill();
    std::fs::remove_dir_all(server.data()).unwrap();
    server.start_again();
    pair.listener.until_current().await;
    assert_eq!(pair.listener.resets.len(), 1, "{:?}", pair.listener.resets);
    let position = pair.publish([11]).await[0];
    assert_eq!(position, 1, "positions count anew");
    pair.listener.until(|listener| listener.sequences(PEER).contains(&11)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_brought_back_from_an_older_copy_resets_although_it_came_further() {
    let server = Nats::start();
    let mut pair = Pair::on(&server).await;
    pair.publish(1..=10).await;
    server.kill();
    let copy = server.dir.join("copy");
    let copied = std::process::Command::new("cp").arg("-a").arg(server.data()).arg(&copy).status();
    assert!(copied.unwrap().success());
    server.start_again();
    pair.publish(11..=20).await;
    pair.listener.until_current().await;
    assert!(pair.listener.resets.is_empty());

    pair.link.cut();
    server.kill();
    std::fs::remove_dir_all(server.data()).unwrap();
    std::fs::rename(copy, server.data()).unwrap();
    server.start_again();
    let anew = pair.publish(21..=40).await;
    assert!(
        anew[0] < pair.listener.position.unwrap() && pair.listener.position.unwrap() < anew[19]
    );
    pair.link.mend();
    pair.listener.until_current().await;
    assert_eq!(pair.listener.resets.len(), 1, "{:?}", pair.listener.resets);
    assert!(pair.listener.resets[0].contains("written anew"), "{:?}", pair.listener.resets);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_deleted_and_made_again_resets_and_so_does_a_new_epoch() {
    let server = Nats::start();
    let mut pair = Pair::on(&server).await;
    let admin = admin(&server).await;
    pair.publish(1..=3).await;
    pair.listener.until_current().await;
    admin.delete_stream(invalidation_stream(TENANT)).await.unwrap();
    create_stream(&admin, "second").await;
    // As many as before, so that the positions alone show nothing.
    pair.publish(4..=6).await;
    pair.listener.until_current().await;
    assert_eq!(pair.listener.resets.len(), 1, "{:?}", pair.listener.resets);
    assert!(pair.listener.epoch().ends_with(" second"), "{}", pair.listener.epoch());

    let mut config = stream::config(TENANT, 1, "third");
    config["description"] = "changed".into();
    let update = format!("STREAM.UPDATE.{}", invalidation_stream(TENANT));
    let reply: serde_json::Value = admin.request(update, &config).await.unwrap();
    assert!(reply.get("error").is_none(), "{reply}");
    pair.listener.until(|listener| listener.epoch().ends_with(" third")).await;
    assert_eq!(pair.listener.resets.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_stream_no_longer_keeps_resets() {
    let server = Nats::start();
    let mut pair = Pair::on(&server).await;
    let admin = admin(&server).await;
    pair.publish(1..=3).await;
    pair.listener.until_current().await;
    pair.link.cut();
    pair.publish(4..=6).await;
    let stream = admin.get_stream(invalidation_stream(TENANT)).await.unwrap();
    stream.purge().await.unwrap();
    let last = pair.publish([7]).await[0];
    pair.link.mend();
    pair.listener.until_current().await;
    assert_eq!(pair.listener.resets.len(), 1);
    assert_eq!(pair.listener.position, Some(last));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_subscriber_is_told_everything_in_the_end() {
    const BURST: u64 = 10_000;
    let server = Nats::start_unsynced();
    let mut pair = Pair::on(&server).await;
    let publishing = (0..50).map(|worker| {
        let peer = Arc::clone(&pair.peer);
        async move {
            for sequence in (1..=BURST).filter(|sequence| sequence % 50 == worker) {
                publish(&peer, &invalidation(PEER, sequence)).await;
            }
        }
    });
    // Nobody reads the events meanwhile.
    join_all(publishing).await;
    let last = publish(&pair.peer, &invalidation(PEER, BURST + 1)).await;
    pair.listener.until(|listener| listener.position == Some(last)).await;
    pair.listener.until_current().await;
    let mut told = pair.listener.sequences(PEER);
    told.sort_unstable();
    assert_eq!(told, (1..=BURST + 1).collect::<Vec<_>>());
    assert!(!pair.listener.replayed.is_empty(), "the connection's queue held them all");
    assert!(pair.listener.resets.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_reads_is_told_a_burst_live() {
    let server = Nats::start();
    let mut pair = Pair::on(&server).await;
    let burst = (1..=1_000).map(|sequence| {
        let peer = Arc::clone(&pair.peer);
        async move { peer.publish(&invalidation(PEER, sequence)).await }
    });
    let positions = try_join_all(burst).await.unwrap();
    let last = positions.into_iter().max();
    pair.listener.until(|listener| listener.position == last).await;
    assert_eq!(pair.listener.messages.len(), 1_000);
    assert!(pair.listener.replayed.is_empty(), "{:?}", pair.listener.replayed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_may_start_before_its_server() {
    let server = Nats::stopped();
    let bus = start(settings(server.url()));
    let mut listener = Listener::to(&*bus);
    listener.until(|listener| !listener.downs.is_empty()).await;
    assert!(listener.downs[0].contains("onnection refused"), "{:?}", listener.downs);
    assert!(listener.downs[0].contains(&server.url()), "{:?}", listener.downs);
    assert!(bus.publish(&invalidation(ME, 1)).await.is_err());
    listener.listen_for(Duration::from_secs(1)).await;
    assert_eq!(listener.downs.len(), 1, "it is said once");
    server.start_again();
    listener.until_current().await;
    let position = publish(&bus, &invalidation(ME, 1)).await;
    listener.until(|listener| listener.position == Some(position)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_stream_is_waited_for_or_made() {
    let server = Nats::start();
    let waiting = start(NatsSettings { create_stream: false, ..settings(server.url()) });
    let mut listener = Listener::to(&*waiting);
    listener.until(|listener| !listener.downs.is_empty()).await;
    assert!(listener.downs[0].contains("WARP_INV_default_main is missing"), "{:?}", listener.downs);
    let error = waiting.publish(&invalidation(ME, 1)).await.unwrap_err();
    assert!(error.0.contains("WARP_INV_default_main is missing"), "{error}");

    // Several may find it missing at once.
    let makers: Vec<_> = (0..5).map(|_| start(settings(server.url()))).collect();
    let mut epochs = Vec::new();
    for maker in &makers {
        let mut listener = Listener::to(&**maker);
        listener.until_current().await;
        assert!(listener.downs.is_empty(), "{:?}", listener.downs);
        epochs.push(listener.epoch().to_owned());
    }
    listener.until_current().await;
    assert!(epochs.iter().all(|epoch| epoch == listener.epoch()), "{epochs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_cannot_do_the_work_is_named() {
    let server = Nats::start();
    let mut config = stream::config(TENANT, 1, "first");
    config["allow_direct"] = false.into();
    let name = invalidation_stream(TENANT);
    let create = format!("STREAM.CREATE.{name}");
    let _: serde_json::Value = admin(&server).await.request(create, &config).await.unwrap();
    let bus = start(settings(server.url()));
    let mut listener = Listener::to(&*bus);
    listener.until(|listener| !listener.downs.is_empty()).await;
    assert!(listener.downs[0].contains("direct get"), "{:?}", listener.downs);
}

/// One account, an administrator, and a sidecar's user with `permissions`.
fn with_permissions(user: &str, publish: &[&str], subscribe: &[&str]) -> String {
    let quoted = |subjects: &[&str]| format!("{subjects:?}");
    format!(
        "authorization {{ users: [\n\
         {{ user: admin, password: admin }}\n\
         {{ {user}, permissions: {{ publish: {}, subscribe: {} }} }}\n\
         ] }}\n",
        quoted(publish),
        quoted(subscribe),
    )
}

const PUBLISH: [&str; 3] = [
    "warp.default_main.inv",
    "$JS.API.STREAM.INFO.WARP_INV_default_main",
    "$JS.API.DIRECT.GET.WARP_INV_default_main",
];
const SUBSCRIBE: [&str; 2] = ["warp.default_main.rp", "_INBOX.warp.default_main.sidecar.>"];

/// A server with the stream, where a user has `permissions`, and the URL to be that user.
async fn restricted(publish: &[&str], subscribe: &[&str]) -> (Nats, String) {
    let config = with_permissions("user: sidecar, password: secret", publish, subscribe);
    let server = Nats::start_with(&config);
    make_stream_as_admin(&server).await;
    let url = format!("nats://sidecar:secret@127.0.0.1:{}", server.port);
    (server, url)
}

async fn make_stream_as_admin(server: &Nats) {
    let options =
        async_nats::ConnectOptions::with_user_and_password("admin".into(), "admin".into());
    let client = options.connect(server.url()).await.unwrap();
    create_stream(&jetstream::new(client), "first").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_nkey_user_with_no_more_than_it_needs_can_do_everything() {
    let key = nkeys::KeyPair::new_from_raw(nkeys::KeyPairType::User, [7; 32]).unwrap();
    let user = format!("nkey: {}", key.public_key());
    let server = Nats::start_with(&with_permissions(&user, &PUBLISH, &SUBSCRIBE));
    make_stream_as_admin(&server).await;
    let link = Link::to(server.port).await;
    let credentials = Credentials::read(format!("{}\n", key.seed().unwrap()).as_bytes()).unwrap();
    let settings = NatsSettings { credentials, create_stream: false, ..settings(link.url()) };
    let bus = start(settings.clone());
    let mut listener = Listener::to(&*bus);
    listener.until_current().await;
    let first = publish(&bus, &invalidation(ME, 1)).await;
    listener.until(|listener| listener.position == Some(first)).await;
    link.lose(1);
    publish(&bus, &invalidation(ME, 2)).await;
    publish(&bus, &invalidation(ME, 3)).await;
    listener.until_current().await;
    assert_eq!(listener.sequences(ME), [1, 2, 3]);
    assert_eq!((listener.replayed.len(), listener.downs.len()), (1, 0), "{:?}", listener.downs);

    let other = nkeys::KeyPair::new_from_raw(nkeys::KeyPairType::User, [8; 32]).unwrap();
    let credentials = Credentials::read(other.seed().unwrap().as_bytes()).unwrap();
    let stranger = start(NatsSettings { credentials, ..settings });
    let mut listener = Listener::to(&*stranger);
    listener.until(|listener| !listener.downs.is_empty()).await;
    assert!(listener.downs[0].contains("authorization violation"), "{:?}", listener.downs);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_publish_is_told_at_once_and_by_its_subject() {
    let (_server, url) = restricted(&PUBLISH[1..], &SUBSCRIBE).await;
    let bus = start(settings(url));
    let mut listener = Listener::to(&*bus);
    listener.until_current().await;
    let asked = Instant::now();
    let error = bus.publish(&invalidation(ME, 1)).await.unwrap_err();
    assert!(error.0.contains("Permissions Violation") && error.0.contains(PUBLISH[0]), "{error}");
    assert!(asked.elapsed() < Timings::default().publish_timeout, "it waits for no timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_refusals_are_told_as_the_reason_to_be_down() {
    for (publish, subscribe, subject) in [
        (&[PUBLISH[0], PUBLISH[2]][..], &SUBSCRIBE[..], PUBLISH[1]),
        (&PUBLISH[..], &SUBSCRIBE[1..], SUBSCRIBE[0]),
        (&PUBLISH[..], &SUBSCRIBE[..1], "_INBOX."),
    ] {
        let (_server, url) = restricted(publish, subscribe).await;
        let bus = start(settings(url));
        let mut listener = Listener::to(&*bus);
        listener.until(|listener| !listener.downs.is_empty()).await;
        let down = &listener.downs[0];
        assert!(down.contains("Permissions Violation") && down.contains(subject), "{down}");
        listener.listen_for(Duration::from_secs(2)).await;
        assert!(listener.proof.is_none(), "{subject} refused, and yet {:?}", listener.proof);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_channels_need_one_subject_and_the_rest_goes_without_them() {
    let subject = message_subject(TENANT);
    let message =
        ChannelMessage { origin: ME, sharded: false, channel: "c".into(), payload: "m".into() };
    let with = |lists: &[&'static str]| [lists, &[subject.clone().leak()]].concat();
    let (_server, url) = restricted(&with(&PUBLISH), &with(&SUBSCRIBE)).await;
    let [one, other] = [start(settings(url.clone())), start(settings(url))];
    for bus in [&one, &other] {
        Listener::to(&**bus).until_current().await;
    }
    one.tell(&message).unwrap();
    let mut came = other.messages().unwrap();
    assert_eq!(tokio::time::timeout(PATIENCE, came.recv()).await.unwrap(), Some(message.clone()));

    let (_server, url) = restricted(&PUBLISH, &SUBSCRIBE).await;
    let bus = start(settings(url));
    let mut listener = Listener::to(&*bus);
    listener.until_current().await;
    bus.tell(&message).unwrap();
    publish(&bus, &invalidation(ME, 1)).await;
    listener.until_current().await;
    assert_eq!((listener.sequences(ME), listener.downs.len()), (vec![1], 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_fetch_is_told() {
    let (server, url) = restricted(&PUBLISH[..2], &SUBSCRIBE).await;
    let link = Link::to(server.port).await;
    let url = url.replace(&server.port.to_string(), link.url().rsplit(':').next().unwrap());
    let bus = start(settings(url));
    let mut listener = Listener::to(&*bus);
    listener.until_current().await;
    link.lose(1);
    publish(&bus, &invalidation(ME, 1)).await;
    listener.until(|listener| !listener.downs.is_empty()).await;
    assert!(listener.downs[0].contains(PUBLISH[2]), "{:?}", listener.downs);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_past_the_stream_is_passed_over() {
    let server = Nats::start();
    let mut pair = Pair::on(&server).await;
    let client = async_nats::connect(server.url()).await.unwrap();
    client.publish(republish_subject(TENANT), "nonsense".into()).await.unwrap();
    client.flush().await.unwrap();
    pair.publish([1]).await;
    pair.listener.until_current().await;
    assert_eq!(pair.listener.messages.len(), 1);
    assert!(pair.listener.resets.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_dropped_bus() {
    let server = Nats::start();
    let link = Link::to(server.port).await;
    let bus = start(settings(link.url()));
    let mut listener = Listener::to(&*bus);
    listener.until_current().await;
    assert_eq!(link.connections(), 1);
    drop(bus);
    while listener.next().await {}
    let dropped = Instant::now();
    while link.connections() > 0 {
        assert!(dropped.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Makes the stream on all of `servers`; which of them leads it.
async fn replicated(servers: &[Nats; 3]) -> usize {
    let admin = admin(&servers[0]).await;
    let create = format!("STREAM.CREATE.{}", invalidation_stream(TENANT));
    let request = stream::config(TENANT, 3, "first");
    let begun = Instant::now();
    loop {
        // No answer while the servers elect the one that makes streams.
        let reply: Result<serde_json::Value, _> = admin.request(create.clone(), &request).await;
        if let Some(leader) = reply.iter().find_map(|reply| reply["cluster"]["leader"].as_str()) {
            return servers.iter().position(|server| server.is_called(leader)).unwrap();
        }
        assert!(begun.elapsed() < PATIENCE, "{reply:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_retires_is_left_for_another() {
    let servers = Nats::cluster();
    replicated(&servers).await;
    let links = [Link::to(servers[0].port).await, Link::to(servers[1].port).await];
    let urls = links.iter().map(Link::url).collect();
    let bus = start(NatsSettings { urls, ..settings(String::new()) });
    let mut listener = Listener::to(&*bus);
    listener.until_current().await;
    publish(&bus, &invalidation(ME, 1)).await;
    let retired = links.iter().position(|link| link.connections() > 0).unwrap();
    servers[retired].retire();
    listener.until(|listener| !listener.downs.is_empty()).await;
    assert!(listener.downs[0].contains("shutting down"), "{:?}", listener.downs);
    publish(&bus, &invalidation(ME, 2)).await;
    listener.until_current().await;
    assert_eq!(listener.sequences(ME), [1, 2]);
    assert!(listener.resets.is_empty(), "{:?}", listener.resets);
    assert!(links[1 - retired].connections() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_cut_off_from_its_followers_proves_nothing() {
    let servers = Nats::cluster();
    let leader = replicated(&servers).await;
    let followers = || servers.iter().enumerate().filter(|(at, _)| *at != leader);
    let bus = start(settings(servers[leader].url()));
    let mut listener = Listener::to(&*bus);
    listener.until_current().await;
    followers().for_each(|(_, follower)| follower.pause());
    let cut = Instant::now();
    listener.until(|listener| !listener.downs.is_empty()).await;
    listener.listen_for(Duration::from_secs(3)).await;
    let proven = listener.proof.as_ref().unwrap().0;
    assert!(proven < cut + Duration::from_secs(4), "{:?} after it", proven - cut);
    assert!(listener.downs[0].contains("majority"), "{:?}", listener.downs);
    followers().for_each(|(_, follower)| follower.resume());
    listener.until_current().await;
}

#[test]
fn settings_that_cannot_be_are_refused_with_what_to_do() {
    let refused =
        |urls: Vec<String>| NatsBus::start(NatsSettings::new(urls, TENANT.to_owned())).unwrap_err();
    assert_eq!(refused(vec![]), SettingsError::NoUrl);
    let error = refused(vec!["http://a b".to_owned()]).to_string();
    assert!(error.contains("http://a b") && error.contains("nats://host:4222"), "{error}");
}
