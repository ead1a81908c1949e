//! The chart's own test, as its user runs it.

use warp_e2e::Outcome;
use warp_e2e::command::helm;
use warp_e2e::fixture::{Fixture, RELEASE, SYSTEM};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn an_installed_release_passes_its_own_test() -> Outcome {
    Fixture::new().await?;
    helm(&["-n", SYSTEM, "test", RELEASE, "--timeout", "120s"]).await.map(drop)
}
