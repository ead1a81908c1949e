//! Copies that stand in for a storage that fails or is slow, and timeouts.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use warp_sidecar::adapter::{Key, StorageError, Value, unix_millis};
use warp_sidecar::core::Engine;

use crate::support::doubles::ScriptedStorage;
use crate::support::pod::{Pod, classes, down, policies, set};

/// A pod whose copy of `k` has just passed its TTL.
async fn with_stale_copy(rules: &str) -> Pod<ScriptedStorage> {
    let pod = Pod::with(&format!("ttl: 20ms, {rules}")).await;
    pod.storage.put_behind("k", "old");
    pod.read("k").await.unwrap();
    pod.until("the TTL has passed", |engine| !is_hit(engine, "k")).await;
    pod
}

fn is_hit(engine: &Engine, key: &'static str) -> bool {
    engine.cached(key.as_bytes(), engine.now()).is_some()
}

fn fail(pod: &Pod<ScriptedStorage>) {
    *pod.storage.away.lock() = Some(down());
}

fn text(data: &'static str) -> Result<Option<Bytes>, StorageError> {
    Ok(Some(Bytes::from(data)))
}

#[tokio::test]
async fn an_old_copy_stands_in_for_a_failing_storage_and_its_recovery_is_seen() {
    let pod = with_stale_copy("failSafeGrace: 1h").await;
    fail(&pod);
    assert_eq!(pod.read("k").await, text("old"));
    let calls = pod.storage.calls.load(Ordering::SeqCst);
    for _ in 0..10 {
        assert_eq!(pod.read("k").await, text("old"));
    }
    assert_eq!(pod.storage.calls.load(Ordering::SeqCst), calls, "it is known to be away");
    assert_eq!(pod.read("other").await, Err(down()), "there is no copy of it");
    let metrics = pod.engine.render_metrics().unwrap();
    let stale = r#"warp_cache_hits_total{class="default",result="stale"} 11"#;
    assert!(metrics.contains(stale), "{metrics}");

    *pod.storage.away.lock() = None;
    pod.storage.put_behind("k", "new");
    pod.until("the probe finds it", |engine| engine.status().1.available).await;
    assert_eq!(pod.read("k").await, text("new"));
}

#[tokio::test]
async fn one_failed_call_has_copies_stand_in_for_no_longer_than_the_next_probe() {
    let pod = with_stale_copy("failSafeGrace: 1h").await;
    for _ in 0..3 {
        pod.storage.fail_next(down());
    }
    assert_eq!(pod.read("k").await, text("old"));
    assert!(!pod.engine.status().1.available);
    pod.storage.put_behind("k", "new");
    let begun = Instant::now();
    pod.until("the storage is asked again", |engine| engine.status().1.available).await;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(pod.read("k").await, text("new"));
}

#[tokio::test]
async fn without_grace_or_after_it_the_failure_is_told() {
    for rules in ["failSafeGrace: 0s", "failSafeGrace: 1ms"] {
        let pod = with_stale_copy(rules).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
        fail(&pod);
        assert_eq!(pod.read("k").await, Err(down()), "{rules}");
    }
}

#[tokio::test]
async fn a_refusal_is_an_answer_that_nothing_stands_in_for() {
    let pod = with_stale_copy("failSafeGrace: 1h").await;
    let refusal = StorageError::Refused("WRONGTYPE it is a list".to_owned());
    pod.storage.fail_next(refusal.clone());
    assert_eq!(pod.read("k").await, Err(refusal));
}

#[tokio::test]
async fn what_was_written_since_is_gone_and_not_stale() {
    // By a peer, by this pod with and without an answer, and by the storage's word.
    for case in 0..4 {
        let pod = with_stale_copy("failSafeGrace: 1h").await;
        match case {
            0 => pod.tell_written_elsewhere("k").await,
            1 => drop(pod.engine.delete(&[Key::from("k")]).await.unwrap()),
            2 => {
                let cause = "timeout".to_owned();
                pod.storage.fail_next(StorageError::Unknown { kind: "scripted", cause });
                pod.engine.write(&Key::from("k"), set("new")).await.unwrap_err();
            }
            _ => {
                pod.storage.values.lock().clear();
                assert_eq!(pod.read("k").await, Ok(None));
            }
        }
        fail(&pod);
        assert_eq!(pod.read("k").await, Err(down()), "case {case}");
    }
}

#[tokio::test]
async fn what_the_storage_has_forgotten_by_its_own_expiry_is_not_stale() {
    let pod = Pod::with("ttl: 1h, failSafeGrace: 1h").await;
    pod.storage.put_behind("k", "v");
    *pod.storage.expires_at.lock() = Some(unix_millis() + 50);
    pod.read("k").await.unwrap();
    fail(&pod);
    assert!(is_hit(&pod.engine, "k"));
    pod.until("it has expired", |engine| !is_hit(engine, "k")).await;
    assert_eq!(pod.read("k").await, Err(down()));
}

#[tokio::test]
async fn without_the_buss_proof_nothing_stands_in() {
    let pod = with_stale_copy("failSafeGrace: 1h, maxStaleness: 1500ms").await;
    fail(&pod);
    assert_eq!(pod.read("k").await, text("old"));
    tokio::time::sleep(Duration::from_millis(1600)).await;
    assert_eq!(pod.read("k").await, Err(down()), "a write elsewhere may have been missed");
    pod.bus.prove().await;
    pod.until("the bus is live", |engine| engine.status().0.live).await;
    assert_eq!(pod.read("k").await, text("old"), "nothing was missed");
}

#[tokio::test]
async fn a_slow_storage_is_waited_for_until_the_soft_timeout_and_its_answer_is_cached_later() {
    let pod = with_stale_copy("failSafeGrace: 1h, softTimeout: 50ms").await;
    pod.engine.exchange_classes(classes(&policies(
        "ttl: 10s, ttlJitterPercent: 0, failSafeGrace: 1h, softTimeout: 50ms",
    )));
    // Now it would be fresh; only what nobody has is waited for without end.
    assert!(is_hit(&pod.engine, "k"));
    pod.engine
        .exchange_classes(classes(&policies("ttl: 1ms, failSafeGrace: 1h, softTimeout: 50ms")));
    pod.storage.put_behind("k", "new");
    pod.storage.close();
    let begun = Instant::now();
    assert_eq!(pod.read("k").await, text("old"));
    let waited = begun.elapsed();
    assert!((50..2000).contains(&waited.as_millis()), "{waited:?}");
    pod.engine.exchange_classes(classes(&policies("ttl: 10s")));
    pod.storage.open();
    pod.until("the load ends", |engine| {
        let value = engine.cached(b"k", engine.now());
        value.is_some_and(|Value { data, .. }| data == "new")
    })
    .await;
}

#[tokio::test]
async fn an_invalidation_while_the_storage_is_waited_for_takes_the_stand_in_away() {
    let pod = with_stale_copy("failSafeGrace: 1h, softTimeout: 200ms, hardTimeout: 400ms").await;
    pod.storage.close();
    let engine = Arc::clone(&pod.engine);
    let reading = tokio::spawn(async move { engine.read(&[Key::from("k")]).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    pod.tell_written_elsewhere("k").await;
    let failed = reading.await.unwrap().unwrap_err().to_string();
    assert!(failed.contains("hardTimeout"), "{failed}");
}

#[tokio::test]
async fn without_a_copy_a_read_ends_at_the_hard_timeout_and_its_load_goes_on() {
    let pod = Pod::with("ttl: 10s, hardTimeout: 60ms").await;
    for key in ["k", "l"] {
        pod.storage.put_behind(key, "v");
    }
    pod.storage.close();
    let begun = Instant::now();
    assert!(matches!(pod.read("k").await, Err(StorageError::Unavailable { .. })));
    let several = pod.engine.read(&["l", "m"].map(Key::from)).await;
    assert!(matches!(several, Err(StorageError::Unavailable { .. })), "{several:?}");
    let waited = begun.elapsed();
    assert!((120..4000).contains(&waited.as_millis()), "{waited:?}");
    pod.storage.open();
    pod.until("the loads end", |engine| is_hit(engine, "k") && is_hit(engine, "l")).await;
}

#[tokio::test]
async fn several_keys_have_stand_ins_only_together() {
    let pod = with_stale_copy("failSafeGrace: 1h").await;
    pod.storage.put_behind("l", "old too");
    pod.read("l").await.unwrap();
    pod.until("the TTL has passed", |engine| !is_hit(engine, "l")).await;
    fail(&pod);
    let both = pod.engine.read(&["k", "l"].map(Key::from)).await.unwrap();
    let both: Vec<_> = both.into_iter().map(|value| value.unwrap().data).collect();
    assert_eq!(both, ["old", "old too"]);
    assert_eq!(pod.engine.read(&["k", "m"].map(Key::from)).await, Err(down()));
}
