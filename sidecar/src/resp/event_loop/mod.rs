//! The thread that serves clients: it waits for their sockets, reads, executes and writes.
//!
//! A turn has four parts. *Wait* until sockets are readable, or letters have come. *Read* from all
//! readable sockets at once. *Execute* what was read, connection by connection; replies go one
//! behind the other into one buffer. *Write* each connection's part of it, all at once. A command
//! that memory answers never leaves the turn; what has to wait for the storage runs on the runtime
//! and comes back as a letter, so nothing here waits for anything but sockets.
//!
//! A connection belongs to one loop for its life, and a loop to one thread.

use std::os::fd::{AsFd as _, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use std::{io, mem};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use smallvec::SmallVec;

use super::clients::Endpoints;
use super::connection::{Common, Connection, End, Turn};
use super::listener::Listener;
use crate::cache::Millis;
use crate::metrics::latency;

mod aio;
mod batch_io;
mod mailbox;
mod peer;
mod peers;

use batch_io::{BatchIo, MOST};
pub(super) use mailbox::{Address, Token};
use mailbox::{Letter, Mailbox};
use peer::Peer;
pub(super) use peer::Stream;
use peers::Peers;

/// How much is read from a socket at a time.
const CHUNK: usize = 16 * 1024;
/// The most events of a turn.
const EVENTS: usize = 256;
/// How often a loop looks for clients that leave replies unread or are silent, in milliseconds.
const TICK: Millis = 100;
/// A turn's replies take this much memory between turns at most.
const KEPT_OUTPUT: usize = 64 * 1024;

/// The mailbox's events. Listeners' have the numbers below it, and connections' those of their
/// tokens, which never reach so far.
const BELL: u64 = u64::MAX;

/// See the module.
#[derive(Debug)]
pub(super) struct EventLoop {
    common: Arc<Common>,
    epoll: OwnedFd,
    mailbox: Arc<Mailbox>,
    listeners: Vec<Listener>,
    /// The mailboxes of all loops, which new clients go to by turns.
    loops: Vec<Arc<Mailbox>>,
    next_loop: usize,
    /// Until when nobody is let in, because there was no room for another connection.
    resting: Option<Millis>,
    peers: Peers,
    draining: bool,
    turn: Turn,
    batch_io: BatchIo,
    chunks: Vec<u8>,
    /// Replies to be written at the end of the turn.
    segments: Vec<Segment>,
    /// Connections whose state is to be looked at at the end of the turn.
    touched: Vec<Token>,
    /// Connections that can go on without anything having come.
    again: Vec<Token>,
    letters: Vec<Letter>,
    /// Whether a client leaves replies unread.
    stalled: bool,
    next_tick: Millis,
}

/// A connection's part of a turn's replies.
#[derive(Clone, Copy, Debug)]
struct Segment {
    token: Token,
    start: usize,
    end: usize,
}

impl EventLoop {
    /// A loop without listeners, among `loops`, the first of which is its own.
    pub(super) fn new(common: Arc<Common>) -> io::Result<Self> {
        let turn = Turn::new(&common.engine);
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mailbox = Arc::new(Mailbox::new()?);
        epoll::add(&epoll, mailbox.bell(), EventData::new_u64(BELL), EventFlags::IN)?;
        Ok(Self {
            common,
            epoll,
            loops: vec![Arc::clone(&mailbox)],
            mailbox,
            listeners: Vec::new(),
            next_loop: 0,
            resting: None,
            peers: Peers::default(),
            draining: false,
            next_tick: turn.now.age + TICK,
            turn,
            batch_io: BatchIo::new(),
            chunks: vec![0; MOST * CHUNK],
            segments: Vec::new(),
            touched: Vec::new(),
            again: Vec::new(),
            letters: Vec::new(),
            stalled: false,
        })
    }

    /// What ends it.
    pub(super) fn stop(&self) -> Stop {
        Stop { mailbox: Arc::clone(&self.mailbox) }
    }

    /// It lets in who connects to `listeners`, for itself and by turns for the `others`.
    pub(super) fn listen(&mut self, listeners: Vec<Listener>, others: &[Self]) -> io::Result<()> {
        self.loops.extend(others.iter().map(|other| Arc::clone(&other.mailbox)));
        self.listeners = listeners;
        self.watch_listeners()
    }

    fn watch_listeners(&self) -> io::Result<()> {
        for (listener, number) in self.listeners.iter().zip(1..) {
            let data = EventData::new_u64(BELL - number);
            epoll::add(&self.epoll, listener, data, EventFlags::IN)?;
        }
        Ok(())
    }

    /// Serves until it is stopped.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS);
        while !(self.draining && self.peers.is_empty()) {
            events.clear();
            let timeout = self.timeout();
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                timeout.as_ref(),
            ) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if !self.turn(&events) {
                break;
            }
        }
        Ok(())
    }

    /// How long there is nothing to do unless something comes; `None` is for ever.
    fn timeout(&self) -> Option<Timespec> {
        let timed = self.stalled || self.resting.is_some() || self.common.settings.idle.is_some();
        let milliseconds = match (self.again.is_empty(), timed) {
            (false, _) => 0,
            (true, true) => TICK,
            (true, false) => return None,
        };
        Some(Timespec { tv_sec: 0, tv_nsec: i64::try_from(milliseconds * 1_000_000).unwrap_or(0) })
    }

    /// One turn; whether there will be another.
    fn turn(&mut self, events: &[Event]) -> bool {
        self.turn.now = self.common.engine.now();
        self.common.engine.refresh(&mut self.turn.view);
        let mut again = mem::take(&mut self.again);
        for token in again.drain(..) {
            self.serve(token, Connection::go_on);
        }
        // What goes on in this turn has its place in the next.
        self.again = again;
        let mut readable: SmallVec<[Token; EVENTS]> = SmallVec::new();
        for event in events {
            match event.data.u64() {
                BELL => {
                    if !self.read_letters() {
                        return false;
                    }
                }
                number if BELL - number <= self.listeners.len() as u64 => {
                    self.accept(usize::try_from(BELL - number - 1).unwrap_or(usize::MAX));
                }
                number => {
                    let token = Token::from_number(number);
                    let peer = self.peers.get(token);
                    let reads = peer.is_some_and(|peer| peer.interest.contains(EventFlags::IN));
                    if reads { readable.push(token) } else { self.touched.push(token) }
                }
            }
        }
        for some in readable.chunks(MOST) {
            self.receive(some);
        }
        self.turn.settle(&self.common.metrics);
        self.note_length();
        self.send();
        let mut touched = mem::take(&mut self.touched);
        for token in touched.drain(..) {
            self.settle(token);
        }
        self.touched = touched;
        self.turn.out.clear();
        self.turn.out.shrink_to(KEPT_OUTPUT);
        if self.turn.now.age >= self.next_tick {
            self.tick();
        }
        true
    }

    /// Takes note of a turn that took long to execute, while somebody wants to know.
    fn note_length(&self) {
        let latency = self.common.engine.latency();
        if latency.threshold() > 0 {
            let now = self.common.engine.now();
            let took = Duration::from_millis(now.age.saturating_sub(self.turn.now.age));
            latency.note(latency::Event::EventLoop, took, now.unix);
        }
    }

    /// Does what the letters say; whether the loop goes on.
    fn read_letters(&mut self) -> bool {
        let mut letters = mem::take(&mut self.letters);
        self.mailbox.take(&mut letters);
        let mut goes_on = true;
        for letter in letters.drain(..) {
            match letter {
                Letter::Done(token, number, done) => self.serve(token, |connection, turn| {
                    connection.deliver(number, done, turn);
                    connection.take_messages(turn)
                }),
                Letter::Messages(token) => self.serve(token, Connection::go_on),
                Letter::Client(stream, ends) => self.admit(stream, ends),
                Letter::Drain => self.drain(),
                Letter::End => goes_on = false,
            }
        }
        self.letters = letters;
        goes_on
    }

    /// Reads from connections that have something to read, and executes it.
    fn receive(&mut self, readable: &[Token]) {
        let Self { peers, batch_io, chunks, .. } = self;
        // A letter of this turn may have closed one: each chunk must be its own reader's.
        let (readable, sockets): (SmallVec<[Token; MOST]>, SmallVec<[_; MOST]>) = readable
            .iter()
            .filter_map(|token| Some((*token, peers.get(*token)?.stream.as_fd())))
            .unzip();
        let moved: SmallVec<[_; MOST]> =
            batch_io.read(sockets.into_iter(), chunks, CHUNK).iter().copied().collect();
        // After the reading: what a stopped process is sent is judged by the time at which it goes
        // on.
        self.turn.now = self.common.engine.now();
        let chunks = mem::take(&mut self.chunks);
        for ((token, moved), chunk) in readable.iter().zip(moved).zip(chunks.chunks(CHUNK)) {
            match moved {
                Ok(0) => {
                    if let Some(peer) = self.peers.get_mut(*token) {
                        peer.connection.end_of_input();
                    }
                    self.touched.push(*token);
                }
                Ok(read) => {
                    self.heard(*token);
                    self.serve(*token, |connection, turn| {
                        connection.receive(&chunk[..read], turn);
                        Ok(())
                    });
                }
                Err(Errno::AGAIN) => self.touched.push(*token),
                Err(error) => self.close(*token, Err(End::Broken(error.into()))),
            }
        }
        self.chunks = chunks;
    }

    fn heard(&mut self, token: Token) {
        if let Some(peer) = self.peers.get_mut(token) {
            peer.heard = self.turn.now.age;
        }
    }

    /// Gives a connection its turn, and keeps its replies for the turn's end.
    fn serve(
        &mut self,
        token: Token,
        work: impl FnOnce(&mut Connection, &mut Turn) -> Result<(), End>,
    ) {
        let Self { peers, turn, segments, common, .. } = self;
        let Some(peer) = peers.get_mut(token) else { return };
        // The replies of the same turn that are not written yet come before these.
        if let Some(earlier) = peer.segment.take() {
            let Segment { start, end, .. } = segments[earlier];
            peer.keep(&turn.out[start..end]);
            segments[earlier].end = start;
        }
        let start = turn.begin(peer.unsent());
        // A fault in one client's command ends that client and no other.
        let served = catch_unwind(AssertUnwindSafe(|| work(&mut peer.connection, turn)));
        let waiting = turn.waiting();
        let served = match served {
            Err(_) => Err(End::Broken(io::Error::other("a fault in Warp"))),
            Ok(Ok(())) if waiting > common.settings.output_hard => Err(End::Slow(waiting)),
            Ok(served) => served,
        };
        if served.is_err() {
            turn.out.truncate(start);
            return self.close(token, served);
        }
        let end = turn.out.len();
        if peer.unsent() > 0 {
            peer.keep(&turn.out[start..]);
            turn.out.truncate(start);
        } else if end > start {
            peer.segment = Some(segments.len());
            segments.push(Segment { token, start, end });
        }
        self.touched.push(token);
    }

    /// Writes the turn's replies.
    fn send(&mut self) {
        let segments = mem::take(&mut self.segments);
        for some in segments.chunks(MOST) {
            let Self { peers, batch_io, turn, .. } = self;
            let (written, sockets): (SmallVec<[Segment; MOST]>, SmallVec<[_; MOST]>) = some
                .iter()
                .filter(|segment| segment.end > segment.start)
                .filter_map(|segment| Some((*segment, peers.get(segment.token)?.stream.as_fd())))
                .unzip();
            let bytes = written.iter().map(|segment| &turn.out[segment.start..segment.end]);
            let moved: SmallVec<[_; MOST]> =
                batch_io.write(sockets.into_iter().zip(bytes)).iter().copied().collect();
            for (segment, moved) in written.into_iter().zip(moved) {
                let Some(peer) = self.peers.get_mut(segment.token) else { continue };
                peer.segment = None;
                match moved {
                    Ok(sent) => peer.keep(&self.turn.out[segment.start + sent..segment.end]),
                    Err(Errno::AGAIN) => peer.keep(&self.turn.out[segment.start..segment.end]),
                    Err(error) => self.close(segment.token, Err(End::Broken(error.into()))),
                }
            }
        }
        self.segments = segments;
        self.segments.clear();
    }

    /// Decides what a connection waits for after its turn.
    fn settle(&mut self, token: Token) {
        let Some(peer) = self.peers.get_mut(token) else { return };
        if peer.unsent() > 0 {
            if let Err(error) = peer.send(self.turn.now.age) {
                return self.close(token, Err(End::Broken(error)));
            }
            self.stalled |= peer.stalled.is_some();
        }
        if peer.unsent() == 0 && peer.connection.is_finished() {
            return self.close(token, Ok(()));
        }
        if peer.connection.can_go_on(peer.unsent()) {
            self.again.push(token);
        }
        if let Err(error) = peer.register(&self.epoll, token) {
            self.close(token, Err(End::Broken(error)));
        }
    }

    fn close(&mut self, token: Token, ended: Result<(), End>) {
        let Some(peer) = self.peers.remove(token) else { return };
        self.common.metrics.connections.dec();
        let client = peer.connection.client();
        match ended {
            Err(end @ End::Slow(_)) => {
                self.common.metrics.slow_clients.inc();
                tracing::warn!(client, "disconnected: {end}");
            }
            Err(end) => tracing::debug!(client, "disconnected: {end}"),
            Ok(()) => {}
        }
    }

    /// Lets in who waits at a listener.
    fn accept(&mut self, listener: usize) {
        while let Some(accepted) = self.listeners.get(listener).map(Listener::accept) {
            match accepted {
                Ok((stream, ends)) => {
                    self.next_loop = (self.next_loop + 1) % self.loops.len();
                    if self.next_loop == 0 {
                        self.admit(stream, ends);
                    } else {
                        self.loops[self.next_loop].post(Letter::Client(stream, ends));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // It left before it was let in.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return self.rest(&error),
            }
        }
    }

    /// There is no room for another connection: accepting rests until the next tick.
    fn rest(&mut self, error: &io::Error) {
        tracing::error!(%error, "connections can't be accepted; trying again every {TICK} ms");
        for listener in &self.listeners {
            // It is watched, so it can be left.
            let _ = epoll::delete(&self.epoll, listener);
        }
        self.resting = Some(self.turn.now.age);
    }

    fn admit(&mut self, stream: Stream, ends: Endpoints) {
        if self.draining {
            return;
        }
        let Some(admission) = self.common.host.clients.admit(ends, self.turn.now.unix) else {
            let refusal = b"-ERR max number of clients reached\r\n";
            // It may have gone already, or not read; neither is worth waiting for.
            let _ = rustix::net::send(&stream, refusal, rustix::net::SendFlags::NOSIGNAL);
            return;
        };
        self.common.metrics.connections_total.inc();
        self.common.metrics.connections.inc();
        let (common, mailbox) = (Arc::clone(&self.common), Arc::clone(&self.mailbox));
        let now = self.turn.now.age;
        let token = self.peers.insert(|token| {
            let address = Address { mailbox, token };
            Peer::new(stream, Connection::new(common, admission, address), now)
        });
        self.touched.push(token);
    }

    /// Lets nobody in any more, and lets go who has been answered.
    fn drain(&mut self) {
        self.draining = true;
        self.listeners.clear();
        self.resting = None;
        for (token, peer) in self.peers.iter_mut() {
            peer.connection.drain();
            self.touched.push(token);
        }
    }

    /// Looks after clients by the clock.
    fn tick(&mut self) {
        let now = self.turn.now.age;
        self.next_tick = now + TICK;
        let settings = &self.common.settings;
        let passed = |since: Millis, limit: Duration| {
            u128::from(now.saturating_sub(since)) >= limit.as_millis()
        };
        self.stalled = false;
        let mut ended = Vec::new();
        for (token, peer) in self.peers.iter_mut() {
            self.stalled |= peer.stalled.is_some();
            if peer.stalled.is_some_and(|since| passed(since, settings.stall)) {
                ended.push((token, End::Slow(peer.unsent())));
            } else if let Some(limit) = settings.idle
                && peer.connection.is_idle()
                && passed(peer.heard, limit)
            {
                ended.push((token, End::Idle(limit)));
            }
        }
        for (token, end) in ended {
            self.close(token, Err(end));
        }
        if self.resting.take().is_some() && self.watch_listeners().is_err() {
            self.resting = Some(now);
        }
    }
}

/// Ends a loop.
#[derive(Clone, Debug)]
pub(super) struct Stop {
    mailbox: Arc<Mailbox>,
}

impl Stop {
    /// When what clients have sent is answered.
    pub(super) fn drain(&self) {
        self.mailbox.post(Letter::Drain);
    }

    /// At once.
    pub(super) fn end(&self) {
        self.mailbox.post(Letter::End);
    }
}
