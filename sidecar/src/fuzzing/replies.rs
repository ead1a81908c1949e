//! Replies, there and back: *what is encoded is one reply, and is read as what it was*, in RESP2 as
//! the nearest that RESP2 can say. The reader of Redis' replies in the adapter finds the same end.
//! And any bytes are read or refused.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};

use super::Input;
use crate::adapter::redis::frame::{self, Found, Frames};
use crate::resp::number::format_f64;
use crate::resp::reply::{Protocol, Reply};
use crate::resp::reply_parse::{length, parse};

/// How deep replies nest here.
const DEEPEST: usize = 6;

pub(super) fn target(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    if input.truth() {
        let any = Bytes::copy_from_slice(input.rest());
        if let Ok(Some(end)) = length(&any) {
            assert!(end <= any.len());
            let _ = parse(&any.slice(..end));
        }
        return;
    }
    let reply = reply(&mut input, 0);
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        let mut out = Vec::new();
        reply.encode(protocol, &mut out);
        assert_eq!(length(&out), Ok(Some(out.len())), "{reply:?} is one reply");
        assert_eq!(length(&out[..out.len() - 1]), Ok(None), "{reply:?} ends at its end");
        let out = Bytes::from(out);
        let read = parse(&out).expect("what is encoded is a reply");
        assert_eq!(said(&read), said(&heard(&reply, protocol)), "{protocol:?}");

        let mut buffer = BytesMut::from(&out[..]);
        let found = Frames::new(usize::MAX).next(&mut buffer);
        assert_eq!(found, Ok(Some(Found::Frame(out.clone()))));
        frame::parse(&out).expect("the adapter reads it, too");
    }
}

/// For a comparison, in which no number is no number.
fn said(reply: &Reply) -> String {
    format!("{reply:?}")
}

fn reply(input: &mut Input<'_>, depth: usize) -> Reply {
    let kinds = if depth < DEEPEST { 15 } else { 11 };
    match input.below(kinds) {
        0 => Reply::Simple(text(input)),
        1 => Reply::Error(text(input)),
        2 => Reply::Integer(input.word()),
        3 => Reply::Bulk(data(input)),
        4 => Reply::Null,
        5 => Reply::NullArray,
        6 => Reply::Double(f64::from_bits(input.word().cast_unsigned())),
        7 => Reply::Boolean(input.truth()),
        8 => Reply::BigNumber(format!("{}{:020}", input.word(), input.word().unsigned_abs())),
        9 => Reply::Verbatim(*input.one_of(&[*b"txt", *b"mkd"]), data(input)),
        10 => Reply::Double(f64::from(input.byte()) / 8.0),
        11 => Reply::Array(several(input, depth)),
        12 => Reply::Set(several(input, depth)),
        13 => Reply::Push(several(input, depth)),
        _ => {
            let pairs = 0..input.below(4);
            Reply::Map(pairs.map(|_| (reply(input, depth + 1), reply(input, depth + 1))).collect())
        }
    }
}

fn several(input: &mut Input<'_>, depth: usize) -> Vec<Reply> {
    (0..input.below(5)).map(|_| reply(input, depth + 1)).collect()
}

fn data(input: &mut Input<'_>) -> Bytes {
    let length = input.below(40);
    Bytes::copy_from_slice(input.bytes(length))
}

fn text(input: &mut Input<'_>) -> Cow<'static, str> {
    String::from_utf8_lossy(&data(input)).into_owned().into()
}

/// What a client of `protocol` is told by `reply`.
fn heard(reply: &Reply, protocol: Protocol) -> Reply {
    let all = |items: &[Reply]| items.iter().map(|item| heard(item, protocol)).collect();
    let line = |text: &str| Cow::Owned(text.replace(['\r', '\n'], " "));
    match (reply, protocol) {
        (Reply::Simple(text), _) => Reply::Simple(line(text)),
        (Reply::Error(text), _) => Reply::Error(line(text)),
        (Reply::NullArray, Protocol::Resp3) => Reply::Null,
        (Reply::Array(items), _) | (Reply::Set(items) | Reply::Push(items), Protocol::Resp2) => {
            Reply::Array(all(items))
        }
        (Reply::Set(items), Protocol::Resp3) => Reply::Set(all(items)),
        (Reply::Push(items), Protocol::Resp3) => Reply::Push(all(items)),
        (Reply::Map(pairs), Protocol::Resp2) => Reply::Array(
            pairs
                .iter()
                .flat_map(|(key, value)| [key, value])
                .map(|item| heard(item, protocol))
                .collect(),
        ),
        (Reply::Map(pairs), Protocol::Resp3) => Reply::Map(
            pairs
                .iter()
                .map(|(key, value)| (heard(key, protocol), heard(value, protocol)))
                .collect(),
        ),
        (Reply::Double(number), Protocol::Resp2) => Reply::bulk(format_f64(*number).as_bytes()),
        (Reply::Boolean(truth), Protocol::Resp2) => Reply::Integer(i64::from(*truth)),
        (Reply::BigNumber(digits), Protocol::Resp2) => Reply::bulk(digits.as_bytes()),
        (Reply::Verbatim(_, text), Protocol::Resp2) => Reply::Bulk(text.clone()),
        (other, _) => other.clone(),
    }
}
