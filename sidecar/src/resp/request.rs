//! Requests as they arrive: bytes in, commands out, without I/O and without copying an argument.
//!
//! The parser keeps its place in a frame that has not arrived whole, so each byte is looked at
//! once however the input is cut. It allocates in proportion to the bytes that have arrived, never
//! to a count that a client announces. What a command means is not decided here.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

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

/// Reads requests off the front of a buffer.
#[derive(Debug)]
pub struct RequestParser {
    limits: Limits,
    /// Arguments of the current frame that have not been read whole; 0 between frames.
    missing: usize,
    /// The length of the argument whose `$` line has been read.
    bulk: Option<usize>,
    /// How much of the input belongs to the current frame and has been read.
    at: usize,
    /// Where the arguments that have been read lie.
    read: Vec<Range<usize>>,
}

/// Lists longer than this are given back after use instead of kept for the next command.
const KEPT_ARGUMENTS: usize = 1024;

impl RequestParser {
    /// A parser at the start of a stream.
    pub fn new(limits: Limits) -> Self {
        Self { limits, missing: 0, bulk: None, at: 0, read: Vec::new() }
    }

    /// Takes the next command off `input` and puts its arguments into `arguments`, each a slice of
    /// the input's own memory. `false` means that the input does not hold a whole command yet.
    pub fn next(
        &mut self,
        input: &mut BytesMut,
        arguments: &mut Vec<Bytes>,
    ) -> Result<bool, ProtocolError> {
        arguments.clear();
        arguments.shrink_to(KEPT_ARGUMENTS);
        loop {
            if self.missing == 0 {
                match input.first() {
                    None => return Ok(false),
                    Some(b'*') => {
                        if !self.read_count(input)? {
                            return Ok(false);
                        }
                    }
                    Some(_) => {
                        if !self.read_inline(input, arguments)? {
                            return Ok(false);
                        }
                        if arguments.is_empty() {
                            continue;
                        }
                        return Ok(true);
                    }
                }
                continue;
            }
            if !self.read_argument(input)? {
                return Ok(false);
            }
            if self.missing == 0 {
                self.take_frame(input, arguments);
                return Ok(true);
            }
        }
    }

    /// How many bytes the current frame lacks at the least, given what `input` holds: 1 when that
    /// isn't known.
    pub fn lacking(&self, input: &BytesMut) -> usize {
        self.bulk.map_or(1, |length| (self.at + length + 2).saturating_sub(input.len()).max(1))
    }

    fn read_count(&mut self, input: &mut BytesMut) -> Result<bool, ProtocolError> {
        let Some(line) = self.line(input, 1, ProtocolError::MultibulkLineTooBig)? else {
            return Ok(false);
        };
        let count = parse_i64(&input[line.clone()]).ok_or(ProtocolError::MultibulkLength)?;
        let after = line.end + 2;
        if count <= 0 {
            // A command of nothing is passed over, as Redis does.
            let _ = input.split_to(after);
            return Ok(true);
        }
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count > self.limits.arguments {
            return Err(ProtocolError::MultibulkLength);
        }
        self.missing = count;
        self.at = after;
        Ok(true)
    }

    fn read_argument(&mut self, input: &BytesMut) -> Result<bool, ProtocolError> {
        if self.bulk.is_none() && !self.read_length(input)? {
            return Ok(false);
        }
        let end = self.at + self.bulk.unwrap_or_default();
        if input.len() < end + 2 {
            return Ok(false);
        }
        self.read.push(self.at..end);
        self.at = end + 2;
        self.bulk = None;
        self.missing -= 1;
        Ok(true)
    }

    fn read_length(&mut self, input: &BytesMut) -> Result<bool, ProtocolError> {
        match input.get(self.at) {
            None => return Ok(false),
            Some(b'$') => {}
            Some(other) => return Err(ProtocolError::ExpectedBulk(*other)),
        }
        let Some(line) = self.line(input, self.at + 1, ProtocolError::BulkLineTooBig)? else {
            return Ok(false);
        };
        let length = parse_i64(&input[line.clone()])
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

    fn take_frame(&mut self, input: &mut BytesMut, arguments: &mut Vec<Bytes>) {
        let frame = input.split_to(self.at).freeze();
        arguments.extend(self.read.drain(..).map(|range| frame.slice(range)));
        self.read.shrink_to(KEPT_ARGUMENTS);
        self.at = 0;
    }

    fn read_inline(
        &mut self,
        input: &mut BytesMut,
        arguments: &mut Vec<Bytes>,
    ) -> Result<bool, ProtocolError> {
        let end = memchr::memchr(b'\n', input);
        if end.unwrap_or(input.len()) > self.limits.inline {
            return Err(ProtocolError::InlineTooBig);
        }
        let Some(end) = end else {
            return Ok(false);
        };
        let line = input.split_to(end + 1).freeze();
        inline::split(&line.slice(..end), arguments)
            .map_err(|inline::Unbalanced| ProtocolError::UnbalancedQuotes)?;
        Ok(true)
    }

    /// The line from `start` up to its `\r`, when the `\n` behind it has arrived too.
    fn line(
        &self,
        input: &BytesMut,
        start: usize,
        too_long: ProtocolError,
    ) -> Result<Option<Range<usize>>, ProtocolError> {
        let rest = &input[start..];
        let end = memchr::memchr(b'\r', rest);
        if end.unwrap_or(rest.len()) > self.limits.inline {
            return Err(too_long);
        }
        Ok(end.map(|end| start..start + end).filter(|line| line.end + 2 <= input.len()))
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, Bytes, BytesMut};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::{Limits, ProtocolError, RequestParser};

    const SMALL: Limits = Limits { bulk: 64, arguments: 8, inline: 32, frame: 256 };

    /// Every command in `chunks` and the error that ended them, if any.
    fn commands(limits: Limits, chunks: &[&[u8]]) -> (Vec<Vec<Bytes>>, Option<ProtocolError>) {
        let mut parser = RequestParser::new(limits);
        let (mut input, mut arguments) = (BytesMut::new(), Vec::new());
        let mut commands = Vec::new();
        for chunk in chunks {
            input.extend_from_slice(chunk);
            loop {
                match parser.next(&mut input, &mut arguments) {
                    Ok(true) => commands.push(arguments.clone()),
                    Ok(false) => break,
                    Err(error) => return (commands, Some(error)),
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
        let mut input = BytesMut::from(&b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"[..]);
        let memory = input.as_ptr() as usize..input.as_ptr() as usize + input.len();
        let mut arguments = Vec::new();
        assert_eq!(RequestParser::new(SMALL).next(&mut input, &mut arguments), Ok(true));
        assert_eq!(arguments, [&b"GET"[..], b"k"]);
        assert!(arguments.iter().all(|argument| memory.contains(&(argument.as_ptr() as usize))));
    }

    #[test]
    fn empty_commands_are_passed_over() {
        let (commands, error) = commands(SMALL, &[b"*0\r\n*-1\r\n\r\n   \r\n\nPING\r\n"]);
        assert_eq!((commands, error), (vec![vec![Bytes::from("PING")]], None));
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
        let (mut input, mut arguments) = (BytesMut::new(), Vec::new());
        input.extend_from_slice(b"*1048576\r\n$67108864\r\n");
        assert_eq!(parser.next(&mut input, &mut arguments), Ok(false));
        assert!(arguments.capacity() == 0 && parser.read.capacity() == 0);
        assert!(input.capacity() < 1024);
        assert_eq!(parser.lacking(&input), 67_108_864 + 2);
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
                prop_assert!(command.iter().map(Bytes::len).sum::<usize>() <= SMALL.frame);
            }
        }
    }
}
