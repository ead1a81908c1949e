//! Letters to an event loop from whoever works for it: what came of a command's work, new clients,
//! and the server's end. Any thread posts; the loop is woken once for all letters that wait.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};

use super::peer::Stream;
use crate::resp::clients::Endpoints;
use crate::resp::connection::{Done, Form};
use crate::resp::reply::Reply;

/// Which connection of a loop: its place, and the how manieth it is there, so that a letter to one
/// that has gone reaches no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::resp) struct Token {
    pub(super) place: u32,
    pub(super) generation: u32,
}

impl Token {
    /// As a number that an event carries.
    pub(super) fn number(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.place)
    }

    /// From such a number.
    pub(super) fn from_number(number: u64) -> Self {
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or_default();
        Self { place: half(number), generation: half(number >> 32) }
    }
}

/// What a loop is told.
#[derive(Debug)]
pub(super) enum Letter {
    /// The work of this slot of the connection's line is done.
    Done(Token, u64, Done),
    /// There are messages for the connection.
    Messages(Token),
    /// A client that another loop has accepted.
    Client(Stream, Endpoints),
    /// What clients have sent is answered, and then the loop ends.
    Drain,
    /// The loop ends at once.
    End,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Mailbox {
    letters: Mutex<Vec<Letter>>,
    bell: OwnedFd,
}

impl Mailbox {
    pub(super) fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { letters: Mutex::default(), bell })
    }

    /// What becomes readable when letters have come.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    pub(super) fn post(&self, letter: Letter) {
        let first = {
            let mut letters = self.letters.lock();
            letters.push(letter);
            letters.len() == 1
        };
        if first {
            // It can't fail: the counter has room for more letters than there is memory for.
            let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        }
    }

    /// Exchanges the letters that wait for `empty`.
    pub(super) fn take(&self, empty: &mut Vec<Letter>) {
        // Before the letters are taken: one that comes in between rings again.
        let _ = rustix::io::read(&self.bell, &mut [0_u8; 8]);
        std::mem::swap(&mut *self.letters.lock(), empty);
    }
}

/// Where a connection's letters go.
#[derive(Clone, Debug)]
pub(in crate::resp) struct Address {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) token: Token,
}

impl Address {
    /// Where letters are lost.
    #[cfg(any(test, fuzzing))]
    #[allow(clippy::unwrap_used, reason = "tests end so")]
    pub(in crate::resp) fn nowhere() -> Self {
        let mailbox = Arc::new(Mailbox::new().unwrap());
        Self { mailbox, token: Token { place: 0, generation: 0 } }
    }

    /// What slot `number` of the connection's line waits for.
    pub(in crate::resp) fn promise(&self, number: u64, form: Form) -> Promise {
        Promise { address: self.clone(), number, form: Some(form) }
    }

    /// There are messages for the connection.
    pub(in crate::resp) fn messages(&self) {
        self.mailbox.post(Letter::Messages(self.token));
    }
}

/// Something that a connection waits for. Dropped without having been kept, as by a panic, it is
/// answered with an error, so that no client waits for ever.
#[derive(Debug)]
pub(in crate::resp) struct Promise {
    address: Address,
    number: u64,
    form: Option<Form>,
}

impl Promise {
    pub(in crate::resp) fn keep(mut self, done: Done) {
        self.form = None;
        self.post(done);
    }

    fn post(&self, done: Done) {
        self.address.mailbox.post(Letter::Done(self.address.token, self.number, done));
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if let Some(form) = self.form.take() {
            let reply =
                Reply::err("the command failed in Warp; what it was to write may be written");
            self.post(Done::Reply(reply, form));
        }
    }
}
