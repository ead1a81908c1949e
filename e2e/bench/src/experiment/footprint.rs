//! The memory that an entry takes beyond its key and its value: what the process grows by.

use super::{Turn, fill};
use crate::failure::Outcome;
use crate::generator::{Expiry, KEY_SIZE};
use crate::process::resident;
use crate::results::{Figures, Quantity};
use crate::server::Transport;
use crate::statistics::float;

/// All entries fit into it, even in a server that needs thrice their bytes.
const MEMORY_MIB: u32 = 1024;
const VALUE_SIZE: usize = 100;

pub(super) fn measure(turn: Turn<'_>) -> Outcome<Figures> {
    let server = turn.start(Transport::Tcp, MEMORY_MIB)?;
    // The first clients' buffers are no entries' memory.
    fill(server.endpoint(), turn.dialect(VALUE_SIZE, Expiry::Never), 1000.min(turn.pace.entries))?;
    std::thread::sleep(turn.pace.idle);
    let before = resident(server.id())?;
    fill(server.endpoint(), turn.dialect(VALUE_SIZE, Expiry::Never), turn.pace.entries)?;
    std::thread::sleep(turn.pace.idle);
    let after = resident(server.id())?;
    let entries = f64::from(turn.pace.entries.saturating_sub(1000).max(1));
    let payload = u32::try_from(KEY_SIZE + VALUE_SIZE).map_or(0.0, f64::from);
    let grown = float(after.saturating_sub(before));
    Ok(Figures::from([(Quantity::BytesPerEntry, grown / entries - payload)]))
}
