//! The registers of one bus as locks see them.

use std::sync::Arc;
use std::time::Duration;

use super::record::Record;
use super::rules;
use super::standing::Standing;
use crate::sync_bus::observed::{self, Observed};
use crate::sync_bus::tenure::Boot;
use crate::sync_bus::{RegisterError, Registers, Space};

/// A lock's record as it was seen.
pub(super) type Seen = observed::Seen<Record>;

/// See the module.
#[derive(Debug)]
pub(super) struct Truth {
    pub(super) locks: Observed<Record>,
    pub(super) standing: Standing,
}

impl Truth {
    pub(super) fn new(registers: Arc<dyn Registers>) -> Self {
        let locks = Observed::new(registers, Space::Lock, Box::new(|_, _, _| {}));
        Self { locks, standing: Standing::default() }
    }

    pub(super) fn registers(&self) -> &dyn Registers {
        self.locks.registers()
    }

    /// Frees what is held by who is gone, and what is offered to who is gone, where nobody else has
    /// done it for `slack`.
    pub(super) async fn tidy(&self, slack: Duration) {
        let now = Boot::now();
        for (name, seen) in self.locks.all() {
            if let Some(tidied) = rules::tidy(&seen.record, seen.since.after(slack), now)
                && let Err(RegisterError::Crossed) =
                    self.locks.write(&name, seen.revision, &tidied).await
            {
                // What else fails is tried again.
                let _ = self.locks.read(&name).await;
            }
        }
    }
}
