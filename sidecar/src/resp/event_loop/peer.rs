//! A client as the loop sees it: its socket, its connection, and the replies that the socket hasn't
//! taken yet.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::{SendFlags, send};

use super::mailbox::Token;
use crate::cache::Millis;
use crate::resp::connection::Connection;

/// A client's socket, which doesn't block.
#[derive(Debug)]
pub(in crate::resp) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) stream: Stream,
    pub(super) connection: Connection,
    /// What is waited for; nothing at all when it is empty.
    pub(super) interest: EventFlags,
    /// Which of the turn's segments has its replies.
    pub(super) segment: Option<usize>,
    /// Since when it leaves replies unread, while it does.
    pub(super) stalled: Option<Millis>,
    /// When it said something last, or was answered.
    pub(super) heard: Millis,
    /// Replies that the socket hasn't taken, from `sent` on.
    unsent: Vec<u8>,
    sent: usize,
}

impl Peer {
    pub(super) fn new(stream: Stream, connection: Connection, now: Millis) -> Self {
        Self {
            stream,
            connection,
            interest: EventFlags::empty(),
            segment: None,
            stalled: None,
            heard: now,
            unsent: Vec::new(),
            sent: 0,
        }
    }

    /// How many bytes of replies wait to be sent.
    pub(super) fn unsent(&self) -> usize {
        self.unsent.len() - self.sent
    }

    /// Keeps replies until the socket takes them, behind those that it keeps already.
    pub(super) fn keep(&mut self, replies: &[u8]) {
        self.unsent.extend_from_slice(replies);
    }

    /// Sends what it keeps, as far as the socket takes it.
    pub(super) fn send(&mut self, now: Millis) -> io::Result<()> {
        while self.unsent() > 0 {
            match send(&self.stream, &self.unsent[self.sent..], SendFlags::NOSIGNAL) {
                Ok(sent) => {
                    self.sent += sent;
                    self.stalled = None;
                }
                Err(rustix::io::Errno::AGAIN) => {
                    self.stalled.get_or_insert(now);
                    return Ok(());
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.unsent = Vec::new();
        self.sent = 0;
        Ok(())
    }

    /// Has the loop wait for what is needed now. Where that is nothing, not even the client's end
    /// is told, which would be told again and again.
    pub(super) fn register(&mut self, epoll: impl AsFd, token: Token) -> io::Result<()> {
        let mut wanted = EventFlags::empty();
        wanted.set(EventFlags::IN, self.connection.wants_input(self.unsent()));
        wanted.set(EventFlags::OUT, self.unsent() > 0);
        if wanted == self.interest {
            return Ok(());
        }
        let data = EventData::new_u64(token.number());
        match (self.interest.is_empty(), wanted.is_empty()) {
            (true, _) => epoll::add(epoll, &self.stream, data, wanted),
            (false, true) => epoll::delete(epoll, &self.stream),
            (false, false) => epoll::modify(epoll, &self.stream, data, wanted),
        }?;
        self.interest = wanted;
        Ok(())
    }
}
