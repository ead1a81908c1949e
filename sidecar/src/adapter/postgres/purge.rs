//! Frees the rows of expired keys, which reads have not seen since they expired.

use std::sync::Arc;

use tracing::{debug, warn};

use super::sql::PURGE;
use super::{Server, number};
use crate::adapter::Access;

/// Purges for ever. Every sidecar of a cluster does, at its own moments; each works on a bounded
/// number of rows that no other is at.
pub(super) async fn run(server: Arc<Server>) {
    let interval = server.settings.purge_interval;
    let mut failing = false;
    loop {
        tokio::time::sleep(interval.mul_f64(rand::random_range(0.5..1.5))).await;
        server.pool.close_idle(interval);
        loop {
            let purged = server.ask(server.table.purge(), Access::Write).await;
            match purged.and_then(|rows| number(&rows)) {
                Ok(purged) => {
                    failing = false;
                    debug!(purged, "expired rows purged");
                    if purged < PURGE as u64 {
                        break;
                    }
                }
                Err(error) => {
                    if !failing {
                        warn!(%error, "expired rows can't be purged; they stay until they can");
                    }
                    failing = true;
                    break;
                }
            }
        }
    }
}
