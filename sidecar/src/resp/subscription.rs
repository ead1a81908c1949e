//! A line to the Redis behind Warp on which it sends what nobody asked for: the messages of the
//! channels that a client is subscribed to, or what MONITOR shows.
//!
//! Messages go on to the client as they came, whole, so that the client's other replies can stand
//! between them. A command to subscribe has as many answers as channels; a PING behind it, whose
//! reply is kept back, tells when all of them have come.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, error::TryRecvError};

use super::reply::{Protocol, Reply};
use super::reply_parse::{self, NotAReply};

/// How much is read from the line at a time, and how many such pieces wait for a client that
/// doesn't read. Then it is Redis' turn to wait, or to hang up.
const PIECE: usize = 16 * 1024;
const PIECES: usize = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Subscription {
    to_redis: mpsc::UnboundedSender<Bytes>,
    from_redis: mpsc::Receiver<io::Result<Bytes>>,
    received: BytesMut,
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

impl Subscription {
    /// On a line that nothing has been sent on. `notify` is called when there is something to take
    /// with [`Subscription::next`].
    pub(super) fn open(
        line: impl AsyncRead + AsyncWrite + Send + 'static,
        is_monitor: bool,
        runtime: &Handle,
        notify: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let (to_redis, commands) = mpsc::unbounded_channel();
        let (pieces, from_redis) = mpsc::channel(PIECES);
        runtime.spawn(pump(line, commands, pieces, notify));
        Self {
            to_redis,
            from_redis,
            received: BytesMut::new(),
            is_monitor,
            asked: 0,
            answered: 0,
            channels: 0,
            sharded: 0,
        }
    }

    /// Sends a command.
    pub(super) fn send(&mut self, arguments: &[Bytes]) {
        let mut text = BytesMut::new();
        put_command(arguments, &mut text);
        if !self.is_monitor {
            self.asked += 1;
            put_command(&[Bytes::from_static(b"PING"), self.fence()], &mut text);
        }
        // A line that has broken tells so when it is read.
        let _ = self.to_redis.send(text.freeze());
    }

    /// Whether answers to what was sent are still to come.
    pub(super) fn is_waiting(&self) -> bool {
        self.asked != self.answered
    }

    /// Whether the client is subscribed to anything.
    pub(super) fn is_subscribed(&self) -> bool {
        self.channels + self.sharded > 0
    }

    /// To how many channels and patterns together, none, and sharded channels the client is
    /// subscribed. Redis doesn't tell the first two apart.
    pub(super) fn subscriptions(&self) -> [usize; 3] {
        let count = |count: i64| usize::try_from(count).unwrap_or_default();
        [count(self.channels), 0, count(self.sharded)]
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

    /// The next reply for the client, whole; `None` when none has come.
    pub(super) fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            while let Some(length) = reply_parse::length(&self.received).map_err(not_a_reply)? {
                let frame = self.received.split_to(length).freeze();
                if let Some(frame) = self.take(frame)? {
                    return Ok(Some(frame));
                }
            }
            match self.from_redis.try_recv() {
                Ok(piece) => self.received.extend_from_slice(&piece?),
                Err(TryRecvError::Empty) => return Ok(None),
                Err(TryRecvError::Disconnected) => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// Takes note of a reply, which is for the client unless it only tells the end of a command.
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

/// Carries commands to Redis, and what it sends back, until either side ends.
async fn pump(
    line: impl AsyncRead + AsyncWrite + Send + 'static,
    mut commands: mpsc::UnboundedReceiver<Bytes>,
    pieces: mpsc::Sender<io::Result<Bytes>>,
    notify: impl Fn() + Send + Sync + 'static,
) {
    let (mut reader, mut writer) = tokio::io::split(line);
    let writing = async {
        while let Some(command) = commands.recv().await {
            writer.write_all(&command).await?;
        }
        Ok(())
    };
    let reading = async {
        loop {
            let mut piece = BytesMut::with_capacity(PIECE);
            if reader.read_buf(&mut piece).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            if pieces.send(Ok(piece.freeze())).await.is_err() {
                return Ok(());
            }
            notify();
        }
    };
    let ended = tokio::select! {
        ended = writing => ended,
        ended = reading => ended,
    };
    // Without an error the subscription itself is gone.
    if let Err(error) = ended
        && pieces.send(Err(error)).await.is_ok()
    {
        notify();
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
    use std::io;

    use bytes::Bytes;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio::runtime::Handle;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::Subscription;

    fn open(is_monitor: bool) -> (Subscription, UnboundedReceiver<()>, DuplexStream) {
        let (ours, redis) = tokio::io::duplex(1024);
        let (told, notices) = unbounded_channel();
        let notify = move || told.send(()).unwrap();
        (Subscription::open(ours, is_monitor, &Handle::current(), notify), notices, redis)
    }

    /// What there is once something has come.
    async fn next(
        subscription: &mut Subscription,
        notices: &mut UnboundedReceiver<()>,
    ) -> io::Result<Option<Bytes>> {
        notices.recv().await.unwrap();
        subscription.next()
    }

    #[tokio::test]
    async fn a_command_is_answered_when_its_fence_has_come() {
        let (mut subscription, mut notices, mut redis) = open(false);
        subscription.send(&[Bytes::from("SUBSCRIBE"), Bytes::from("c"), Bytes::from("d")]);
        let first = "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n";
        let second = "*3\r\n$9\r\nsubscribe\r\n$1\r\nd\r\n:2\r\n";
        let fence = "*2\r\n$4\r\npong\r\n$12\r\nwarp-fence-1\r\n";
        redis.write_all([first, second].concat().as_bytes()).await.unwrap();
        assert_eq!(next(&mut subscription, &mut notices).await.unwrap().unwrap(), first);
        assert_eq!(subscription.next().unwrap().unwrap(), second);
        assert!(subscription.is_waiting() && subscription.next().unwrap().is_none());
        redis.write_all(fence.as_bytes()).await.unwrap();
        assert_eq!(next(&mut subscription, &mut notices).await.unwrap(), None);
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
        let (mut subscription, mut notices, mut redis) = open(false);
        for (frame, subscribed) in [
            (">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n", true),
            (">3\r\n$10\r\nssubscribe\r\n$1\r\nc\r\n:1\r\n", true),
            (">3\r\n$11\r\nunsubscribe\r\n$1\r\nc\r\n:0\r\n", true),
            (">3\r\n$12\r\nsunsubscribe\r\n$1\r\nc\r\n:0\r\n", false),
            (">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n", false),
        ] {
            redis.write_all(frame.as_bytes()).await.unwrap();
            assert_eq!(next(&mut subscription, &mut notices).await.unwrap().unwrap(), frame);
            assert_eq!(subscription.is_subscribed(), subscribed, "{frame:?}");
        }
    }

    #[tokio::test]
    async fn the_end_of_the_line_is_an_error() {
        let (mut subscription, mut notices, redis) = open(true);
        drop(redis);
        let end = next(&mut subscription, &mut notices).await;
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
