//! The listeners: who connects gets a task of its own, and all end together.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::clients::{Clients, Endpoints};
use super::connection::{Common, Connection, End};
use super::host::Host;
use super::metrics::Metrics;
use super::session::Session;
use super::settings::Settings;
use crate::core::Engine;

/// A server that listens and serves nobody yet.
#[derive(Debug)]
pub struct Server {
    settings: Settings,
    tcp: Option<TcpListener>,
    unix: Option<UnixSocket>,
}

/// A listener on a file, which goes with it.
#[derive(Debug)]
struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
}

/// How many clients may wait to be accepted.
const BACKLOG: u32 = 1024;
/// How long a TCP client may be silent before the system asks whether it is still there.
const KEEPALIVE: Duration = Duration::from_mins(5);
/// How long accepting rests when the system has no room for another connection.
const REST: Duration = Duration::from_millis(100);

impl Server {
    /// Listens where `settings` says.
    pub async fn bind(settings: Settings) -> io::Result<Self> {
        let tcp = settings.tcp.map(listen).transpose()?;
        let unix = match &settings.unix {
            Some(path) => Some(UnixSocket::bind(path.clone()).await?),
            None => None,
        };
        Ok(Self { settings, tcp, unix })
    }

    /// The TCP address, with the port that was taken.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Serves clients until `stop` is cancelled. Then what they have sent is answered, as long as
    /// [`Settings::drain`] allows.
    pub async fn run(self, engine: Arc<Engine>, metrics: Metrics, stop: CancellationToken) {
        let port = self.tcp_address().map_or(0, |address| address.port());
        let common = Arc::new(Common {
            engine,
            host: Host {
                clients: Arc::new(Clients::new(self.settings.max_clients)),
                port,
                unix: self.settings.unix.clone(),
                run_id: Host::new_run_id(),
                idle_seconds: self.settings.idle.map_or(0, |idle| idle.as_secs()),
                bulk_limit: self.settings.request.bulk,
            },
            metrics,
            settings: self.settings,
        });
        let gate = Gate {
            common: Arc::clone(&common),
            tasks: TaskTracker::new(),
            stop: stop.clone(),
            kill: CancellationToken::new(),
        };
        let accept_tcp = async {
            if let Some(listener) = &self.tcp {
                gate.accept(listener).await;
            }
        };
        let accept_unix = async {
            if let Some(listener) = &self.unix {
                gate.accept(listener).await;
            }
        };
        tokio::join!(accept_tcp, accept_unix, stop.cancelled());
        drop((self.tcp, self.unix));
        gate.tasks.close();
        if tokio::time::timeout(common.settings.drain, gate.tasks.wait()).await.is_err() {
            tracing::warn!(
                connections = gate.tasks.len(),
                "closing connections whose last commands took too long"
            );
            gate.kill.cancel();
            gate.tasks.wait().await;
        }
    }
}

/// Lets clients in.
struct Gate {
    common: Arc<Common>,
    tasks: TaskTracker,
    stop: CancellationToken,
    kill: CancellationToken,
}

impl Gate {
    /// Takes connections until the server stops.
    async fn accept(&self, listener: &impl Listen) {
        let mut failing = false;
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!("connections are accepted again");
                    }
                    self.serve(stream, peer);
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(%error, "connections can't be accepted");
                    }
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }

    fn serve<S>(&self, mut stream: S, peer: Endpoints)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let common = Arc::clone(&self.common);
        let (stop, kill) = (self.stop.clone(), self.kill.clone());
        let remote = peer.remote.clone();
        let Some(admission) = common.host.clients.admit(peer, common.engine.now()) else {
            self.tasks.spawn(async move {
                let refusal = stream.write_all(b"-ERR max number of clients reached\r\n");
                // It may have gone already, or not read; neither is worth waiting for.
                let _ = tokio::time::timeout(REST, refusal).await;
            });
            return;
        };
        self.tasks.spawn(async move {
            common.metrics.connections_total.inc();
            common.metrics.connections.inc();
            let connection = Connection::new(stream, Arc::clone(&common), Session::new(admission));
            let ended = tokio::select! {
                ended = connection.serve(stop) => ended,
                () = kill.cancelled() => Ok(()),
            };
            common.metrics.connections.dec();
            match ended {
                Err(end @ End::Slow(_)) => {
                    common.metrics.slow_clients.inc();
                    tracing::warn!(client = remote, "disconnected: {end}");
                }
                Err(end) => tracing::debug!(client = remote, "disconnected: {end}"),
                Ok(()) => {}
            }
        });
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Where clients come from.
trait Listen {
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// The next client, ready to be served.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Endpoints)>> + Send;
}

impl Listen for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Endpoints)> {
        let (stream, remote) = Self::accept(self).await?;
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3);
        // Neither fails on a connection that is still there; if it is gone, reading will tell.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
        let local = stream.local_addr().map(|address| address.to_string()).unwrap_or_default();
        Ok((stream, Endpoints { remote: remote.to_string(), local, unix: false }))
    }
}

impl Listen for UnixSocket {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Endpoints)> {
        let (stream, _) = self.listener.accept().await?;
        let path = format!("{}:0", self.path.display());
        Ok((stream, Endpoints { remote: path.clone(), local: path, unix: true }))
    }
}

impl UnixSocket {
    /// Takes the path, unless another server answers there or it is no socket. Every user may
    /// connect: who can reach the file is decided by the volume that it is on.
    async fn bind(path: PathBuf) -> io::Result<Self> {
        if let Ok(metadata) = std::fs::symlink_metadata(&path) {
            if !metadata.file_type().is_socket() {
                let message = format!("{} is there and is no socket", path.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
            }
            if UnixStream::connect(&path).await.is_ok() {
                let message = format!("another server answers at {}", path.display());
                return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
            }
            std::fs::remove_file(&path)?;
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
        Ok(Self { listener, path })
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Removes the socket, if it is still there.
fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "the socket can't be removed");
    }
}
