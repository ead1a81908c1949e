//! How soon a server answers after its start, and what it holds when nobody asks anything.

use super::Turn;
use crate::failure::Outcome;
use crate::process::resident;
use crate::results::{Figures, Quantity};
use crate::server::Transport;
use crate::statistics::{float, median};

const MEMORY_MIB: u32 = 64;

pub(super) fn measure(turn: Turn<'_>) -> Outcome<Figures> {
    let mut starts = Vec::new();
    let mut held = Vec::new();
    for _ in 0..turn.pace.starts {
        let server = turn.start(Transport::Tcp, MEMORY_MIB)?;
        starts.push(server.started_in().as_secs_f64() * 1000.0);
        std::thread::sleep(turn.pace.idle);
        held.push(float(resident(server.id())?));
    }
    let figures = [(Quantity::Start, median(starts)), (Quantity::Resident, median(held))];
    Ok(figures.into_iter().filter_map(|(of, figure)| Some((of, figure?))).collect())
}
