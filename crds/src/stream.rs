//! The JetStream stream that carries a tenant's invalidations, as the request that makes it: JSON,
//! so that this crate needs no NATS client. The operator sends it for a managed NATS, the sidecar
//! for one that exists; both send the very same, so either may come first.

use std::time::Duration;

use serde_json::{Value, json};

use crate::names::{invalidation_stream, invalidation_subject, republish_subject};

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
}
