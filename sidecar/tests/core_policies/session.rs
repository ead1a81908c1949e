//! Tokens with which a session reads its writes in another pod.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use warp_sidecar::adapter::Key;
use warp_sidecar::core::session::{Behind, Token};
use warp_sidecar::sync_bus::{BusEvent, Invalidation, Origin, Scope};

use crate::support::doubles::ScriptedStorage;
use crate::support::pod::{Pod, set};

const SOON: Duration = Duration::from_millis(30);
const LATER: Duration = Duration::from_secs(10);

async fn apply(pod: &Pod<ScriptedStorage>, position: u64) {
    let scope = Scope::Keys(vec![Key::from("k")]);
    let invalidation = Invalidation { origin: Origin(2), sequence: position, scope };
    pod.bus.tell(BusEvent::Message { position, replayed: false, invalidation }).await;
}

fn token(text: &str) -> Token {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_token_covers_what_the_pod_has_written_and_applied() {
    let pod = Pod::new().await;
    assert_eq!(pod.engine.token(SOON).await.unwrap().to_string(), "0@e");
    pod.engine.write(&Key::from("k"), set("v")).await.unwrap();
    assert_eq!(pod.engine.token(SOON).await.unwrap().to_string(), "1@e");
    apply(&pod, 9).await;
    pod.until("it is applied", |engine| engine.status().0.position == 9).await;
    assert_eq!(pod.engine.token(SOON).await.unwrap().to_string(), "9@e");
    *pod.bus.refuses.lock() = true;
    pod.engine.write(&Key::from("k"), set("w")).await.unwrap();
    assert_eq!(pod.engine.token(SOON).await, Err(Behind::NotAnnounced));
    *pod.bus.refuses.lock() = false;
    assert!(pod.engine.token(LATER).await.is_ok());
}

#[tokio::test]
async fn a_token_is_waited_for_and_then_no_copy_is_older() {
    let pod = Pod::new().await;
    pod.storage.put_behind("k", "old");
    pod.read("k").await.unwrap();
    pod.storage.put_behind("k", "new");
    assert_eq!(pod.engine.reach(&token("5@e"), SOON).await, Err(Behind::NotApplied));
    let engine = Arc::clone(&pod.engine);
    let reading = tokio::spawn(async move {
        engine.reach(&token("5@e"), LATER).await.unwrap();
        engine.read(&[Key::from("k")]).await
    });
    tokio::time::sleep(SOON).await;
    assert!(!reading.is_finished());
    apply(&pod, 5).await;
    let values = reading.await.unwrap().unwrap();
    assert_eq!(values[0].as_ref().unwrap().data, Bytes::from("new"));
    assert_eq!(pod.engine.reach(&token("5@e"), Duration::ZERO).await, Ok(()));
}

#[tokio::test]
async fn a_token_of_another_epoch_waits_for_the_bus_to_say_which_holds() {
    let pod = Pod::new().await;
    let engine = Arc::clone(&pod.engine);
    let reaching = tokio::spawn(async move { engine.reach(&token("5@f"), LATER).await });
    tokio::time::sleep(SOON).await;
    assert!(!reaching.is_finished(), "f may be the next one");
    pod.bus.prove().await;
    assert_eq!(reaching.await.unwrap(), Ok(()), "f is over");
}

#[tokio::test]
async fn when_positions_count_anew_tokens_do_so_after_a_proof() {
    let pod = Pod::new().await;
    apply(&pod, 100).await;
    pod.engine.write(&Key::from("k"), set("v")).await.unwrap();
    let (reason, epoch) = ("made anew".to_owned(), "f".to_owned());
    pod.bus.tell(BusEvent::Reset { reason, epoch: epoch.clone(), position: 2 }).await;
    pod.until("it is reset", |engine| engine.status().0.resets == 1).await;
    assert_eq!(pod.engine.token(SOON).await, Err(Behind::NotJoined), "writes may be missing");
    pod.bus.tell(BusEvent::Proof { as_of: Instant::now(), position: 3, epoch }).await;
    assert_eq!(pod.engine.token(LATER).await.unwrap().to_string(), "3@f");
}
