//! One client's connection: what it sent is executed, and the replies go out in order.
//!
//! A turn executes all that has been read, writes once, and reads again. A command that memory
//! answers is answered in its turn. Reads that wait for the storage stand in line side by side; a
//! write, or a command for the Redis behind Warp, waits until the line is empty and then stands
//! there alone, so that a client finds its own writes in the order it sent them. Nothing here
//! holds up another connection.
//!
//! What a client may take is bounded: no more is read while too many replies wait for it, or while
//! commands wait for the line and enough of what follows them has been read to notice that the
//! client is gone.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::{FuturesOrdered, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::command::Work;
use super::host::Host;
use super::metrics::Metrics;
use super::relay::{Link, Relayed};
use super::reply::{Protocol, Reply};
use super::request::{ProtocolError, RequestParser};
use super::session::Session;
use super::settings::Settings;
use super::subscription::Subscription;
use crate::adapter::{RelayStream, StorageError};
use crate::core::Engine;

mod execution;

/// What all connections of a server have in common.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) engine: Arc<Engine>,
    pub(super) host: Host,
    pub(super) metrics: Metrics,
    pub(super) settings: Settings,
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
/// How much is asked for in one read: the least, and the most unless a longer argument is on its
/// way.
const READ_SIZES: (usize, usize) = (4 * 1024, 64 * 1024);
/// A buffer that has been longer is given back when it is empty.
const KEPT_BUFFER: usize = 1024 * 1024;

/// See the module.
pub(super) struct Connection<S> {
    stream: S,
    common: Arc<Common>,
    session: Session,
    parser: RequestParser,
    /// The next command, if `parsed` says so.
    arguments: Vec<Bytes>,
    parsed: Parsed,
    input: BytesMut,
    read_size: usize,
    output: BytesMut,
    /// Whether a buffer has been long since both were empty.
    grown: bool,
    /// Replies to come, in the order of their commands.
    line: FuturesOrdered<BoxFuture<'static, Done>>,
    /// Whether the line holds a command that must be alone there.
    alone: bool,
    /// The command that waits for the line to be empty.
    held: Option<Held>,
    link: Link,
    subscription: Option<Box<Subscription<RelayStream>>>,
    /// Nothing more comes from the client.
    ended: bool,
    /// Nothing more is read, since the server stops.
    draining: bool,
    /// Nothing more is executed: what is owed goes out, and then the connection closes.
    closing: bool,
    /// Runs while the client leaves replies unread.
    stall: Option<Pin<Box<Sleep>>>,
    /// Runs from the client's last word.
    idle: Option<Pin<Box<Sleep>>>,
    /// Cancelled when nobody waits for replies any more.
    gone: CancellationToken,
    _gone_when_dropped: DropGuard,
}

/// How a reply is to be sent.
#[derive(Clone, Copy, Debug)]
struct Form {
    protocol: Protocol,
    /// Not at all: CLIENT REPLY.
    hidden: bool,
}

/// What waits for the line to be empty.
enum Held {
    Write(Work, Form),
    /// Commands that go to Redis at once.
    Relay(Vec<ForRedis>),
    Subscribe(Vec<Bytes>, Form),
}

/// A command for Redis.
struct ForRedis {
    arguments: Vec<Bytes>,
    form: Form,
    /// The reply that is given instead of Redis' own.
    instead: Option<Reply>,
}

/// What has been parsed and not been executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parsed {
    Nothing,
    /// A command, which is in [`Connection::arguments`].
    Command,
    Error(ProtocolError),
}

/// What came out of the line.
enum Done {
    Reply(Reply, Form),
    /// The last are the commands' forms, and the replies that are given instead of Redis' own.
    Relayed(Box<Relayed>, Vec<(Form, Option<Reply>)>),
    /// A line for messages, and the first command on it.
    Opened(Result<RelayStream, StorageError>, Vec<Bytes>, Form),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// The connection of a client that has been admitted.
    pub(super) fn new(stream: S, common: Arc<Common>, session: Session) -> Self {
        let gone = CancellationToken::new();
        Self {
            stream,
            parser: RequestParser::new(common.settings.request),
            arguments: Vec::new(),
            parsed: Parsed::Nothing,
            input: BytesMut::new(),
            read_size: READ_SIZES.0,
            output: BytesMut::new(),
            grown: false,
            line: FuturesOrdered::new(),
            alone: false,
            held: None,
            link: Link::default(),
            subscription: None,
            ended: false,
            draining: false,
            closing: false,
            stall: None,
            idle: common.settings.idle.map(|idle| Box::pin(tokio::time::sleep(idle))),
            _gone_when_dropped: gone.clone().drop_guard(),
            gone,
            common,
            session,
        }
    }

    /// Serves the client until it leaves, or until `stop` is cancelled and what it sent by then is
    /// answered.
    pub(super) async fn serve(mut self, stop: CancellationToken) -> Result<(), End> {
        let mut stopped = pin!(stop.cancelled_owned());
        loop {
            self.execute();
            if self.is_finished() {
                return Ok(());
            }
            poll_fn(|context| self.poll_turn(context, stopped.as_mut())).await?;
        }
    }

    /// Whether everything that will be answered is answered and sent.
    fn is_finished(&self) -> bool {
        // A client that closes its side may still read the answers to what it sent; one that
        // waits for messages or for another client has left.
        (self.closing || self.draining || self.ended)
            && self.line.is_empty()
            && self.held.is_none()
            && self.output.is_empty()
    }

    /// Waits until anything has moved.
    fn poll_turn(
        &mut self,
        context: &mut Context<'_>,
        stopped: Pin<&mut impl Future<Output = ()>>,
    ) -> Poll<Result<(), End>> {
        let mut moved = false;
        if !self.draining && stopped.poll(context).is_ready() {
            self.draining = true;
            moved = true;
        }
        if self.draining || self.ended {
            // A command that waits for another client would hold up the end.
            self.gone.cancel();
        }
        while let Poll::Ready(Some(done)) = self.line.poll_next_unpin(context) {
            self.finish(done);
            moved = true;
        }
        if self.poll_messages(context)? {
            moved = true;
        }
        self.grown |= self.output.len() > KEPT_BUFFER;
        if self.output.len() > self.common.settings.output_hard {
            return Poll::Ready(Err(End::Slow(self.output.len())));
        }
        if self.poll_write(context)? {
            moved = true;
        }
        self.shrink();
        if self.poll_read(context)? {
            moved = true;
        }
        if let Some(idle) = &mut self.idle
            && self.line.is_empty()
            && self.subscription.is_none()
            && idle.as_mut().poll(context).is_ready()
        {
            let limit = self.common.settings.idle.unwrap_or_default();
            return Poll::Ready(Err(End::Idle(limit)));
        }
        if moved { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Takes messages for a subscriber, while it reads them.
    fn poll_messages(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        let mut moved = false;
        while !(self.closing || self.draining || self.ended)
            && self.output.len() < self.common.settings.output_soft
            && let Some(subscription) = &mut self.subscription
        {
            let was_subscribed = subscription.is_subscribed();
            match subscription.poll_next(context) {
                Poll::Pending => break,
                Poll::Ready(Err(_)) if subscription.is_idle() => self.subscription = None,
                Poll::Ready(Err(error)) => return Err(End::Subscription(error)),
                Poll::Ready(Ok(frame)) => {
                    self.output.extend_from_slice(&frame.unwrap_or_default());
                    moved = true;
                    if subscription.is_subscribed() != was_subscribed {
                        self.publish_state();
                    }
                }
            }
        }
        Ok(moved)
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        let mut moved = false;
        while !self.output.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, &self.output) {
                Poll::Ready(Ok(0)) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Poll::Ready(Ok(written)) => {
                    self.output.advance(written);
                    self.stall = None;
                    moved = true;
                }
                Poll::Ready(Err(error)) => return Err(error.into()),
                Poll::Pending => {
                    let limit = self.common.settings.stall;
                    let stall =
                        self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
                    if stall.as_mut().poll(context).is_ready() {
                        return Err(End::Slow(self.output.len()));
                    }
                    return Ok(moved);
                }
            }
        }
        Ok(moved)
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        let wanted = !(self.ended || self.draining || self.closing)
            && self.output.len() < self.common.settings.output_soft
            && (self.input.len() < AHEAD || !self.is_blocked());
        if !wanted {
            return Ok(false);
        }
        // A long argument gets room as it comes, at most doubled each time: what a client
        // announces costs nothing.
        let lacking = self.parser.lacking(&self.input).min(self.input.len());
        self.input.reserve(lacking.max(self.read_size));
        let room = self.input.capacity() - self.input.len();
        match pin!(self.stream.read_buf(&mut self.input)).poll(context) {
            Poll::Pending => Ok(false),
            Poll::Ready(Err(error)) => Err(error.into()),
            Poll::Ready(Ok(0)) => {
                self.ended = true;
                Ok(true)
            }
            Poll::Ready(Ok(read)) => {
                if read == room {
                    self.read_size = (self.read_size * 2).min(READ_SIZES.1);
                } else if read < self.read_size / 4 {
                    self.read_size = (self.read_size / 2).max(READ_SIZES.0);
                }
                self.grown |= self.input.len() > KEPT_BUFFER;
                self.session.admission.client.is_active(self.common.engine.now());
                self.restart_idle();
                Ok(true)
            }
        }
    }

    fn restart_idle(&mut self) {
        if let (Some(idle), Some(limit)) = (&mut self.idle, self.common.settings.idle) {
            idle.as_mut().reset(Instant::now() + limit);
        }
    }

    /// Gives memory back when buffers that have been long are empty.
    fn shrink(&mut self) {
        if self.grown && self.input.is_empty() && self.output.is_empty() {
            self.input = BytesMut::new();
            self.output = BytesMut::new();
            self.grown = false;
        }
    }
}
