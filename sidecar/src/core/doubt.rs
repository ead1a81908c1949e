//! Writes of which nobody knows whether they were done.
//!
//! A storage that was cut off in the middle of a write may still do it, after the write's
//! invalidation: whoever reads in between caches the old value and is told nothing more. So what
//! such a write was about is announced and forgotten once more, when the storage has answered
//! again and has since had the time in which it does what it was sent or gives it up
//! ([`Storage::settles_within`]). *A copy from before a write without an answer lives no longer.*
//!
//! There are few doubts at a time: a storage that is known to be away is sent no more writes.
//!
//! [`Storage::settles_within`]: crate::adapter::Storage::settles_within

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::Engine;
use super::history::Cause;
use crate::sync_bus::Scope;

/// How often it is asked whether the storage answers.
const PERIOD: Duration = Duration::from_millis(100);

impl Engine {
    /// `scope` may have been written, or may yet be.
    pub(super) fn doubt(self: &Arc<Self>, scope: Scope) {
        let settles_within = self.storage().settles_within();
        let engine = Arc::downgrade(self);
        tokio::spawn(async move {
            let answers = || Some(engine.upgrade()?.health.error().is_none());
            // Until it answers at both ends of its time.
            let mut well = false;
            while !well {
                while !answers()? {
                    sleep(PERIOD).await;
                }
                sleep(settles_within).await;
                well = answers()?;
            }
            let engine = engine.upgrade()?;
            engine.announce(scope.clone()).await;
            engine.forget(&scope, Cause::OwnWrite);
            Some(())
        });
    }
}
