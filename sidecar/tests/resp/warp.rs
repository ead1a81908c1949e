//! What Warp has beyond Redis, as a client sees it.

use crate::client::Client;
use crate::doubles::{ScriptedBus, ScriptedStorage};
use crate::pod::Pod;
use warp_sidecar::resp::Settings;
use warp_sidecar::sync_bus::Origin;

/// What WARP.EXPLAIN says under `name`.
async fn explained(client: &mut Client, key: &str, name: &str) -> String {
    let all = client.ask(&format!("WARP.EXPLAIN {key}")).await;
    let (_, rest) = all.split_once(&format!("'{name}'=>'")).unwrap_or_else(|| panic!("{all}"));
    rest.split('\'').next().unwrap().to_owned()
}

#[tokio::test]
async fn explain_says_what_is_held_and_why_reads_are_hits_or_not() {
    let storage = ScriptedStorage::new();
    let pod = Pod::start(storage.clone(), Settings::default());
    let mut client = pod.client().await;
    let plain = client.ask("WARP.EXPLAIN k").await;
    assert!(plain.starts_with("['policy' 'default' 'pattern' "), "RESP2 has a list: {plain}");
    client.ask("HELLO 3").await;
    let client = &mut client;
    assert_eq!(explained(client, "k", "rule.mode").await, "StrongLocal");
    assert_eq!(explained(client, "k", "rule.negativeTtl").await, "none");
    assert_eq!(explained(client, "k", "holds").await, "nothing");
    assert_eq!(explained(client, "k", "next-read").await, "goes to the storage: nothing is held");
    assert_eq!(explained(client, "k", "last-miss").await, "none is remembered");

    storage.put_behind("k", "value");
    client.expect("GET k -> 'value'").await;
    assert_eq!(explained(client, "k", "holds").await, "a value of 5 bytes");
    assert_eq!(explained(client, "k", "next-read").await, "a hit");
    assert!(explained(client, "k", "state").await.starts_with("fresh for "));
    let miss = explained(client, "k", "last-miss").await;
    assert!(miss.contains("nothing is held; the storage was asked. Every read since"), "{miss}");

    client.expect("DEL k -> 1").await;
    assert_eq!(explained(client, "k", "holds").await, "nothing");
    let by = explained(client, "k", "last-invalidation").await;
    assert!(by.ends_with("a write of this pod"), "{by}");
    assert_eq!(explained(client, "k", "this-sidecar").await, "0000000000000001");
    client.expect("WARP.EXPLAIN -> ERR wrong number of arguments for 'warp.explain' command").await;
}

#[tokio::test]
async fn over_memory_storage_there_are_no_copies_to_explain() {
    let pod = Pod::of_memory();
    let mut client = pod.client().await;
    client.ask("HELLO 3").await;
    let holds = explained(&mut client, "k", "holds").await;
    assert!(holds.starts_with("no such key; the storage is memory"), "{holds}");
    client.expect("SET k v -> OK").await;
    let holds = explained(&mut client, "k", "holds").await;
    assert!(holds.starts_with("the key; "), "{holds}");
}

#[tokio::test]
async fn a_session_takes_its_token_to_another_pod() {
    let (storage, bus) = (ScriptedStorage::new(), ScriptedBus::new());
    let pod = Pod::on(bus.clone(), Origin(1), storage, Settings::default());
    let mut client = pod.client().await;
    client
        .expect(
            "
            WARP.SESSION 1@e 10 -> SESSIONBEHIND this pod has not applied what the token covers yet; try again
            WARP.SESSION nonsense -> ERR that is no token of WARP.SESSION
            WARP.SESSION 1@e 60001 -> ERR the time is a whole number of milliseconds, 60000 at most
            WARP.SESSION 1@e 1 2 -> ERR syntax error
            ",
        )
        .await;
    bus.prove().await;
    while !pod.engine.status().0.live {
        tokio::task::yield_now().await;
    }
    client.expect("WARP.SESSION -> '0@e'\n WARP.SESSION 0@e -> OK").await;
}
