//! What Warp is to reach, beside what it reached.

use crate::cells::{
    FOOTPRINT, HIT_RATIO, POLICY_16, SHARED_TCP_1, SHARED_UNIX_1, STARTUP, TCP_1, TCP_16, TCP_64,
    UNIX_16, UNIX_64,
};
use crate::peer::Peer;
use crate::results::{Quantity, Results};

/// A figure that is to be reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) what: &'static str,
    pub(crate) cell: &'static str,
    pub(crate) quantity: Quantity,
    pub(crate) aim: Aim,
}

/// How it is judged.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Aim {
    /// So many times better than another server.
    Times(f64, Peer),
    /// At most so many times as costly as another.
    AtMostTimes(f64, Peer),
    /// No more.
    AtMost(f64, Unit),
    /// No less.
    AtLeast(f64, Unit),
}

/// How a figure without a ratio is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Bytes,
    Mebibytes,
    Milliseconds,
    Percent,
}

impl Unit {
    /// The figure with its unit.
    pub(crate) fn text(self, figure: f64) -> String {
        match self {
            Self::Bytes => format!("{figure:.0} B"),
            Self::Mebibytes => format!("{:.1} MiB", figure / f64::from(1 << 20)),
            Self::Milliseconds => format!("{figure:.1} ms"),
            Self::Percent => format!("{:.1} %", figure * 100.0),
        }
    }
}

/// What became of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Reached(String),
    Missed(String),
    /// The cell or the other server wasn't there.
    Unmeasured,
}

const OPERATIONS: Quantity = Quantity::OperationsPerSecond;
const CPU: Quantity = Quantity::CpuPerOperation;

const fn times(what: &'static str, cell: &'static str, quantity: Quantity, least: f64) -> Target {
    Target { what, cell, quantity, aim: Aim::Times(least, Peer::Redis) }
}

const fn pogocache(what: &'static str, cell: &'static str, least: f64) -> Target {
    Target { what, cell, quantity: OPERATIONS, aim: Aim::Times(least, Peer::Pogocache) }
}

/// All of them.
pub(crate) const TARGETS: [Target; 14] = [
    times("CPU for a GET over TCP, unpipelined", TCP_1, CPU, 1.35),
    times("GETs on one shared core, TCP", SHARED_TCP_1, OPERATIONS, 1.6),
    times("GETs on one shared core, unix socket", SHARED_UNIX_1, OPERATIONS, 2.2),
    times("GETs over TCP in pipelines of 16", TCP_16, OPERATIONS, 3.2),
    times("GETs over TCP in pipelines of 64", TCP_64, OPERATIONS, 6.0),
    times("GETs over a unix socket in pipelines of 16", UNIX_16, OPERATIONS, 4.5),
    times("GETs over a unix socket in pipelines of 64", UNIX_64, OPERATIONS, 7.0),
    pogocache("GETs over TCP in pipelines of 16", TCP_16, 1.7),
    pogocache("GETs over TCP in pipelines of 64", TCP_64, 3.0),
    Target {
        what: "CPU for a GET with a matching policy, beside one without",
        cell: POLICY_16,
        quantity: CPU,
        aim: Aim::AtMostTimes(1.10, Peer::WarpUnmatched),
    },
    Target {
        what: "memory for an entry beyond key and value",
        cell: FOOTPRINT,
        quantity: Quantity::BytesPerEntry,
        aim: Aim::AtMost(40.0, Unit::Bytes),
    },
    Target {
        what: "hit ratio in 20 MiB",
        cell: HIT_RATIO,
        quantity: Quantity::HitRatio,
        aim: Aim::AtLeast(0.82, Unit::Percent),
    },
    Target {
        what: "start to the first answer",
        cell: STARTUP,
        quantity: Quantity::Start,
        aim: Aim::AtMost(3.0, Unit::Milliseconds),
    },
    Target {
        what: "idle memory",
        cell: STARTUP,
        quantity: Quantity::Resident,
        aim: Aim::AtMost(3.0 * 1024.0 * 1024.0, Unit::Mebibytes),
    },
];

impl Target {
    /// The aim in words.
    pub(crate) fn wanted(&self) -> String {
        match self.aim {
            Aim::Times(least, other) => format!("≥ {least} × {other}"),
            Aim::AtMostTimes(most, other) => format!("≤ {most} × {other}"),
            Aim::AtMost(most, unit) => format!("≤ {}", unit.text(most)),
            Aim::AtLeast(least, unit) => format!("≥ {}", unit.text(least)),
        }
    }

    pub(crate) fn judge(&self, results: &Results) -> Verdict {
        let ratio = |other| results.ratio(self.cell, Peer::Warp, other, self.quantity);
        let plain = || results.median(self.cell, Peer::Warp, self.quantity);
        let times = |ratio: f64| format!("{ratio:.2} ×");
        let judged = match self.aim {
            Aim::Times(least, other) => ratio(other).map(|r| (r >= least, times(r))),
            // What is left of a gain below one is a cost above it.
            Aim::AtMostTimes(most, other) => {
                ratio(other).map(|r| 1.0 / r).map(|r| (r <= most, times(r)))
            }
            Aim::AtMost(most, unit) => plain().map(|figure| (figure <= most, unit.text(figure))),
            Aim::AtLeast(least, unit) => plain().map(|figure| (figure >= least, unit.text(figure))),
        };
        match judged {
            Some((true, figure)) => Verdict::Reached(figure),
            Some((false, figure)) => Verdict::Missed(figure),
            None => Verdict::Unmeasured,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::CELLS;
    use crate::results::tests::results;

    #[test]
    fn every_target_is_of_a_cell_that_there_is() {
        for target in TARGETS {
            assert!(CELLS.iter().any(|cell| cell.id == target.cell), "{}", target.what);
        }
    }

    #[test]
    fn a_target_is_judged_by_the_ratio_it_names() {
        let results = results(TCP_16, &[[100.0, 8.0, 330.0, 4.0]]);
        let of = |cell, what: &str| {
            let mut targets = TARGETS.iter().filter(|t| t.cell == cell);
            targets.find(|t| t.wanted().contains(what)).unwrap().judge(&results)
        };
        assert_eq!(of(TCP_16, "Redis"), Verdict::Reached("3.30 ×".to_owned()));
        assert_eq!(of(TCP_16, "Pogocache"), Verdict::Unmeasured);
        assert_eq!(of(HIT_RATIO, "82"), Verdict::Unmeasured);
    }
}
