//! What a server can be told: where it listens and how much a client may take.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::request::Limits;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The TCP address, on the loopback interface: clients aren't asked who they are. Port 0 takes
    /// any that is free.
    pub tcp: Option<SocketAddr>,
    /// The path of the unix socket. A socket that a dead server left there is replaced.
    pub unix: Option<PathBuf>,
    /// How many threads serve clients.
    pub threads: NonZeroUsize,
    /// How many clients may be connected.
    pub max_clients: usize,
    /// How much a client may send for one command.
    pub request: Limits,
    /// Bytes of replies that wait for a client to read them; at more, nothing more is read from
    /// it. A client that sends a pipeline without reading needs room here for all its replies.
    pub output_soft: usize,
    /// Bytes of replies at which a client is disconnected. A single command can reach it.
    pub output_hard: usize,
    /// Bytes of messages that wait for a subscriber to read them, besides its replies; at more it
    /// is disconnected.
    pub inbox: usize,
    /// How long a client may leave replies unread before it is disconnected.
    pub stall: Duration,
    /// How long a client may say nothing before it is disconnected; `None` is for ever.
    pub idle: Option<Duration>,
    /// How long the commands that have been read may take when the server stops.
    pub drain: Duration,
}

impl Settings {
    /// The same, with no client taking more for a command or for its replies than `memory` bytes:
    /// beyond that a pod has no room for it.
    #[must_use]
    pub fn within(mut self, memory: usize) -> Self {
        let memory = memory.max(1024 * 1024);
        self.request.bulk = self.request.bulk.min(memory);
        self.request.frame = self.request.frame.min(memory);
        self.output_soft = self.output_soft.min(memory / 4);
        self.output_hard = self.output_hard.min(memory);
        self.inbox = self.inbox.min(memory / 2);
        self
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tcp: None,
            unix: None,
            threads: NonZeroUsize::MIN,
            max_clients: 10_000,
            request: Limits::default(),
            output_soft: 16 * 1024 * 1024,
            output_hard: 256 * 1024 * 1024,
            inbox: 32 * 1024 * 1024,
            stall: Duration::from_secs(30),
            idle: None,
            drain: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Settings;

    #[test]
    fn no_client_takes_more_than_the_pod_has() {
        let usual = Settings::default();
        assert_eq!(usual.clone().within(usize::MAX), usual);
        let small = usual.within(8 << 20);
        assert_eq!((small.request.bulk, small.request.frame), (8 << 20, 8 << 20));
        assert_eq!(
            (small.output_soft, small.output_hard, small.inbox),
            (2 << 20, 8 << 20, 4 << 20)
        );
    }
}
