//! What a Redis behind Warp sends: *however it is cut, the same frames are found, none beyond the
//! limit, and until one is dropped they are what was sent*. Each is read or refused.

use bytes::BytesMut;

use super::Input;
use crate::adapter::redis::frame::{Found, Frames, Malformed, parse};

pub(super) fn target(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let limit = [24, 64, 1 << 12, usize::MAX][input.below(4)];
    let piece = input.below(32) + 1;
    let stream = input.rest();

    let whole = frames(stream.chunks(stream.len().max(1)), limit);
    assert_eq!(frames(stream.chunks(1), limit), whole, "byte by byte");
    assert_eq!(frames(stream.chunks(piece), limit), whole, "by equal pieces");
    let mut behind = Some(stream);
    for found in whole.0 {
        match found {
            Found::Frame(frame) => {
                assert!(frame.len() <= limit);
                behind = behind.map(|rest| rest.strip_prefix(&frame[..]).expect("what was sent"));
                let _ = parse(&frame);
            }
            Found::TooLong { .. } => behind = None,
        }
    }
}

fn frames<'a>(
    chunks: impl Iterator<Item = &'a [u8]>,
    limit: usize,
) -> (Vec<Found>, Option<Malformed>) {
    let (mut frames, mut buffer, mut found) = (Frames::new(limit), BytesMut::new(), Vec::new());
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        loop {
            match frames.next(&mut buffer) {
                Ok(Some(frame)) => found.push(frame),
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
    }
    (found, None)
}
