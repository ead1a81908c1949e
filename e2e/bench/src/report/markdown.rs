//! The measured part of the page: where it was measured, the targets, and a table for each cell.

use std::fmt::Write as _;

use crate::cells::{CELLS, Cell, Entrants, Experiment};
use crate::peer::Peer;
use crate::results::{Quantity, Results};
use crate::targets::{TARGETS, Unit, Verdict};

pub(super) fn measured(results: &Results, plot: &str) -> String {
    let mut text = place(results);
    text += "\n### The targets\n\n";
    text += &targets(results);
    let _ = writeln!(text, "\n![Operations beside Redis]({plot})");
    for cell in &CELLS {
        if results.peers(cell.id).is_empty() {
            continue;
        }
        let _ = write!(text, "\n### {}\n\n{}", capital(cell.title), table(results, cell));
    }
    text.trim_end().to_owned()
}

fn place(results: &Results) -> String {
    let machine = &results.machine;
    let versions: Vec<String> = results
        .versions
        .iter()
        .filter(|(peer, _)| **peer != Peer::WarpUnmatched)
        .map(|(peer, version)| match peer {
            Peer::Warp => format!("{peer} {version} ({})", results.commit),
            _ => format!("{peer} {version}"),
        })
        .collect();
    let mut text = format!(
        "Measured on {} by `{}`, {} repetitions: {}, {} cores, {} MiB, Linux {}, load {:.1} before.\n\
         {}.",
        results.date,
        results.command,
        results.repetitions,
        machine.processor,
        machine.cores,
        machine.memory_mib,
        machine.kernel,
        machine.load_before,
        versions.join(", ")
    );
    let absent: Vec<&str> = results.absent.iter().map(|peer| peer.name()).collect();
    if !absent.is_empty() {
        let _ = write!(text, " Not there: {}.", absent.join(", "));
    }
    text + "\n"
}

fn targets(results: &Results) -> String {
    let mut text = "| what | wanted | measured | |\n| --- | --- | --- | --- |\n".to_owned();
    for target in TARGETS {
        let (figure, said) = match target.judge(results) {
            Verdict::Reached(figure) => (figure, "reached"),
            Verdict::Missed(figure) => (figure, "**not reached**"),
            Verdict::Unmeasured => ("–".to_owned(), "not measured"),
        };
        let _ = writeln!(text, "| {} | {} | {figure} | {said} |", target.what, target.wanted());
    }
    text
}

/// A column: its title, and what it shows of a server.
type Column<'a> = (&'a str, &'a dyn Fn(Peer) -> Option<String>);

fn table(results: &Results, cell: &Cell) -> String {
    let of = |peer, quantity| results.median(cell.id, peer, quantity);
    let number = |quantity, scale: f64, digits: usize| {
        move |peer| of(peer, quantity).map(|figure| format!("{:.digits$}", figure * scale))
    };
    let unit = |quantity, unit: Unit| move |peer| of(peer, quantity).map(|f| unit.text(f));
    let times = |quantity| {
        move |peer| {
            let ratio = match cell.entrants {
                Entrants::Everyone => results.gain(cell.id, peer, quantity),
                Entrants::Warps => results.ratio(cell.id, peer, Peer::WarpUnmatched, quantity),
            };
            ratio.map(|ratio| format!("{ratio:.2}"))
        }
    };
    let percent = |quantity| number(quantity, 100.0, 0);
    match cell.experiment {
        Experiment::Load(_) => rows(
            results,
            cell,
            &[
                ("1000 op/s", &number(Quantity::OperationsPerSecond, 0.001, 1)),
                ("×", &times(Quantity::OperationsPerSecond)),
                ("CPU µs/op", &number(Quantity::CpuPerOperation, 0.001, 2)),
                ("×", &times(Quantity::CpuPerOperation)),
                ("p50 µs", &number(Quantity::Latency50, 1.0, 0)),
                ("p99 µs", &number(Quantity::Latency99, 1.0, 0)),
                ("p99.9 µs", &number(Quantity::Latency999, 1.0, 0)),
                ("server busy %", &percent(Quantity::ServerBusy)),
                ("generator busy %", &percent(Quantity::GeneratorBusy)),
            ],
        ),
        Experiment::HitRatio => rows(
            results,
            cell,
            &[
                ("hit ratio", &unit(Quantity::HitRatio, Unit::Percent)),
                ("resident", &unit(Quantity::Resident, Unit::Mebibytes)),
            ],
        ),
        Experiment::Footprint => rows(
            results,
            cell,
            &[(
                "beyond 16 B of key and 100 B of value",
                &unit(Quantity::BytesPerEntry, Unit::Bytes),
            )],
        ),
        Experiment::Startup => rows(
            results,
            cell,
            &[
                ("to the first answer", &unit(Quantity::Start, Unit::Milliseconds)),
                ("resident", &unit(Quantity::Resident, Unit::Mebibytes)),
            ],
        ),
    }
}

fn rows(results: &Results, cell: &Cell, columns: &[Column<'_>]) -> String {
    let mut text = "| |".to_owned();
    for (title, _) in columns {
        let _ = write!(text, " {title} |");
    }
    text += "\n| --- |";
    text += &" ---: |".repeat(columns.len());
    text.push('\n');
    for peer in results.peers(cell.id) {
        let _ = write!(text, "| {} |", peer.name());
        for (_, show) in columns {
            let _ = write!(text, " {} |", show(peer).as_deref().unwrap_or("–"));
        }
        text.push('\n');
    }
    text
}

fn capital(title: &str) -> String {
    let mut letters = title.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().collect::<String>() + letters.as_str()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::TCP_16;
    use crate::results::tests::results;

    #[test]
    fn a_cell_has_a_row_for_each_server_with_its_ratios() {
        let text = measured(&results(TCP_16, &[[100_000.0, 8000.0, 320_000.0, 2000.0]]), "p.svg");
        assert!(text.contains("| Redis | 100.0 | 1.00 | 8.00 | 1.00 |"), "{text}");
        assert!(text.contains("| Warp | 320.0 | 3.20 | 2.00 | 4.00 |"), "{text}");
        assert!(
            !text.contains("unix socket, pipelines of 16\n"),
            "no table of what wasn't measured"
        );
    }

    #[test]
    fn it_says_what_was_reached_what_was_not_and_who_was_not_there() {
        let text = measured(&results(TCP_16, &[[100.0, 8.0, 310.0, 2.0]]), "p.svg");
        let row = "| GETs over TCP in pipelines of 16 | ≥ 3.2 × Redis | 3.10 × | **not reached** |";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("| ≥ 82.0 % | – | not measured |"), "{text}");
        assert!(text.contains("Not there: Valkey."), "{text}");
    }
}
