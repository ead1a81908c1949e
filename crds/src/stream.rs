//! The JetStream streams of a tenant, that of its invalidations and that of its registers, as the
//! requests that make them: JSON, so that this crate needs no NATS client. The operator sends them
//! for a managed NATS, the sidecar for one that exists; both send the very same, so either may come
//! first.

use std::time::Duration;

use serde_json::{Value, json};

use crate::names::{
    invalidation_stream, invalidation_subject, register_republish_subject, register_stream,
    register_subject, republish_subject,
};

/// The key of the stream's metadata that names its epoch. The server names one too, by the time
/// of the stream's creation; whoever brings back old data under the same time (a volume restored
/// from a snapshot) must write a new value here, and every sidecar then flushes.
pub const EPOCH: &str = "warp-epoch";

/// How long an invalidation can be replayed, and so how long a sidecar may be cut off and still
/// keep its cache.
pub const MAX_AGE: Duration = Duration::from_hours(1);
/// As [`MAX_AGE`], in bytes of invalidations, where nobody chose another bound.
pub const MAX_BYTES: i64 = 256 << 20;
/// How long a repeated publish is recognized by its `Nats-Msg-Id`.
pub const DUPLICATE_WINDOW: Duration = Duration::from_mins(2);

/// The request's body for `$JS.API.STREAM.CREATE.<name>` and, with the `epoch` that the stream has,
/// `$JS.API.STREAM.UPDATE.<name>`; the name is [`invalidation_stream`]'s.
///
/// The stream republishes what it has stored: sidecars subscribe to that without any state in the
/// server, and fill what they missed by Direct Get.
pub fn config(tenant: &str, replicas: u8, epoch: &str) -> Value {
    let nanoseconds = |duration: Duration| duration.as_secs() * 1_000_000_000;
    json!({
        "name": invalidation_stream(tenant),
        "description": "Invalidations between the Warp sidecars of a WarpCluster",
        "subjects": [invalidation_subject(tenant)],
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "max_age": nanoseconds(MAX_AGE),
        "max_bytes": MAX_BYTES,
        "duplicate_window": nanoseconds(DUPLICATE_WINDOW),
        "num_replicas": replicas,
        "allow_direct": true,
        "republish": {
            "src": invalidation_subject(tenant),
            "dest": republish_subject(tenant),
        },
        "metadata": { (EPOCH): epoch },
    })
}

/// Bytes of registers, where nobody chose another bound. Beyond it a write is refused: a register is
/// never dropped to make room for another.
pub const REGISTER_BYTES: i64 = 64 << 20;

/// A stream of registers begins to count at its epoch times this, so that a stream that is made anew
/// never gives a position that the one before it may have given.
const POSITIONS_PER_MILLISECOND: u64 = 1024;

/// The request's body for `$JS.API.STREAM.CREATE.<name>` and, with the `epoch` that the stream has,
/// `$JS.API.STREAM.UPDATE.<name>`; the name is [`register_stream`]'s.
///
/// `epoch` is the time at which the stream is made, in Unix milliseconds: it must be greater than
/// that of every stream that was there before. The stream keeps the last message of each subject,
/// for good: what is lost with a register is that somebody holds a lock.
pub fn register_config(tenant: &str, replicas: u8, epoch: u64) -> Value {
    let (source, destination) = (register_subject(tenant), register_republish_subject(tenant));
    json!({
        "name": register_stream(tenant),
        "description": "Locks and leases of the Warp sidecars of a WarpCluster",
        "subjects": [format!("{source}.>")],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_msgs_per_subject": 1,
        "max_bytes": REGISTER_BYTES,
        "num_replicas": replicas,
        "allow_direct": true,
        "allow_msg_ttl": true,
        "first_seq": epoch.saturating_mul(POSITIONS_PER_MILLISECOND),
        "republish": {
            "src": format!("{source}.>"),
            "dest": format!("{destination}.>"),
        },
        "metadata": { (EPOCH): epoch.to_string() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_captures_what_is_published_and_republishes_it_elsewhere() {
        let config = config("shop_main", 3, "e1");
        assert_eq!(config["name"], "WARP_INV_shop_main");
        assert_eq!(config["subjects"], json!(["warp.shop_main.inv"]));
        assert_eq!(config["republish"]["src"], config["subjects"][0]);
        assert_eq!(config["republish"]["dest"], "warp.shop_main.rp");
        assert_eq!(config["metadata"][EPOCH], "e1");
        assert_eq!(config["num_replicas"], 3);
        assert_eq!(config["max_age"], 3_600_000_000_000_u64);
    }

    #[test]
    fn registers_of_a_later_stream_have_later_positions() {
        let config = |epoch| register_config("shop_main", 1, epoch);
        let first = config(1_764_131_369_000);
        assert_eq!(first["name"], "WARP_REG_shop_main");
        assert_eq!(first["subjects"], json!(["warp.shop_main.reg.>"]));
        assert_eq!(first["metadata"][EPOCH], "1764131369000");
        let position = |config: &Value| config["first_seq"].as_u64().unwrap();
        assert!(position(&config(1_764_131_370_000)) > position(&first) + 1_000_000);
        // Clients count in signed 64 bits, and some in the 53 of a float.
        assert!(position(&config(4_000_000_000_000)) < 1 << 53);
    }
}
