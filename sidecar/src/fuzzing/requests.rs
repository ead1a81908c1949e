//! Requests, framed and inline: *however the input is cut, the same commands and the same error come
//! out of it, and no command is beyond the limits*.

use super::Input;
use crate::resp::request::{Batch, Limits, ProtocolError, RequestParser};

/// Small enough to be reached.
const LIMITS: Limits = Limits { bulk: 48, arguments: 6, inline: 24, frame: 120 };

type Commands = Vec<Vec<Vec<u8>>>;

pub(super) fn target(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (first, second, taken) = (input.byte(), input.byte(), input.byte());
    let stream = input.rest();

    let whole = commands([stream], usize::MAX);
    for command in &whole.0 {
        let length: usize = command.iter().map(Vec::len).sum();
        assert!(!command.is_empty() && command.len() <= LIMITS.arguments.max(LIMITS.inline));
        assert!(command.iter().all(|argument| argument.len() <= LIMITS.bulk));
        assert!(length <= LIMITS.frame);
    }
    assert_eq!(commands(stream.chunks(1), usize::MAX), whole, "byte by byte");
    let chunks = stream.chunks(usize::from(first % 64) + 1);
    assert_eq!(commands(chunks, usize::MAX), whole, "by equal pieces");
    let (one, other) = stream.split_at(stream.len() * usize::from(second) / 256);
    assert_eq!(commands([one, other], usize::from(taken % 4)), whole, "with some left for later");
}

/// Every command of the chunks, and the error that ended them. At most `at_once` commands more than
/// one are taken from each batch, and the rest is read again, as by a connection that has to wait.
fn commands<'a>(
    chunks: impl IntoIterator<Item = &'a [u8]>,
    at_once: usize,
) -> (Commands, Option<ProtocolError>) {
    let mut parser = RequestParser::new(LIMITS);
    let (mut input, mut batch) = (Vec::new(), Batch::default());
    let mut commands = Vec::new();
    for chunk in chunks {
        input.extend_from_slice(chunk);
        loop {
            let result = parser.read(&input, 0, &mut batch);
            let taken = batch.len().min(at_once.saturating_add(1));
            for at in 0..taken {
                commands.push(batch.arguments(at, &input).map(<[u8]>::to_vec).collect());
            }
            if taken < batch.len() {
                parser.rewind();
                input.drain(..batch.end_of(taken - 1));
                continue;
            }
            if let Err(error) = result {
                return (commands, Some(error));
            }
            assert!(batch.end() <= input.len());
            input.drain(..batch.end());
            if batch.is_empty() {
                break;
            }
        }
        // What is left is one command that hasn't come whole.
        assert!(input.len() <= LIMITS.frame + LIMITS.inline + 2 || chunk.len() > LIMITS.frame);
    }
    (commands, None)
}
