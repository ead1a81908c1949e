//! Replies of another server: where one ends, and what it says.
//!
//! Used on what a Redis sends unasked to a subscriber, which goes on to the client as it came.

use std::borrow::Cow;

use bytes::Bytes;

use super::number::parse_i64;
use super::reply::Reply;

/// Bytes that are no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the storage sent something that is not RESP")]
pub struct NotAReply;

/// Replies nested deeper than this are refused, for the sake of the stack.
const MAX_DEPTH: usize = 64;

/// How long the reply at the start of `input` is; `None` when it hasn't arrived whole.
pub fn length(input: &[u8]) -> Result<Option<usize>, NotAReply> {
    let mut at = 0;
    let mut missing = 1_u64;
    while missing > 0 {
        let Some((kind, line, end)) = line(&input[at..]) else {
            return Ok(None);
        };
        at += end;
        missing -= 1;
        match kind {
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => {}
            b'$' | b'=' | b'!' => {
                if let Some(length) = count(line)? {
                    at += usize::try_from(length).map_err(|_| NotAReply)? + 2;
                }
            }
            b'*' | b'~' | b'>' => missing += count(line)?.unwrap_or(0),
            b'%' => missing += 2 * count(line)?.unwrap_or(0),
            // An attribute comes before the reply that it belongs to.
            b'|' => missing += 2 * count(line)?.unwrap_or(0) + 1,
            _ => return Err(NotAReply),
        }
        if at > input.len() {
            return Ok(None);
        }
    }
    Ok(Some(at))
}

/// Reads the one reply that `frame` holds from its start to its end. Attributes are left out.
pub fn parse(frame: &Bytes) -> Result<Reply, NotAReply> {
    let mut at = 0;
    let reply = value(frame, &mut at, 0)?;
    if at == frame.len() { Ok(reply) } else { Err(NotAReply) }
}

fn value(frame: &Bytes, at: &mut usize, depth: usize) -> Result<Reply, NotAReply> {
    if depth > MAX_DEPTH {
        return Err(NotAReply);
    }
    let (kind, line, end) = line(&frame[*at..]).ok_or(NotAReply)?;
    *at += end;
    Ok(match kind {
        b'+' => Reply::Simple(Cow::Owned(text(line)?)),
        b'-' => Reply::Error(Cow::Owned(text(line)?)),
        b':' => Reply::Integer(parse_i64(line).ok_or(NotAReply)?),
        b'_' => Reply::Null,
        b',' => Reply::Double(text(line)?.parse().map_err(|_| NotAReply)?),
        b'#' => Reply::Boolean(line == b"t"),
        b'(' => Reply::BigNumber(text(line)?),
        b'$' => match count(line)? {
            None => Reply::Null,
            Some(length) => Reply::Bulk(blob(frame, at, length)?),
        },
        b'!' => {
            let length = count(line)?.ok_or(NotAReply)?;
            Reply::Error(Cow::Owned(text(&blob(frame, at, length)?)?))
        }
        b'=' => {
            let length = count(line)?.ok_or(NotAReply)?;
            let blob = blob(frame, at, length)?;
            match *blob {
                [a, b, c, b':', ..] => Reply::Verbatim([a, b, c], blob.slice(4..)),
                _ => return Err(NotAReply),
            }
        }
        b'*' => match count(line)? {
            None => Reply::NullArray,
            Some(length) => Reply::Array(values(frame, at, length, depth)?),
        },
        b'~' => Reply::Set(values(frame, at, count(line)?.ok_or(NotAReply)?, depth)?),
        b'>' => Reply::Push(values(frame, at, count(line)?.ok_or(NotAReply)?, depth)?),
        b'%' => {
            let mut pairs = Vec::new();
            for _ in 0..count(line)?.ok_or(NotAReply)? {
                pairs.push((value(frame, at, depth + 1)?, value(frame, at, depth + 1)?));
            }
            Reply::Map(pairs)
        }
        b'|' => {
            for _ in 0..2 * count(line)?.ok_or(NotAReply)? {
                value(frame, at, depth + 1)?;
            }
            value(frame, at, depth + 1)?
        }
        _ => return Err(NotAReply),
    })
}

fn values(
    frame: &Bytes,
    at: &mut usize,
    length: u64,
    depth: usize,
) -> Result<Vec<Reply>, NotAReply> {
    (0..length).map(|_| value(frame, at, depth + 1)).collect()
}

fn blob(frame: &Bytes, at: &mut usize, length: u64) -> Result<Bytes, NotAReply> {
    let start = *at;
    let end = start + usize::try_from(length).map_err(|_| NotAReply)?;
    if frame.get(end..end + 2) != Some(b"\r\n") {
        return Err(NotAReply);
    }
    *at = end + 2;
    Ok(frame.slice(start..end))
}

/// The kind of the reply at the start of `input`, the rest of its line, and where that ends.
fn line(input: &[u8]) -> Option<(u8, &[u8], usize)> {
    let end = memchr::memmem::find(input, b"\r\n")?;
    let (kind, line) = input[..end].split_first()?;
    Some((*kind, line, end + 2))
}

/// A length; `None` is -1. At most 2³¹, far above what Redis can send.
fn count(line: &[u8]) -> Result<Option<u64>, NotAReply> {
    match parse_i64(line) {
        Some(-1) => Ok(None),
        Some(count @ 0..=0x8000_0000) => Ok(u64::try_from(count).ok()),
        _ => Err(NotAReply),
    }
}

fn text(line: &[u8]) -> Result<String, NotAReply> {
    Ok(String::from_utf8_lossy(line).into_owned())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::{NotAReply, length, parse};
    use crate::resp::reply::{Protocol, Reply};

    fn replies() -> impl Strategy<Value = Reply> {
        let bytes = || vec(any::<u8>(), 0..40).prop_map(Bytes::from);
        let leaf = prop_oneof![
            "[a-zA-Z ]{0,20}".prop_map(|text| Reply::Simple(text.into())),
            "ERR [a-z ]{0,20}".prop_map(|text| Reply::Error(text.into())),
            any::<i64>().prop_map(Reply::Integer),
            bytes().prop_map(Reply::Bulk),
            Just(Reply::Null),
            any::<f64>()
                .prop_filter("NaN equals nothing", |number| !number.is_nan())
                .prop_map(Reply::Double),
            any::<bool>().prop_map(Reply::Boolean),
            "-?[1-9][0-9]{20,30}".prop_map(Reply::BigNumber),
            bytes().prop_map(|text| Reply::Verbatim(*b"txt", text)),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..5).prop_map(Reply::Array),
                vec(inner.clone(), 0..5).prop_map(Reply::Set),
                vec(inner.clone(), 0..5).prop_map(Reply::Push),
                vec((inner.clone(), inner), 0..4).prop_map(Reply::Map),
            ]
        })
    }

    #[test]
    fn attributes_are_part_of_the_reply() {
        let frame = Bytes::from_static(b"|1\r\n+ttl\r\n:3\r\n$1\r\nv\r\n");
        assert_eq!(length(&frame), Ok(Some(frame.len())));
        assert_eq!(parse(&frame), Ok(Reply::text("v")));
    }

    #[test]
    fn depth_is_bounded() {
        let frame = Bytes::from(b"*1\r\n".repeat(100_000));
        assert_eq!(length(&frame), Ok(None));
        assert_eq!(parse(&frame), Err(NotAReply));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read(reply in replies(), more: Vec<u8>) {
            let mut out = Vec::new();
            reply.encode(Protocol::Resp3, &mut out);
            let whole = out.len();
            for end in 0..whole {
                prop_assert_eq!(length(&out[..end]), Ok(None));
            }
            prop_assert_eq!(parse(&Bytes::from(out.clone())), Ok(reply));
            out.extend_from_slice(&more);
            prop_assert_eq!(length(&out), Ok(Some(whole)));
        }

        #[test]
        fn resp2_gives_one_reply_too(reply in replies()) {
            let mut out = Vec::new();
            reply.encode(Protocol::Resp2, &mut out);
            prop_assert_eq!(length(&out), Ok(Some(out.len())));
            prop_assert!(parse(&Bytes::from(out)).is_ok());
        }

        #[test]
        fn any_bytes_are_refused_or_read(
            input in vec(prop_oneof![3 => prop::sample::select(b"*%~>|$=!+-:_,#(\r\n012".to_vec()),
                1 => any::<u8>()], 0..60)
        ) {
            if let Ok(Some(end)) = length(&input) {
                prop_assert!(end <= input.len());
                let _ = parse(&Bytes::from(input).slice(..end));
            }
        }
    }
}
