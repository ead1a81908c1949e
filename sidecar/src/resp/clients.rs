//! The clients that are connected: who they are and what they chose, for CLIENT LIST, INFO and
//! the limit of clients. The connections themselves are not here.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

use super::reply::Protocol;
use crate::adapter::UnixMillis;
use crate::channels::Inbox;

/// The clients of one server.
#[derive(Debug)]
pub struct Clients {
    limit: usize,
    connected: Mutex<BTreeMap<u64, Arc<Client>>>,
    admitted: AtomicU64,
    refused: AtomicU64,
    commands: AtomicU64,
}

/// One client.
#[derive(Debug)]
pub struct Client {
    /// Counts the server's clients from 1; CLIENT ID.
    pub id: u64,
    peer: Endpoints,
    since: UnixMillis,
    active: AtomicU64,
    state: Mutex<State>,
    inbox: OnceLock<Weak<Inbox>>,
}

/// The two ends of a connection, as CLIENT LIST shows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// The client's address; for a unix socket its path and `:0`.
    pub remote: String,
    /// The server's address; for a unix socket its path and `:0`.
    pub local: String,
    /// Whether it is a unix socket.
    pub unix: bool,
}

/// What a client chose, and what it did last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// HELLO.
    pub protocol: Protocol,
    /// CLIENT SETNAME.
    pub name: Bytes,
    /// CLIENT SETINFO LIB-NAME.
    pub library: Bytes,
    /// CLIENT SETINFO LIB-VER.
    pub library_version: Bytes,
    /// CLIENT NO-EVICT.
    pub no_evict: bool,
    /// CLIENT NO-TOUCH.
    pub no_touch: bool,
    /// The full name of the command that ran last.
    pub last_command: Option<&'static str>,
    /// How far it is in a transaction of the storage; `None` is not in one.
    pub queued: Option<usize>,
    /// To how many channels, patterns and sharded channels it is subscribed.
    pub subscriptions: [usize; 3],
    /// CLIENT TRACKING, while it is on.
    pub tracks: Option<Tracks>,
    /// MONITOR, while it is on.
    pub monitors: bool,
    /// It waits for a key.
    pub is_blocked: bool,
}

/// How a client tracks its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracks {
    /// By prefixes.
    pub broadcast: bool,
    /// Who is told in its place.
    pub redirected_to: Option<u64>,
}

impl State {
    /// Whether it is subscribed to anything.
    pub fn is_subscribed(&self) -> bool {
        self.subscriptions != [0; 3]
    }
}

/// A place among the clients, given back when it is dropped.
#[derive(Debug)]
pub struct Admission {
    clients: Arc<Clients>,
    /// Who has it.
    pub client: Arc<Client>,
}

impl Clients {
    /// None yet, and never more than `limit` at a time.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            connected: Mutex::default(),
            admitted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            commands: AtomicU64::new(0),
        }
    }

    /// Gives a new client a place, unless there is none.
    pub fn admit(self: &Arc<Self>, peer: Endpoints, now: UnixMillis) -> Option<Admission> {
        let mut connected = self.connected.lock();
        if connected.len() >= self.limit {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let id = self.admitted.fetch_add(1, Ordering::Relaxed) + 1;
        let active = AtomicU64::new(now);
        let client = Arc::new(Client {
            id,
            peer,
            since: now,
            active,
            state: Mutex::default(),
            inbox: OnceLock::new(),
        });
        connected.insert(id, Arc::clone(&client));
        Some(Admission { clients: Arc::clone(self), client })
    }

    /// All of them, in the order of their ids.
    pub fn all(&self) -> Vec<Arc<Client>> {
        self.connected.lock().values().cloned().collect()
    }

    /// The one with that id.
    pub fn get(&self, id: u64) -> Option<Arc<Client>> {
        self.connected.lock().get(&id).cloned()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.connected.lock().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there may be.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// How many there have been.
    pub fn admitted(&self) -> u64 {
        self.admitted.load(Ordering::Relaxed)
    }

    /// How many found no place.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Adds to the count of commands.
    pub fn count_commands(&self, more: u64) {
        self.commands.fetch_add(more, Ordering::Relaxed);
    }

    /// How many commands there have been.
    pub fn commands(&self) -> u64 {
        self.commands.load(Ordering::Relaxed)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.clients.connected.lock().remove(&self.client.id);
    }
}

impl Client {
    /// Its address; for a unix socket its path and `:0`.
    pub fn address(&self) -> &str {
        &self.peer.remote
    }

    /// What it is told without having asked goes there.
    pub fn set_inbox(&self, inbox: &Arc<Inbox>) {
        // Set once, by its session.
        let _ = self.inbox.set(Arc::downgrade(inbox));
    }

    /// Where what it is told goes, while it is there.
    pub fn inbox(&self) -> Weak<Inbox> {
        self.inbox.get().cloned().unwrap_or_default()
    }

    /// Notes that it sent something.
    pub fn is_active(&self, now: UnixMillis) {
        self.active.store(now, Ordering::Relaxed);
    }

    /// Looks at its state, or changes it. Other connections may wait meanwhile.
    pub fn with_state<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock())
    }

    /// Its line in CLIENT LIST. What the server doesn't measure is 0.
    pub fn describe(&self, now: UnixMillis) -> String {
        let state = self.state.lock().clone();
        let mut flags = String::new();
        for (flag, shown) in [
            ('O', state.monitors),
            ('P', state.is_subscribed()),
            ('x', state.queued.is_some()),
            ('b', state.is_blocked),
            ('t', state.tracks.is_some()),
            ('B', state.tracks.is_some_and(|tracks| tracks.broadcast)),
            ('U', self.peer.unix),
            ('e', state.no_evict),
            ('T', state.no_touch),
        ] {
            if shown {
                flags.push(flag);
            }
        }
        if flags.is_empty() {
            flags.push('N');
        }
        let seconds = |since: u64| now.saturating_sub(since) / 1000;
        let redirected_to = state.tracks.map_or(-1, |tracks| {
            tracks.redirected_to.map_or(0, |to| i64::try_from(to).unwrap_or(i64::MAX))
        });
        let mut line = String::new();
        // Writing to a string can't fail.
        let _ = write!(
            line,
            "id={} addr={} laddr={} fd=0 name={} age={} idle={} flags={flags} db=0 sub={} psub={} \
             ssub={} multi={} watch=0 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 \
             oll=0 omem=0 tot-mem=0 events=r cmd={} user=default redir={} resp={} lib-name={} \
             lib-ver={}",
            self.id,
            self.peer.remote,
            self.peer.local,
            String::from_utf8_lossy(&state.name),
            seconds(self.since),
            seconds(self.active.load(Ordering::Relaxed)),
            state.subscriptions[0],
            state.subscriptions[1],
            state.subscriptions[2],
            state.queued.map_or(-1, |queued| i64::try_from(queued).unwrap_or(i64::MAX)),
            state.last_command.unwrap_or("NULL"),
            redirected_to,
            state.protocol.number(),
            String::from_utf8_lossy(&state.library),
            String::from_utf8_lossy(&state.library_version),
        );
        line
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::{Clients, Endpoints};

    #[test]
    fn a_place_is_given_back() {
        let clients = Arc::new(Clients::new(1));
        let first = clients.admit(Endpoints::default(), 0).unwrap();
        assert!(clients.admit(Endpoints::default(), 0).is_none());
        drop(first);
        let second = clients.admit(Endpoints::default(), 0).unwrap();
        assert_eq!((second.client.id, clients.admitted(), clients.refused()), (2, 2, 1));
    }

    #[test]
    fn a_client_is_described_in_the_words_of_redis() {
        let clients = Arc::new(Clients::new(1));
        let peer = Endpoints {
            remote: "127.0.0.1:5".to_owned(),
            local: "127.0.0.1:6379".to_owned(),
            unix: false,
        };
        let admission = clients.admit(peer, 1_000).unwrap();
        admission.client.with_state(|state| state.name = Bytes::from_static(b"me"));
        admission.client.is_active(3_000);
        let line = admission.client.describe(5_500);
        assert!(line.starts_with("id=1 addr=127.0.0.1:5 laddr=127.0.0.1:6379 fd=0 name=me "));
        assert!(line.contains(" age=4 idle=2 flags=N db=0 "));
        assert!(line.ends_with(" cmd=NULL user=default redir=-1 resp=2 lib-name= lib-ver="));
    }
}
