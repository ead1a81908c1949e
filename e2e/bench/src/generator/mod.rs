//! A closed loop on one thread: each of a few connections sends a batch of commands, waits for all
//! replies, and sends the next. Every reply is checked, and the first wrong one ends the run.

use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

mod connection;
mod dialect;
mod keys;
mod script;
mod stream;
mod tally;

pub(crate) use dialect::{Dialect, Expiry, Protocol};
pub(crate) use keys::{KEY_SIZE, Keys};
pub(crate) use script::{Script, Workload};
pub(crate) use stream::Endpoint;
pub(crate) use tally::Tally;

use crate::failure::{Failure, Outcome, Trying};
use connection::{Connection, State};
use stream::Stream;

/// A server that is silent for so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// When a run is over. What is under way then is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// After so long.
    Elapsed(Duration),
    /// After so many draws of a key.
    Drawn(u64),
}

/// Connections to one server, kept from run to run.
#[derive(Debug)]
pub(crate) struct Generator {
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    pipeline: usize,
}

/// A run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) elapsed: Duration,
    pub(crate) tally: Tally,
}

impl Generator {
    /// Connects `connections` times, to send `pipeline` commands at a time on each.
    pub(crate) fn connect(to: &Endpoint, connections: usize, pipeline: usize) -> Outcome<Self> {
        let poll = Poll::new().trying(|| "polling".to_owned())?;
        let connections = (0..connections)
            .map(|number| {
                let mut stream = Stream::connect(to)?;
                poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
                Ok(Connection::new(stream))
            })
            .collect::<std::io::Result<_>>()
            .trying(|| format!("connecting to {to}"))?;
        Ok(Self { poll, events: Events::with_capacity(1024), connections, pipeline })
    }

    /// Plays the script.
    pub(crate) fn run(&mut self, script: &mut Script, until: Until) -> Outcome<Run> {
        let mut tally = Tally::new()?;
        let begun = Instant::now();
        let mut bound = Bound::new(until, begun);
        let mut busy = 0;
        for number in 0..self.connections.len() {
            busy += usize::from(self.begin(number, script, &mut bound, begun)?);
        }
        while busy > 0 {
            self.wait()?;
            // The events are taken out, so that the connections can be borrowed beside them.
            let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
            for event in &events {
                let number = event.token().0;
                if event.is_writable() && self.connections[number].send()? == State::Waiting {
                    self.watch(number, Interest::READABLE)?;
                }
                if self.connections[number].receive(script, &mut tally)? == State::Answered {
                    busy -= usize::from(!self.begin(number, script, &mut bound, Instant::now())?);
                }
            }
            self.events = events;
        }
        for connection in &mut self.connections {
            connection.forget_missed();
        }
        Ok(Run { elapsed: begun.elapsed(), tally })
    }

    /// Lets a connection send its next batch; false if the run is over for it.
    fn begin(
        &mut self,
        number: usize,
        script: &mut Script,
        bound: &mut Bound,
        now: Instant,
    ) -> Outcome<bool> {
        let size = bound.take(self.pipeline, now);
        if size == 0 {
            return Ok(false);
        }
        if self.connections[number].begin(script, size, now)? == State::Sending {
            self.watch(number, Interest::READABLE | Interest::WRITABLE)?;
        }
        Ok(true)
    }

    fn watch(&mut self, number: usize, interests: Interest) -> Outcome {
        let stream = &mut self.connections[number].stream;
        self.poll
            .registry()
            .reregister(stream, Token(number), interests)
            .trying(|| "polling".to_owned())
    }

    fn wait(&mut self) -> Outcome {
        match self.poll.poll(&mut self.events, Some(PATIENCE)) {
            Ok(()) if self.events.is_empty() => Err(Failure::Silent(PATIENCE.as_secs())),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Ok(()),
            result => result.trying(|| "polling".to_owned()),
        }
    }
}

/// How much of a run is left.
#[derive(Clone, Copy, Debug)]
enum Bound {
    Deadline(Instant),
    Draws(u64),
}

impl Bound {
    fn new(until: Until, begun: Instant) -> Self {
        match until {
            Until::Elapsed(time) => Self::Deadline(begun + time),
            Until::Drawn(count) => Self::Draws(count),
        }
    }

    /// The draws of the next batch, `most` at most; none if the run is over.
    fn take(&mut self, most: usize, now: Instant) -> usize {
        match self {
            Self::Deadline(end) => usize::from(now < *end) * most,
            Self::Draws(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(most);
                *left -= u64::try_from(taken).unwrap_or(*left);
                taken
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A server that answers every command with `reply`, once, to a client that sends `lines`
    /// lines for each command.
    fn answering(reply: &'static str, lines: usize) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut requests = BufReader::new(stream.try_clone().unwrap());
            loop {
                for _ in 0..lines {
                    if requests.read_until(b'\n', &mut Vec::new()).unwrap_or(0) == 0 {
                        return;
                    }
                }
                if (&stream).write_all(reply.as_bytes()).is_err() {
                    return;
                }
            }
        });
        Endpoint::Tcp(port)
    }

    fn gets() -> Script {
        let dialect = Dialect::new(Protocol::Resp, 8, Expiry::Never);
        Script::new(dialect, Workload::Get, Keys::each(10))
    }

    #[test]
    fn a_run_of_so_many_draws_ends_after_exactly_so_many_replies() {
        let mut generator = Generator::connect(&answering("$-1\r\n", 5), 1, 16).unwrap();
        for draws in [1, 16, 100] {
            let run = generator.run(&mut gets(), Until::Drawn(draws)).unwrap();
            assert_eq!((run.tally.misses, run.tally.operations()), (draws, draws));
            assert_eq!(run.tally.latency.len(), draws);
        }
    }

    #[test]
    fn a_run_of_some_time_ends() {
        let mut generator = Generator::connect(&answering("$-1\r\n", 5), 1, 4).unwrap();
        let run = generator.run(&mut gets(), Until::Elapsed(Duration::from_millis(20))).unwrap();
        assert!(run.tally.operations() > 0);
    }

    #[test]
    fn a_wrong_reply_and_one_too_many_end_the_run() {
        for (reply, told) in [("-ERR no\r\n", "-ERR no"), ("$-1\r\n$-1\r\n", "nothing is due")] {
            let mut generator = Generator::connect(&answering(reply, 5), 1, 1).unwrap();
            let error = generator.run(&mut gets(), Until::Drawn(1)).unwrap_err();
            assert!(error.to_string().contains(told), "{error}");
        }
    }
}
