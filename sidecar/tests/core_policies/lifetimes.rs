//! When copies end and are read anew: jitter, sliding TTL, eager refresh, maxStaleness.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use warp_sidecar::adapter::Key;
use warp_sidecar::core::history::Why;

use crate::support::doubles::{ScriptedBus, ScriptedStorage};
use crate::support::pod::{Pod, down, set};

#[tokio::test]
async fn what_was_read_together_ends_one_after_the_other() {
    let pod = Pod::with("ttl: 300ms, ttlJitterPercent: 90").await;
    let keys: Vec<Key> = (0..200).map(|i| Key::from(format!("k{i}"))).collect();
    let pairs: Vec<_> = keys.iter().map(|key| (key.clone(), Bytes::from("v"))).collect();
    pod.storage.values.lock().extend(pairs);
    pod.engine.read(&keys).await.unwrap();
    let now = pod.engine.now();
    let fresh_at = |after: u64| {
        let mut later = now;
        later.age += after;
        keys.iter().filter(|key| pod.engine.cached(key, later).is_some()).count()
    };
    let left: Vec<usize> = [0, 100, 200, 300].map(fresh_at).to_vec();
    assert!(left[0] > 190, "{left:?}");
    assert!((90..190).contains(&left[1]) && (20..110).contains(&left[2]), "{left:?}");
    assert_eq!(left[3], 0, "the TTL is the longest");
}

#[tokio::test]
async fn a_sliding_copy_lives_by_its_hits_and_a_written_one_too() {
    let pod = Pod::with("ttl: 10s, slidingTtl: 300ms").await;
    pod.storage.put_behind("read", "v");
    pod.read("read").await.unwrap();
    pod.engine.write(&Key::from("written"), set("12")).await.unwrap();
    let mut now = pod.engine.now();
    let mut is_hit = |key: &'static str, after: u64| {
        now.age += after;
        pod.engine.cached(key.as_bytes(), now).is_some()
    };
    for _ in 0..10 {
        assert!(is_hit("read", 200) && is_hit("written", 10));
    }
    assert!(!is_hit("read", 310) && !is_hit("written", 0), "nobody read them");
}

#[tokio::test]
async fn a_steady_copy_lives_longer_each_time_and_a_written_one_begins_anew() {
    let pod = Pod::with("ttl: 10s, adaptiveTtlMin: 40ms").await;
    pod.storage.put_behind("k", "v");
    let lives = async || {
        pod.until("it has ended", |engine| engine.cached(b"k", engine.now()).is_none()).await;
        pod.read("k").await.unwrap();
        pod.engine.explain(b"k").held.unwrap().fresh_until
    };
    assert_eq!([lives().await, lives().await, lives().await], [40, 80, 160]);
    pod.storage.put_behind("k", "w");
    assert_eq!([lives().await, lives().await], [40, 80]);
    pod.tell_written_elsewhere("k").await;
    assert_eq!([lives().await, lives().await], [40, 80]);
    pod.engine.write(&Key::from("k"), set("w")).await.unwrap();
    assert_eq!(pod.engine.explain(b"k").held.unwrap().fresh_until, 40);
}

#[tokio::test]
async fn a_hit_on_a_copy_that_soon_ends_has_it_read_anew_once() {
    let pod = Pod::with("ttl: 2s, eagerRefreshPercent: 10").await;
    pod.storage.put_behind("k", "old");
    pod.read("k").await.unwrap();
    pod.storage.put_behind("k", "new");
    assert_eq!(pod.cached("k"), Some(Bytes::from("old")));
    tokio::time::sleep(Duration::from_millis(210)).await;
    pod.storage.close();
    let calls = pod.storage.calls.load(Ordering::SeqCst);
    for _ in 0..50 {
        assert_eq!(pod.cached("k"), Some(Bytes::from("old")), "nobody waits");
        tokio::task::yield_now().await;
    }
    let storage = &pod.storage;
    pod.until("it is read", |_| storage.calls.load(Ordering::SeqCst) == calls + 1).await;
    pod.storage.open();
    pod.until("it is refreshed", |engine| {
        engine.cached(b"k", engine.now()).is_some_and(|value| value.data == "new")
    })
    .await;
    assert_eq!(pod.storage.calls.load(Ordering::SeqCst), calls + 1);
    let status = pod.engine.class_status();
    assert_eq!((status[0].name.as_str(), status[0].refreshes), ("default", 1));
}

#[tokio::test]
async fn a_refresh_that_a_write_crosses_brings_nothing_back() {
    let pod = Pod::with("ttl: 2s, eagerRefreshPercent: 1").await;
    pod.storage.put_behind("k", "old");
    pod.read("k").await.unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await;
    pod.storage.close();
    let calls = pod.storage.calls.load(Ordering::SeqCst);
    assert!(pod.cached("k").is_some());
    let storage = &pod.storage;
    pod.until("it is read", |_| storage.calls.load(Ordering::SeqCst) == calls + 1).await;
    pod.tell_written_elsewhere("k").await;
    pod.storage.open();
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(pod.cached("k"), None);
}

#[tokio::test]
async fn a_refresh_that_finds_no_such_key_ends_the_copy_and_one_that_fails_does_not() {
    for fails in [false, true] {
        let pod = Pod::with("ttl: 1m, eagerRefreshPercent: 1").await;
        pod.storage.put_behind("k", "old");
        pod.read("k").await.unwrap();
        let mut later = pod.engine.now();
        later.age += 1000;
        pod.storage.values.lock().clear();
        *pod.storage.away.lock() = fails.then(down);
        let calls = pod.storage.calls.load(Ordering::SeqCst);
        assert!(pod.engine.cached(b"k", later).is_some());
        if fails {
            let storage = &pod.storage;
            pod.until("it was tried", |_| storage.calls.load(Ordering::SeqCst) == calls + 3).await;
            assert!(pod.cached("k").is_some());
        } else {
            pod.until("it is gone", |engine| engine.explain(b"k").held.is_none()).await;
        }
    }
}

#[tokio::test]
async fn max_staleness_is_the_bound_of_the_proof_and_without_one_reads_go_to_the_storage() {
    async fn hits_for(rules: &str) -> (Pod<ScriptedStorage>, u128) {
        let pod = Pod::with(rules).await;
        pod.storage.put_behind("k", "v");
        pod.read("k").await.unwrap();
        let begun = std::time::Instant::now();
        pod.until("hits end", |engine| engine.cached(b"k", engine.now()).is_none()).await;
        (pod, begun.elapsed().as_millis())
    }
    let (pod, lasted) = hits_for("ttl: 1h, maxStaleness: 1500ms").await;
    assert!((1000..2500).contains(&lasted), "{lasted} ms");
    assert_eq!(pod.engine.explain(b"k").why_not, Some(Why::Unproven));
    assert!(pod.engine.status().0.live, "a class without a bound goes on");
    let calls = pod.storage.calls.load(Ordering::SeqCst);
    assert_eq!(pod.read("k").await, Ok(Some(Bytes::from("v"))));
    assert_eq!(pod.storage.calls.load(Ordering::SeqCst), calls + 1);
    let metrics = pod.engine.render_metrics().unwrap();
    let bypassed = r#"warp_cache_misses_total{class="default",result="bypassed"} 1"#;
    assert!(metrics.contains(bypassed), "{metrics}");
    let (_, lasted) = hits_for("ttl: 1h, maxStaleness: 4500ms").await;
    assert!((4000..6000).contains(&lasted), "{lasted} ms");
}

#[tokio::test]
async fn in_a_local_class_max_staleness_is_the_age_of_the_copy() {
    let pod = Pod::with("mode: StrongLocal, ttl: 1h, maxStaleness: 60ms").await;
    pod.engine.exchange_bus(ScriptedBus::new());
    pod.storage.put_behind("k", "v");
    pod.read("k").await.unwrap();
    let mut later = pod.engine.now();
    assert!(pod.engine.cached(b"k", later).is_some());
    later.age += 60;
    assert!(pod.engine.cached(b"k", later).is_none());
}
