//! The one connection for Warp's own commands, which carries the feed of others' writes too.
//!
//! Commands of all callers are pipelined over it. The server tells over the very same connection
//! which keys other connections wrote (CLIENT TRACKING in its broadcasting mode).
//!
//! # What the feed promises
//! Every write by another connection is either told as [`StorageEvent::Changed`] or followed by
//! [`StorageEvent::AnythingChanged`]:
//! - tracking is on before the connection takes its first command, so no value is read over a
//!   connection whose server wouldn't tell of its change;
//! - a connection that follows on a lost one puts `AnythingChanged` into the feed after tracking is
//!   on again, and before it takes its first command: it covers what was written in between;
//! - when the receiver is slower than the feed, what doesn't fit is replaced by one
//!   `AnythingChanged` behind it.
//!
//! A connection that is cut off silently is found out by a question that gets no answer: after
//! `heartbeat` + `timeout` at the latest, which bounds how long a change can stay unseen while the
//! server is to be reached again.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, sleep_until, timeout};
use tracing::{info, warn};

use super::KIND;
use super::endpoint::{Endpoint, Purpose, Stream, Wire};
use super::frame::{Found, Frames, Reply, is_push, parse, write_command};
use crate::adapter::{Access, Key, Result, StorageError, StorageEvent};

/// Calls that wait to be taken up; more wait in their own tasks.
const QUEUE: usize = 256;

/// Above these, calls wait until the server has caught up.
const MOST_PENDING: usize = 4096;
const MOST_OUTPUT: usize = 1024 * 1024;

/// Between two attempts to connect, whatever asks for them.
const LEAST_PAUSE: Duration = Duration::from_millis(100);

/// Between two attempts that nothing but the feed asks for, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Events that wait for the receiver.
const FEED: usize = 1024;

/// Commands that are sent in one piece, so that no other caller's come in between.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    bytes: BytesMut,
    replies: usize,
}

impl Pipeline {
    /// Adds a command.
    pub(super) fn add<A: AsRef<[u8]>>(&mut self, args: &[A]) {
        write_command(args, &mut self.bytes);
        self.replies += 1;
    }
}

/// The callers' end.
pub(super) struct Link {
    requests: mpsc::Sender<Request>,
    /// Until the first call.
    idle: Mutex<Option<Driver>>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

struct Request {
    pipeline: Pipeline,
    access: Access,
    answer: oneshot::Sender<Result<Vec<Reply>>>,
}

/// The other end, a task: connects, and connects again.
struct Driver {
    endpoint: Arc<Endpoint>,
    requests: mpsc::Receiver<Request>,
    feed: Feed,
    timeout: Duration,
    heartbeat: Duration,
}

impl Link {
    /// A link that connects at its first call, and from then on stays connected by itself until it
    /// is dropped; with its feed.
    pub(super) fn new(
        endpoint: Arc<Endpoint>,
        timeout: Duration,
        heartbeat: Duration,
    ) -> (Self, mpsc::Receiver<StorageEvent>) {
        let (requests, received) = mpsc::channel(QUEUE);
        let (events, feed) = mpsc::channel(FEED);
        let driver = Driver {
            endpoint,
            requests: received,
            feed: Feed { events, behind: false },
            timeout,
            heartbeat,
        };
        (Self { requests, idle: Mutex::new(Some(driver)) }, feed)
    }

    /// The replies to `pipeline`, errors among them. Takes at most the timeouts of connecting and
    /// of answering.
    pub(super) async fn call(&self, access: Access, pipeline: Pipeline) -> Result<Vec<Reply>> {
        if let Some(driver) = self.idle.lock().take() {
            tokio::spawn(driver.run());
        }
        let (answer, answered) = oneshot::channel();
        let request = Request { pipeline, access, answer };
        let gone = |_| never_sent("the connection was closed");
        self.requests.send(request).await.map_err(|_| never_sent("the connection was closed"))?;
        answered.await.map_err(gone)?
    }

    /// The reply to one command; an error reply is a refusal in the server's words.
    pub(super) async fn ask<A: AsRef<[u8]>>(&self, access: Access, args: &[A]) -> Result<Reply> {
        let mut pipeline = Pipeline::default();
        pipeline.add(args);
        match self.call(access, pipeline).await?.pop() {
            Some(Reply::Error(words)) => Err(StorageError::Refused(words)),
            Some(reply) => Ok(reply),
            None => Err(StorageError::no_answer(KIND, access, "the reply is missing")),
        }
    }
}

fn never_sent(cause: impl Into<String>) -> StorageError {
    StorageError::Unavailable { kind: KIND, cause: cause.into() }
}

/// What others wrote, to whoever listens.
struct Feed {
    events: mpsc::Sender<StorageEvent>,
    /// Whether something didn't fit, and is owed as [`StorageEvent::AnythingChanged`].
    behind: bool,
}

impl Feed {
    fn tell(&mut self, event: StorageEvent) {
        if !self.behind {
            self.behind =
                matches!(self.events.try_send(event), Err(mpsc::error::TrySendError::Full(_)));
        }
    }

    /// Pays what is owed as soon as there is room.
    async fn catch_up(&mut self) {
        if let Ok(room) = self.events.reserve().await {
            room.send(StorageEvent::AnythingChanged);
        }
        self.behind = false;
    }
}

impl Driver {
    async fn run(mut self) {
        let (mut was_connected, mut failing) = (false, false);
        let mut pause = LEAST_PAUSE;
        loop {
            // The feed wants a connection as soon as there has been one: values may be cached.
            let asked = if was_connected {
                let pause = pause.mul_f64(rand::random_range(0.5..1.0));
                timeout(pause, self.requests.recv()).await
            } else {
                Ok(self.requests.recv().await)
            };
            let first = match asked {
                Ok(None) => return,
                Ok(Some(request)) => Some(request),
                Err(_) => None,
            };
            let cause = match self.endpoint.connect(Purpose::Link).await {
                Ok(wire) => {
                    if was_connected {
                        self.feed.tell(StorageEvent::AnythingChanged);
                    }
                    if failing {
                        info!("redis is connected again");
                    }
                    (was_connected, failing, pause) = (true, false, LEAST_PAUSE);
                    match self.serve(wire, first).await {
                        Some(cause) => cause,
                        None => return,
                    }
                }
                Err(cause) => {
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    let waiting = first.into_iter();
                    let waiting =
                        waiting.chain(std::iter::from_fn(|| self.requests.try_recv().ok()));
                    for request in waiting {
                        // A caller that has gone away wants no answer.
                        let _ = request.answer.send(Err(never_sent(&cause)));
                    }
                    cause
                }
            };
            if !failing {
                warn!(%cause, server = ?self.endpoint, "redis is away");
            }
            failing = true;
            sleep(LEAST_PAUSE).await;
        }
    }

    /// Serves calls over one connection until it ends; why it did, or `None` when nobody can call
    /// any more.
    async fn serve(&mut self, wire: Wire, first: Option<Request>) -> Option<String> {
        let Wire { stream, input, frames } = wire;
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut session = Session::new(input, frames, self.timeout, self.heartbeat);
        if let Some(request) = first {
            session.take(request);
        }
        let cause = loop {
            let (must_write, wake_at) = (session.must_write(), session.wake_at());
            let result = tokio::select! {
                request = self.requests.recv(), if session.has_room() => match request {
                    None => return None,
                    Some(request) => {
                        session.take(request);
                        while session.has_room() && let Ok(request) = self.requests.try_recv() {
                            session.take(request);
                        }
                        Ok(())
                    }
                },
                sent = write(&mut writer, &mut session.output), if must_write => {
                    sent.map(|sent| session.sent(sent)).map_err(|error| error.to_string())
                }
                read = read(&mut reader, &mut session.input) => match read {
                    Ok(()) => session.hear(&mut self.feed),
                    Err(error) => Err(error.to_string()),
                },
                () = sleep_until(wake_at.into()) => session.wake(),
                () = self.feed.catch_up(), if self.feed.behind => Ok(()),
            };
            if let Err(cause) = result {
                break cause;
            }
        };
        session.end(&cause);
        Some(cause)
    }
}

async fn write(writer: &mut WriteHalf<Stream>, output: &mut BytesMut) -> io::Result<usize> {
    if output.is_empty() {
        writer.flush().await.map(|()| 0)
    } else {
        writer.write_buf(output).await
    }
}

async fn read(reader: &mut ReadHalf<Stream>, input: &mut BytesMut) -> io::Result<()> {
    match reader.read_buf(input).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// What is under way over one connection; no I/O.
struct Session {
    input: BytesMut,
    frames: Frames,
    output: BytesMut,
    /// Bytes were written and not flushed.
    unflushed: bool,
    /// How many bytes were ever put into the output, and how many of them were written.
    accepted: u64,
    written: u64,
    /// In the order in which the server answers.
    pending: VecDeque<Pending>,
    heard: Instant,
    timeout: Duration,
    heartbeat: Duration,
}

struct Pending {
    /// Where its bytes begin in the output.
    begin: u64,
    deadline: Instant,
    missing: usize,
    replies: Vec<Reply>,
    /// A reply was longer than the limit.
    too_long: bool,
    access: Access,
    /// `None` for the connection's own question whether the server is there.
    answer: Option<oneshot::Sender<Result<Vec<Reply>>>>,
}

impl Session {
    fn new(input: BytesMut, frames: Frames, timeout: Duration, heartbeat: Duration) -> Self {
        Self {
            input,
            frames,
            output: BytesMut::new(),
            unflushed: false,
            accepted: 0,
            written: 0,
            pending: VecDeque::new(),
            heard: Instant::now(),
            timeout,
            heartbeat,
        }
    }

    fn has_room(&self) -> bool {
        self.pending.len() < MOST_PENDING && self.output.len() < MOST_OUTPUT
    }

    fn must_write(&self) -> bool {
        self.unflushed || !self.output.is_empty()
    }

    fn take(&mut self, request: Request) {
        let Request { pipeline, access, answer } = request;
        self.push(&pipeline.bytes, pipeline.replies, access, Some(answer));
    }

    fn push(
        &mut self,
        bytes: &[u8],
        replies: usize,
        access: Access,
        answer: Option<oneshot::Sender<Result<Vec<Reply>>>>,
    ) {
        self.pending.push_back(Pending {
            begin: self.accepted,
            deadline: Instant::now() + self.timeout,
            missing: replies,
            replies: Vec::with_capacity(replies),
            too_long: false,
            access,
            answer,
        });
        self.accepted += bytes.len() as u64;
        self.output.extend_from_slice(bytes);
    }

    fn sent(&mut self, bytes: usize) {
        self.written += bytes as u64;
        self.unflushed = bytes > 0;
    }

    /// When there is something to do if nothing is heard.
    fn wake_at(&self) -> Instant {
        self.pending.front().map_or(self.heard + self.heartbeat, |pending| pending.deadline)
    }

    fn wake(&mut self) -> std::result::Result<(), String> {
        if self.pending.is_empty() {
            self.push(b"*1\r\n$4\r\nPING\r\n", 1, Access::Read, None);
            return Ok(());
        }
        // Answers come in order: the connection is good for none of the later ones either.
        Err(format!("no answer within {:.1} s", self.timeout.as_secs_f32()))
    }

    /// Hands on what has been read.
    fn hear(&mut self, feed: &mut Feed) -> std::result::Result<(), String> {
        self.heard = Instant::now();
        let words = |error: super::frame::Malformed| error.to_string();
        while let Some(found) = self.frames.next(&mut self.input).map_err(words)? {
            match found {
                Found::Frame(frame) if is_push(&frame) => {
                    if let Some(event) = invalidation(parse(&frame).map_err(words)?) {
                        feed.tell(event);
                    }
                }
                Found::Frame(frame) => self.answer(Some(parse(&frame).map_err(words)?))?,
                // Whichever keys it named.
                Found::TooLong { push: true } => feed.tell(StorageEvent::AnythingChanged),
                Found::TooLong { push: false } => self.answer(None)?,
            }
        }
        Ok(())
    }

    /// Gives a reply (`None` if it was too long) to the call that is first in line.
    fn answer(&mut self, reply: Option<Reply>) -> std::result::Result<(), String> {
        let Some(pending) = self.pending.front_mut() else {
            return Err("the server answers what nobody asked".to_owned());
        };
        // The server was made a replica: whoever is the master now is behind the same name, or
        // will be.
        let demoted = matches!(&reply, Some(Reply::Error(words)) if words.starts_with("READONLY"));
        pending.missing -= 1;
        pending.too_long |= reply.is_none();
        pending.replies.extend(reply);
        if pending.missing == 0
            && let Some(Pending { answer: Some(answer), replies, too_long, .. }) =
                self.pending.pop_front()
        {
            let result = if too_long { Err(super::reply_too_long()) } else { Ok(replies) };
            // A caller that has gone away wants no answer.
            let _ = answer.send(result);
        }
        if demoted { Err("the server is a replica".to_owned()) } else { Ok(()) }
    }

    /// Tells everybody who still waits.
    fn end(self, cause: &str) {
        for pending in self.pending {
            let error = if pending.begin < self.written {
                StorageError::no_answer(KIND, pending.access, cause)
            } else {
                never_sent(cause)
            };
            if let Some(answer) = pending.answer {
                let _ = answer.send(Err(error));
            }
        }
    }
}

/// The event in a push, if it is one of tracking's.
fn invalidation(push: Reply) -> Option<StorageEvent> {
    let Reply::Array(mut parts) = push else { return None };
    if parts.len() != 2 || parts[0].text().is_none_or(|kind| kind != "invalidate") {
        return None;
    }
    match parts.pop() {
        Some(Reply::Array(keys)) => {
            let text = |key| match key {
                Reply::Text(key) => Some(key),
                _ => None,
            };
            Some(StorageEvent::Changed(keys.into_iter().filter_map(text).collect::<Vec<Key>>()))
        }
        // After FLUSHALL and FLUSHDB.
        Some(Reply::Nil) => Some(StorageEvent::AnythingChanged),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn session() -> Session {
        Session::new(
            BytesMut::new(),
            Frames::new(1024),
            Duration::from_secs(5),
            Duration::from_secs(2),
        )
    }

    fn feed(room: usize) -> (Feed, mpsc::Receiver<StorageEvent>) {
        let (events, receiver) = mpsc::channel(room);
        (Feed { events, behind: false }, receiver)
    }

    fn ask(
        session: &mut Session,
        access: Access,
        commands: usize,
    ) -> oneshot::Receiver<Result<Vec<Reply>>> {
        let mut pipeline = Pipeline::default();
        for _ in 0..commands {
            pipeline.add(&["PING"]);
        }
        let (answer, answered) = oneshot::channel();
        session.take(Request { pipeline, access, answer });
        answered
    }

    #[test]
    fn replies_go_to_their_calls_in_order_around_pushes() {
        let (mut session, (mut feed, mut events)) = (session(), feed(8));
        let mut one = ask(&mut session, Access::Read, 1);
        let mut two = ask(&mut session, Access::Read, 2);
        session.input.extend_from_slice(
            b"+1\r\n>2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n+2\r\n>2\r\n+message\r\n+x\r\n:3\r\n",
        );
        session.hear(&mut feed).unwrap();
        let text = |text: &'static str| Reply::Text(Bytes::from_static(text.as_bytes()));
        assert_eq!(one.try_recv().unwrap(), Ok(vec![text("1")]));
        assert_eq!(two.try_recv().unwrap(), Ok(vec![text("2"), Reply::Integer(3)]));
        assert_eq!(events.try_recv(), Ok(StorageEvent::Changed(vec![Bytes::from_static(b"k")])));
        events.try_recv().unwrap_err();
    }

    #[test]
    fn a_broken_connection_leaves_open_only_what_was_written() {
        let mut session = session();
        let mut written = ask(&mut session, Access::Write, 1);
        let mut read = ask(&mut session, Access::Read, 1);
        let mut unwritten = ask(&mut session, Access::Write, 1);
        let whole = u64::try_from(session.output.len()).unwrap();
        session.written = whole / 3 + 1;
        session.end("cut");
        assert!(matches!(written.try_recv().unwrap(), Err(StorageError::Unknown { .. })));
        assert!(matches!(read.try_recv().unwrap(), Err(StorageError::Unavailable { .. })));
        assert!(matches!(unwritten.try_recv().unwrap(), Err(StorageError::Unavailable { .. })));
    }

    #[test]
    fn silence_is_questioned_and_then_ends_the_connection() {
        let mut session = session();
        assert_eq!(session.wake_at(), session.heard + session.heartbeat);
        session.wake().unwrap();
        assert_eq!(session.output, "*1\r\n$4\r\nPING\r\n");
        assert!(session.wake().unwrap_err().contains("no answer"));
    }

    #[test]
    fn a_reply_that_is_too_long_fails_its_call_alone() {
        let (mut session, (mut feed, mut events)) = (session(), feed(1));
        let mut long = ask(&mut session, Access::Read, 1);
        let mut short = ask(&mut session, Access::Read, 1);
        for head in ["$5000\r\n", ">2\r\n+invalidate\r\n*1\r\n$5000\r\n"] {
            session.input.extend_from_slice(head.as_bytes());
            session.input.extend_from_slice(&[b'x'; 5000]);
            session.input.extend_from_slice(b"\r\n");
        }
        session.input.extend_from_slice(b"+OK\r\n");
        session.hear(&mut feed).unwrap();
        assert_eq!(events.try_recv(), Ok(StorageEvent::AnythingChanged));
        assert!(matches!(long.try_recv().unwrap(), Err(StorageError::Refused(_))));
        assert!(short.try_recv().unwrap().is_ok());
    }

    #[test]
    fn a_replica_is_left_after_its_refusal() {
        let (mut session, (mut feed, _events)) = (session(), feed(1));
        let mut write = ask(&mut session, Access::Write, 1);
        session
            .input
            .extend_from_slice(b"-READONLY You can't write against a read only replica.\r\n");
        assert!(session.hear(&mut feed).unwrap_err().contains("replica"));
        assert!(matches!(write.try_recv().unwrap().unwrap()[0], Reply::Error(_)));
    }

    #[tokio::test]
    async fn what_a_slow_receiver_misses_is_told_as_anything() {
        let (mut feed, mut events) = feed(2);
        let key = |at: u8| StorageEvent::Changed(vec![Bytes::from(vec![at])]);
        for at in 0..5 {
            feed.tell(key(at));
        }
        assert_eq!(events.recv().await, Some(key(0)));
        assert!(feed.behind);
        feed.catch_up().await;
        assert_eq!(events.recv().await, Some(key(1)));
        assert_eq!(events.recv().await, Some(StorageEvent::AnythingChanged));
        feed.tell(key(9));
        assert_eq!(events.recv().await, Some(key(9)));
    }
}
