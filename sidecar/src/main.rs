//! `warp-sidecar`: runs the cache beside a pod, or by itself.

use std::io::{IsTerminal, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;
use warp_crds::cluster::SidecarSpec;
use warp_sidecar::config::{Runner, Source};
use warp_sidecar::metrics::Metrics;
use warp_sidecar::{admin, resp};

/// How long the bus is waited for at the start, before readiness lets the application begin.
const JOIN: Duration = Duration::from_secs(5);
/// How long the bus is waited for at the end, so that peers learn of the last writes.
const DRAIN: Duration = Duration::from_secs(5);

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A consistent cache beside every pod: RESP in front, storage behind, coherent over a bus.
#[derive(Parser, Debug)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Serve. Without a file: a cache in memory on 127.0.0.1:6379.
    Run(Run),
    /// Exit with 0 when a sidecar answers at its `/readyz`.
    Ping {
        /// What to ask.
        #[arg(long, default_value = "http://127.0.0.1:8080/readyz")]
        url: String,
    },
}

#[derive(Args, Debug)]
struct Run {
    /// The manifests that kubectl takes: one WarpCluster, its WarpPolicies and Secrets.
    #[arg(short = 'f', long)]
    file: Option<PathBuf>,
    /// Wait for a file that isn't there yet or can't be applied, rather than exit.
    #[arg(long, requires = "file")]
    wait: bool,
    /// A folder with a file SECRET_KEY for each credential.
    #[arg(long)]
    secrets_dir: Option<PathBuf>,
    /// A NATS to use where the manifest leaves it to the operator.
    #[arg(long, env = "WARP_NATS_URL")]
    nats_url: Option<String>,
    /// The address of RESP; its port is the manifest's.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// The address of `/metrics`, `/healthz`, `/readyz` and `/status` [default: 127.0.0.1 and the
    /// manifest's metricsPort].
    #[arg(long)]
    metrics_address: Option<SocketAddr>,
    /// How many threads serve clients [default: the manifest's].
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// The form of the log.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum LogFormat {
    Text,
    Json,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(options) => run(options),
        Command::Ping { url } => ping(&url),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not by the log: it may be filtered, or not set up yet.
            let _ = writeln!(std::io::stderr(), "warp-sidecar: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Run) -> Result<(), Error> {
    log_to_stderr(options.log_format);
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| "a TLS provider is installed already")?;
    // Beside an application that has few cores, more threads than two only take turns.
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(2);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()?
        .block_on(serve(options))
}

async fn serve(options: Run) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = CancellationToken::new();
    let metrics = Arc::new(Metrics::new()?);
    let resp_metrics = resp::Metrics::new(metrics.registry())?;
    let source =
        Source { file: options.file, secrets: options.secrets_dir, nats_url: options.nats_url };
    let runner = Runner::new(source, metrics);
    match runner.look() {
        Err(error) if !options.wait => return Err(error.into()),
        // The state keeps the refusal, and the log has it.
        _ => {}
    }

    let sidecar =
        runner.cluster().map_or_else(SidecarSpec::default, |cluster| cluster.spec.sidecar);
    let metrics_port = u16::try_from(sidecar.metrics_port)?;
    let metrics_address = options
        .metrics_address
        .unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, metrics_port)));
    let admin = tokio::spawn(admin::serve(metrics_address, Arc::clone(&runner), stop.clone()));
    let watch = tokio::spawn({
        let (runner, stop) = (Arc::clone(&runner), stop.clone());
        async move { runner.watch(stop).await }
    });

    let data = async {
        let (engine, cluster) = loop {
            match (runner.engine(), runner.cluster()) {
                (Some(engine), Some(cluster)) => break (Arc::clone(engine), cluster),
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        let sidecar = cluster.spec.sidecar;
        let tcp = SocketAddr::new(options.address, u16::try_from(sidecar.port)?);
        let threads = usize::try_from(sidecar.threads).ok().and_then(NonZeroUsize::new);
        let settings = resp::Settings {
            tcp: Some(tcp),
            unix: sidecar.unix_socket.map(PathBuf::from),
            threads: options.threads.or(threads).unwrap_or(NonZeroUsize::MIN),
            ..resp::Settings::default()
        }
        .within(usize::try_from(engine.figures().limit_bytes)?);
        let server = resp::Server::bind(settings)
            .map_err(|error| format!("RESP can't listen at {tcp} or its socket: {error}"))?;
        if !engine.join(JOIN).await {
            warn!("starting without the bus; distributed classes are read from storage");
        }
        runner.set_serving();
        info!(%tcp, metrics = %metrics_address, "serving");
        server.run(Arc::clone(&engine), resp_metrics, stop.clone()).await?;
        if !engine.drain(DRAIN).await {
            warn!(
                "the last invalidations could not be published; peers may serve their keys until the TTL"
            );
        }
        engine.stop();
        Ok::<_, Error>(())
    };
    tokio::pin!(data);

    tokio::select! {
        result = &mut data => return result,
        ended = admin => return Err(match ended? {
            Ok(()) => "the admin port closed".into(),
            Err(error) => format!("the admin port can't listen at {metrics_address}: {error}").into(),
        }),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    info!("draining");
    stop.cancel();
    if runner.is_serving() {
        data.await?;
    }
    watch.await?;
    Ok(())
}

fn log_to_stderr(format: LogFormat) {
    // What the NATS client tells, the bus tells too, once.
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,async_nats=off"));
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}

/// One GET, without the weight of an HTTP client: probes run it often.
fn ping(url: &str) -> Result<(), Error> {
    let rest = url.strip_prefix("http://").ok_or("the URL must start with http://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let patience = Some(Duration::from_secs(5));
    let mut stream = TcpStream::connect(host).map_err(|error| format!("{host}: {error}"))?;
    stream.set_read_timeout(patience)?;
    stream.set_write_timeout(patience)?;
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(1 << 16).read_to_string(&mut answer)?;
    let status = answer.split_whitespace().nth(1).unwrap_or_default();
    if status == "200" { Ok(()) } else { Err(format!("{url} answered {answer}").into()) }
}
