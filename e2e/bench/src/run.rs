//! A whole run: for each repetition and each cell all servers, in an order that is drawn anew, so
//! that what the machine does at one time falls on all alike.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use crate::cells::{CELLS, Cell, Experiment};
use crate::cores::Cores;
use crate::experiment::{Pace, Turn};
use crate::failure::{Failure, Outcome};
use crate::machine::Machine;
use crate::peer::{BASELINE, Peer, version};
use crate::results::{Quantity, Results, Sample};

/// What is wished for.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) sidecar: PathBuf,
    pub(crate) pace: Pace,
    pub(crate) repetitions: u32,
    /// Cells by their names; none are all.
    pub(crate) cells: Vec<String>,
    /// Servers; none are all that there are.
    pub(crate) peers: Vec<Peer>,
    /// The command that repeats the run, for the page.
    pub(crate) command: String,
}

/// Measures all of it, and tells how it goes.
pub(crate) fn run(plan: &Plan) -> Outcome<Results> {
    let cells = choose_cells(&plan.cells)?;
    let (programs, absent) = find_peers(plan)?;
    for peer in &absent {
        eprintln!("{peer} isn't here: no {} in PATH", peer.program());
    }
    let cores = Cores::choose()?;
    let mut results = Results {
        machine: Machine::read(),
        date: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
        command: plan.command.clone(),
        commit: commit(),
        repetitions: plan.repetitions,
        versions: programs.iter().map(|(peer, program)| (*peer, version(program))).collect(),
        absent,
        samples: Vec::new(),
    };
    for repetition in 0..plan.repetitions {
        let seed = u64::from(repetition);
        let mut order = SmallRng::seed_from_u64(seed);
        for cell in &cells {
            let mut entrants: Vec<(&Peer, &PathBuf)> =
                programs.iter().filter(|(peer, _)| cell.entrants.include(**peer)).collect();
            entrants.shuffle(&mut order);
            for (peer, program) in entrants {
                let turn = Turn { peer: *peer, program, cores, pace: plan.pace, seed };
                let figures = cell
                    .experiment
                    .measure(turn)
                    .map_err(|failure| failure.within(format!("{}, {peer}", cell.id)))?;
                let sample = Sample { cell: cell.id.to_owned(), peer: *peer, repetition, figures };
                eprintln!("{}", line(plan.repetitions, cell, &sample));
                results.samples.push(sample);
            }
        }
    }
    Ok(results)
}

fn choose_cells(names: &[String]) -> Outcome<Vec<Cell>> {
    if let Some(name) = names.iter().find(|name| !CELLS.iter().any(|cell| cell.id == **name)) {
        let known: Vec<&str> = CELLS.iter().map(|cell| cell.id).collect();
        return Err(Failure::Other(format!(
            "there is no cell {name}; there are {}",
            known.join(", ")
        )));
    }
    let is_chosen = |cell: &Cell| names.is_empty() || names.iter().any(|name| name == cell.id);
    Ok(CELLS.into_iter().filter(is_chosen).collect())
}

/// The programs that are here, and the servers that aren't. The baseline has to be.
fn find_peers(plan: &Plan) -> Outcome<(BTreeMap<Peer, PathBuf>, BTreeSet<Peer>)> {
    let (mut found, mut absent) = (BTreeMap::new(), BTreeSet::new());
    for peer in Peer::ALL {
        let is_wished = plan.peers.is_empty() || plan.peers.contains(&peer);
        match peer.find(&plan.sidecar) {
            Some(program) if is_wished => drop(found.insert(peer, absolute(&program))),
            None if is_wished => drop(absent.insert(peer)),
            _ => {}
        }
    }
    for (peer, remedy) in [
        (BASELINE, "run e2e/cluster/install-packages.sh".to_owned()),
        (Peer::Warp, format!("build {}, or give --sidecar", plan.sidecar.display())),
    ] {
        if absent.contains(&peer) {
            return Err(Failure::Other(format!("{peer} isn't here: {remedy}")));
        }
    }
    Ok((found, absent))
}

/// The servers run in folders of their own.
fn absolute(program: &Path) -> PathBuf {
    std::path::absolute(program).unwrap_or_else(|_| program.to_owned())
}

/// The sources' commit, if git knows it.
fn commit() -> String {
    let output = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let said = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    said.ok().filter(|said| !said.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

/// What the terminal shows of a sample.
fn line(repetitions: u32, cell: &Cell, sample: &Sample) -> String {
    let of = |quantity| sample.figures.get(&quantity).copied().unwrap_or(f64::NAN);
    let figures = match cell.experiment {
        Experiment::Load(_) => format!(
            "{:>9.0} op/s {:>7.0} ns/op  p50 {:>6.0} µs  p99 {:>6.0} µs  server {:>3.0} %  generator {:>3.0} %",
            of(Quantity::OperationsPerSecond),
            of(Quantity::CpuPerOperation),
            of(Quantity::Latency50),
            of(Quantity::Latency99),
            of(Quantity::ServerBusy) * 100.0,
            of(Quantity::GeneratorBusy) * 100.0,
        ),
        Experiment::HitRatio => format!(
            "{:>5.1} % hits  {:>5.1} MiB resident",
            of(Quantity::HitRatio) * 100.0,
            of(Quantity::Resident) / f64::from(1 << 20)
        ),
        Experiment::Footprint => {
            format!("{:>5.0} B beyond key and value", of(Quantity::BytesPerEntry))
        }
        Experiment::Startup => format!(
            "{:>5.1} ms to the first answer  {:>5.1} MiB resident",
            of(Quantity::Start),
            of(Quantity::Resident) / f64::from(1 << 20)
        ),
    };
    format!("{}/{repetitions} {:<13} {:<15} {figures}", sample.repetition + 1, cell.id, sample.peer)
}
