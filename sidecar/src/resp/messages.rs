//! What a client is told without having asked, as it stands among its replies: pushes in RESP3,
//! and in RESP2 the arrays that a subscriber expects.

use bytes::Bytes;

use super::reply::{Protocol, Reply};
use crate::channels::Message;

/// The channel that a RESP2 client subscribes to for the invalidations of another.
const INVALIDATIONS: Reply = Reply::text("__redis__:invalidate");

/// `message` as the client reads it; `None` if it has no form for one that isn't `subscribed` to
/// anything.
pub(super) fn written(message: Message, protocol: Protocol, subscribed: bool) -> Option<Reply> {
    let of = |kind: &'static str, texts: &[Bytes]| {
        let texts = texts.iter().cloned().map(Reply::Bulk);
        Reply::Push([Reply::text(kind)].into_iter().chain(texts).collect())
    };
    Some(match (message, protocol) {
        (Message::Published { channel, payload }, _) => of("message", &[channel, payload]),
        (Message::Sharded { channel, payload }, _) => of("smessage", &[channel, payload]),
        (Message::Matched { pattern, channel, payload }, _) => {
            of("pmessage", &[pattern, channel, payload])
        }
        (Message::Monitored(line), _) => Reply::Raw(line),
        (Message::Invalidated { keys, .. }, Protocol::Resp3) => {
            Reply::Push(vec![Reply::text("invalidate"), names(keys.as_deref())])
        }
        (Message::Invalidated { keys, redirected: true }, Protocol::Resp2) if subscribed => {
            Reply::Push(vec![Reply::text("message"), INVALIDATIONS, names(keys.as_deref())])
        }
        (Message::RedirectionBroken { to }, Protocol::Resp3) => {
            Reply::Push(vec![Reply::text("tracking-redir-broken"), Reply::count(to)])
        }
        (Message::Lost(loss), Protocol::Resp3) => {
            let token = loss.token.into_iter().map(Reply::count).collect();
            Reply::Push(vec![
                Reply::text(loss.kind),
                Reply::Bulk(loss.name),
                Reply::Array(token),
                Reply::text(loss.reason),
            ])
        }
        (
            Message::Invalidated { .. } | Message::RedirectionBroken { .. } | Message::Lost(_),
            Protocol::Resp2,
        ) => return None,
    })
}

fn names(keys: Option<&[Bytes]>) -> Reply {
    keys.map_or(Reply::Null, |keys| Reply::Array(keys.iter().cloned().map(Reply::Bulk).collect()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::written;
    use crate::channels::Message;
    use crate::resp::reply::Protocol::{Resp2, Resp3};

    #[test]
    fn an_invalidation_has_a_form_in_resp2_for_a_subscriber_that_it_is_redirected_to() {
        let form = |redirected, protocol, subscribed| {
            let keys = Some([Bytes::from_static(b"k")].into());
            let message = Message::Invalidated { keys, redirected };
            let mut out = Vec::new();
            written(message, protocol, subscribed)?.encode(protocol, &mut out);
            Some(String::from_utf8(out).unwrap())
        };
        let push = ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n";
        assert_eq!(form(false, Resp3, false).unwrap(), push);
        assert_eq!(form(true, Resp3, false).unwrap(), push);
        let message = "*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*1\r\n$1\r\nk\r\n";
        assert_eq!(form(true, Resp2, true).unwrap(), message);
        assert_eq!(form(true, Resp2, false), None);
        assert_eq!(form(false, Resp2, true), None);
    }
}
