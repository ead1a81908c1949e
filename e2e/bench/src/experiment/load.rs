//! Operations, CPU and latency of a server that eight connections keep busy.

use std::time::Duration;

use super::{Turn, fill};
use crate::cells::Load;
use crate::failure::{Failure, Outcome};
use crate::generator::{Generator, Keys, Script, Until};
use crate::process::CpuClock;
use crate::results::{Figures, Quantity};
use crate::statistics::float;

const CONNECTIONS: usize = 8;
const VALUE_SIZE: usize = 32;
/// All keys fit into it with room to spare.
const MEMORY_MIB: u32 = 256;
/// Keys that are drawn beforehand.
const DRAWS: usize = 1 << 20;

pub(super) fn measure(load: Load, turn: Turn<'_>) -> Outcome<Figures> {
    let server = turn.start(load.transport, MEMORY_MIB)?;
    let dialect = turn.dialect(VALUE_SIZE, load.expiry);
    fill(server.endpoint(), dialect.clone(), turn.pace.keys)?;
    let keys = Keys::uniform(turn.pace.keys, DRAWS, turn.seed);
    let mut script = Script::new(dialect, load.workload, keys);
    let mut generator = Generator::connect(server.endpoint(), CONNECTIONS, load.pipeline)?;

    turn.cores.settle(load.sharing)?;
    generator.run(&mut script, Until::Elapsed(turn.pace.warm_up))?;
    let (theirs, mine) = (server.cpu()?, CpuClock::of(std::process::id())?);
    let before = (theirs.now()?, mine.now()?);
    let run = generator.run(&mut script, Until::Elapsed(turn.pace.time))?;
    let theirs = theirs.now()?.saturating_sub(before.0);
    let mine = mine.now()?.saturating_sub(before.1);

    if run.tally.misses > 0 {
        let missed = format!("{} reads missed though all keys fit", run.tally.misses);
        return Err(Failure::Other(missed));
    }
    let operations = float(run.tally.operations());
    let micros = |percent| float(run.tally.latency.value_at_percentile(percent)) / 1000.0;
    let part = |cpu: Duration| cpu.as_secs_f64() / run.elapsed.as_secs_f64();
    Ok(Figures::from([
        (Quantity::OperationsPerSecond, operations / run.elapsed.as_secs_f64()),
        (Quantity::CpuPerOperation, theirs.as_secs_f64() * 1e9 / operations),
        (Quantity::Latency50, micros(50.0)),
        (Quantity::Latency99, micros(99.0)),
        (Quantity::Latency999, micros(99.9)),
        (Quantity::ServerBusy, part(theirs)),
        (Quantity::GeneratorBusy, part(mine)),
    ]))
}
