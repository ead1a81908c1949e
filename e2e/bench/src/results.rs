//! What was measured, as it is kept in a file and read again: every figure of every repetition.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::peer::{BASELINE, Peer};
use crate::statistics::median;

/// What a figure is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Quantity {
    OperationsPerSecond,
    /// Nanoseconds of the server's CPU, the kernel's work for it included.
    CpuPerOperation,
    /// Microseconds.
    Latency50,
    Latency99,
    Latency999,
    /// The part of the time in which the server computed.
    ServerBusy,
    /// The same of the generator.
    GeneratorBusy,
    HitRatio,
    /// Beyond key and value.
    BytesPerEntry,
    /// Bytes.
    Resident,
    /// Milliseconds.
    Start,
}

impl Quantity {
    /// Whether more of it is better.
    const fn is_gain(self) -> bool {
        matches!(self, Self::OperationsPerSecond | Self::HitRatio)
    }
}

/// The figures of one server in one cell in one repetition.
pub(crate) type Figures = BTreeMap<Quantity, f64>;

/// The same, with where they belong.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) cell: String,
    pub(crate) peer: Peer,
    pub(crate) repetition: u32,
    pub(crate) figures: Figures,
}

/// A whole run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    /// When it began.
    pub(crate) date: String,
    /// The command that repeats it.
    pub(crate) command: String,
    /// The state of the sources.
    pub(crate) commit: String,
    pub(crate) repetitions: u32,
    /// The servers that were there, with their versions.
    pub(crate) versions: BTreeMap<Peer, String>,
    pub(crate) absent: BTreeSet<Peer>,
    pub(crate) samples: Vec<Sample>,
}

impl Results {
    /// The figures of a cell, by server and repetition.
    fn of(&self, cell: &str, peer: Peer) -> BTreeMap<u32, &Figures> {
        let samples = self.samples.iter().filter(|s| s.cell == cell && s.peer == peer);
        samples.map(|sample| (sample.repetition, &sample.figures)).collect()
    }

    /// The servers that have figures in a cell.
    pub(crate) fn peers(&self, cell: &str) -> Vec<Peer> {
        let samples = self.samples.iter().filter(|sample| sample.cell == cell);
        samples.map(|sample| sample.peer).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The median over the repetitions.
    pub(crate) fn median(&self, cell: &str, peer: Peer, quantity: Quantity) -> Option<f64> {
        let figures = self.of(cell, peer);
        median(figures.values().filter_map(|figures| figures.get(&quantity).copied()))
    }

    /// The median of the ratios of each repetition, as "how many times better than `other`".
    pub(crate) fn ratio(
        &self,
        cell: &str,
        peer: Peer,
        other: Peer,
        quantity: Quantity,
    ) -> Option<f64> {
        let others = self.of(cell, other);
        let ratios = self.of(cell, peer).into_iter().filter_map(|(repetition, figures)| {
            let mine = figures.get(&quantity)?;
            let theirs = others.get(&repetition)?.get(&quantity)?;
            Some(if quantity.is_gain() { mine / theirs } else { theirs / mine })
        });
        median(ratios.filter(|ratio| ratio.is_finite()))
    }

    /// [`Self::ratio`] to the server that all are compared with.
    pub(crate) fn gain(&self, cell: &str, peer: Peer, quantity: Quantity) -> Option<f64> {
        self.ratio(cell, peer, BASELINE, quantity)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Results of a cell `c`: for each repetition, Redis' operations and CPU, and Warp's.
    pub(crate) fn results(cell: &str, repetitions: &[[f64; 4]]) -> Results {
        let mut samples = Vec::new();
        for (repetition, [theirs, their_cpu, ours, our_cpu]) in (0..).zip(repetitions) {
            for (peer, operations, cpu) in
                [(Peer::Redis, theirs, their_cpu), (Peer::Warp, ours, our_cpu)]
            {
                let figures = Figures::from([
                    (Quantity::OperationsPerSecond, *operations),
                    (Quantity::CpuPerOperation, *cpu),
                ]);
                samples.push(Sample { cell: cell.to_owned(), peer, repetition, figures });
            }
        }
        Results {
            machine: Machine::default(),
            date: "2026-01-01".to_owned(),
            command: "make bench".to_owned(),
            commit: "0000000".to_owned(),
            repetitions: 3,
            versions: BTreeMap::from([
                (Peer::Redis, "7.0.15".to_owned()),
                (Peer::Warp, "0.1.0".to_owned()),
            ]),
            absent: BTreeSet::from([Peer::Valkey]),
            samples,
        }
    }

    #[test]
    fn a_ratio_is_the_median_of_the_repetitions_ratios_not_the_ratio_of_medians() {
        let results = results(
            "c",
            &[[100.0, 8.0, 300.0, 4.0], [50.0, 9.0, 100.0, 3.0], [80.0, 9.0, 80.0, 9.0]],
        );
        let gain = |quantity| results.gain("c", Peer::Warp, quantity).unwrap();
        assert!((gain(Quantity::OperationsPerSecond) - 2.0).abs() < 1e-9);
        assert!((gain(Quantity::CpuPerOperation) - 2.0).abs() < 1e-9, "less is better");
        assert_eq!(results.median("c", Peer::Warp, Quantity::OperationsPerSecond), Some(100.0));
    }

    #[test]
    fn what_was_not_measured_has_no_figure() {
        let results = results("c", &[[1.0; 4]]);
        assert_eq!(results.gain("other", Peer::Warp, Quantity::OperationsPerSecond), None);
        assert_eq!(results.gain("c", Peer::Warp, Quantity::HitRatio), None);
        assert_eq!(results.peers("c"), [Peer::Redis, Peer::Warp]);
    }

    #[test]
    fn results_are_read_as_they_were_written() {
        let results = results("c", &[[1.0; 4]]);
        let text = serde_json::to_string(&results).unwrap();
        let again: Results = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), text);
    }
}
