//! That a key isn't there is remembered, and forgotten by whoever writes it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use warp_sidecar::adapter::{Key, StorageEvent};
use warp_sidecar::core::Lent;

use crate::support::doubles::ScriptedStorage;
use crate::support::pod::{Pod, set};

const RULES: &str = "ttl: 1h, negativeTtl: 1h";

fn calls(pod: &Pod<ScriptedStorage>) -> u64 {
    pod.storage.calls.load(Ordering::SeqCst)
}

/// Whether the next read of `k` is answered without the storage.
async fn is_remembered(pod: &Pod<ScriptedStorage>) -> bool {
    let before = calls(pod);
    pod.read("k").await.unwrap();
    calls(pod) == before
}

#[tokio::test]
async fn an_absent_key_is_asked_for_once() {
    let pod = Pod::with(RULES).await;
    assert_eq!(pod.read("k").await, Ok(None));
    assert!(is_remembered(&pod).await);
    let (view, hash) = (pod.engine.view(), pod.engine.hash(b"k"));
    let lent = pod.engine.lend(&view, (hash, b"k"), pod.engine.now(), |_| ());
    assert!(matches!(lent, Lent::Absent), "{lent:?}");
    let metrics = pod.engine.render_metrics().unwrap();
    let negative = r#"warp_cache_hits_total{class="default",result="negative"} 2"#;
    assert!(metrics.contains(negative), "{metrics}");
    let several = pod.engine.read(&["k", "l"].map(Key::from)).await.unwrap();
    assert_eq!(several, [None, None]);
    let before = calls(&pod);
    pod.engine.read(&["k", "l"].map(Key::from)).await.unwrap();
    assert_eq!(calls(&pod), before, "those of several are remembered as well");
}

#[tokio::test]
async fn only_where_the_policy_says_so_and_as_long_as_it_says() {
    let pod = Pod::with("ttl: 1h").await;
    pod.read("k").await.unwrap();
    assert!(!is_remembered(&pod).await);
    let pod = Pod::with("ttl: 1h, negativeTtl: 30ms").await;
    pod.read("k").await.unwrap();
    tokio::time::sleep(Duration::from_millis(40)).await;
    assert!(!is_remembered(&pod).await);
}

#[tokio::test]
async fn whoever_writes_the_key_ends_it() {
    for case in 0..4 {
        let pod = Pod::with(RULES).await;
        pod.read("k").await.unwrap();
        assert!(is_remembered(&pod).await);
        match case {
            0 => {
                pod.storage.put_behind("k", "v");
                pod.tell_written_elsewhere("k").await;
            }
            1 => drop(pod.engine.write(&Key::from("k"), set("v")).await.unwrap()),
            2 => pod.engine.write_many(&[(Key::from("k"), Bytes::from("v"))]).await.unwrap(),
            _ => {
                pod.storage.put_behind("k", "v");
                let changed = StorageEvent::Changed(vec![Key::from("k")]);
                pod.storage.feed.send(changed).await.unwrap();
                pod.until("it is forgotten", |engine| engine.explain(b"k").held.is_none()).await;
            }
        }
        assert_eq!(pod.read("k").await, Ok(Some(Bytes::from("v"))), "case {case}");
    }
}

#[tokio::test]
async fn an_answer_that_a_write_crosses_is_not_remembered() {
    let pod = Pod::with(RULES).await;
    pod.storage.close();
    let before = calls(&pod);
    let engine = Arc::clone(&pod.engine);
    let reading = tokio::spawn(async move { engine.read(&[Key::from("k")]).await });
    while calls(&pod) == before {
        tokio::task::yield_now().await;
    }
    pod.storage.put_behind("k", "v");
    pod.tell_written_elsewhere("k").await;
    pod.storage.open();
    assert_eq!(reading.await.unwrap(), Ok(vec![None]));
    assert_eq!(pod.read("k").await, Ok(Some(Bytes::from("v"))));
}

#[tokio::test]
async fn it_needs_the_buss_proof_as_a_value_does_and_never_stands_in() {
    let pod = Pod::with("ttl: 1h, negativeTtl: 1h, failSafeGrace: 1h, maxStaleness: 1500ms").await;
    pod.read("k").await.unwrap();
    assert!(is_remembered(&pod).await);
    tokio::time::sleep(Duration::from_millis(1600)).await;
    assert!(!is_remembered(&pod).await);
    let pod = Pod::with("ttl: 1h, negativeTtl: 20ms, failSafeGrace: 1h").await;
    pod.read("k").await.unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await;
    let down = crate::support::pod::down();
    *pod.storage.away.lock() = Some(down.clone());
    assert_eq!(pod.read("k").await, Err(down));
}
