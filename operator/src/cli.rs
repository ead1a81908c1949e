//! The command line.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::certs;

/// Reconciles WarpClusters and WarpPolicies and injects the cache sidecar into pods.
#[derive(Clone, Debug, Parser)]
#[command(version, about, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Settings of `run`, which is done when no command is given.
    #[command(flatten)]
    pub run: Run,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Runs the operator.
    Run(Box<Run>),
    /// Deletes all WarpClusters, WarpPolicies and what the operator made for them, in every
    /// namespace; for the uninstallation. May be repeated.
    Cleanup(Cleanup),
}

/// Where the operator is.
#[derive(Args, Clone, Debug)]
pub struct Place {
    /// The operator's own namespace.
    #[arg(long, env = "POD_NAMESPACE", default_value = "warp-system")]
    pub operator_namespace: String,
    /// This replica's own name, that of its pod.
    #[arg(long, env = "POD_NAME", default_value = "warp-operator")]
    pub pod_name: String,
    /// The operator's own Deployment, with which what it keeps in its namespace goes.
    #[arg(long, env = "WARP_DEPLOYMENT")]
    pub deployment: Option<String>,
    /// Logs lines of JSON. What is logged is set by the environment variable RUST_LOG.
    #[arg(long, env = "WARP_LOG_JSON")]
    pub log_json: bool,
}

/// Settings of `run`.
#[derive(Args, Clone, Debug)]
pub struct Run {
    /// Where the operator is.
    #[command(flatten)]
    pub place: Place,
    /// Port of the admission webhook, HTTPS.
    #[arg(long, default_value_t = 9443)]
    pub webhook_port: u16,
    /// Runs without the admission webhook, and so without injection.
    #[arg(long)]
    pub disable_webhook: bool,
    /// Port of /metrics, /healthz and /readyz, HTTP.
    #[arg(long, default_value_t = 8080)]
    pub metrics_port: u16,
    /// The Service by which the API server calls the webhook.
    #[arg(long, default_value = "warp-operator")]
    pub webhook_service: String,
    /// The MutatingWebhookConfiguration that the webhook's CA is written to.
    #[arg(long, default_value = "warp-operator")]
    pub webhook_configuration: String,
    /// A namespace whose pods are never injected, as the webhook's configuration has it; may be
    /// repeated. That of Kubernetes and the operator's own need not be named.
    #[arg(long = "excluded-namespace", value_name = "NAMESPACE")]
    pub excluded_namespaces: Vec<String>,
    /// Image of the sidecar, where a WarpCluster names none.
    #[arg(long, env = "WARP_SIDECAR_IMAGE", default_value = concat!("warp-sidecar:", env!("CARGO_PKG_VERSION")))]
    pub sidecar_image: String,
    /// Image of the NATS servers, where a WarpCluster names none; NATS 2.11 or newer.
    #[arg(long, env = "WARP_NATS_IMAGE", default_value = "nats:2.12-alpine")]
    pub nats_image: String,
    /// When the images of sidecar and NATS are pulled; Kubernetes' default when left out.
    #[arg(long, value_parser = ["Always", "IfNotPresent", "Never"])]
    pub image_pull_policy: Option<String>,
    /// Who makes the webhook's certificates.
    #[arg(long, value_enum, default_value_t = certs::Mode::Operator)]
    pub certs_mode: certs::Mode,
    /// The Secret of the webhook's certificates.
    #[arg(long, default_value = "warp-operator-certs")]
    pub certs_secret: String,
    /// Life of a certificate that the operator makes, such as 720h.
    #[arg(long, default_value = "720h", value_parser = duration)]
    pub cert_lifetime: Duration,
    /// Life of a CA that the operator makes, such as 8760h.
    #[arg(long, default_value = "8760h", value_parser = duration)]
    pub ca_lifetime: Duration,
}

/// Settings of `cleanup`.
#[derive(Args, Clone, Debug)]
pub struct Cleanup {
    /// Where the operator is.
    #[command(flatten)]
    pub place: Place,
    /// How long to wait until all is gone.
    #[arg(long, default_value = "150s", value_parser = duration)]
    pub patience: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: kube::core::Duration = text.parse().map_err(|error| format!("{error}"))?;
    let negative = parsed.is_negative();
    let duration = Duration::from(parsed);
    if negative || duration.is_zero() {
        return Err("give more than nothing, such as 720h".to_owned());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn run_is_what_is_done_without_a_command() {
        Cli::command().debug_assert();
        let bare = Cli::parse_from(["warp-operator", "--metrics-port", "0"]);
        assert!(bare.command.is_none());
        assert_eq!((bare.run.webhook_port, bare.run.metrics_port), (9443, 0));
        let Some(Command::Run(run)) =
            Cli::parse_from(["warp-operator", "run", "--certs-mode", "cert-manager"]).command
        else {
            panic!("run isn't read");
        };
        assert_eq!(run.certs_mode, certs::Mode::CertManager);
        let excluding = ["warp-operator", "--excluded-namespace=a", "--excluded-namespace=b"];
        assert_eq!(Cli::parse_from(excluding).run.excluded_namespaces, ["a", "b"]);
    }

    #[test]
    fn durations_are_written_as_in_go() {
        assert_eq!(duration("1h30m"), Ok(Duration::from_mins(90)));
        assert!(duration("-1h").is_err() && duration("0s").is_err() && duration("7").is_err());
    }
}
