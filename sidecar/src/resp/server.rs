//! The server as a whole: it takes its addresses, starts its loops, and ends them together.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::clients::Clients;
use super::connection::Common;
use super::event_loop::{EventLoop, Stop};
use super::host::Host;
use super::listener::Listener;
use super::metrics::Metrics;
use super::script::Running;
use super::settings::Settings;
use crate::core::Engine;

/// A server that listens and serves nobody yet.
#[derive(Debug)]
pub struct Server {
    settings: Settings,
    listeners: Vec<Listener>,
}

impl Server {
    /// Listens where `settings` says.
    pub fn bind(settings: Settings) -> io::Result<Self> {
        let mut listeners = Vec::new();
        if let Some(address) = settings.tcp {
            let listener = Listener::tcp(address)?;
            let twin = listener.twin();
            listeners.push(listener);
            listeners.extend(twin);
        }
        if let Some(path) = &settings.unix {
            listeners.push(Listener::unix(path.clone())?);
        }
        Ok(Self { settings, listeners })
    }

    /// The TCP address, with the port that was taken.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.listeners.iter().find_map(Listener::tcp_address)
    }

    /// Serves clients until `stop` is cancelled. Then what they have sent is answered, as long as
    /// [`Settings::drain`] allows.
    pub async fn run(
        self,
        engine: Arc<Engine>,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> io::Result<()> {
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
                scripts: Mutex::default(),
                running: Running::default(),
                monitors: Arc::default(),
                timing: Arc::default(),
            },
            metrics,
            runtime: Handle::current(),
            settings: self.settings,
        });
        let drain = common.settings.drain;
        let mut loops = Loops::start(&common, self.listeners)?;
        tokio::select! {
            () = stop.cancelled() => {}
            ended = loops.ended() => return ended,
        }
        loops.stops.iter().for_each(Stop::drain);
        if let Ok(ended) = tokio::time::timeout(drain, loops.ended()).await {
            return ended;
        }
        tracing::warn!(
            connections = common.host.clients.len(),
            "closing connections whose last commands took too long"
        );
        loops.stops.iter().for_each(Stop::end);
        loops.ended().await
    }
}

/// The loops at work, each in a thread of its own. They end with this.
#[derive(Debug)]
struct Loops {
    stops: Vec<Stop>,
    ends: Vec<oneshot::Receiver<io::Result<()>>>,
}

impl Loops {
    fn start(common: &Arc<Common>, listeners: Vec<Listener>) -> io::Result<Self> {
        let count = common.settings.threads.get();
        let all = (0..count).map(|_| EventLoop::new(Arc::clone(common)));
        let mut all: Vec<_> = all.collect::<io::Result<_>>()?;
        if let Some((first, others)) = all.split_first_mut() {
            first.listen(listeners, others)?;
        }
        let mut loops = Self { stops: Vec::new(), ends: Vec::new() };
        for (event_loop, number) in all.into_iter().zip(0..) {
            loops.stops.push(event_loop.stop());
            let (end, ended) = oneshot::channel();
            loops.ends.push(ended);
            thread::Builder::new().name(format!("warp-resp-{number}")).spawn(move || {
                // Nobody asks how it ended if the server is gone.
                let _ = end.send(event_loop.run());
            })?;
        }
        Ok(loops)
    }

    /// Waits until all have ended; how the first that failed did.
    async fn ended(&mut self) -> io::Result<()> {
        while let Some(end) = self.ends.last_mut() {
            let ended = end.await;
            self.ends.pop();
            ended
                .unwrap_or_else(|_| Err(io::Error::other("the thread that serves clients died")))?;
        }
        Ok(())
    }
}

impl Drop for Loops {
    fn drop(&mut self) {
        self.stops.iter().for_each(Stop::end);
    }
}
