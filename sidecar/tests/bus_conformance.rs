//! What every bus must do alike.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]

#[path = "support/listener.rs"]
mod listener;
#[path = "support/servers/mod.rs"]
mod servers;

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use tokio::sync::broadcast;
use warp_sidecar::sync_bus::{
    ChannelMessage, Invalidation, MemoryBus, NatsBus, NatsSettings, Origin, Register,
    RegisterError, Scope, Space, SyncBus, Watched,
};

use listener::{Listener, invalidation, publish};
use servers::nats::Nats;

/// Two ends of one bus, and what it needs to live.
struct Fixture {
    ends: [Arc<dyn SyncBus>; 2],
    server: Box<dyn Any + Send>,
}

fn memory() -> Fixture {
    let ends = MemoryBus::group(2).into_iter().map(|end| Arc::new(end) as Arc<dyn SyncBus>);
    let ends = ends.collect::<Vec<_>>().try_into().unwrap();
    Fixture { ends, server: Box::new(()) }
}

fn nats() -> Fixture {
    let server = Nats::start();
    let settings = NatsSettings {
        create_stream: true,
        ..NatsSettings::new(vec![server.url()], "default_main".to_owned())
    };
    let end = || Arc::new(NatsBus::start(settings.clone()).unwrap()) as Arc<dyn SyncBus>;
    Fixture { ends: [end(), end()], server: Box::new(server) }
}

async fn joined(fixture: &Fixture) -> [Listener; 2] {
    let mut listeners = fixture.ends.each_ref().map(|end| Listener::to(&**end));
    for listener in &mut listeners {
        listener.until_current().await;
    }
    listeners
}

async fn both_ends_are_told_the_same_in_the_same_order(fixture: Fixture) {
    let mut listeners = joined(&fixture).await;
    let origins = [Origin(1), Origin(2)];
    let publishing = fixture.ends.iter().zip(origins).map(|(end, origin)| async move {
        let mut positions = Vec::new();
        for sequence in 1..=100 {
            positions.push(publish(end, &invalidation(origin, sequence)).await);
        }
        positions
    });
    let positions = join_all(publishing).await;
    for listener in &mut listeners {
        listener.until_current().await;
    }
    let [one, other] = listeners;
    assert_eq!(one.messages, other.messages);
    assert_eq!(one.messages.len(), 200);
    for (origin, positions) in origins.into_iter().zip(positions) {
        assert_eq!(one.sequences(origin), (1..=100).collect::<Vec<_>>());
        let told = one.messages.iter().filter(|(_, told)| told.origin == origin);
        assert_eq!(told.map(|(position, _)| *position).collect::<Vec<_>>(), positions);
    }
    assert!(one.gaps.is_empty() && one.resets.is_empty() && one.downs.is_empty(), "{one:?}");
}

async fn messages_of_channels_reach_the_other_end_in_their_order(fixture: Fixture) {
    let _listeners = joined(&fixture).await;
    let [one, other] = &fixture.ends;
    let mut came = other.messages().expect("the first to ask");
    assert!(other.messages().is_none());
    let message = |n: u32| ChannelMessage {
        origin: Origin(1),
        sharded: n % 2 == 1,
        channel: Bytes::from_static(b"c\xff"),
        payload: n.to_string().into(),
    };
    for n in 0..500 {
        one.tell(&message(n)).unwrap();
    }
    for n in 0..500 {
        let next = tokio::time::timeout(listener::PATIENCE, came.recv());
        assert_eq!(next.await.expect("a message in time"), Some(message(n)));
    }
}

async fn what_is_said_arrives_whole(fixture: Fixture) {
    let [mut listener, _] = joined(&fixture).await;
    let keys = |count: u32, size: usize| {
        let key = |n: u32| {
            let mut key = n.to_be_bytes().to_vec();
            key.resize(size, b'\r');
            Bytes::from(key)
        };
        (0..count).map(key).collect::<Vec<_>>()
    };
    let given = [keys(1, 4), keys(5_000, 40), keys(3, 200_000)];
    for (sequence, keys) in (1..).zip(&given) {
        let scope = Scope::Keys(keys.clone());
        publish(&fixture.ends[1], &Invalidation { origin: Origin(5), sequence, scope }).await;
    }
    let all = Invalidation { origin: Origin(5), sequence: 4, scope: Scope::Everything };
    let last = publish(&fixture.ends[1], &all).await;
    listener.until(|listener| listener.position == Some(last)).await;
    for (sequence, keys) in (1..).zip(given) {
        let parts = listener.messages.iter().filter(|(_, told)| told.sequence == sequence);
        let told: Vec<Bytes> = parts
            .flat_map(|(_, told)| match &told.scope {
                Scope::Keys(keys) => keys.clone(),
                Scope::Everything => panic!("only the last is everything"),
            })
            .collect();
        // The parts of one invalidation are sent together and stored in any order.
        let sorted = |mut keys: Vec<Bytes>| {
            keys.sort();
            keys
        };
        assert!(sorted(told) == sorted(keys), "sequence {sequence}");
    }
    assert_eq!(listener.messages.last().unwrap().1, all);
}

async fn publishing_again_does_no_harm(fixture: Fixture) {
    let [mut listener, _] = joined(&fixture).await;
    let first = invalidation(Origin(3), 1);
    let position = publish(&fixture.ends[0], &first).await;
    let again = publish(&fixture.ends[0], &first).await;
    let last = publish(&fixture.ends[0], &invalidation(Origin(3), 2)).await;
    assert!(position <= again && again < last);
    listener.until(|listener| listener.position == Some(last)).await;
    assert_eq!(listener.sequences(Origin(3)).last(), Some(&2));
}

async fn the_events_are_the_first_callers_and_end_with_the_bus(fixture: Fixture) {
    let Fixture { ends: [end, other], server } = fixture;
    let mut listener = Listener::to(&*end);
    assert!(end.events().is_none());
    listener.until_current().await;
    drop(end);
    while listener.next().await {}
    drop((other, server));
}

/// The next register that is told of.
async fn written(watched: &mut broadcast::Receiver<Watched>) -> (Space, Bytes, Register) {
    loop {
        let told = tokio::time::timeout(listener::PATIENCE, watched.recv()).await;
        if let Watched::Written { space, name, register } = told.unwrap().unwrap() {
            return (space, name, register);
        }
    }
}

async fn registers_change_by_compare_and_swap_and_are_told_of(fixture: Fixture) {
    let _listeners = joined(&fixture).await;
    let [one, other] = fixture.ends.each_ref().map(|end| end.registers().unwrap());
    assert_eq!(one.epoch().await.unwrap(), other.epoch().await.unwrap());
    let mut watched = other.watch();
    let name = Bytes::from_static(b"any * name\xff");
    assert_eq!(other.read(Space::Lock, &name).await, Ok(None));
    let write =
        |expected, value: &'static str| one.write(Space::Lock, &name, expected, value.into(), None);
    let first = write(0, "a").await.unwrap();
    assert_eq!(write(0, "b").await, Err(RegisterError::Crossed));
    assert_eq!(write(first + 1, "b").await, Err(RegisterError::Crossed));
    let second = write(first, "b").await.unwrap();
    assert!(second > first);
    let register = |revision, value: &'static str| Register { revision, value: value.into() };
    assert_eq!(other.read(Space::Lock, &name).await, Ok(Some(register(second, "b"))));
    for expected in [register(first, "a"), register(second, "b")] {
        assert_eq!(written(&mut watched).await, (Space::Lock, name.clone(), expected));
    }
    // Another space has names of its own, and all of one can be had.
    let lease = other.write(Space::Lease, &name, 0, "c".into(), None).await.unwrap();
    assert!(lease > second, "there is one order");
    let mut expected = vec![(name.clone(), register(lease, "c"))];
    for at in 0..600_u32 {
        let name = Bytes::from(at.to_be_bytes().to_vec());
        let revision = one.write(Space::Lease, &name, 0, "d".into(), None).await.unwrap();
        expected.push((name, register(revision, "d")));
    }
    let mut all = other.all(Space::Lease).await.unwrap();
    all.sort_by_key(|(_, register)| register.revision);
    assert_eq!(all, expected);
    assert_eq!(other.all(Space::Lock).await.unwrap(), [(name, register(second, "b"))]);
}

macro_rules! every_bus {
    ($($rule:ident)*) => { $(
        mod $rule {
            #[tokio::test(flavor = "multi_thread")]
            async fn memory() { super::$rule(super::memory()).await }
            #[tokio::test(flavor = "multi_thread")]
            async fn nats() { super::$rule(super::nats()).await }
        }
    )* };
}

every_bus! {
    both_ends_are_told_the_same_in_the_same_order
    what_is_said_arrives_whole
    messages_of_channels_reach_the_other_end_in_their_order
    publishing_again_does_no_harm
    registers_change_by_compare_and_swap_and_are_told_of
    the_events_are_the_first_callers_and_end_with_the_bus
}
