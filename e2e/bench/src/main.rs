//! `warp-bench`: Warp's speed beside its peers', as ratios of one run on one machine, and the
//! instructions that a hit takes, which don't depend on the machine's noise.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

mod callgrind;
mod cells;
mod children;
mod cores;
mod experiment;
mod failure;
mod folder;
mod generator;
mod instructions;
mod machine;
mod peer;
mod process;
mod report;
mod results;
mod run;
mod server;
mod statistics;
mod targets;

use experiment::Pace;
use failure::{Failure, Outcome, Trying, read, write};
use peer::Peer;
use results::Results;

/// Warp's speed beside its peers'.
#[derive(Parser, Debug)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Measure all servers that are here, and write the results.
    Run(Run),
    /// Write the page and the plot anew from results that are there.
    Report {
        /// What `run` wrote.
        results: PathBuf,
        /// The page, whose measured part is replaced.
        #[arg(long)]
        page: PathBuf,
    },
    /// Count a hit's instructions under valgrind, and compare them with the bounds.
    Instructions {
        /// The program to count in: a release build.
        #[arg(long)]
        sidecar: PathBuf,
        /// The file with the bounds.
        #[arg(long)]
        bounds: PathBuf,
        /// Write what was counted as the new bounds.
        #[arg(long)]
        write: bool,
    },
}

#[derive(Args, Debug)]
struct Run {
    /// The sidecar: a release build.
    #[arg(long)]
    sidecar: PathBuf,
    /// The folder of the results.
    #[arg(long)]
    out: PathBuf,
    /// A page whose measured part is replaced.
    #[arg(long)]
    page: Option<PathBuf>,
    /// Times that everything is measured.
    #[arg(long, default_value_t = 5)]
    repetitions: u32,
    /// Seconds of each point under load.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Measure far too little, once, to see that all works.
    #[arg(long, conflicts_with_all = ["repetitions", "seconds", "page"])]
    quick: bool,
    /// Only these cells.
    #[arg(long, value_delimiter = ',')]
    cells: Vec<String>,
    /// Only these servers.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// What the page names as the command to repeat it.
    #[arg(long, default_value = "warp-bench run")]
    named: String,
}

fn main() -> ExitCode {
    let result = children::end_with_signals().and_then(|()| match Cli::parse().command {
        Command::Run(options) => run(&options),
        Command::Report { results, page } => report::publish(&load(&results)?, &page),
        Command::Instructions { sidecar, bounds, write } => {
            instructions::guard(&sidecar, &bounds, write)
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("warp-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Run) -> Outcome {
    let time = Duration::try_from_secs_f64(options.seconds)
        .map_err(|error| Failure::Other(format!("--seconds {}: {error}", options.seconds)))?;
    let plan = run::Plan {
        sidecar: options.sidecar.clone(),
        pace: if options.quick { Pace::quick() } else { Pace::full(time) },
        repetitions: if options.quick { 1 } else { options.repetitions.max(1) },
        cells: options.cells.clone(),
        peers: options.peers.clone(),
        command: options.named.clone(),
    };
    let results = run::run(&plan)?;
    std::fs::create_dir_all(&options.out)
        .trying(|| format!("{} can't be made", options.out.display()))?;
    let file = options.out.join("results.json");
    let text = serde_json::to_string_pretty(&results)
        .map_err(|error| Failure::Other(format!("results: {error}")))?;
    write(&file, &text)?;
    let page = options.out.join("performance.md");
    report::write_alone(&results, &page)?;
    eprintln!("written: {}, {}", file.display(), page.display());
    match &options.page {
        Some(page) => report::publish(&results, page),
        None => Ok(()),
    }
}

fn load(file: &Path) -> Outcome<Results> {
    serde_json::from_str(&read(file)?)
        .map_err(|error| Failure::Other(format!("{}: {error}", file.display())))
}
