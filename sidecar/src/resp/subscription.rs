//! A line to the Redis behind Warp on which it sends what nobody asked for: the messages of the
//! channels that a client is subscribed to, or what MONITOR shows.
//!
//! Messages go on to the client as they came, whole, so that the client's other replies can stand
//! between them. A command to subscribe has as many answers as channels; a PING behind it, whose
//! reply is kept back, tells when all of them have come.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::reply::{Protocol, Reply};
use super::reply_parse::{self, NotAReply};

/// See the module.
#[derive(Debug)]
pub(super) struct Subscription<S> {
    stream: S,
    received: BytesMut,
    sending: BytesMut,
    /// Whether it shows what MONITOR shows; then there are no channels and no commands.
    is_monitor: bool,
    asked: u64,
    answered: u64,
    /// The channels and patterns, and the sharded channels, as Redis counted them last.
    channels: i64,
    sharded: i64,
}

/// Where a command goes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Route {
    /// On this line.
    Here,
    /// Where it would go without this line.
    Elsewhere,
    /// Nowhere; this is the answer.
    Refused(Reply),
}

/// The commands that such a line takes.
pub(super) fn is_subscribing(name: &[u8]) -> bool {
    ["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"]
        .iter()
        .any(|own| own.as_bytes().eq_ignore_ascii_case(name))
}

impl<S: AsyncRead + AsyncWrite + Unpin> Subscription<S> {
    /// On a line that nothing has been sent on.
    pub(super) fn new(stream: S, is_monitor: bool) -> Self {
        Self {
            stream,
            received: BytesMut::new(),
            sending: BytesMut::new(),
            is_monitor,
            asked: 0,
            answered: 0,
            channels: 0,
            sharded: 0,
        }
    }

    /// Sends a command.
    pub(super) fn send(&mut self, arguments: &[Bytes]) {
        put_command(arguments, &mut self.sending);
        if !self.is_monitor {
            self.asked += 1;
            put_command(&[Bytes::from_static(b"PING"), self.fence()], &mut self.sending);
        }
    }

    /// Whether answers to what was sent are still to come.
    pub(super) fn is_waiting(&self) -> bool {
        self.asked != self.answered
    }

    /// Whether the client is subscribed to anything.
    pub(super) fn is_subscribed(&self) -> bool {
        self.channels + self.sharded > 0
    }

    /// Whether nothing would be missed without it.
    pub(super) fn is_idle(&self) -> bool {
        !(self.is_monitor || self.is_waiting() || self.is_subscribed())
    }

    /// Where a command goes that comes after those that opened this line.
    pub(super) fn route(&self, name: &[u8], protocol: Protocol) -> Route {
        let is = |own: &str| own.as_bytes().eq_ignore_ascii_case(name);
        if is("QUIT") || is("RESET") {
            return Route::Elsewhere;
        }
        if self.is_monitor {
            return Route::Refused(Reply::err("a connection in MONITOR takes QUIT and RESET only"));
        }
        // A PING asks whether messages can still come.
        if is_subscribing(name) || (self.is_subscribed() && is("PING")) {
            return Route::Here;
        }
        if !self.is_subscribed() || protocol == Protocol::Resp3 {
            return Route::Elsewhere;
        }
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        Route::Refused(Reply::err(&format!(
            "Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET \
             are allowed in this context"
        )))
    }

    /// The next bytes for the client, which are whole replies; none of them when only the end of a
    /// command was told.
    pub(super) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Bytes>>> {
        while !self.sending.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, &self.sending) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(sent) => self.sending.advance(sent?),
                Poll::Pending => break,
            }
        }
        loop {
            let length = reply_parse::length(&self.received).map_err(not_a_reply)?;
            if let Some(length) = length {
                let frame = self.received.split_to(length).freeze();
                return Poll::Ready(Ok(self.take(frame)?));
            }
            self.received.reserve(4096);
            let received = ready!(pin!(self.stream.read_buf(&mut self.received)).poll(context))?;
            if received == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    fn take(&mut self, frame: Bytes) -> io::Result<Option<Bytes>> {
        match reply_parse::parse(&frame).map_err(not_a_reply)? {
            Reply::Bulk(text) if self.is_waiting() && text == self.fence() => {
                self.answered = self.asked;
                return Ok(None);
            }
            Reply::Array(items) | Reply::Push(items) => match items.as_slice() {
                [Reply::Bulk(_), Reply::Bulk(text)]
                    if self.is_waiting() && *text == self.fence() =>
                {
                    self.answered = self.asked;
                    return Ok(None);
                }
                [Reply::Bulk(kind), _, Reply::Integer(count)] => match kind.as_ref() {
                    b"subscribe" | b"psubscribe" | b"unsubscribe" | b"punsubscribe" => {
                        self.channels = *count;
                    }
                    b"ssubscribe" | b"sunsubscribe" => self.sharded = *count,
                    _ => {}
                },
                _ => {}
            },
            _ => {}
        }
        Ok(Some(frame))
    }

    /// The text of the PING behind the last command.
    fn fence(&self) -> Bytes {
        Bytes::from(format!("warp-fence-{}", self.asked))
    }
}

fn put_command(arguments: &[Bytes], out: &mut BytesMut) {
    out.put_slice(format!("*{}\r\n", arguments.len()).as_bytes());
    for argument in arguments {
        out.put_slice(format!("${}\r\n", argument.len()).as_bytes());
        out.put_slice(argument);
        out.put_slice(b"\r\n");
    }
}

fn not_a_reply(error: NotAReply) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use bytes::Bytes;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::Subscription;

    async fn next(subscription: &mut Subscription<DuplexStream>) -> Option<Bytes> {
        poll_fn(|context| subscription.poll_next(context)).await.unwrap()
    }

    #[tokio::test]
    async fn a_command_is_answered_when_its_fence_has_come() {
        let (ours, mut redis) = tokio::io::duplex(1024);
        let mut subscription = Subscription::new(ours, false);
        subscription.send(&[Bytes::from("SUBSCRIBE"), Bytes::from("c"), Bytes::from("d")]);
        let first = "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n";
        let second = "*3\r\n$9\r\nsubscribe\r\n$1\r\nd\r\n:2\r\n";
        let fence = "*2\r\n$4\r\npong\r\n$12\r\nwarp-fence-1\r\n";
        redis.write_all([first, second, fence].concat().as_bytes()).await.unwrap();
        assert_eq!(next(&mut subscription).await.unwrap(), first);
        assert_eq!(next(&mut subscription).await.unwrap(), second);
        assert!(subscription.is_waiting());
        assert_eq!(next(&mut subscription).await, None);
        assert!(!subscription.is_waiting() && subscription.is_subscribed());

        let mut sent = vec![0; 200];
        let length = redis.read(&mut sent).await.unwrap();
        assert_eq!(
            String::from_utf8_lossy(&sent[..length]),
            "*3\r\n$9\r\nSUBSCRIBE\r\n$1\r\nc\r\n$1\r\nd\r\n\
             *2\r\n$4\r\nPING\r\n$12\r\nwarp-fence-1\r\n",
        );
    }

    #[tokio::test]
    async fn sharded_channels_are_counted_apart() {
        let (ours, mut redis) = tokio::io::duplex(1024);
        let mut subscription = Subscription::new(ours, false);
        for (frame, subscribed) in [
            (">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n", true),
            (">3\r\n$10\r\nssubscribe\r\n$1\r\nc\r\n:1\r\n", true),
            (">3\r\n$11\r\nunsubscribe\r\n$1\r\nc\r\n:0\r\n", true),
            (">3\r\n$12\r\nsunsubscribe\r\n$1\r\nc\r\n:0\r\n", false),
            (">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n", false),
        ] {
            redis.write_all(frame.as_bytes()).await.unwrap();
            assert_eq!(next(&mut subscription).await.unwrap(), frame);
            assert_eq!(subscription.is_subscribed(), subscribed, "{frame:?}");
        }
    }

    #[tokio::test]
    async fn the_end_of_the_line_is_an_error() {
        let (ours, redis) = tokio::io::duplex(1024);
        let mut subscription = Subscription::new(ours, true);
        drop(redis);
        let end = poll_fn(|context| subscription.poll_next(context)).await;
        assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    }
}
