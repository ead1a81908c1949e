//! Replies as data, and how each is written in both protocols. Reading them is `reply_parse`.

use std::borrow::Cow;

use bytes::{BufMut, Bytes};

use super::number::{Digits, format_f64};

/// The protocol that a connection speaks, chosen with HELLO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// What every client speaks that says nothing.
    #[default]
    Resp2,
    /// With maps, sets, numbers and pushes of their own.
    Resp3,
}

impl Protocol {
    /// 2 or 3.
    pub fn number(self) -> u8 {
        match self {
            Self::Resp2 => 2,
            Self::Resp3 => 3,
        }
    }
}

/// What a command answers. RESP2 has no form for the kinds of RESP3 and gets the nearest one.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// `OK` and the like.
    Simple(Cow<'static, str>),
    /// An error with its prefix: `ERR …`, `WRONGTYPE …`.
    Error(Cow<'static, str>),
    /// A signed number.
    Integer(i64),
    /// A string of any bytes.
    Bulk(Bytes),
    /// No string.
    Null,
    /// No array; differs from [`Reply::Null`] in RESP2 only.
    NullArray,
    /// A list.
    Array(Vec<Reply>),
    /// Pairs; in RESP2 a list of keys and values by turns.
    Map(Vec<(Reply, Reply)>),
    /// A list without order; in RESP2 a list.
    Set(Vec<Reply>),
    /// Something that nobody asked for; in RESP2 a list.
    Push(Vec<Reply>),
    /// A floating point number; in RESP2 a string.
    Double(f64),
    /// A truth; in RESP2 1 or 0.
    Boolean(bool),
    /// The digits of a number that may be longer than 64 bits; in RESP2 a string.
    BigNumber(String),
    /// A text with its format (`txt`, `mkd`); in RESP2 a string.
    Verbatim([u8; 3], Bytes),
    /// Replies that are encoded already, as another server sent them.
    Raw(Bytes),
}

impl Reply {
    /// `+OK`.
    pub const OK: Self = Self::Simple(Cow::Borrowed("OK"));

    /// An error with the prefix `ERR`.
    pub fn err(words: &str) -> Self {
        Self::Error(Cow::Owned(format!("ERR {words}")))
    }

    /// A string that is part of the program.
    pub const fn text(text: &'static str) -> Self {
        Self::Bulk(Bytes::from_static(text.as_bytes()))
    }

    /// A copy of a string.
    pub fn bulk(data: &[u8]) -> Self {
        Self::Bulk(Bytes::copy_from_slice(data))
    }

    /// Pairs that are not a map: in RESP3 a list of lists of two, in RESP2 one list of both by
    /// turns.
    pub fn pairs(protocol: Protocol, pairs: impl Iterator<Item = (Self, Self)>) -> Self {
        Self::Array(match protocol {
            Protocol::Resp2 => pairs.flat_map(|(one, other)| [one, other]).collect(),
            Protocol::Resp3 => pairs.map(|(one, other)| Self::Array(vec![one, other])).collect(),
        })
    }

    /// A string or none.
    pub fn bulk_or_null(data: Option<Bytes>) -> Self {
        data.map_or(Self::Null, Self::Bulk)
    }

    /// A count. Counts of things in memory never reach 63 bits.
    pub fn count(count: u64) -> Self {
        Self::Integer(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// Appends the reply to `out` in the form of `protocol`.
    pub fn encode(&self, protocol: Protocol, out: &mut Vec<u8>) {
        let resp3 = protocol == Protocol::Resp3;
        match self {
            Self::Simple(text) => put_line(out, b'+', text.as_bytes()),
            Self::Error(text) => put_line(out, b'-', text.as_bytes()),
            Self::Integer(number) => put_head(out, b':', *number),
            Self::Bulk(data) => put_bulk(out, data),
            Self::Null | Self::NullArray if resp3 => out.put_slice(b"_\r\n"),
            Self::Null => out.put_slice(b"$-1\r\n"),
            Self::NullArray => out.put_slice(b"*-1\r\n"),
            Self::Map(pairs) => {
                let (kind, length) =
                    if resp3 { (b'%', pairs.len()) } else { (b'*', 2 * pairs.len()) };
                put_length(out, kind, length);
                for (key, value) in pairs {
                    key.encode(protocol, out);
                    value.encode(protocol, out);
                }
            }
            Self::Array(items) => put_items(out, b'*', items, protocol),
            Self::Set(items) => put_items(out, if resp3 { b'~' } else { b'*' }, items, protocol),
            Self::Push(items) => put_items(out, if resp3 { b'>' } else { b'*' }, items, protocol),
            Self::Double(number) if resp3 => put_line(out, b',', format_f64(*number).as_bytes()),
            Self::Double(number) => put_bulk(out, format_f64(*number).as_bytes()),
            Self::Boolean(truth) if resp3 => {
                out.put_slice(if *truth { b"#t\r\n" } else { b"#f\r\n" });
            }
            Self::Boolean(truth) => put_head(out, b':', i64::from(*truth)),
            Self::BigNumber(digits) if resp3 => put_line(out, b'(', digits.as_bytes()),
            Self::BigNumber(digits) => put_bulk(out, digits.as_bytes()),
            Self::Verbatim(format, text) if resp3 => {
                put_length(out, b'=', text.len() + 4);
                out.put_slice(format);
                out.put_u8(b':');
                out.put_slice(text);
                out.put_slice(b"\r\n");
            }
            Self::Verbatim(_, text) => put_bulk(out, text),
            Self::Raw(encoded) => out.put_slice(encoded),
        }
    }
}

fn put_items(out: &mut Vec<u8>, kind: u8, items: &[Reply], protocol: Protocol) {
    put_length(out, kind, items.len());
    for item in items {
        item.encode(protocol, out);
    }
}

pub(super) fn put_bulk(out: &mut Vec<u8>, data: &[u8]) {
    out.reserve(data.len() + 32);
    put_length(out, b'$', data.len());
    out.put_slice(data);
    out.put_slice(b"\r\n");
}

/// A line; a line break within the text would end it early and becomes a blank.
fn put_line(out: &mut Vec<u8>, kind: u8, text: &[u8]) {
    out.reserve(text.len() + 3);
    out.put_u8(kind);
    let start = out.len();
    out.put_slice(text);
    for byte in &mut out[start..] {
        if matches!(byte, b'\r' | b'\n') {
            *byte = b' ';
        }
    }
    out.put_slice(b"\r\n");
}

pub(super) fn put_length(out: &mut Vec<u8>, kind: u8, length: usize) {
    put_head(out, kind, i64::try_from(length).unwrap_or(i64::MAX));
}

fn put_head(out: &mut Vec<u8>, kind: u8, number: i64) {
    let digits = Digits::of(number);
    out.put_u8(kind);
    out.put_slice(digits.as_bytes());
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Protocol, Reply};

    fn encoded(reply: &Reply, protocol: Protocol) -> String {
        let mut out = Vec::new();
        reply.encode(protocol, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn both(reply: &Reply) -> (String, String) {
        (encoded(reply, Protocol::Resp2), encoded(reply, Protocol::Resp3))
    }

    fn pair(resp2: &str, resp3: &str) -> (String, String) {
        (resp2.to_owned(), resp3.to_owned())
    }

    #[test]
    fn each_kind_has_its_form_in_both_protocols() {
        assert_eq!(both(&Reply::OK), pair("+OK\r\n", "+OK\r\n"));
        assert_eq!(both(&Reply::Integer(-7)), pair(":-7\r\n", ":-7\r\n"));
        assert_eq!(both(&Reply::text("a\r\nb")), pair("$4\r\na\r\nb\r\n", "$4\r\na\r\nb\r\n"));
        assert_eq!(both(&Reply::Null), pair("$-1\r\n", "_\r\n"));
        assert_eq!(both(&Reply::NullArray), pair("*-1\r\n", "_\r\n"));
        assert_eq!(both(&Reply::Boolean(true)), pair(":1\r\n", "#t\r\n"));
        assert_eq!(both(&Reply::Double(1.5)), pair("$3\r\n1.5\r\n", ",1.5\r\n"));
        assert_eq!(both(&Reply::Double(f64::NEG_INFINITY)), pair("$4\r\n-inf\r\n", ",-inf\r\n"));
        assert_eq!(both(&Reply::BigNumber("12".into())), pair("$2\r\n12\r\n", "(12\r\n"));
        let verbatim = Reply::Verbatim(*b"txt", Bytes::from_static(b"hi"));
        assert_eq!(both(&verbatim), pair("$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"));
        let one = vec![Reply::Integer(1)];
        assert_eq!(both(&Reply::Array(one.clone())), pair("*1\r\n:1\r\n", "*1\r\n:1\r\n"));
        assert_eq!(both(&Reply::Set(one.clone())), pair("*1\r\n:1\r\n", "~1\r\n:1\r\n"));
        assert_eq!(both(&Reply::Push(one)), pair("*1\r\n:1\r\n", ">1\r\n:1\r\n"));
        let map = Reply::Map(vec![(Reply::text("k"), Reply::Null)]);
        assert_eq!(both(&map), pair("*2\r\n$1\r\nk\r\n$-1\r\n", "%1\r\n$1\r\nk\r\n_\r\n"));
    }

    #[test]
    fn a_line_break_cannot_leave_a_line() {
        let error = Reply::err("bad\r\n+OK");
        assert_eq!(encoded(&error, Protocol::Resp2), "-ERR bad  +OK\r\n");
    }
}
