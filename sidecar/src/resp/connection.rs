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
use futures::{FutureExt as _, future};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::command::{self, Call, Outcome, Work};
use super::host::Host;
use super::metrics::Metrics;
use super::relay::{self, Link, Relayed};
use super::reply::{Protocol, Reply};
use super::request::RequestParser;
use super::session::{Replies, Session};
use super::settings::Settings;
use super::subscription::{Subscription, is_subscribing};
use super::transaction::Route;
use crate::adapter::{RelayStream, StorageError};
use crate::core::Engine;

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

/// The most reads of one connection that wait for the storage at a time.
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
    arguments: Vec<Bytes>,
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

/// A command that waits for the line to be empty.
enum Held {
    Write(Work, Form),
    /// The last is the reply that is given instead of Redis' own.
    Relay(Vec<Bytes>, Form, Option<Reply>),
    Subscribe(Vec<Bytes>, Form),
}

/// What came out of the line.
enum Done {
    Reply(Reply, Form),
    Relayed(Box<Relayed>, Form),
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

    /// Executes what has been read, as far as it need not wait.
    fn execute(&mut self) {
        let mut executed = 0;
        while !self.is_blocked() {
            if let Some(held) = self.held.take() {
                self.start(held);
                continue;
            }
            let mut arguments = std::mem::take(&mut self.arguments);
            match self.parser.next(&mut self.input, &mut arguments) {
                Ok(true) => {
                    executed += 1;
                    self.execute_one(&arguments);
                    self.arguments = arguments;
                }
                Ok(false) => {
                    self.arguments = arguments;
                    break;
                }
                Err(error) => {
                    self.common.metrics.protocol_errors.inc();
                    self.answer(Reply::err(&error.to_string()), self.form(false));
                    self.closing = true;
                }
            }
        }
        if executed > 0 {
            self.arguments.clear();
            self.common.host.clients.count_commands(executed);
            self.session.publish_last_command();
        }
    }

    /// Whether the next command has to wait.
    fn is_blocked(&self) -> bool {
        self.closing
            || self.alone
            || (self.held.is_some() && !self.line.is_empty())
            || self.line.len() >= LONGEST_LINE
            || self.output.len() >= self.common.settings.output_soft
            || self.subscription.as_ref().is_some_and(|subscription| subscription.is_waiting())
    }

    fn execute_one(&mut self, arguments: &[Bytes]) {
        let name = &arguments[0];
        let entry = command::find(name);
        self.common.metrics.count(entry);
        let skipped = self.session.replies == Replies::SkipNext;
        if skipped {
            self.session.replies = Replies::On;
        }
        if command::is_http(name) {
            self.closing = true;
            return;
        }
        if let Some(reply) = self.answer_of_subscriber(arguments) {
            return self.answer(reply, self.form(skipped));
        }
        match self.link.transaction.route(name) {
            Route::Warp => {}
            Route::Redis => {
                let form = self.form(skipped);
                self.held = Some(Held::Relay(arguments.to_vec(), form, None));
                return;
            }
            Route::Discard(reply) => {
                let discard = vec![Bytes::from_static(b"DISCARD")];
                self.held = Some(Held::Relay(discard, self.form(skipped), Some(reply)));
                return;
            }
            Route::Refused(reply) => return self.answer(reply, self.form(skipped)),
        }
        let before = self.session.protocol;
        let outcome = command::execute(
            entry,
            &mut Call {
                arguments,
                engine: &self.common.engine,
                session: &mut self.session,
                host: &self.common.host,
            },
        );
        let form = self.form(skipped);
        match outcome {
            Outcome::Reply(reply) => self.answer(reply, form),
            Outcome::Read(work) => {
                self.line.push_back(work.map(move |reply| Done::Reply(reply, form)).boxed());
            }
            Outcome::Write(work) => self.held = Some(Held::Write(work, form)),
            Outcome::Relay if is_subscribing(name) || is_monitor(name) => {
                self.held = Some(Held::Subscribe(arguments.to_vec(), form));
            }
            Outcome::Relay => self.held = Some(Held::Relay(arguments.to_vec(), form, None)),
        }
        self.closing |= self.session.closing;
        if std::mem::take(&mut self.session.reset) {
            self.link = Link::default();
            self.subscription = None;
            self.publish_state();
        } else if before != self.session.protocol
            && let Some(subscription) = self.subscription.take()
        {
            // Its messages have the form of the protocol that it was opened with.
            self.closing |= subscription.is_subscribed();
        }
    }

    /// The answer to a command that a subscriber may not send, or gets a form of its own for.
    fn answer_of_subscriber(&self, arguments: &[Bytes]) -> Option<Reply> {
        let subscription = self.subscription.as_ref()?;
        let name = &arguments[0];
        let is = |own: &str| own.as_bytes().eq_ignore_ascii_case(name);
        if is("QUIT") || is("RESET") {
            return None;
        }
        if subscription.is_monitor() {
            return Some(Reply::err("a connection in MONITOR takes QUIT and RESET only"));
        }
        let restricted =
            self.session.protocol == Protocol::Resp2 && subscription.is_subscribed();
        if !restricted || is_subscribing(name) {
            return None;
        }
        if is("PING") && arguments.len() <= 2 {
            let text = arguments.get(1).cloned().unwrap_or_default();
            return Some(Reply::Array(vec![Reply::text("pong"), Reply::Bulk(text)]));
        }
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        Some(Reply::err(&format!(
            "Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET \
             are allowed in this context"
        )))
    }

    /// How replies are sent from now on.
    fn form(&self, skipped: bool) -> Form {
        let hidden = skipped || self.session.replies != Replies::On;
        Form { protocol: self.session.protocol, hidden }
    }

    /// Sends a reply, behind those that are still to come.
    fn answer(&mut self, reply: Reply, form: Form) {
        if self.line.is_empty() {
            self.send(&reply, form);
        } else {
            self.line.push_back(future::ready(Done::Reply(reply, form)).boxed());
        }
    }

    fn send(&mut self, reply: &Reply, form: Form) {
        if !form.hidden {
            reply.encode(form.protocol, &mut self.output);
        }
    }

    /// Puts a command into the empty line.
    fn start(&mut self, held: Held) {
        let engine = Arc::clone(&self.common.engine);
        let work = match held {
            Held::Write(work, form) => work.map(move |reply| Done::Reply(reply, form)).boxed(),
            Held::Relay(arguments, form, instead) => {
                let link = std::mem::take(&mut self.link);
                let call = link.call(engine, arguments, form.protocol, self.gone.clone());
                // In a task of its own, so that it is carried through when the client leaves.
                let task = tokio::spawn(call);
                async move {
                    let mut relayed = task.await.unwrap_or_else(|error| Relayed {
                        link: Link::default(),
                        reply: Some(Reply::err(&format!("the command failed in Warp: {error}"))),
                        broken: true,
                    });
                    relayed.reply = instead.or(relayed.reply);
                    Done::Relayed(Box::new(relayed), form)
                }
                .boxed()
            }
            Held::Subscribe(arguments, form) => {
                if let Some(subscription) = &mut self.subscription {
                    subscription.send(&arguments);
                    return;
                }
                async move {
                    let stream = relay::open_stream(&engine, form.protocol).await;
                    Done::Opened(stream, arguments, form)
                }
                .boxed()
            }
        };
        self.line.push_back(work);
        self.alone = true;
    }

    /// Takes in what came out of the line.
    fn finish(&mut self, done: Done) {
        self.restart_idle();
        if self.line.is_empty() {
            self.alone = false;
        }
        match done {
            Done::Reply(reply, form) => self.send(&reply, form),
            Done::Relayed(relayed, form) => {
                self.link = relayed.link;
                self.closing |= relayed.broken;
                if let Some(reply) = relayed.reply {
                    self.send(&reply, form);
                }
                self.publish_state();
            }
            Done::Opened(Err(error), _, form) => self.send(&command::failure(&error), form),
            Done::Opened(Ok(stream), arguments, _) => {
                let mut subscription = Subscription::new(stream, is_monitor(&arguments[0]));
                subscription.send(&arguments);
                self.subscription = Some(Box::new(subscription));
            }
        }
    }

    /// Lets CLIENT LIST show transactions and subscriptions.
    fn publish_state(&self) {
        let queued = self.link.transaction.queued();
        let subscribed = self.subscription.as_ref().is_some_and(|line| line.is_subscribed());
        self.session.admission.client.with_state(|state| {
            state.queued = queued;
            state.subscribed = subscribed;
        });
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

fn is_monitor(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"MONITOR")
}
