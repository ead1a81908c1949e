//! The part of the reads that a cache of 20 MiB answers, when a million keys are read by Zipf's law
//! and what is missing is written: seen by the client.

use super::Turn;
use crate::failure::Outcome;
use crate::generator::{Expiry, Generator, Keys, Script, Until, Workload};
use crate::process::resident;
use crate::results::{Figures, Quantity};
use crate::server::Transport;
use crate::statistics::float;

const MEMORY_MIB: u32 = 20;
const VALUE_SIZE: usize = 100;
const EXPONENT: f64 = 0.99;

pub(super) fn measure(turn: Turn<'_>) -> Outcome<Figures> {
    let server = turn.start(Transport::Tcp, MEMORY_MIB)?;
    let reads = turn.pace.zipf_reads;
    let length = usize::try_from(reads).unwrap_or(usize::MAX).saturating_mul(2);
    let keys = Keys::zipf(turn.pace.zipf_keys, EXPONENT, length, turn.seed)?;
    let dialect = turn.dialect(VALUE_SIZE, Expiry::Never);
    let mut script = Script::new(dialect, Workload::ReadThrough, keys);
    let mut generator = Generator::connect(server.endpoint(), 8, 16)?;
    // Until it is full, and what it keeps has settled.
    generator.run(&mut script, Until::Drawn(reads.into()))?;
    let run = generator.run(&mut script, Until::Drawn(reads.into()))?;
    let (hits, misses) = (float(run.tally.hits), float(run.tally.misses));
    Ok(Figures::from([
        (Quantity::HitRatio, hits / (hits + misses)),
        (Quantity::Resident, float(resident(server.id())?)),
    ]))
}
