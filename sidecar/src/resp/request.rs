//! Requests as they arrive: bytes in, commands out, without I/O and without copying an argument.
//!
//! Whole commands are read up to [`MOST`] at a time, so that what they need can be fetched from
//! memory together before the first is executed. The parser keeps its place in a frame that has
//! not arrived whole, so each byte is looked at once however the input is cut. It allocates in
//! proportion to the bytes that have arrived, never to a count that a client announces. What a
//! command means is not decided here.

use std::ops::Range;

use super::inline;
use super::number::parse_i64;

/// How much a client may send for one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest argument, in bytes.
    pub bulk: usize,
    /// The most arguments of one command, its name included.
    pub arguments: usize,
    /// The longest line in bytes: an inline command, or the line of a count or a length.
    pub inline: usize,
    /// The longest command in bytes, as sent.
    pub frame: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bulk: 64 * 1024 * 1024,
            arguments: 1024 * 1024,
            inline: 64 * 1024,
            frame: 256 * 1024 * 1024,
        }
    }
}

/// Input that is not a request. The connection can't go on, because nobody knows where the next
/// command starts. The words are those of Redis, without the `ERR ` prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// `*` with something else than a number in the limits.
    #[error("Protocol error: invalid multibulk length")]
    MultibulkLength,
    /// `$` with something else than a number in the limits.
    #[error("Protocol error: invalid bulk length")]
    BulkLength,
    /// An argument without its `$`.
    #[error("Protocol error: expected '$', got '{}'", char::from(*.0))]
    ExpectedBulk(u8),
    /// An inline command that does not end.
    #[error("Protocol error: too big inline request")]
    InlineTooBig,
    /// A `*` line that does not end.
    #[error("Protocol error: too big mbulk count string")]
    MultibulkLineTooBig,
    /// A `$` line that does not end.
    #[error("Protocol error: too big bulk count string")]
    BulkLineTooBig,
    /// An inline command with an open quote, or with text stuck to a closing one.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    /// Arguments that are each in the limits but too long together.
    #[error("Protocol error: too big request")]
    FrameTooBig,
}

/// The most commands that are read together.
pub const MOST: usize = 32;

/// Commands that were read together, as places in the input that they were read from.
#[derive(Debug, Default)]
pub struct Batch {
    spans: Vec<Range<usize>>,
    commands: Vec<Place>,
    /// The words of an inline command, which may differ from what was sent. It ends a batch.
    words: Vec<u8>,
    last_is_inline: bool,
    end: usize,
}

/// Where a command lies: its arguments among the batch's, and the end of its frame in the input.
#[derive(Clone, Debug)]
struct Place {
    arguments: Range<usize>,
    end: usize,
}

impl Batch {
    /// How many commands it has.
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// How much of the input has been read, what was passed over included.
    pub fn end(&self) -> usize {
        self.end
    }

    /// Where the frame of the command at `at` ends in the input.
    pub fn end_of(&self, at: usize) -> usize {
        self.commands[at].end
    }

    /// Whether its last command was an inline one, behind which there may be more.
    pub fn ends_inline(&self) -> bool {
        self.last_is_inline
    }

    /// The arguments of the command at `at`, at least one, of the `input` that was read.
    pub fn arguments<'a>(
        &'a self,
        at: usize,
        input: &'a [u8],
    ) -> impl ExactSizeIterator<Item = &'a [u8]> {
        let is_inline = self.last_is_inline && at + 1 == self.commands.len();
        let text = if is_inline { &self.words } else { input };
        self.spans[self.commands[at].arguments.clone()].iter().map(|span| &text[span.clone()])
    }

    fn clear(&mut self, from: usize) {
        self.spans.clear();
        self.spans.shrink_to(KEPT_ARGUMENTS);
        self.commands.clear();
        self.words.clear();
        self.words.shrink_to(KEPT_ARGUMENTS);
        self.last_is_inline = false;
        self.end = from;
    }

    /// The command whose spans have been pushed from `first` on ends at `end`.
    fn close(&mut self, first: usize, end: usize) {
        self.commands.push(Place { arguments: first..self.spans.len(), end });
        self.end = end;
    }

    /// Takes the frame at the batch's end if it is an array that is there as a whole and in the
    /// limits; whether it did. Anything else is left to the parser.
    fn take_whole(&mut self, input: &[u8], limits: &Limits) -> bool {
        let first = self.spans.len();
        let end = whole(input, self.end, limits, &mut self.spans);
        if let Some(end) = end {
            self.close(first, end);
        } else {
            self.spans.truncate(first);
        }
        end.is_some()
    }
}

fn whole(
    input: &[u8],
    start: usize,
    limits: &Limits,
    spans: &mut Vec<Range<usize>>,
) -> Option<usize> {
    if *input.get(start)? != b'*' {
        return None;
    }
    let (count, mut at) = short_number(input, start + 1)?;
    if count == 0 || count > limits.arguments {
        return None;
    }
    for _ in 0..count {
        if *input.get(at)? != b'$' {
            return None;
        }
        let (length, begin) = short_number(input, at + 1)?;
        at = begin + length + 2;
        if length > limits.bulk || at > input.len() || at - start > limits.frame {
            return None;
        }
        spans.push(begin..begin + length);
    }
    Some(at)
}

/// A number of at most nine digits and the place behind its line break.
fn short_number(input: &[u8], start: usize) -> Option<(usize, usize)> {
    let digit = |byte: u8| usize::from(byte.wrapping_sub(b'0'));
    let mut number = digit(*input.get(start)?);
    if number > 9 {
        return None;
    }
    for (at, byte) in input[start + 1..].iter().enumerate().take(9) {
        match digit(*byte) {
            next @ 0..=9 if number > 0 => number = number * 10 + next,
            _ if *byte == b'\r' => return Some((number, start + at + 3)),
            _ => return None,
        }
    }
    None
}

/// Reads requests off a stream.
#[derive(Debug)]
pub struct RequestParser {
    limits: Limits,
    /// Arguments of the current frame that have not been read whole; 0 between frames.
    missing: usize,
    /// The length of the argument whose `$` line has been read.
    bulk: Option<usize>,
    /// How much of the current frame has been read.
    at: usize,
    /// Where the arguments that have been read lie in the current frame.
    read: Vec<Range<usize>>,
}

/// Lists longer than this are given back after use instead of kept for the next command.
const KEPT_ARGUMENTS: usize = 1024;

impl RequestParser {
    /// A parser at the start of a stream.
    pub fn new(limits: Limits) -> Self {
        Self { limits, missing: 0, bulk: None, at: 0, read: Vec::new() }
    }

    /// Reads the commands that `input` holds from `from` on, at most [`MOST`], into `batch`.
    /// After an error the batch has those before it.
    ///
    /// The next call must begin at [`Batch::end`], with an input that goes on where this one ended,
    /// or at the end of an earlier command after a [`RequestParser::rewind`].
    pub fn read(
        &mut self,
        input: &[u8],
        from: usize,
        batch: &mut Batch,
    ) -> Result<(), ProtocolError> {
        batch.clear(from);
        while batch.len() < MOST && batch.end < input.len() {
            if self.missing == 0 && batch.take_whole(input, &self.limits) {
                continue;
            }
            let frame = &input[batch.end..];
            if self.missing > 0 || frame[0] == b'*' {
                if !self.read_frame(frame, batch)? {
                    break;
                }
            } else if !self.read_inline(frame, batch)? || batch.last_is_inline {
                break;
            }
        }
        Ok(())
    }

    /// Forgets how far it is in a frame.
    pub fn rewind(&mut self) {
        self.missing = 0;
        self.bulk = None;
        self.read.clear();
    }

    /// Reads on in a frame; whether it is read whole.
    fn read_frame(&mut self, frame: &[u8], batch: &mut Batch) -> Result<bool, ProtocolError> {
        if self.missing == 0 {
            let Some(line) = self.line(frame, 1, ProtocolError::MultibulkLineTooBig)? else {
                return Ok(false);
            };
            let count = parse_i64(&frame[line.clone()]).ok_or(ProtocolError::MultibulkLength)?;
            let after = line.end + 2;
            if count <= 0 {
                // A command of nothing is passed over, as Redis does.
                batch.end += after;
                return Ok(true);
            }
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            if count > self.limits.arguments {
                return Err(ProtocolError::MultibulkLength);
            }
            self.missing = count;
            self.at = after;
        }
        while self.missing > 0 {
            if !self.read_argument(frame)? {
                return Ok(false);
            }
        }
        let (start, first) = (batch.end, batch.spans.len());
        let absolute = |span: Range<usize>| start + span.start..start + span.end;
        batch.spans.extend(self.read.drain(..).map(absolute));
        self.read.shrink_to(KEPT_ARGUMENTS);
        batch.close(first, start + self.at);
        Ok(true)
    }

    fn read_argument(&mut self, frame: &[u8]) -> Result<bool, ProtocolError> {
        if self.bulk.is_none() && !self.read_length(frame)? {
            return Ok(false);
        }
        let end = self.at + self.bulk.unwrap_or_default();
        if frame.len() < end + 2 {
            return Ok(false);
        }
        self.read.push(self.at..end);
        self.at = end + 2;
        self.bulk = None;
        self.missing -= 1;
        Ok(true)
    }

    fn read_length(&mut self, frame: &[u8]) -> Result<bool, ProtocolError> {
        match frame.get(self.at) {
            None => return Ok(false),
            Some(b'$') => {}
            Some(other) => return Err(ProtocolError::ExpectedBulk(*other)),
        }
        let Some(line) = self.line(frame, self.at + 1, ProtocolError::BulkLineTooBig)? else {
            return Ok(false);
        };
        let length = parse_i64(&frame[line.clone()])
            .and_then(|length| usize::try_from(length).ok())
            .filter(|length| *length <= self.limits.bulk)
            .ok_or(ProtocolError::BulkLength)?;
        if line.end + length > self.limits.frame {
            return Err(ProtocolError::FrameTooBig);
        }
        self.at = line.end + 2;
        self.bulk = Some(length);
        Ok(true)
    }

    /// Reads a line; whether it is there as a whole. An empty one is passed over.
    fn read_inline(&self, frame: &[u8], batch: &mut Batch) -> Result<bool, ProtocolError> {
        let end = memchr::memchr(b'\n', frame);
        if end.unwrap_or(frame.len()) > self.limits.inline {
            return Err(ProtocolError::InlineTooBig);
        }
        let Some(end) = end else {
            return Ok(false);
        };
        let first = batch.spans.len();
        if inline::split(&frame[..end], &mut batch.words, &mut batch.spans).is_err() {
            batch.spans.truncate(first);
            return Err(ProtocolError::UnbalancedQuotes);
        }
        if batch.spans.len() == first {
            batch.end += end + 1;
        } else {
            batch.last_is_inline = true;
            batch.close(first, batch.end + end + 1);
        }
        Ok(true)
    }

    /// The line from `start` up to its `\r`, when the `\n` behind it has arrived too.
    fn line(
        &self,
        frame: &[u8],
        start: usize,
        too_long: ProtocolError,
    ) -> Result<Option<Range<usize>>, ProtocolError> {
        let rest = &frame[start..];
        let end = memchr::memchr(b'\r', rest);
        if end.unwrap_or(rest.len()) > self.limits.inline {
            return Err(too_long);
        }
        Ok(end.map(|end| start..start + end).filter(|line| line.end + 2 <= frame.len()))
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::{Batch, Limits, MOST, ProtocolError, RequestParser};

    const SMALL: Limits = Limits { bulk: 64, arguments: 8, inline: 32, frame: 256 };

    /// Every command in `chunks` and the error that ended them, if any. What has been read is taken
    /// off the input, as a connection does.
    fn commands(limits: Limits, chunks: &[&[u8]]) -> (Vec<Vec<Vec<u8>>>, Option<ProtocolError>) {
        let mut parser = RequestParser::new(limits);
        let (mut input, mut batch) = (Vec::new(), Batch::default());
        let mut commands = Vec::new();
        for chunk in chunks {
            input.extend_from_slice(chunk);
            loop {
                let result = parser.read(&input, 0, &mut batch);
                for at in 0..batch.len() {
                    commands.push(batch.arguments(at, &input).map(<[u8]>::to_vec).collect());
                }
                if let Err(error) = result {
                    return (commands, Some(error));
                }
                input.drain(..batch.end());
                if batch.is_empty() {
                    break;
                }
            }
        }
        (commands, None)
    }

    fn error_of(input: &[u8]) -> String {
        commands(SMALL, &[input]).1.map(|error| error.to_string()).unwrap_or_default()
    }

    fn frame(arguments: &[Vec<u8>]) -> Vec<u8> {
        let mut out = format!("*{}\r\n", arguments.len()).into_bytes();
        for argument in arguments {
            out.put_slice(format!("${}\r\n", argument.len()).as_bytes());
            out.put_slice(argument);
            out.put_slice(b"\r\n");
        }
        out
    }

    #[test]
    fn arguments_are_slices_of_the_input() {
        let input = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
        let mut batch = Batch::default();
        RequestParser::new(SMALL).read(input, 0, &mut batch).unwrap();
        let arguments: Vec<_> = batch.arguments(0, input).collect();
        assert_eq!(arguments, [&b"GET"[..], b"k"]);
        let memory = input.as_ptr_range();
        assert!(arguments.iter().all(|argument| memory.contains(&argument.as_ptr())));
    }

    #[test]
    fn a_batch_has_its_bounds_and_can_be_read_again() {
        let input = frame(&[b"PING".to_vec()]).repeat(MOST + 3);
        let mut parser = RequestParser::new(SMALL);
        let mut batch = Batch::default();
        parser.read(&input, 0, &mut batch).unwrap();
        assert_eq!((batch.len(), batch.end()), (MOST, batch.end_of(MOST - 1)));
        let second = batch.end_of(0);
        parser.rewind();
        parser.read(&input, second, &mut batch).unwrap();
        assert_eq!(batch.end_of(0), 2 * second);
        parser.read(&input, batch.end(), &mut batch).unwrap();
        assert_eq!((batch.len(), batch.end()), (2, input.len()));
    }

    #[test]
    fn lines_are_passed_over_as_they_come() {
        let mut batch = Batch::default();
        let mut parser = RequestParser::new(SMALL);
        parser.read(b"\r\n\r\n*0\r\n*2\r", 0, &mut batch).unwrap();
        assert_eq!((batch.len(), batch.end()), (0, 8), "what is empty isn't kept");
    }

    #[test]
    fn empty_commands_are_passed_over() {
        let (commands, error) = commands(SMALL, &[b"*0\r\n*-1\r\n\r\n   \r\n\nPING\r\n"]);
        assert_eq!((commands, error), (vec![vec![b"PING".to_vec()]], None));
    }

    #[test]
    fn errors_have_the_words_of_redis() {
        assert_eq!(error_of(b"*x\r\n"), "Protocol error: invalid multibulk length");
        assert_eq!(error_of(b"*9\r\n"), "Protocol error: invalid multibulk length");
        assert_eq!(error_of(b"*99999999999999\r\n"), "Protocol error: invalid multibulk length");
        assert_eq!(error_of(b"*1\r\n$-1\r\n"), "Protocol error: invalid bulk length");
        assert_eq!(error_of(b"*1\r\n$65\r\n"), "Protocol error: invalid bulk length");
        assert_eq!(error_of(b"*1\r\n$x\r\n"), "Protocol error: invalid bulk length");
        assert_eq!(error_of(b"*1\r\n:1\r\n"), "Protocol error: expected '$', got ':'");
        assert_eq!(error_of(&[b'A'; 40]), "Protocol error: too big inline request");
        assert_eq!(error_of(&frame(&vec![vec![0; 60]; 5])), "Protocol error: too big request");
        assert_eq!(error_of(b"GET \"k\r\n"), "Protocol error: unbalanced quotes in request");
        let line = [b"*".as_slice(), &[b'1'; 40]].concat();
        assert_eq!(error_of(&line), "Protocol error: too big mbulk count string");
        let line = [b"*1\r\n$".as_slice(), &[b'1'; 40]].concat();
        assert_eq!(error_of(&line), "Protocol error: too big bulk count string");
    }

    #[test]
    fn an_announced_count_allocates_nothing() {
        let mut parser = RequestParser::new(Limits::default());
        let mut batch = Batch::default();
        let input = b"*1048576\r\n$67108864\r\n";
        parser.read(input, 0, &mut batch).unwrap();
        assert!(batch.is_empty() && batch.spans.capacity() == 0 && parser.read.capacity() == 0);
    }

    fn requests() -> impl Strategy<Value = Vec<u8>> {
        let framed = vec(vec(any::<u8>(), 0..70), 0..6).prop_map(|arguments| frame(&arguments));
        let inline = "[a-z \"'x\\\\]{0,20}\r?\n".prop_map(String::into_bytes);
        let noise = vec(prop_oneof![Just(b'*'), Just(b'$'), Just(b'1'), any::<u8>()], 0..12);
        vec(prop_oneof![8 => framed, 2 => inline, 1 => noise], 0..8)
            .prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn commands_come_back(sent in vec(vec(vec(any::<u8>(), 0..60), 1..5), 0..6)) {
            let limits = Limits { frame: 4096, ..SMALL };
            let stream: Vec<u8> = sent.iter().flat_map(|arguments| frame(arguments)).collect();
            let (received, error) = commands(limits, &[&stream]);
            prop_assert_eq!(error, None);
            prop_assert_eq!(received, sent);
        }

        #[test]
        fn any_cut_of_the_input_gives_the_same(
            stream in requests(),
            cuts in vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut start = 0;
            for cut in cuts.into_iter().chain([stream.len()]) {
                chunks.push(&stream[start..cut]);
                start = cut;
            }
            let bytewise: Vec<&[u8]> = stream.chunks(1).collect();
            let whole = commands(SMALL, &[&stream]);
            prop_assert_eq!(&commands(SMALL, &chunks), &whole);
            prop_assert_eq!(&commands(SMALL, &bytewise), &whole);
        }

        #[test]
        fn any_bytes_are_commands_or_an_error_within_the_limits(stream in requests()) {
            for command in commands(SMALL, &[&stream]).0 {
                prop_assert!(command.len() <= SMALL.inline.max(SMALL.arguments));
                prop_assert!(command.iter().map(Vec::len).sum::<usize>() <= SMALL.frame);
            }
        }
    }
}
