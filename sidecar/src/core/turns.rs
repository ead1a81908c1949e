//! Writers of one key take turns within the pod.
//!
//! Not for safety, which the cache's stamps give alone: two writers who cross lose the copy, and in
//! a SQL storage one waits for the other's row with a connection in its hand. In turns neither
//! happens.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::adapter::Key;

/// Keys that share a stripe wait for each other without need; more stripes, fewer such waits.
const STRIPES: usize = 512;

/// See the module.
#[derive(Debug)]
pub struct Turns {
    hasher: RandomState,
    stripes: Vec<Arc<Mutex<()>>>,
}

/// The turn of some keys, which lasts as long as this.
#[derive(Debug)]
pub struct Turn {
    _stripes: Vec<OwnedMutexGuard<()>>,
}

impl Default for Turns {
    fn default() -> Self {
        let stripes = std::iter::repeat_with(Arc::default).take(STRIPES).collect();
        Self { hasher: RandomState::default(), stripes }
    }
}

impl Turns {
    /// Waits for the turn of all `keys`.
    pub async fn of(&self, keys: impl IntoIterator<Item = &Key>) -> Turn {
        // In ascending order, so that two writers of several keys can't wait for each other.
        let mut stripes: Vec<usize> = keys.into_iter().map(|key| self.stripe(key)).collect();
        stripes.sort_unstable();
        stripes.dedup();
        let mut turns = Vec::with_capacity(stripes.len());
        for stripe in stripes {
            turns.push(Arc::clone(&self.stripes[stripe]).lock_owned().await);
        }
        Turn { _stripes: turns }
    }

    fn stripe(&self, key: &Key) -> usize {
        (self.hasher.hash_one(key) >> 40) as usize % STRIPES
    }
}
