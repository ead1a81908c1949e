//! An application's own connection to the server, for what Warp has no meaning for.
//!
//! One for each application connection that needs it, so that MULTI, WATCH, SUBSCRIBE and blocking
//! commands mean what they mean. Replies are handed on as they came, byte for byte.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use super::endpoint::{self, Stream, Wire};
use super::frame::{Found, is_push, write_command};
use super::{KIND, Shared, reply_too_long};
use crate::adapter::{Access, Result, StorageError};

/// A connection that one application's commands go over, logged in and in its database.
///
/// After an error other than [`StorageError::Refused`], and after a call that was given up in the
/// middle, it is spent and every call fails: open another. What the connection held (WATCH, MULTI,
/// subscriptions) is gone with it.
#[derive(Debug)]
pub struct Relay {
    shared: Arc<Shared>,
    wire: Wire,
    spent: bool,
}

impl Relay {
    pub(super) fn new(shared: Arc<Shared>, wire: Wire) -> Self {
        Self { shared, wire, spent: false }
    }

    /// Sends one command and gives its reply: one raw frame, an error reply too. Pushes (RESP3)
    /// that came since the last reply stand in front of it, in their order.
    ///
    /// Takes as long as the command does, blocking ones too; it ends when the server no longer
    /// answers others either. Not for commands without one reply of their own: SUBSCRIBE and its
    /// kin, MONITOR, CLIENT REPLY. Those are for [`Self::send`] and [`Self::into_stream`].
    pub async fn send_one(&mut self, args: &[Bytes]) -> Result<Bytes> {
        self.send(args).await?;
        self.receive_one(args).await
    }

    /// Waits for the reply to `args`, which was sent with [`Self::send`] and comes next. Otherwise
    /// as [`Self::send_one`].
    pub async fn receive_one(&mut self, args: &[Bytes]) -> Result<Bytes> {
        self.spent = true;
        let reply = self.receive(args).await;
        self.spent = !matches!(reply, Ok(_) | Err(StorageError::Refused(_)));
        reply
    }

    /// Sends one command without waiting for a reply.
    pub async fn send(&mut self, args: &[Bytes]) -> Result<()> {
        self.check_alive()?;
        self.spent = true;
        let mut bytes = BytesMut::new();
        write_command(args, &mut bytes);
        let access = self.access(args);
        let mut sending = Box::pin(self.wire.send(&bytes));
        loop {
            match timeout(self.shared.timeout, &mut sending).await {
                Ok(Ok(())) => break,
                Ok(Err(error)) => {
                    return Err(StorageError::no_answer(KIND, access, error.to_string()));
                }
                Err(_) => self.shared.check(access).await?,
            }
        }
        drop(sending);
        self.spent = false;
        Ok(())
    }

    /// Both directions, raw, from here on: for what the server sends without being asked. What has
    /// been read and not handed on comes first.
    pub fn into_stream(self) -> RelayStream {
        RelayStream { stream: self.wire.stream, read: self.wire.input }
    }

    async fn receive(&mut self, args: &[Bytes]) -> Result<Bytes> {
        let access = self.access(args);
        let mut pushes = BytesMut::new();
        loop {
            match timeout(self.shared.timeout, self.wire.receive()).await {
                Ok(Ok(Found::Frame(frame))) if is_push(&frame) => pushes.extend_from_slice(&frame),
                Ok(Ok(Found::Frame(reply))) if pushes.is_empty() => return Ok(reply),
                Ok(Ok(Found::Frame(reply))) => {
                    pushes.extend_from_slice(&reply);
                    return Ok(pushes.freeze());
                }
                Ok(Ok(Found::TooLong { push: false })) => return Err(reply_too_long()),
                // The application would miss it, and the reply is still to come.
                Ok(Ok(Found::TooLong { push: true })) => {
                    return Err(StorageError::no_answer(KIND, access, "a push is too long"));
                }
                Ok(Err(error)) => {
                    return Err(StorageError::no_answer(KIND, access, error.to_string()));
                }
                // It may be a blocking command, or a slow one: is the server there at all?
                Err(_) => self.shared.check(access).await?,
            }
        }
    }

    /// Finds out, before anything is sent, that the server has closed the connection.
    fn check_alive(&mut self) -> Result<()> {
        let closed = if self.spent {
            Some("the connection was given up".to_owned())
        } else if endpoint::is_closed(&self.wire.stream) {
            Some("the server closed the connection".to_owned())
        } else {
            match tokio::io::AsyncReadExt::read_buf(&mut self.wire.stream, &mut self.wire.input)
                .now_or_never()
            {
                Some(Ok(0)) => Some("the server closed the connection".to_owned()),
                Some(Err(error)) => Some(error.to_string()),
                Some(Ok(_)) | None => None,
            }
        };
        match closed {
            None => Ok(()),
            Some(cause) => {
                self.spent = true;
                Err(StorageError::Unavailable { kind: KIND, cause })
            }
        }
    }

    fn access(&self, args: &[Bytes]) -> Access {
        if self.shared.commands.is_known_to_read(args) { Access::Read } else { Access::Write }
    }
}

/// A relay's bytes, both ways.
#[derive(Debug)]
pub struct RelayStream {
    stream: Stream,
    read: BytesMut,
}

impl AsyncRead for RelayStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let length = self.read.len().min(buffer.remaining());
        buffer.put_slice(&self.read[..length]);
        self.read.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for RelayStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
