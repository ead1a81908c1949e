//! A running server with ports and a folder of its own.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::children::Program;
use crate::cores::Cores;
use crate::failure::{Failure, Outcome, Trying};
use crate::folder::Folder;
use crate::generator::Endpoint;
use crate::peer::{Peer, Wish};
use crate::process::CpuClock;

/// How long a server may take to answer the first time; under valgrind it takes some.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two tries of the first contact: what the time of the start is exact to.
const RETRY: Duration = Duration::from_micros(50);

/// Over what clients come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Unix,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Server {
    program: Program,
    endpoint: Endpoint,
    started_in: Duration,
    // The last: what the program writes into goes after the program.
    folder: Folder,
}

/// What to start, and in what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start<'a> {
    pub(crate) peer: Peer,
    pub(crate) program: &'a Path,
    pub(crate) transport: Transport,
    pub(crate) memory_mib: u32,
}

impl Server {
    /// Starts it on the servers' core, and waits for its first answer.
    pub(crate) fn start(start: Start<'_>, cores: Cores) -> Outcome<Self> {
        Self::start_as(start, cores, |command| command)
    }

    /// The same, with the command wrapped into another's.
    pub(crate) fn start_as(
        start: Start<'_>,
        cores: Cores,
        wrap: impl FnOnce(Command) -> Command,
    ) -> Outcome<Self> {
        let folder = Folder::make()?;
        let [first, second, port] = free_ports()?;
        let endpoint = match start.transport {
            Transport::Tcp => Endpoint::Tcp(port),
            Transport::Unix => Endpoint::Unix(folder.path().join("socket")),
        };
        let wish = Wish {
            program: start.program,
            folder: folder.path(),
            endpoint: &endpoint,
            free_ports: [first, second],
            memory_mib: start.memory_mib,
        };
        let mut command = wrap(start.peer.command(&wish)?);
        let log = log(&folder);
        let begun = Instant::now();
        let mut program = cores.on_servers(|| Program::start(&mut command, &log))?;
        let (ping, pong) = start.peer.protocol().ping();
        while !answers(&endpoint, ping, pong) {
            program.check(&log)?;
            if begun.elapsed() > PATIENCE {
                return Err(Failure::Other(format!(
                    "no answer within {} s of its start",
                    PATIENCE.as_secs()
                )));
            }
            std::thread::sleep(RETRY);
        }
        Ok(Self { program, endpoint, started_in: begun.elapsed(), folder })
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn id(&self) -> u32 {
        self.program.id()
    }

    /// From the start to the first answer.
    pub(crate) fn started_in(&self) -> Duration {
        self.started_in
    }

    pub(crate) fn cpu(&self) -> Outcome<CpuClock> {
        CpuClock::of(self.program.id())
    }

    /// Ends it in good order; gives what `read` finds in its folder then.
    pub(crate) fn end<T>(self, read: impl FnOnce(&Path) -> Outcome<T>) -> Outcome<T> {
        self.program.end(PATIENCE)?;
        read(self.folder.path())
    }
}

fn log(folder: &Folder) -> PathBuf {
    folder.path().join("log")
}

/// Whether `ping` is answered with `pong`.
fn answers(endpoint: &Endpoint, ping: &[u8], pong: &[u8]) -> bool {
    fn ask(mut stream: impl Read + Write, ping: &[u8], pong: &[u8]) -> std::io::Result<bool> {
        stream.write_all(ping)?;
        let mut answer = vec![0; pong.len()];
        stream.read_exact(&mut answer)?;
        Ok(answer == pong)
    }
    let asked = match endpoint {
        Endpoint::Tcp(port) => TcpStream::connect((Ipv4Addr::LOCALHOST, *port))
            .and_then(|stream| stream.set_read_timeout(Some(PATIENCE)).map(|()| stream))
            .and_then(|stream| ask(stream, ping, pong)),
        Endpoint::Unix(path) => UnixStream::connect(path)
            .and_then(|stream| stream.set_read_timeout(Some(PATIENCE)).map(|()| stream))
            .and_then(|stream| ask(stream, ping, pong)),
    };
    asked.unwrap_or(false)
}

/// Ports that were free a moment ago, each another.
fn free_ports<const N: usize>() -> Outcome<[u16; N]> {
    let mut ports = [0; N];
    let mut held = Vec::new();
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .trying(|| "looking for a free port".to_owned())?;
        *port = listener.local_addr().trying(|| "looking for a free port".to_owned())?.port();
        held.push(listener);
    }
    Ok(ports)
}
