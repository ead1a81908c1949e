//! Where clients come from: a TCP address on the loopback interface, or a unix socket.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};

use super::clients::Endpoints;
use super::event_loop::Stream;

/// See the module.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixSocket),
}

/// A listener on a file, which goes with it.
#[derive(Debug)]
pub(super) struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
}

/// How many clients may wait to be accepted.
const BACKLOG: i32 = 1024;
/// How long a TCP client may be silent before the system asks whether it is still there.
const KEEPALIVE: Duration = Duration::from_mins(5);

impl Listener {
    /// Listens at `address`.
    pub(super) fn tcp(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Self::Tcp(socket.into()))
    }

    /// Listens at the same port of `::1` if this one is at `127.0.0.1`, since `localhost` may be
    /// either; `None` where there is no such address, or it is taken.
    pub(super) fn twin(&self) -> Option<Self> {
        let address = self.tcp_address()?;
        (address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST))
            .then(|| Self::tcp(SocketAddr::from((Ipv6Addr::LOCALHOST, address.port()))))?
            .inspect_err(|error| tracing::debug!(%error, "not listening at ::1"))
            .ok()
    }

    /// Listens at the unix socket `path`.
    pub(super) fn unix(path: PathBuf) -> io::Result<Self> {
        UnixSocket::bind(path).map(Self::Unix)
    }

    /// The TCP address, with the port that was taken.
    pub(super) fn tcp_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// The next client, ready to be served; an error of the kind `WouldBlock` when there is none.
    pub(super) fn accept(&self) -> io::Result<(Stream, Endpoints)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, remote) = listener.accept()?;
                stream.set_nonblocking(true)?;
                let keepalive =
                    TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3);
                // Neither fails on a connection that is still there; if it is gone, reading will
                // tell.
                let _ = stream.set_nodelay(true);
                let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
                let local = stream.local_addr().map(|at| at.to_string()).unwrap_or_default();
                let ends = Endpoints { remote: remote.to_string(), local, unix: false };
                Ok((Stream::Tcp(stream), ends))
            }
            Self::Unix(UnixSocket { listener, path }) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                let path = format!("{}:0", path.display());
                Ok((
                    Stream::Unix(stream),
                    Endpoints { remote: path.clone(), local: path, unix: true },
                ))
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(socket) => socket.listener.as_fd(),
        }
    }
}

impl UnixSocket {
    /// Takes the path, unless another server answers there or it is no socket. Every user may
    /// connect: who can reach the file is decided by the volume that it is on.
    fn bind(path: PathBuf) -> io::Result<Self> {
        if let Ok(metadata) = std::fs::symlink_metadata(&path) {
            if !metadata.file_type().is_socket() {
                let message = format!("{} is there and is no socket", path.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
            }
            if UnixStream::connect(&path).is_ok() {
                let message = format!("another server answers at {}", path.display());
                return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
            }
            std::fs::remove_file(&path)?;
        }
        let listener = UnixListener::bind(&path)?;
        listener.set_nonblocking(true)?;
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
