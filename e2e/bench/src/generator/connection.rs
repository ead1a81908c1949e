//! One client: sends a batch, takes the replies to it, and only then is given the next.

use std::io::ErrorKind;
use std::time::Instant;

use super::dialect::{Expected, Reply};
use super::keys::Key;
use super::script::Script;
use super::stream::Stream;
use super::tally::Tally;
use crate::failure::{Failure, Outcome, Trying};

/// More than the replies to any batch take.
const INCOMING: usize = 256 * 1024;

/// What is left to do after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The socket took only a part of the batch.
    Sending,
    /// Replies are due.
    Waiting,
    /// All replies came.
    Answered,
}

/// See the module. Its buffers are made once.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: Stream,
    outgoing: Vec<u8>,
    sent: usize,
    sent_at: Instant,
    incoming: Vec<u8>,
    filled: usize,
    expected: Vec<Expected>,
    answered: usize,
    missed: Vec<Key>,
}

impl Connection {
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            stream,
            outgoing: Vec::new(),
            sent: 0,
            sent_at: Instant::now(),
            incoming: vec![0; INCOMING],
            filled: 0,
            expected: Vec::new(),
            answered: 0,
            missed: Vec::new(),
        }
    }

    /// Sends the next batch, of `size` draws.
    pub(crate) fn begin(
        &mut self,
        script: &mut Script,
        size: usize,
        now: Instant,
    ) -> Outcome<State> {
        self.outgoing.clear();
        self.expected.clear();
        self.answered = 0;
        self.sent = 0;
        self.sent_at = now;
        script.batch(size, &mut self.missed, &mut self.outgoing, &mut self.expected);
        self.send()
    }

    /// Sends what the socket takes.
    pub(crate) fn send(&mut self) -> Outcome<State> {
        while self.sent < self.outgoing.len() {
            match self.stream.write(&self.outgoing[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(State::Sending),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).trying(|| "sending".to_owned()),
            }
        }
        Ok(State::Waiting)
    }

    /// Takes what the socket holds. A wake for nothing is no answer, not even a second one.
    pub(crate) fn receive(&mut self, script: &Script, tally: &mut Tally) -> Outcome<State> {
        let before = self.answered;
        loop {
            let room = self.incoming.len() - self.filled;
            let n = match self.stream.read(&mut self.incoming[self.filled..]) {
                Ok(0) => return Err(Failure::Closed),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).trying(|| "receiving".to_owned()),
            };
            self.filled += n;
            self.take_replies(script, tally)?;
            // A socket that gave less than there was room for is empty; the next bytes wake anew.
            if n < room {
                break;
            }
        }
        let is_answered = self.answered > before && self.answered == self.expected.len();
        Ok(if is_answered { State::Answered } else { State::Waiting })
    }

    fn take_replies(&mut self, script: &Script, tally: &mut Tally) -> Outcome {
        let (mut at, before) = (0, self.answered);
        while let Some(expected) = self.expected.get(self.answered) {
            let bytes = &self.incoming[at..self.filled];
            let Some((reply, length)) = script.dialect().reply(*expected, bytes)? else { break };
            at += length;
            self.answered += 1;
            tally.count(reply);
            if let (Reply::Miss, Expected::Value(key)) = (reply, expected) {
                self.missed.push(*key);
            }
        }
        if self.answered == self.expected.len() && at < self.filled {
            let begin = self.incoming[at..self.filled.min(at + 60)].escape_ascii().to_string();
            return Err(Failure::Reply { expected: "nothing", begin });
        }
        self.incoming.copy_within(at..self.filled, 0);
        self.filled -= at;
        tally.time(self.sent_at.elapsed(), self.answered - before);
        Ok(())
    }

    /// Forgets the misses of a run that is over.
    pub(crate) fn forget_missed(&mut self) {
        self.missed.clear();
    }
}
