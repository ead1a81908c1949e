//! How the message of a channel is written for the other sidecars: MessagePack with named fields
//! and a version. One that can't be read is nobody's, as if it had been lost.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::wire::Binary;
use super::{ChannelMessage, Origin};

const VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
struct Written {
    v: u8,
    origin: Origin,
    sharded: bool,
    channel: Binary,
    payload: Binary,
}

/// As bytes.
pub(super) fn encode(message: &ChannelMessage) -> Bytes {
    let ChannelMessage { origin, sharded, channel, payload } = message;
    let written = Written {
        v: VERSION,
        origin: *origin,
        sharded: *sharded,
        channel: Binary(channel.clone()),
        payload: Binary(payload.clone()),
    };
    // Writing to memory can't fail; an empty message would be nobody's.
    rmp_serde::to_vec_named(&written).unwrap_or_default().into()
}

/// From bytes.
pub(super) fn decode(bytes: &[u8]) -> Option<ChannelMessage> {
    let written: Written = rmp_serde::from_slice(bytes).ok()?;
    let Written { v: VERSION, origin, sharded, channel: Binary(channel), payload: Binary(payload) } =
        written
    else {
        return None;
    };
    Some(ChannelMessage { origin, sharded, channel, payload })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            origin: u64, sharded: bool, channel: Vec<u8>, payload: Vec<u8>
        ) {
            let message = ChannelMessage {
                origin: Origin(origin),
                sharded,
                channel: channel.into(),
                payload: payload.into(),
            };
            prop_assert_eq!(decode(&encode(&message)), Some(message));
        }

        #[test]
        fn any_bytes_are_refused_or_read(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn another_version_is_nobodys() {
        let written = Written {
            v: VERSION + 1,
            origin: Origin(1),
            sharded: false,
            channel: Binary(Bytes::new()),
            payload: Binary(Bytes::new()),
        };
        assert_eq!(decode(&rmp_serde::to_vec_named(&written).unwrap()), None);
    }
}
