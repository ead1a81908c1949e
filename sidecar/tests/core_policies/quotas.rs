//! Memory of a class's own.

use bytes::Bytes;
use warp_sidecar::adapter::Key;

use crate::support::doubles::ScriptedStorage;
use crate::support::pod::{Pod, classes};

fn with_quota(quota: &str) -> String {
    format!(
        "
apiVersion: warpcache.dev/v1alpha1
kind: WarpCluster
metadata: {{name: c}}
spec: {{}}
---
apiVersion: warpcache.dev/v1alpha1
kind: WarpPolicy
metadata: {{name: big}}
spec: {{clusterRef: {{name: c}}, match: ['big:*'], quota: {quota}}}
"
    )
}

async fn fill(pod: &Pod<ScriptedStorage>, prefix: &str, count: usize) {
    let keys: Vec<Key> = (0..count).map(|i| Key::from(format!("{prefix}:{i}"))).collect();
    let value = Bytes::from(vec![b'v'; 1000]);
    pod.storage.values.lock().extend(keys.iter().map(|key| (key.clone(), value.clone())));
    pod.engine.read(&keys).await.unwrap();
}

fn held(pod: &Pod<ScriptedStorage>, prefix: &str, count: usize) -> usize {
    let key = |i: usize| format!("{prefix}:{i}");
    (0..count).filter(|i| pod.engine.explain(key(*i).as_bytes()).held.is_some()).count()
}

#[tokio::test]
async fn a_class_takes_no_more_than_its_quota_and_nobody_else_takes_of_it() {
    let pod = Pod::new().await;
    pod.engine.set_cache_limit(4 << 20);
    pod.engine.exchange_classes(classes(&with_quota("1Mi")));
    fill(&pod, "small", 1000).await;
    fill(&pod, "big", 20_000).await;
    assert_eq!(held(&pod, "small", 1000), 1000, "a flood of the class displaces no other");
    let status = pod.engine.class_status();
    let bytes = status[0].bytes.unwrap();
    assert!((500_000..=1 << 20).contains(&bytes), "{bytes}");
    assert!(status[1].bytes.is_none());
    let metrics = pod.engine.render_metrics().unwrap();
    assert!(metrics.contains(r#"warp_cache_class_quota_bytes{class="big"} 1048576"#), "{metrics}");
    let kept = held(&pod, "big", 20_000);
    fill(&pod, "small", 20_000).await;
    assert_eq!(held(&pod, "big", 20_000), kept, "nor is it displaced");
    let usage = pod.engine.status().2;
    assert!(usage.bytes <= 4 << 20 && usage.bytes > 3 << 20, "{usage:?}");
}

#[tokio::test]
async fn a_changed_quota_keeps_copies_and_a_new_one_begins_empty() {
    let pod = Pod::new().await;
    pod.engine.set_cache_limit(8 << 20);
    fill(&pod, "big", 100).await;
    pod.engine.exchange_classes(classes(&with_quota("1Mi")));
    assert_eq!(held(&pod, "big", 100), 0);
    fill(&pod, "big", 100).await;
    pod.engine.exchange_classes(classes(&with_quota("2Mi")));
    assert_eq!(held(&pod, "big", 100), 100);
    pod.tell_written_elsewhere("big:7").await;
    assert_eq!(held(&pod, "big", 100), 99, "it is forgotten where it is");
    pod.engine.exchange_classes(classes(&with_quota("'0'")));
    assert_eq!(held(&pod, "big", 100), 0);
}
