//! One client's connection, without I/O: what it sent goes in, replies come out in order.
//!
//! A command that memory answers is answered at once. Reads that wait for the storage stand in line
//! side by side; a write, or a command for the Redis behind Warp, waits until the line is empty and
//! then stands there alone, so that a client finds its own writes in the order it sent them. What a
//! reply waits for runs elsewhere and comes back as a letter to the connection's [`Address`].
//!
//! What a client may take is bounded: no more is wanted of it while too many replies wait for it, or
//! while commands wait for the line and enough of what follows them has been read to notice that
//! the client is gone.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::clients::Admission;
use super::command::{Entry, Locked, Wait, Work};
use super::event_loop::Address;
use super::host::Host;
use super::metrics::{Metrics, Tally};
use super::relay::{Link, Relayed};
use super::reply::{Protocol, Reply};
use super::request::{Batch, RequestParser};
use super::session::Session;
use super::settings::Settings;
use super::subscription::Subscription;
use crate::adapter::{Key, RelayStream, StorageError};
use crate::cache::store::Hash;
use crate::channels::{Inbox, Message};
use crate::core::{Begun, Engine, Moment, View};

mod execution;
mod messages;

/// What all connections of a server have in common.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) engine: Arc<Engine>,
    pub(super) host: Host,
    pub(super) metrics: Metrics,
    pub(super) settings: Settings,
    /// Where work runs that a reply waits for.
    pub(super) runtime: Handle,
}

/// Why a connection ended before its client had everything.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    /// The client is gone, or its line is broken.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    /// See [`Settings::stall`] and [`Settings::output_hard`].
    #[error("the client left {0} bytes of replies unread")]
    Slow(usize),
    /// See [`Settings::idle`].
    #[error("the client said nothing for {0:?}")]
    Idle(Duration),
    /// What it was subscribed to can't be told any more.
    #[error("the storage's end of a subscription broke: {0}")]
    Subscription(io::Error),
}

/// The most reads of one connection that wait for the storage at a time, and the most commands
/// that are sent to a Redis at once.
const LONGEST_LINE: usize = 128;
/// How much of what follows a waiting command is read.
const AHEAD: usize = 64 * 1024;
/// A buffer that has been longer is given back when it is empty.
const KEPT_BUFFER: usize = 4 * 1024;

/// What the connections of a loop use by turns.
#[derive(Debug)]
pub(super) struct Turn {
    /// When the turn executes, which is after it has read.
    pub(super) now: Moment,
    /// What its commands go by.
    pub(super) view: View,
    /// The replies of this turn, those of one connection behind those of another.
    pub(super) out: Vec<u8>,
    batch: Batch,
    prepared: Vec<Prepared>,
    tally: Tally,
    /// Where the replies of the connection whose turn it is begin.
    start: usize,
    /// How much of its earlier replies waits to be sent.
    unsent: usize,
}

/// A command of a batch, found before any of it is executed.
#[derive(Clone, Copy, Debug)]
struct Prepared {
    entry: Option<&'static Entry>,
    /// The hash of its first key, if the first argument is one.
    hash: Option<Hash>,
}

impl Turn {
    /// The first turn.
    pub(super) fn new(engine: &Engine) -> Self {
        let (now, view) = (engine.now(), engine.view());
        Self {
            now,
            view,
            out: Vec::new(),
            batch: Batch::default(),
            prepared: Vec::new(),
            tally: Tally::default(),
            start: 0,
            unsent: 0,
        }
    }

    /// Lets everyone know what the commands so far were, and what became of them.
    pub(super) fn settle(&mut self, metrics: &Metrics) {
        self.view.settle();
        metrics.count(&mut self.tally);
    }

    /// A connection's turn begins, of whose replies `unsent` bytes wait to be sent. Where its
    /// replies will begin.
    pub(super) fn begin(&mut self, unsent: usize) -> usize {
        self.start = self.out.len();
        self.unsent = unsent;
        self.start
    }

    /// How many bytes of replies the client has not taken yet.
    pub(super) fn waiting(&self) -> usize {
        self.unsent + self.out.len() - self.start
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Connection {
    common: Arc<Common>,
    address: Address,
    session: Session,
    parser: RequestParser,
    /// What has been read and not been executed, from `executed` on.
    input: Vec<u8>,
    executed: usize,
    /// Replies to come, in the order of their commands.
    line: VecDeque<Slot>,
    /// The number of the first slot; slots are numbered from the connection's start.
    first: u64,
    /// Whether the line holds a command that must be alone there.
    alone: bool,
    /// The command that waits for the line to be empty.
    held: Option<Held>,
    link: Link,
    subscription: Option<Box<Subscription>>,
    /// What the client is to be told, each behind so many slots counted from the connection's start.
    messages: VecDeque<(u64, Message)>,
    /// More replies wait than the client may leave unread, and there would be more.
    waits_for_output: bool,
    /// Nothing more comes from the client.
    ended: bool,
    /// Nothing more is read, since the server stops.
    draining: bool,
    /// Nothing more is executed: what is owed goes out, and then the connection closes.
    closing: bool,
    /// Cancelled when nobody waits for replies any more.
    gone: CancellationToken,
    _gone_when_dropped: DropGuard,
}

/// A place in the line.
#[derive(Debug)]
enum Slot {
    /// Its work is being done.
    Waiting,
    /// Its turn has not come.
    Ready(Done),
}

/// How a reply is to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    protocol: Protocol,
    /// Not at all: CLIENT REPLY.
    hidden: bool,
}

/// What waits for the line to be empty.
enum Held {
    Write(Work, Form),
    Wait(Wait, Form),
    /// Commands that go to Redis at once.
    Relay(Vec<ForRedis>),
    Subscribe(Vec<Bytes>, Form),
    Watch(Vec<Key>, Form),
    Lock(Box<Locked>, Form),
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Write(..) => "Write",
            Self::Wait(..) => "Wait",
            Self::Relay(_) => "Relay",
            Self::Subscribe(..) => "Subscribe",
            Self::Watch(..) => "Watch",
            Self::Lock(..) => "Lock",
        })
    }
}

/// A command for Redis.
struct ForRedis {
    arguments: Vec<Bytes>,
    form: Form,
    /// The reply that is given instead of Redis' own.
    instead: Option<Reply>,
}

/// What came of the work that a slot waits for.
#[derive(Debug)]
pub(super) enum Done {
    Reply(Reply, Form),
    /// A wait for a key is over; nobody waits for the reply if there is none.
    Waited(Option<Reply>, Form),
    /// The last are the commands' forms, and the replies that are given instead of Redis' own.
    Relayed(Box<Relayed>, Vec<(Form, Option<Reply>)>),
    /// A line for messages, and the first command on it.
    Opened(Result<RelayStream, StorageError>, Vec<Bytes>, Form),
    /// Versions of keys to watch.
    Watched(Result<Vec<(Key, u64)>, StorageError>, Form),
    /// The keys of commands are locked.
    Begun(Result<Box<Begun>, StorageError>, Box<Locked>, Form),
}

impl Connection {
    /// The connection of a client that has been admitted, whose letters go to `address`.
    pub(super) fn new(common: Arc<Common>, admission: Admission, address: Address) -> Self {
        let gone = CancellationToken::new();
        let notify = address.clone();
        let wake = move || notify.messages();
        let inbox = Arc::new(Inbox::new(admission.client.id, common.settings.inbox, wake));
        let session = Session::new(admission, inbox, gone.clone());
        Self {
            parser: RequestParser::new(common.settings.request),
            address,
            input: Vec::new(),
            executed: 0,
            line: VecDeque::new(),
            first: 0,
            alone: false,
            held: None,
            link: Link::default(),
            subscription: None,
            messages: VecDeque::new(),
            waits_for_output: false,
            ended: false,
            draining: false,
            closing: false,
            _gone_when_dropped: gone.clone().drop_guard(),
            gone,
            common,
            session,
        }
    }

    /// Takes in what the client sent.
    pub(super) fn receive(&mut self, bytes: &[u8], turn: &mut Turn) {
        self.session.admission.client.is_active(turn.now.unix);
        if self.input.is_empty() {
            let executed = self.execute(bytes, 0, turn);
            self.input.extend_from_slice(&bytes[executed..]);
        } else {
            self.input.extend_from_slice(bytes);
            self.resume(turn);
        }
    }

    /// Takes in what came of the work of slot `number`.
    pub(super) fn deliver(&mut self, number: u64, done: Done, turn: &mut Turn) {
        let slot = number
            .checked_sub(self.first)
            .and_then(|at| usize::try_from(at).ok())
            .and_then(|at| self.line.get_mut(at));
        if let Some(slot) = slot {
            *slot = Slot::Ready(done);
        }
        while let Some(Slot::Ready(_)) = self.line.front() {
            if let Some(Slot::Ready(done)) = self.line.pop_front() {
                self.first += 1;
                self.finish(done, turn);
            }
        }
        self.resume(turn);
    }

    /// Goes on where it may go on: replies were sent, or messages have come.
    pub(super) fn go_on(&mut self, turn: &mut Turn) -> Result<(), End> {
        self.take_messages(turn)?;
        self.resume(turn);
        Ok(())
    }

    /// Executes what it holds, as far as it need not wait.
    fn resume(&mut self, turn: &mut Turn) {
        let input = std::mem::take(&mut self.input);
        self.executed = self.execute(&input, self.executed, turn);
        self.input = input;
        if self.executed == self.input.len() {
            self.input.clear();
            self.input.shrink_to(KEPT_BUFFER);
            self.executed = 0;
        } else if self.executed > AHEAD {
            self.input.drain(..self.executed);
            self.executed = 0;
        }
    }

    /// The client sends no more. It may still read the answers to what it sent.
    pub(super) fn end_of_input(&mut self) {
        self.ended = true;
        // A command that waits for another client would hold up the end.
        self.gone.cancel();
    }

    /// The server stops: what the client sent by now is answered.
    pub(super) fn drain(&mut self) {
        self.draining = true;
        self.gone.cancel();
    }

    /// Whether more is to be read, given that `unsent` bytes of replies wait to be sent.
    pub(super) fn wants_input(&self, unsent: usize) -> bool {
        !(self.ended || self.draining || self.closing)
            && unsent < self.common.settings.output_soft
            && (self.input.len() - self.executed < AHEAD || !self.is_blocked(unsent))
    }

    /// Whether it can go on by itself, given that `unsent` bytes of replies wait to be sent: it was
    /// held up by more.
    pub(super) fn can_go_on(&mut self, unsent: usize) -> bool {
        unsent < self.common.settings.output_soft && std::mem::take(&mut self.waits_for_output)
    }

    /// The client's address, for the log.
    pub(super) fn client(&self) -> &str {
        self.session.admission.client.address()
    }

    /// Whether everything that will be answered is answered. One that waits for messages or for
    /// another client has left with its end of input.
    pub(super) fn is_finished(&self) -> bool {
        (self.closing || self.draining || self.ended) && self.line.is_empty() && self.held.is_none()
    }

    /// Whether nothing of the client's is being done, so that its silence is its own.
    pub(super) fn is_idle(&self) -> bool {
        let listens = self.subscription.is_some()
            || self.session.is_subscribed()
            || self.session.monitoring.is_some();
        self.line.is_empty() && !listens
    }
}
