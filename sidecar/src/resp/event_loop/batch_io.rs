//! Reading from many sockets, and writing to many, with one system call each.
//!
//! At one command a turn and connection, system calls are most of what a server costs. Linux' native
//! asynchronous I/O takes a list of reads or writes at once (io_submit(2)); on a socket that doesn't
//! block each is done before the call returns. It needs no more rights than read(2) and write(2),
//! and the default seccomp profiles of container runtimes let it pass, which they don't io_uring.
//! Where it can't be had, and for a short list, it is recv(2) and send(2).

use std::os::fd::BorrowedFd;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::aio::{Aio, Operation};

/// From how many sockets on a list is worth its making: what the kernel does for each operation of a
/// list is more than a system call costs beside it where system calls are cheap.
const WORTH_IT: usize = 6;
/// The most sockets of one call.
pub(super) const MOST: usize = 32;

/// How many bytes went, or why none did.
pub(super) type Moved = Result<usize, Errno>;

/// See the module.
#[derive(Debug)]
pub(super) struct BatchIo {
    aio: Option<Aio>,
    moved: Vec<Moved>,
}

impl BatchIo {
    pub(super) fn new() -> Self {
        let aio = Aio::new(MOST)
            .inspect_err(|error| tracing::debug!(%error, "no io_submit; each socket gets a call"))
            .ok();
        Self { aio, moved: Vec::with_capacity(MOST) }
    }

    /// Reads from each of `sockets`, at most [`MOST`], into a chunk of its own. The results are in
    /// the sockets' order; one of 0 is the end.
    pub(super) fn read<'a>(
        &mut self,
        sockets: impl ExactSizeIterator<Item = BorrowedFd<'a>>,
        chunks: &mut [u8],
        chunk: usize,
    ) -> &[Moved] {
        let operations =
            sockets.zip(chunks.chunks_mut(chunk)).map(|(fd, chunk)| Operation::Read(fd, chunk));
        self.run(operations)
    }

    /// Writes to each of at most [`MOST`] sockets. The results are in their order.
    pub(super) fn write<'a>(
        &mut self,
        writes: impl ExactSizeIterator<Item = (BorrowedFd<'a>, &'a [u8])>,
    ) -> &[Moved] {
        self.run(writes.map(|(fd, bytes)| Operation::Write(fd, bytes)))
    }

    fn run<'a>(&mut self, operations: impl ExactSizeIterator<Item = Operation<'a>>) -> &[Moved] {
        self.moved.clear();
        match &mut self.aio {
            Some(aio) if operations.len() >= WORTH_IT => aio.run(operations, &mut self.moved),
            _ => self.moved.extend(operations.map(one)),
        }
        &self.moved
    }
}

/// Does one operation by a call of its own.
pub(super) fn one(operation: Operation<'_>) -> Moved {
    match operation {
        Operation::Read(fd, chunk) => {
            retry_on_intr(|| recv(fd, &mut *chunk, RecvFlags::empty()).map(|(read, _)| read))
        }
        Operation::Write(fd, bytes) => retry_on_intr(|| send(fd, bytes, SendFlags::NOSIGNAL)),
    }
}
