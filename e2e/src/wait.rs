//! Waiting for a condition, with a deadline and the last thing seen.

use std::time::{Duration, Instant};

use crate::{Failure, Outcome};

/// How often a condition is looked at.
const PERIOD: Duration = Duration::from_millis(100);

/// Asks `probe` until it succeeds; fails after `within` with what it said last.
pub async fn eventually<T>(
    what: &str,
    within: Duration,
    mut probe: impl AsyncFnMut() -> Outcome<T>,
) -> Outcome<T> {
    let started = Instant::now();
    loop {
        let left = within.saturating_sub(started.elapsed());
        // A probe that hangs counts as the last thing seen.
        let seen = match tokio::time::timeout(left.max(PERIOD), probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(seen)) => seen,
            Err(_) => Failure::new("the check itself gave no answer"),
        };
        if started.elapsed() >= within {
            return Err(Failure::new(format!(
                "expected within {} s: {what}; last seen: {seen}",
                within.as_secs()
            )));
        }
        tokio::time::sleep(PERIOD).await;
    }
}
