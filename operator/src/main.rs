//! The operator's program: reads the command line, sets up logging, and calls the library.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;
use warp_operator::cli::{Cli, Command, Place};
use warp_operator::{cleanup, run};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let command = cli.command.unwrap_or_else(|| Command::Run(Box::new(cli.run)));
    let place = match &command {
        Command::Run(settings) => &settings.place,
        Command::Cleanup(settings) => &settings.place,
    };
    log(place);
    match execute(command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error, "ended");
            ExitCode::FAILURE
        }
    }
}

async fn execute(command: Command) -> Result<(), String> {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return Err("another TLS provider is installed already".to_owned());
    }
    let client = kube::Client::try_default().await.map_err(|error| {
        format!("no way to the API server; set KUBECONFIG, or run this in a cluster: {error}")
    })?;
    match command {
        Command::Run(settings) => run::run(client, *settings).await.map_err(|e| e.to_string()),
        Command::Cleanup(settings) => {
            let lease = run::lease_settings(&settings.place, None);
            cleanup::run(client, &lease, settings.patience).await.map_err(|e| e.to_string())
        }
    }
}

fn log(place: &Place) {
    let asked = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_else(|_| "info".to_owned());
    // The NATS client tells of every connection; here one is made for every look at a bus.
    let asked =
        if asked.contains("async_nats") { asked } else { format!("{asked},async_nats=warn") };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(asked))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    if place.log_json {
        subscriber.json().init();
    } else {
        subscriber.init();
    }
}
