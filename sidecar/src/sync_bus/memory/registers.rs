//! The registers of one process. They end with it, and so does whoever wrote them.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::super::registers::{Epoch, Register, RegisterError, Registers, Space, Watched};
use crate::adapter::unix_millis;

/// Writes that wait for a watcher to take them.
const WATCHED: usize = 256;

/// See the module.
#[derive(Debug)]
pub(super) struct MemoryRegisters {
    epoch: u64,
    kept: Mutex<Kept>,
    watchers: broadcast::Sender<Watched>,
}

#[derive(Debug, Default)]
struct Kept {
    last: u64,
    registers: BTreeMap<(Space, Bytes), Register>,
}

impl MemoryRegisters {
    pub(super) fn new() -> Self {
        let (watchers, _) = broadcast::channel(WATCHED);
        Self { epoch: unix_millis(), kept: Mutex::default(), watchers }
    }
}

#[async_trait]
impl Registers for MemoryRegisters {
    async fn epoch(&self) -> Result<Epoch, RegisterError> {
        Ok(Epoch { number: self.epoch, has_forerunners: false })
    }

    async fn read(&self, space: Space, name: &[u8]) -> Result<Option<Register>, RegisterError> {
        let name = Bytes::copy_from_slice(name);
        Ok(self.kept.lock().registers.get(&(space, name)).cloned())
    }

    /// What may be forgotten is forgotten at once: nothing is missed by it.
    async fn write(
        &self,
        space: Space,
        name: &[u8],
        expected: u64,
        value: Bytes,
        kept_for: Option<Duration>,
    ) -> Result<u64, RegisterError> {
        let name = Bytes::copy_from_slice(name);
        let mut kept = self.kept.lock();
        let key = (space, name.clone());
        let last = kept.registers.get(&key).map_or(0, |register| register.revision);
        if last != expected {
            return Err(RegisterError::Crossed);
        }
        kept.last += 1;
        let register = Register { revision: kept.last, value };
        if kept_for.is_some() {
            kept.registers.remove(&key);
        } else {
            kept.registers.insert(key, register.clone());
        }
        let revision = register.revision;
        // Under the lock, so that writes are told in their order. That no one watches is no fault.
        let _ = self.watchers.send(Watched::Written { space, name, register });
        Ok(revision)
    }

    async fn all(&self, space: Space) -> Result<Vec<(Bytes, Register)>, RegisterError> {
        let kept = self.kept.lock();
        let of_space = kept.registers.iter().filter(|((of, _), _)| *of == space);
        Ok(of_space.map(|((_, name), register)| (name.clone(), register.clone())).collect())
    }

    fn watch(&self) -> broadcast::Receiver<Watched> {
        self.watchers.subscribe()
    }
}
