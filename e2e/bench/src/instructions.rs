//! A guard against a hit that grows dearer: its instructions, counted under valgrind, which the
//! machine's noise doesn't change, against bounds that are kept in a file.
//!
//! The sidecar runs as it is, and a client reads from it: once some keys, once twice as many. What
//! the second run took more, for each read, is what a read takes; the start and the end are in
//! both.

use std::fmt::Write as _;
use std::path::Path;

use crate::callgrind;
use crate::cores::Cores;
use crate::experiment::fill;
use crate::failure::{Failure, Outcome, read, write};
use crate::generator::{Dialect, Expiry, Generator, Keys, Script, Until, Workload};
use crate::peer::Peer;
use crate::server::{Server, Start, Transport};
use crate::statistics::float;

/// Above its bound by this part, a figure is too high.
const TOLERANCE: f64 = 0.10;
const KEYS: u32 = 1000;
const READS: u64 = 40_000;
const VALUE_SIZE: usize = 32;

/// What is counted: a name, and how many reads are sent together.
const FIGURES: [(&str, usize); 2] = [("get-pipeline-1", 1), ("get-pipeline-16", 16)];

/// Counts, and fails if a figure is too high.
pub(crate) fn guard(sidecar: &Path, bounds: &Path, write_anew: bool) -> Outcome {
    if !sidecar.exists() {
        return Err(Failure::Other(format!("{} isn't there: build it", sidecar.display())));
    }
    let cores = Cores::choose()?;
    let mut counted = Vec::new();
    for (name, pipeline) in FIGURES {
        let once = session(sidecar, cores, pipeline, READS)?;
        let twice = session(sidecar, cores, pipeline, 2 * READS)?;
        let each = float(twice.saturating_sub(once)) / float(READS);
        println!("{name:<16} {each:>8.0} instructions");
        counted.push((name, each));
    }
    if write_anew {
        return write(bounds, &format(&counted));
    }
    let excesses = compare(&counted, &parse(&read(bounds)?)?)?;
    if excesses.is_empty() {
        return Ok(());
    }
    Err(Failure::Other(format!(
        "{}. If that is the price of something worth it, write the new figures to {} by --write \
         (make bench-instructions WRITE=1)",
        excesses.join("; "),
        bounds.display()
    )))
}

/// The instructions of a sidecar's whole life in which `reads` hits are read.
fn session(sidecar: &Path, cores: Cores, pipeline: usize, reads: u64) -> Outcome<u64> {
    let start =
        Start { peer: Peer::Warp, program: sidecar, transport: Transport::Tcp, memory_mib: 64 };
    let server = Server::start_as(start, cores, |command| callgrind::wrap(&command))
        .map_err(|failure| failure.within("the sidecar under valgrind"))?;
    let dialect = Dialect::new(Peer::Warp.protocol(), VALUE_SIZE, Expiry::Seconds(3600));
    fill(server.endpoint(), dialect.clone(), KEYS)?;
    let mut script = Script::new(dialect, Workload::Get, Keys::each(KEYS));
    let mut generator = Generator::connect(server.endpoint(), 1, pipeline)?;
    let run = generator.run(&mut script, Until::Drawn(reads))?;
    if run.tally.hits != reads {
        return Err(Failure::Other(format!("{} of {reads} reads hit", run.tally.hits)));
    }
    drop(generator);
    server.end(callgrind::count)
}

fn format(counted: &[(&str, f64)]) -> String {
    let mut text = "# Instructions of the release build for a hit; at a tenth more `make \
        bench-instructions` fails.\n"
        .to_owned();
    for (name, each) in counted {
        let _ = writeln!(text, "{name} {each:.0}");
    }
    text
}

fn parse(text: &str) -> Outcome<Vec<(String, f64)>> {
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .map(|line| {
            line.split_once(' ')
                .and_then(|(name, bound)| Some((name.to_owned(), bound.trim().parse().ok()?)))
                .ok_or_else(|| Failure::Other(format!("\"{line}\" is no name and bound")))
        })
        .collect()
}

/// What is above its bound; a figure without one is an error.
fn compare(counted: &[(&str, f64)], bounds: &[(String, f64)]) -> Outcome<Vec<String>> {
    let mut excesses = Vec::new();
    for (name, each) in counted {
        let bound = bounds.iter().find(|(other, _)| other == name).map(|(_, bound)| *bound);
        let bound =
            bound.ok_or_else(|| Failure::Other(format!("{name} has no bound: write them anew")))?;
        if *each > bound * (1.0 + TOLERANCE) {
            let percent = (each / bound - 1.0) * 100.0;
            excesses.push(format!(
                "{name} takes {each:.0} instructions, {percent:.0} % above {bound:.0}"
            ));
        }
    }
    Ok(excesses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_read_as_they_were_written() {
        let text = format(&[("a", 100.2), ("b", 7.0)]);
        assert_eq!(parse(&text).unwrap(), [("a".to_owned(), 100.0), ("b".to_owned(), 7.0)]);
        assert!(parse("a b\n").is_err());
    }

    #[test]
    fn a_tenth_more_is_borne_and_not_more() {
        let bounds = [("a".to_owned(), 100.0)];
        assert!(compare(&[("a", 109.9)], &bounds).unwrap().is_empty());
        let excess = compare(&[("a", 111.0)], &bounds).unwrap();
        assert_eq!(excess, ["a takes 111 instructions, 11 % above 100"]);
        assert!(compare(&[("b", 1.0)], &bounds).is_err());
    }
}
