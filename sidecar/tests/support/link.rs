//! A TCP link in front of a NATS server that a test can cut, blacken, or make lose single messages.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// What becomes of the link's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Closed, and new ones too.
    Cut,
    /// They stay, and nothing moves.
    Black,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Link {
    address: SocketAddr,
    state: watch::Sender<State>,
    shared: Arc<Shared>,
    _listener: AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    connections: AtomicUsize,
    /// Live messages to lose from now on.
    losing: AtomicUsize,
}

impl Link {
    /// A link to the server at `port` on loopback.
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, watched) = watch::channel(State::Open);
        let shared = Arc::<Shared>::default();
        let serving = serve(listener, port, watched, Arc::clone(&shared));
        let listener = AbortOnDropHandle::new(tokio::spawn(serving));
        Self { address, state, shared, _listener: listener }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Closes its connections, and each new one.
    pub(crate) fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Nothing moves any more, and nobody is told.
    pub(crate) fn blacken(&self) {
        self.state.send_replace(State::Black);
    }

    /// New connections work, and blackened ones go on.
    pub(crate) fn mend(&self) {
        self.state.send_replace(State::Open);
    }

    /// Loses the next `count` republished messages.
    pub(crate) fn lose(&self, count: usize) {
        self.shared.losing.store(count, Ordering::SeqCst);
    }

    /// How many of them are yet to be lost.
    pub(crate) fn losing(&self) -> usize {
        self.shared.losing.load(Ordering::SeqCst)
    }

    /// Connections that are open.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

async fn serve(
    listener: TcpListener,
    port: u16,
    state: watch::Receiver<State>,
    shared: Arc<Shared>,
) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let mut state = state.clone();
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            if *state.borrow() == State::Cut {
                return;
            }
            shared.connections.fetch_add(1, Ordering::SeqCst);
            let mut cut = state.clone();
            tokio::select! {
                _ = carry(client, port, &mut state, &shared) => {}
                _ = cut.wait_for(|state| *state == State::Cut) => {}
            }
            shared.connections.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

/// Until either side closes.
async fn carry(
    client: TcpStream,
    port: u16,
    state: &mut watch::Receiver<State>,
    shared: &Shared,
) -> std::io::Result<()> {
    open(state).await;
    let server = TcpStream::connect(("127.0.0.1", port)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut upward = state.clone();
    let up = async {
        let mut from_client = from_client;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = from_client.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            open(&mut upward).await;
            to_server.write_all(&buffer[..read]).await?;
        }
    };
    tokio::select! {
        ended = up => ended,
        ended = down(&mut from_server, to_client, state, shared) => ended,
    }
}

/// Carries the server's operations one by one: a line, and a payload after a message's line.
async fn down(
    from_server: &mut OwnedReadHalf,
    mut to_client: OwnedWriteHalf,
    state: &mut watch::Receiver<State>,
    shared: &Shared,
) -> std::io::Result<()> {
    let mut from_server = BufReader::new(from_server);
    let mut operation = Vec::new();
    loop {
        operation.clear();
        if from_server.read_until(b'\n', &mut operation).await? == 0 {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&operation).into_owned();
        let words: Vec<&str> = line.split_whitespace().collect();
        let live = matches!(words[..], ["HMSG" | "MSG", subject, ..] if subject.split('.').next_back() == Some("rp"));
        if let ["HMSG" | "MSG", .., size] = words[..] {
            let payload: u64 = size.parse().unwrap();
            copy(&mut (&mut from_server).take(payload + 2), &mut operation).await?;
        }
        open(state).await;
        let take_one = |losing: usize| losing.checked_sub(1);
        let order = Ordering::SeqCst;
        if live && shared.losing.fetch_update(order, order, take_one).is_ok() {
            continue;
        }
        to_client.write_all(&operation).await?;
    }
}

async fn open(state: &mut watch::Receiver<State>) {
    // That the link is gone is noticed by who drives the connection.
    let _ = state.wait_for(|state| *state == State::Open).await;
}
