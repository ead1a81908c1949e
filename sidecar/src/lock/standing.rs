//! Whether locks may be granted. When the bus has lost its data nobody knows any more who holds
//! what, while the holders count on it: *in a new order nothing is granted until the longest TTL has
//! passed*. Whoever has waited for that writes a mark, and then nobody waits again.

use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::sync_bus::tenure::{Boot, others_end};
use crate::sync_bus::{Epoch, RegisterError, Registers, Space};

const MARK: &[u8] = b"settled";

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Standing {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    known: Option<Known>,
    /// Why the bus couldn't be asked the last time.
    error: Option<String>,
    /// Another epoch than before was seen, and nobody has asked for that yet.
    lost: bool,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    epoch: u64,
    since: Boot,
    settled: bool,
}

/// Why nothing is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NotYet {
    /// The bus can't be asked.
    Away(RegisterError),
    /// Holders of an earlier order may count on their locks for so long.
    Settling(Duration),
}

impl Standing {
    /// The epoch, if it is known that grants may be given in it.
    pub(super) fn settled(&self) -> Option<u64> {
        self.state.lock().known.filter(|known| known.settled).map(|known| known.epoch)
    }

    /// The epoch as it was last seen.
    pub(super) fn epoch(&self) -> Option<u64> {
        self.state.lock().known.map(|known| known.epoch)
    }

    /// Why the bus couldn't be asked the last time.
    pub(super) fn error(&self) -> Option<String> {
        self.state.lock().error.clone()
    }

    /// The epoch, if it is another one than before; told once.
    pub(super) fn take_loss(&self) -> Option<u64> {
        let mut state = self.state.lock();
        let lost = std::mem::take(&mut state.lost);
        state.known.filter(|_| lost).map(|known| known.epoch)
    }

    /// Asks the bus for the epoch.
    pub(super) async fn ask(&self, registers: &dyn Registers) -> Result<u64, RegisterError> {
        let asked = registers.epoch().await;
        let mut state = self.state.lock();
        state.error = asked.as_ref().err().map(ToString::to_string);
        let Epoch { number, has_forerunners } = asked?;
        if state.known.is_none_or(|known| known.epoch != number) {
            state.lost |= state.known.is_some();
            let (since, settled) = (Boot::now(), !has_forerunners);
            state.known = Some(Known { epoch: number, since, settled });
        }
        Ok(number)
    }

    /// Whether grants may be given in the epoch that was last seen. `longest` is the longest TTL.
    pub(super) async fn settle(
        &self,
        registers: &dyn Registers,
        longest: Duration,
    ) -> Result<(), NotYet> {
        let known = self.state.lock().known;
        let Some(Known { epoch, since, settled }) = known else {
            return Err(NotYet::Away(RegisterError::Unavailable("it wasn't asked yet".to_owned())));
        };
        if settled {
            return Ok(());
        }
        let mark = registers.read(Space::Mark, MARK).await.map_err(NotYet::Away)?;
        let value = Bytes::from(epoch.to_string());
        if mark.as_ref().is_none_or(|mark| mark.value != value) {
            let (now, end) = (Boot::now(), others_end(since, longest));
            if now < end {
                return Err(NotYet::Settling(now.until(end)));
            }
            let expected = mark.map_or(0, |mark| mark.revision);
            match registers.write(Space::Mark, MARK, expected, value, None).await {
                // Who was first has waited as long.
                Ok(_) | Err(RegisterError::Crossed) => {}
                Err(error) => return Err(NotYet::Away(error)),
            }
        }
        if let Some(known) = &mut self.state.lock().known
            && known.epoch == epoch
        {
            known.settled = true;
        }
        Ok(())
    }
}
