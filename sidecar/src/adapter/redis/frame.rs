//! RESP as a client sees it, without I/O: where a reply ends, what it says, and how a command is
//! written. Both versions of the protocol, as the "Redis serialization protocol specification"
//! gives them.

use std::ops::Range;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The longest line: a simple string, an error, a number or a length. Everything longer has a
/// length in front.
const LONGEST_LINE: usize = 1024 * 1024;

/// How deep replies may nest; Redis' own stay below 10.
const DEEPEST: usize = 64;

/// Bytes that are no RESP.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server's answer is no RESP: {0}")]
pub(crate) struct Malformed(&'static str);

/// A reply, with what only differs in name brought together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// No value, in any of its spellings.
    Nil,
    /// A simple, bulk or verbatim string, a double or a big number. Owns its bytes.
    Text(Bytes),
    /// An integer, or a boolean as 0 and 1.
    Integer(i64),
    /// An error, whole: `WRONGTYPE Operation against …`.
    Error(String),
    /// An array, a set, a push, or a map as keys and values in turn.
    Array(Vec<Reply>),
}

impl Reply {
    /// The text, for what must be one.
    pub(super) fn text(&self) -> Option<&Bytes> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, for what must be one.
    pub(crate) fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            _ => None,
        }
    }
}

/// Writes a command: an array of bulk strings.
pub(super) fn write_command<A: AsRef<[u8]>>(args: &[A], out: &mut BytesMut) {
    write_length(b'*', args.len(), out);
    for arg in args {
        let arg = arg.as_ref();
        write_length(b'$', arg.len(), out);
        out.put_slice(arg);
        out.put_slice(b"\r\n");
    }
}

fn write_length(kind: u8, length: usize, out: &mut BytesMut) {
    out.put_u8(kind);
    out.put_slice(length.to_string().as_bytes());
    out.put_slice(b"\r\n");
}

/// Finds where frames end in bytes that come in pieces, each looked at once.
#[derive(Debug)]
pub(crate) struct Frames {
    limit: usize,
    /// How far the frame at the buffer's front has been looked at.
    at: usize,
    /// How many of the bytes at `at` belong to a string that needs no looking at.
    body: usize,
    /// How many values are missing to a whole frame.
    missing: u64,
    /// Whether the frame is beyond the limit, and its bytes are thrown away as they come.
    dropping: bool,
    /// Whether the frame is a push.
    push: bool,
}

/// What [`Frames::next`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A whole frame.
    Frame(Bytes),
    /// A frame that was longer than the limit, and is gone.
    TooLong {
        /// Whether it was a push.
        push: bool,
    },
}

impl Frames {
    /// For frames of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, at: 0, body: 0, missing: 1, dropping: false, push: false }
    }

    /// Takes the next frame off the front of `buffer`, if it is whole.
    pub(crate) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Found>, Malformed> {
        if self.at == 0 && !self.dropping {
            self.push = is_push(buffer);
        }
        while self.missing > 0 {
            let whole = self.step(buffer)?;
            if !self.dropping && self.at.saturating_add(self.body) > self.limit {
                self.dropping = true;
            }
            if self.dropping {
                let seen = self.at.min(buffer.len());
                buffer.advance(seen);
                self.at -= seen;
            }
            if !whole {
                return Ok(None);
            }
        }
        let found = if self.dropping {
            Found::TooLong { push: self.push }
        } else {
            Found::Frame(buffer.split_to(self.at).freeze())
        };
        *self = Self::new(self.limit);
        Ok(Some(found))
    }

    /// Passes one header or one body; whether it was there.
    fn step(&mut self, buffer: &[u8]) -> Result<bool, Malformed> {
        if self.body > 0 {
            let here = self.body.min(buffer.len() - self.at);
            self.at += here;
            self.body -= here;
            if self.body == 0 {
                self.missing -= 1;
            }
            return Ok(self.body == 0);
        }
        let Some(line) = line(buffer, self.at)? else { return Ok(false) };
        let Header { kind, length } = header(buffer, &line)?;
        self.at = line.end + 2;
        match kind {
            Kind::Line => self.missing -= 1,
            Kind::Bulk => match length {
                Some(length) => self.body = length.saturating_add(2),
                None => self.missing -= 1,
            },
            Kind::Aggregate(each) => {
                let inner = (length.unwrap_or(0) as u64).saturating_mul(each);
                self.missing = (self.missing - 1).saturating_add(inner);
            }
            // It comes before the value that it belongs to.
            Kind::Attribute => {
                let inner = (length.unwrap_or(0) as u64).saturating_mul(2);
                self.missing = self.missing.saturating_add(inner);
            }
        }
        Ok(true)
    }
}

/// Whether a frame is a push, which answers no command.
pub(crate) fn is_push(frame: &[u8]) -> bool {
    frame.first() == Some(&b'>')
}

/// What a whole frame says; attributes are passed over.
pub(crate) fn parse(frame: &[u8]) -> Result<Reply, Malformed> {
    let mut at = 0;
    parse_value(frame, &mut at, 0)
}

fn parse_value(frame: &[u8], at: &mut usize, depth: usize) -> Result<Reply, Malformed> {
    if depth > DEEPEST {
        return Err(Malformed("it nests too deep"));
    }
    let line = line(frame, *at)?.ok_or(Malformed("it ends early"))?;
    let Header { kind, length } = header(frame, &line)?;
    *at = line.end + 2;
    let text = &frame[line.start + 1..line.end];
    Ok(match (kind, frame[line.start], length) {
        (Kind::Line, b':', _) => Reply::Integer(parse_number(text)?),
        (Kind::Line, b'#', _) => Reply::Integer(i64::from(text == b"t")),
        (Kind::Line, b'-', _) => Reply::Error(lossy(text)),
        (Kind::Line, b'_', _) | (Kind::Bulk | Kind::Aggregate(_), _, None) => Reply::Nil,
        (Kind::Line, ..) => Reply::Text(Bytes::copy_from_slice(text)),
        (Kind::Bulk, kind, Some(length)) => {
            let body = frame.get(*at..*at + length).ok_or(Malformed("it ends early"))?;
            *at += length + 2;
            match kind {
                b'!' => Reply::Error(lossy(body)),
                // A verbatim string says its format first: `txt:`.
                b'=' => Reply::Text(Bytes::copy_from_slice(body.get(4..).unwrap_or_default())),
                _ => Reply::Text(Bytes::copy_from_slice(body)),
            }
        }
        (Kind::Aggregate(each), _, Some(length)) => {
            let mut values = Vec::new();
            for _ in 0..length as u64 * each {
                values.push(parse_value(frame, at, depth + 1)?);
            }
            Reply::Array(values)
        }
        (Kind::Attribute, _, length) => {
            for _ in 0..length.unwrap_or(0) * 2 {
                parse_value(frame, at, depth + 1)?;
            }
            // One deeper, for many of them in front of one value take the stack, too.
            return parse_value(frame, at, depth + 1);
        }
    })
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

enum Kind {
    /// All in its line.
    Line,
    /// A length, and so many bytes.
    Bulk,
    /// A length, and for each so many values.
    Aggregate(u64),
    /// A map about the value behind it.
    Attribute,
}

struct Header {
    kind: Kind,
    /// `None` is the null of RESP2.
    length: Option<usize>,
}

/// The line that starts at `at`, without its end, if it is whole.
fn line(buffer: &[u8], at: usize) -> Result<Option<Range<usize>>, Malformed> {
    let rest = &buffer[at.min(buffer.len())..];
    match memchr::memchr(b'\r', rest) {
        Some(end) if end > LONGEST_LINE => Err(Malformed("a line is too long")),
        Some(0) => Err(Malformed("a line is empty")),
        Some(end) => match rest.get(end + 1) {
            Some(b'\n') => Ok(Some(at..at + end)),
            Some(_) => Err(Malformed("a line ends in the middle")),
            None => Ok(None),
        },
        None if rest.len() > LONGEST_LINE => Err(Malformed("a line is too long")),
        None => Ok(None),
    }
}

fn header(buffer: &[u8], line: &Range<usize>) -> Result<Header, Malformed> {
    let kind = match buffer[line.start] {
        b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => {
            return Ok(Header { kind: Kind::Line, length: None });
        }
        b'$' | b'!' | b'=' => Kind::Bulk,
        b'*' | b'~' | b'>' => Kind::Aggregate(1),
        b'%' => Kind::Aggregate(2),
        b'|' => Kind::Attribute,
        _ => return Err(Malformed("an unknown type")),
    };
    let length = match parse_number(&buffer[line.start + 1..line.end])? {
        -1 => None,
        length => Some(usize::try_from(length).map_err(|_| Malformed("a length is out of range"))?),
    };
    Ok(Header { kind, length })
}

fn parse_number(digits: &[u8]) -> Result<i64, Malformed> {
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or(Malformed("a number is none"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Reply {
        Reply::Text(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn every_type_of_both_versions_is_read() {
        for (frame, reply) in [
            ("+OK\r\n", text("OK")),
            ("-ERR no\r\n", Reply::Error("ERR no".to_owned())),
            (":-7\r\n", Reply::Integer(-7)),
            ("$0\r\n\r\n", text("")),
            ("$4\r\na\r\nb\r\n", text("a\r\nb")),
            ("$-1\r\n", Reply::Nil),
            ("*-1\r\n", Reply::Nil),
            ("_\r\n", Reply::Nil),
            ("#t\r\n", Reply::Integer(1)),
            (",3.25\r\n", text("3.25")),
            (
                "(3492890328409238509324850943850943825024385\r\n",
                text("3492890328409238509324850943850943825024385"),
            ),
            ("!5\r\nERR x\r\n", Reply::Error("ERR x".to_owned())),
            ("=8\r\ntxt:text\r\n", text("text")),
            ("*0\r\n", Reply::Array(vec![])),
            (
                "*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
                Reply::Array(vec![text("a"), Reply::Array(vec![Reply::Integer(1)])]),
            ),
            ("%1\r\n+k\r\n+v\r\n", Reply::Array(vec![text("k"), text("v")])),
            ("~1\r\n+m\r\n", Reply::Array(vec![text("m")])),
            (">2\r\n+invalidate\r\n_\r\n", Reply::Array(vec![text("invalidate"), Reply::Nil])),
            ("|1\r\n+ttl\r\n:3\r\n+OK\r\n", text("OK")),
        ] {
            let mut buffer = BytesMut::from(frame);
            let whole = Found::Frame(Bytes::copy_from_slice(frame.as_bytes()));
            assert_eq!(Frames::new(1024).next(&mut buffer), Ok(Some(whole)), "{frame:?}");
            assert_eq!(parse(frame.as_bytes()), Ok(reply), "{frame:?}");
            for cut in 0..frame.len() {
                let mut part = BytesMut::from(&frame[..cut]);
                assert_eq!(Frames::new(1024).next(&mut part), Ok(None), "{frame:?} to {cut}");
            }
        }
    }

    #[test]
    fn what_is_no_resp_is_refused() {
        for bytes in ["HTTP/1.1 400\r\n", "$x\r\n", "$-2\r\n", "*?\r\n", "\r\n", "+a\rb\r\n"] {
            assert!(Frames::new(1024).next(&mut BytesMut::from(bytes)).is_err(), "{bytes:?}");
        }
        let mut endless = BytesMut::from(vec![b'+'; LONGEST_LINE + 2].as_slice());
        assert!(Frames::new(usize::MAX).next(&mut endless).is_err());
        let deep = "*1\r\n".repeat(DEEPEST + 2) + ":1\r\n";
        assert!(parse(deep.as_bytes()).is_err());
        let attributes = "|0\r\n".repeat(100_000) + ":1\r\n";
        assert!(parse(attributes.as_bytes()).is_err());
    }

    #[test]
    fn a_frame_beyond_the_limit_is_dropped_and_the_next_one_is_whole() {
        for (kind, push) in [("*", false), (">", true)] {
            let mut input = BytesMut::from(format!("{kind}3\r\n$3\r\nabc\r\n$90\r\n").as_str());
            input.extend_from_slice(&[b'x'; 90]);
            input.extend_from_slice(b"\r\n:1\r\n+next\r\n");
            for piece in [1, 7, input.len()] {
                let (mut frames, mut buffer) = (Frames::new(40), BytesMut::new());
                let mut found = vec![];
                for bytes in input.chunks(piece) {
                    buffer.extend_from_slice(bytes);
                    while let Some(frame) = frames.next(&mut buffer).unwrap() {
                        found.push(frame);
                    }
                    assert!(buffer.len() <= 40 || piece > 40, "what is dropped isn't kept");
                }
                let next = Found::Frame(Bytes::from_static(b"+next\r\n"));
                assert_eq!(found, [Found::TooLong { push }, next]);
            }
        }
    }

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        let mut out = BytesMut::new();
        write_command(&[b"SET".as_slice(), b"k", b"\r\n"], &mut out);
        assert_eq!(out, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n\r\n\r\n");
    }

    proptest! {
        #[test]
        fn frames_are_found_whatever_the_pieces(
            commands in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..4), 1..6),
            piece in 1_usize..50,
        ) {
            let mut stream = BytesMut::new();
            for args in &commands {
                write_command(args, &mut stream);
            }
            let (mut frames, mut buffer, mut found) = (Frames::new(1 << 20), BytesMut::new(), vec![]);
            for bytes in stream.chunks(piece) {
                buffer.extend_from_slice(bytes);
                while let Some(Found::Frame(frame)) = frames.next(&mut buffer).unwrap() {
                    found.push(parse(&frame).unwrap());
                }
            }
            let expected: Vec<Reply> = commands.iter().map(|args| Reply::Array(
                args.iter().map(|arg| Reply::Text(Bytes::copy_from_slice(arg))).collect()
            )).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut buffer = BytesMut::from(bytes.as_slice());
            let mut frames = Frames::new(48);
            while let Ok(Some(found)) = frames.next(&mut buffer) {
                if let Found::Frame(frame) = found {
                    let _ = parse(&frame);
                }
            }
        }
    }
}
