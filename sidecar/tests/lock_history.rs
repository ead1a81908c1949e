//! A history of locks under faults: several sidecar processes over a real NATS, which are killed
//! (`kill -9`), paused for longer than the TTL (`SIGSTOP`) and cut off, while clients take one lock
//! by turns. Each client notes from when to when it counted on the lock, as far as its sidecar's
//! replies let it. *No two of these times overlap, and whoever has the lock later has a greater
//! token.*

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]

#[allow(dead_code, reason = "each test program uses a part of it")]
#[path = "support/link.rs"]
mod link;
#[path = "support/servers/mod.rs"]
mod servers;

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use link::Link;
use servers::nats::Nats;

const PODS: usize = 3;
const CLIENTS_OF_EACH: usize = 2;
const TTL: Duration = Duration::from_millis(600);
/// How often everything breaks that may.
const ROUNDS: usize = 2;
/// A reply that takes longer never comes: its sidecar is paused, cut off or gone.
const PATIENCE: Duration = Duration::from_secs(4);

/// A sidecar process behind a link of its own to the bus.
struct Pod {
    link: Link,
    folder: PathBuf,
    port: u16,
    metrics_port: u16,
    child: Mutex<Child>,
}

impl Pod {
    async fn start(at: usize, nats: &Nats) -> Self {
        let link = Link::to(nats.port).await;
        let folder =
            std::env::temp_dir().join(format!("warp-lock-history-{}-{at}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (port, metrics_port) = (free(), free());
        let manifest = format!(
            "apiVersion: warpcache.dev/v1alpha1
kind: WarpCluster
metadata: {{name: main, namespace: default}}
spec:
  bus: {{nats: {{external: {{urls: ['{}']}}}}}}
  locks: {{maxTtl: 2s}}
  sidecar: {{port: {port}, metricsPort: {metrics_port}}}
",
            link.url()
        );
        std::fs::write(folder.join("warp.yaml"), manifest).unwrap();
        let child = Mutex::new(Self::spawn(&folder));
        Self { link, folder, port, metrics_port, child }
    }

    fn spawn(folder: &std::path::Path) -> Child {
        Command::new(env!("CARGO_BIN_EXE_warp-sidecar"))
            .args(["run", "-f", folder.join("warp.yaml").to_str().unwrap()])
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    fn kill(&self) {
        let mut child = self.child.lock();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn start_again(&self) {
        *self.child.lock() = Self::spawn(&self.folder);
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.lock().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    async fn metrics(&self) -> Option<String> {
        use tokio::io::AsyncReadExt as _;
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.metrics_port)).await.ok()?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.ok()?;
        Some(text)
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let child = self.child.get_mut();
        let _ = child.kill();
        let _ = child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A time in which a client counted on the lock.
#[derive(Clone, Debug)]
struct Holding {
    who: String,
    token: (u64, u64),
    from: Instant,
    until: Instant,
}

#[derive(Debug, Default)]
struct History {
    holdings: Mutex<Vec<Holding>>,
    refused: AtomicU64,
    lost: AtomicU64,
    /// The pod through which it was last granted.
    holder: AtomicUsize,
    over: AtomicBool,
}

/// A connection that speaks RESP2.
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    async fn connect(address: SocketAddr) -> Option<Self> {
        let stream = timeout(PATIENCE, TcpStream::connect(address)).await.ok()?.ok()?;
        Some(Self { stream: BufReader::new(stream) })
    }

    /// A reply of one line, or the lines of a list; `None` if none comes.
    async fn ask(&mut self, command: &str, patience: Duration) -> Option<Vec<String>> {
        let asking = async {
            self.stream.get_mut().write_all(format!("{command}\r\n").as_bytes()).await.ok()?;
            let first = self.line().await?;
            let count = first.strip_prefix('*').map(|count| count.parse::<i64>().unwrap());
            let Some(more @ 0..) = count else { return Some(vec![first]) };
            let mut lines = Vec::new();
            for _ in 0..more {
                lines.push(self.line().await?);
            }
            Some(lines)
        };
        timeout(patience, asking).await.ok()?
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line).await {
            Ok(1..) => Some(line.trim_end().to_owned()),
            _ => None,
        }
    }
}

/// Takes the lock again and again, holds it for a while, and notes what it could count on.
async fn work((at, client): (usize, usize), pod: Arc<Pod>, history: Arc<History>, seed: u64) {
    let who = format!("pod {at} client {client}");
    let mut random = StdRng::seed_from_u64(seed);
    while !history.over.load(Ordering::Relaxed) {
        let Some(mut client) = Client::connect(pod.address()).await else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        while !history.over.load(Ordering::Relaxed)
            && hold_once((at, &who), &mut client, &history, &mut random).await.is_some()
        {
            sleep(Duration::from_millis(random.random_range(0..30))).await;
        }
    }
}

/// `None` if the connection is of no use any more.
async fn hold_once(
    (at, who): (usize, &str),
    client: &mut Client,
    history: &History,
    random: &mut StdRng,
) -> Option<()> {
    let kept = random.random_bool(0.5);
    let acquire = format!(
        "WARP.LOCK.ACQUIRE l {}{}{}",
        TTL.as_millis(),
        if random.random_bool(0.8) { " WAIT 2000" } else { "" },
        if kept { " KEEPALIVE" } else { "" },
    );
    let reply = client.ask(&acquire, PATIENCE).await?;
    let [epoch, sequence] = &reply[..] else {
        history.refused.fetch_add(1, Ordering::Relaxed);
        return Some(());
    };
    let number = |text: &String| text.strip_prefix(':').unwrap().parse::<u64>().unwrap();
    let token = (number(epoch), number(sequence));
    let from = Instant::now();
    history.holder.store(at, Ordering::Relaxed);
    let mut until = from;
    let about = |command: &str| format!("WARP.LOCK.{command} l {} {}", token.0, token.1);
    let mut ended = None;
    for _ in 0..random.random_range(1..6) {
        // What is left is counted from before the question.
        let asked = Instant::now();
        let Some(reply) = client.ask(&about("RENEW"), PATIENCE).await else {
            ended = Some(None);
            break;
        };
        if let Some(left) = reply[0].strip_prefix(':') {
            until = until.max(asked + Duration::from_millis(left.parse().unwrap()));
        } else if reply[0].starts_with("-LOCKLOST") {
            history.lost.fetch_add(1, Ordering::Relaxed);
            ended = Some(Some(()));
            break;
        }
        sleep(Duration::from_millis(random.random_range(0..250))).await;
    }
    let holding = |until| Holding { who: who.to_owned(), token, from, until };
    if let Some(ended) = ended {
        history.holdings.lock().push(holding(until));
        return ended;
    }
    if random.random_bool(0.8) {
        // Whoever releases it counts on it until he does.
        let releasing = Instant::now();
        let released = client.ask(&about("RELEASE"), PATIENCE).await;
        history.holdings.lock().push(holding(until.min(releasing)));
        released.map(drop)
    } else {
        // A client that crashes: he counts on what he was told.
        history.holdings.lock().push(holding(if kept { from } else { until }));
        None
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    Pause,
    Cut,
    Partition,
    KillBus,
}

/// What breaks, by turns in any order, mostly where the lock is.
const FAULTS: [Fault; 10] = [
    Fault::Kill,
    Fault::Kill,
    Fault::Pause,
    Fault::Pause,
    Fault::Pause,
    Fault::Cut,
    Fault::Partition,
    Fault::Partition,
    Fault::Partition,
    Fault::KillBus,
];

async fn break_things(pods: &[Arc<Pod>], nats: &Nats, history: &History, random: &mut StdRng) {
    let mut faults = FAULTS;
    for _ in 0..ROUNDS {
        faults.shuffle(random);
        for fault in faults {
            let at = if random.random_bool(0.8) {
                history.holder.load(Ordering::Relaxed)
            } else {
                random.random_range(0..PODS)
            };
            let pod = &pods[at];
            let a_while = TTL.mul_f64(random.random_range(0.5..2.5));
            match fault {
                Fault::Kill => {
                    pod.kill();
                    sleep(a_while / 2).await;
                    pod.start_again();
                }
                Fault::Pause => {
                    pod.signal("-STOP");
                    sleep(a_while).await;
                    pod.signal("-CONT");
                }
                Fault::Cut => {
                    pod.link.cut();
                    sleep(a_while).await;
                    pod.link.mend();
                }
                Fault::Partition => {
                    pod.link.blacken();
                    sleep(a_while).await;
                    pod.link.mend();
                }
                Fault::KillBus => {
                    nats.kill();
                    nats.start_again();
                }
            }
            sleep(Duration::from_millis(random.random_range(200..900))).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_two_count_on_a_lock_at_once_whatever_breaks() {
    let nats = Nats::start();
    let mut pods = Vec::new();
    for at in 0..PODS {
        pods.push(Arc::new(Pod::start(at, &nats).await));
    }
    let history = Arc::<History>::default();
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut workers = Vec::new();
    for (at, pod) in pods.iter().enumerate() {
        for client in 0..CLIENTS_OF_EACH {
            let (pod, history) = (Arc::clone(pod), Arc::clone(&history));
            workers.push(tokio::spawn(work((at, client), pod, history, random.random())));
        }
    }
    break_things(&pods, &nats, &history, &mut random).await;
    // Everything works again: everybody gets his turn.
    let calm = history.holdings.lock().len();
    sleep(Duration::from_secs(6)).await;
    history.over.store(true, Ordering::Relaxed);
    for worker in workers {
        timeout(PATIENCE * 3, worker).await.unwrap().unwrap();
    }

    let mut holdings = history.holdings.lock().clone();
    let (refused, lost) =
        (history.refused.load(Ordering::Relaxed), history.lost.load(Ordering::Relaxed));
    println!(
        "{} holdings ({} of them when all was well again), {refused} refused, {lost} lost, {} faults",
        holdings.len(),
        holdings.len() - calm,
        ROUNDS * FAULTS.len(),
    );
    holdings.sort_by_key(|holding| holding.from);
    for pair in holdings.windows(2) {
        let [before, after] = pair else { unreachable!() };
        assert!(
            before.until <= after.from,
            "two at once, for {:?}: {before:?}, {after:?}",
            before.until - after.from
        );
        assert!(before.token < after.token, "{before:?}, {after:?}");
    }
    assert!(holdings.len() > 20, "too little was done to tell anything");
    assert!(lost > 0, "nothing was lost, so the faults did nothing");
    let mut who: Vec<_> = holdings[calm..].iter().map(|holding| &holding.who).collect();
    who.sort();
    who.dedup();
    assert_eq!(who.len(), PODS * CLIENTS_OF_EACH, "somebody never got it: {who:?}");
    let mut metrics = String::new();
    for pod in &pods {
        let text = pod.metrics().await.unwrap();
        for line in text.lines().filter(|line| line.starts_with("warp_lock_")) {
            let _ = writeln!(metrics, "{line}");
        }
    }
    assert!(metrics.contains("warp_lock_requests_total{result=\"granted\"}"), "{metrics}");
}
