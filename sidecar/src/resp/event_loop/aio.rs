//! Linux' native asynchronous I/O, as far as [`super::batch_io`] needs it: a list of reads or writes
//! is handed over at once and waited for.
//!
//! See io_setup(2), io_submit(2), io_getevents(2) and `linux/aio_abi.h`. The C library has no
//! wrappers for them. The list of what is done is read where the kernel puts it, as libaio does,
//! which saves the third call.
#![allow(unsafe_code)]
// At one command a turn, 8 connections on a core shared with their client: a tenth less latency than a
// recv(2) and a send(2) for each where system calls are cheap, and 1.6 times the commands, 2.2 times
// over unix sockets, where they are dear (docs/performance.md).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use smallvec::SmallVec;

use super::batch_io::{self, MOST, Moved};

/// One socket's part of a list.
#[derive(Debug)]
pub(super) enum Operation<'a> {
    /// Fill the chunk as far as there is something to read.
    Read(BorrowedFd<'a>, &'a mut [u8]),
    /// Write the bytes as far as there is room.
    Write(BorrowedFd<'a>, &'a [u8]),
}

/// A context of the kernel for lists of up to as many operations as it was made for.
#[derive(Debug)]
pub(super) struct Aio {
    /// `aio_context_t`, which is the address of the ring that the kernel has mapped into the process.
    context: libc::c_ulong,
    ring: NonNull<Ring>,
}

/// `struct iocb`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct ControlBlock {
    data: u64,
    #[cfg(target_endian = "little")]
    key: u32,
    rw_flags: i32,
    #[cfg(target_endian = "big")]
    key: u32,
    opcode: u16,
    priority: i16,
    descriptor: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    result_descriptor: u32,
}

/// `struct io_event`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Event {
    data: u64,
    object: u64,
    result: i64,
    result2: i64,
}

/// `struct aio_ring`, behind which the events lie.
#[repr(C)]
#[derive(Debug)]
struct Ring {
    id: u32,
    length: u32,
    head: AtomicU32,
    tail: AtomicU32,
    magic: u32,
    compatible: u32,
    incompatible: u32,
    header_bytes: u32,
}

const MAGIC: u32 = 0xa10a_10a1;
const PREAD: u16 = 0;
const PWRITE: u16 = 1;

// SAFETY: the context belongs to the process and not to a thread, and this value is its only user:
// each use needs `&mut`.
unsafe impl Send for Aio {}

impl Aio {
    /// For lists of up to `most` operations. Fails where the kernel or a seccomp profile says so, or
    /// where the ring isn't of the form known here.
    pub(super) fn new(most: usize) -> io::Result<Self> {
        let mut context: libc::c_ulong = 0;
        // SAFETY: io_setup writes an `aio_context_t`, an unsigned long, to the address that it is
        // given, and that is `context`'s.
        let failed = unsafe { libc::syscall(libc::SYS_io_setup, most, &raw mut context) } != 0;
        if failed {
            return Err(io::Error::last_os_error());
        }
        let ring = NonNull::new(ptr::with_exposed_provenance_mut::<Ring>(
            usize::try_from(context).unwrap_or(0),
        ));
        let aio = ring.map(|ring| Self { context, ring });
        // SAFETY: the kernel has mapped the ring there, page-aligned, until io_destroy, which only
        // `drop` calls.
        aio.filter(|aio| unsafe { aio.ring.as_ref() }.magic == MAGIC)
            .ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))
    }

    /// Does `operations`, at most [`MOST`], and appends their results to `moved` in their order.
    ///
    /// *No operation outlives the call*: it returns when there is a result for each that was
    /// submitted, so that the kernel has done with the memory that the operations borrow. On a
    /// socket that doesn't block all is done within io_submit already.
    pub(super) fn run<'a>(
        &mut self,
        operations: impl ExactSizeIterator<Item = Operation<'a>>,
        moved: &mut Vec<Moved>,
    ) {
        let operations: SmallVec<[Operation<'a>; MOST]> = operations.collect();
        let mut blocks: SmallVec<[ControlBlock; MOST]> = operations
            .iter()
            .zip(0..)
            .map(|(operation, number)| block(operation, number))
            .collect();
        let mut list: SmallVec<[*mut ControlBlock; MOST]> =
            blocks.iter_mut().map(ptr::from_mut).collect();
        // SAFETY: `list` has that many addresses of control blocks, which live until the end of this
        // function. Each names a descriptor and memory that `operations` borrows for longer than
        // that; memory that is written to is borrowed mutably, and by one operation alone.
        let submitted = unsafe {
            libc::syscall(libc::SYS_io_submit, self.context, list.len(), list.as_mut_ptr())
        };
        // An error says that the first was refused; then none was taken.
        let submitted = usize::try_from(submitted).unwrap_or(0);
        let first = moved.len();
        moved.resize(first + submitted, Err(Errno::IO));
        for _ in 0..submitted {
            let event = self.next_event();
            let place = usize::try_from(event.data).unwrap_or(usize::MAX);
            if let Some(result) = moved[first..].get_mut(place) {
                *result = usize::try_from(event.result).map_err(|_| errno(event.result));
            }
        }
        moved.extend(operations.into_iter().skip(submitted).map(batch_io::one));
    }

    /// Waits for an operation to be done.
    fn next_event(&mut self) -> Event {
        loop {
            if let Some(event) = self.take_event() {
                return event;
            }
            let mut event = Event { data: 0, object: 0, result: 0, result2: 0 };
            // SAFETY: io_getevents writes at most one event, to the address of one.
            let got = unsafe {
                libc::syscall(
                    libc::SYS_io_getevents,
                    self.context,
                    1_usize,
                    1_usize,
                    &raw mut event,
                    ptr::null_mut::<libc::timespec>(),
                )
            };
            if got == 1 {
                return event;
            }
        }
    }

    /// Takes the next event off the ring, if there is one.
    fn take_event(&mut self) -> Option<Event> {
        // SAFETY: as in `new`. The kernel changes `head` and `tail` only, which are atomic here; it
        // writes events from `tail` on before it moves it, and none between `head` and `tail`.
        let ring = unsafe { self.ring.as_ref() };
        let head = ring.head.load(Ordering::Relaxed);
        if head == ring.tail.load(Ordering::Acquire) {
            return None;
        }
        let header_bytes = ring.header_bytes as usize;
        // SAFETY: the events are an array of `length` behind the header, and `head` is below that.
        // The one at `head` was written before `tail` moved past it, which the load above has seen.
        let event = unsafe {
            self.ring.cast::<u8>().add(header_bytes).cast::<Event>().add(head as usize).read()
        };
        // The kernel may write to its place once it sees this.
        ring.head.store((head + 1) % ring.length, Ordering::Release);
        Some(event)
    }
}

impl Drop for Aio {
    fn drop(&mut self) {
        // SAFETY: no operation is under way, since `run` waits for all of its own.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
    }
}

fn block(operation: &Operation<'_>, number: u64) -> ControlBlock {
    let (opcode, descriptor, address, bytes) = match operation {
        Operation::Read(fd, chunk) => (PREAD, fd, chunk.as_ptr().expose_provenance(), chunk.len()),
        Operation::Write(fd, bytes) => {
            (PWRITE, fd, bytes.as_ptr().expose_provenance(), bytes.len())
        }
    };
    ControlBlock {
        data: number,
        opcode,
        descriptor: descriptor.as_raw_fd().cast_unsigned(),
        buffer: address as u64,
        bytes: bytes as u64,
        ..ControlBlock::default()
    }
}

/// A result below 0 is the error's number.
fn errno(result: i64) -> Errno {
    let number = i32::try_from(result.saturating_neg()).unwrap_or(libc::EIO);
    Errno::from_raw_os_error(number)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pairs(count: usize) -> Vec<(UnixStream, UnixStream)> {
        let pair = || {
            let (ours, theirs) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            (ours, theirs)
        };
        std::iter::repeat_with(pair).take(count).collect()
    }

    #[test]
    fn a_list_is_read_and_written_in_its_order() {
        let mut aio = Aio::new(MOST).unwrap();
        let mut pairs = pairs(MOST);
        for round in 0..5_u8 {
            let (silent, closed) = (3, 7);
            for (at, (_, theirs)) in (0_u8..).zip(&mut pairs) {
                match usize::from(at) {
                    at if at == silent => {}
                    at if at == closed => theirs.shutdown(std::net::Shutdown::Write).unwrap(),
                    length => theirs.write_all(&vec![round; length + 1]).unwrap(),
                }
            }
            let mut chunks = vec![0; MOST * 64];
            let reads = pairs.iter().zip(chunks.chunks_mut(64));
            let mut moved = Vec::new();
            aio.run(
                reads.map(|((ours, _), chunk)| Operation::Read(ours.as_fd(), chunk)),
                &mut moved,
            );
            for (at, read) in moved.iter().enumerate() {
                let expected = match at {
                    3 => Err(Errno::AGAIN),
                    7 => Ok(0),
                    at => Ok(at + 1),
                };
                assert_eq!(*read, expected, "{at}");
                assert!(chunks[at * 64..][..read.unwrap_or(0)].iter().all(|byte| *byte == round));
            }
            moved.clear();
            let text = [round; 100];
            let lengths: Vec<usize> = (1..=MOST).collect();
            let writes = pairs.iter().zip(&lengths);
            aio.run(
                writes.map(|((ours, _), length)| Operation::Write(ours.as_fd(), &text[..*length])),
                &mut moved,
            );
            for (at, (_, theirs)) in pairs.iter_mut().enumerate() {
                assert_eq!(moved[at], Ok(at + 1));
                theirs.read_exact(&mut vec![0; at + 1]).unwrap();
            }
        }
    }

    #[test]
    fn who_is_gone_is_told_from_who_is_full() {
        let mut aio = Aio::new(2).unwrap();
        let mut pairs = pairs(2);
        let (gone, theirs) = pairs.remove(0);
        drop(theirs);
        let (full, _theirs) = &pairs[0];
        while (&*full).write(&[0; 4096]).is_ok() {}
        let mut moved = Vec::new();
        let operations =
            [Operation::Write(gone.as_fd(), b"x"), Operation::Write(full.as_fd(), b"x")];
        aio.run(operations.into_iter(), &mut moved);
        assert_eq!(moved, [Err(Errno::PIPE), Err(Errno::AGAIN)]);
    }
}
