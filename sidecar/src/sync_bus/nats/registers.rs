//! Registers in a stream of JetStream: each is the last message of a subject of its own, written
//! with the server's compare-and-swap (`Nats-Expected-Last-Subject-Sequence`). A revision is a
//! message's position in the stream. The formats are those of the server's ADR-1, ADR-8 (expected
//! sequences), ADR-28 (republish), ADR-31 (Direct Get) and ADR-43 (a message's own TTL).
//!
//! *A write that comes late does no harm*: it names the revision that it was meant for. The stream
//! never drops a register to make room, and one that is made anew counts on from beyond the old
//! one's positions, so that no revision is given twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, StatusCode, Subscriber};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::broadcast;
use tokio_util::task::AbortOnDropHandle;
use warp_crds::stream;

use super::super::registers::{Epoch, Register, RegisterError, Registers, Space, Watched};
use super::Shared;
use super::api::{self, ApiError, Config, RegisterNames, StreamFault};
use super::requests::RequestError;
use super::session::Session;
use crate::adapter::unix_millis;

/// Writes that wait for a watcher to take them.
const WATCHED: usize = 1024;
/// The stream is made for one server; whoever wants more makes or changes it himself.
const REPLICAS: u8 = 1;
/// Registers that are asked for at once.
const PAGE: usize = 256;

const MESSAGE_NOT_FOUND: u32 = 10037;
const WRONG_LAST_SEQUENCE: u32 = 10071;
const END_OF_BATCH: u16 = 204;

/// Where what is written is told.
pub(super) fn watchers() -> broadcast::Sender<Watched> {
    broadcast::channel(WATCHED).0
}

/// A connection is there; what was written before it may have been missed.
pub(super) fn joined(watchers: &broadcast::Sender<Watched>) {
    // That no one watches is no fault.
    let _ = watchers.send(Watched::Joined);
}

/// What one connection tells of registers that are written.
#[derive(Debug)]
pub(super) struct Feed(
    #[expect(dead_code, reason = "it ends when it is dropped")] AbortOnDropHandle<()>,
);

impl Feed {
    pub(super) async fn open(
        client: &Client,
        names: &RegisterNames,
        watchers: broadcast::Sender<Watched>,
    ) -> Result<Self, async_nats::SubscribeError> {
        let told = client.subscribe(format!("{}.>", names.live)).await?;
        let feeding = feed(told, names.live.clone(), watchers);
        Ok(Self(AbortOnDropHandle::new(tokio::spawn(feeding))))
    }
}

async fn feed(mut told: Subscriber, live: String, watchers: broadcast::Sender<Watched>) {
    while let Some(message) = told.next().await {
        let named = named(&live, &message.subject);
        let revision = message.headers.as_ref().and_then(position);
        // What was sent past the stream has no position.
        if let (Some((space, name)), Some(revision)) = (named, revision) {
            let register = Register { revision, value: message.payload };
            let _ = watchers.send(Watched::Written { space, name, register });
        }
    }
}

fn position(headers: &HeaderMap) -> Option<u64> {
    api::header(headers, "Nats-Sequence")?.parse().ok()
}

/// The register whose subject lies below `root`.
fn named(root: &str, subject: &str) -> Option<(Space, Bytes)> {
    let (space, name) = subject.strip_prefix(root)?.strip_prefix('.')?.split_once('.')?;
    Some((Space::of(space)?, hex::decode(name).ok()?.into()))
}

/// See the module.
#[derive(Debug)]
pub(super) struct NatsRegisters {
    shared: Arc<Shared>,
    /// The greatest epoch that was seen.
    greatest: AtomicU64,
}

impl NatsRegisters {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, greatest: AtomicU64::new(0) }
    }

    fn names(&self) -> &RegisterNames {
        &self.shared.names.registers
    }

    /// A name may be of any bytes, a subject not.
    fn subject(&self, space: Space, name: &[u8]) -> String {
        format!("{}.{}.{}", self.names().publish, space.word(), hex::encode(name))
    }

    fn session(&self) -> Result<Arc<Session>, RegisterError> {
        self.shared.session().map_err(RegisterError::Unavailable)
    }

    /// Asks what changes nothing.
    async fn ask(&self, subject: &str, body: Bytes) -> Result<Message, RegisterError> {
        let patience = self.shared.settings.timings.request_timeout;
        let session = self.session()?;
        session.requests.ask(subject, HeaderMap::new(), body, patience).await.map_err(unread)
    }

    async fn ask_epoch(&self) -> Result<Result<u64, StreamFault>, RegisterError> {
        let reply = self.ask(&self.names().info, Bytes::new()).await?;
        Ok(api::read_stream(&self.names().stream, &reply.payload)
            .and_then(|(config, ..)| epoch_of(self.names(), &config)))
    }

    /// Makes the stream, unless somebody else does.
    async fn create(&self) -> Result<(), RegisterError> {
        // Greater than any that was there, even if this clock is behind that of who made it.
        let epoch = unix_millis().max(self.greatest.load(Ordering::Relaxed) + 1);
        let config = stream::register_config(&self.shared.names.tenant, REPLICAS, epoch);
        let reply = self.ask(&self.names().create, config.to_string().into()).await?;
        api::read_created(&reply.payload).map_err(|error| {
            let stream = &self.names().stream;
            RegisterError::Unavailable(format!(
                "stream {stream} is missing and can't be made: {error}"
            ))
        })
    }
}

#[async_trait]
impl Registers for NatsRegisters {
    async fn epoch(&self) -> Result<Epoch, RegisterError> {
        let mut answer = self.ask_epoch().await?;
        if let Err(StreamFault::Missing(stream)) = &answer {
            if !self.shared.settings.create_stream {
                let words = format!("stream {stream} is missing: the operator makes it");
                return Err(RegisterError::Unavailable(words));
            }
            self.create().await?;
            answer = self.ask_epoch().await?;
        }
        let epoch = answer.map_err(|fault| RegisterError::Unavailable(fault.to_string()))?;
        let greatest = self.greatest.fetch_max(epoch, Ordering::Relaxed);
        if epoch < greatest {
            return Err(RegisterError::Unavailable(format!(
                "stream {} has epoch {epoch}, and had {greatest}: it was made by a clock that is \
                 behind. Delete it, so that it is made anew",
                self.names().stream,
            )));
        }
        Ok(Epoch { number: epoch, has_forerunners: true })
    }

    /// From the stream's leader.
    async fn read(&self, space: Space, name: &[u8]) -> Result<Option<Register>, RegisterError> {
        let body = json!({"last_by_subj": self.subject(space, name)}).to_string();
        let reply = self.ask(&self.names().get, body.into()).await?;
        read_got(&reply.payload)
    }

    async fn write(
        &self,
        space: Space,
        name: &[u8],
        expected: u64,
        value: Bytes,
        kept_for: Option<Duration>,
    ) -> Result<u64, RegisterError> {
        let session = self.session()?;
        if value.len() + super::HEADERS > session.max_payload {
            return Err(RegisterError::Refused(format!(
                "{} bytes are more than NATS takes at once ({})",
                value.len(),
                session.max_payload
            )));
        }
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Stream", self.names().stream.as_str());
        headers.insert("Nats-Expected-Last-Subject-Sequence", expected.to_string().as_str());
        if let Some(kept_for) = kept_for {
            // The server counts whole seconds.
            headers.insert("Nats-TTL", format!("{}s", kept_for.as_secs().max(1)).as_str());
        }
        let subject = self.subject(space, name);
        let patience = self.shared.settings.timings.publish_timeout;
        let reply = session.requests.ask(&subject, headers, value, patience).await;
        match reply {
            Ok(reply) => read_ack(&reply.payload),
            Err(RequestError::NoResponders(_)) => Err(RegisterError::Unavailable(format!(
                "stream {} is missing or can't be reached",
                self.names().stream
            ))),
            Err(RequestError::Refused(error)) => Err(RegisterError::Refused(error)),
            Err(error) => Err(RegisterError::Unknown(error.to_string())),
        }
    }

    async fn all(&self, space: Space) -> Result<Vec<(Bytes, Register)>, RegisterError> {
        let names = self.names();
        let session = self.session()?;
        let patience = self.shared.settings.timings.request_timeout;
        let below = format!("{}.{}.>", names.publish, space.word());
        let mut found = Vec::new();
        let mut from = 1;
        loop {
            let body = json!({"seq": from, "batch": PAGE, "next_by_subj": below}).to_string();
            let body = body.into();
            let asked = session.requests.send(&names.direct_get, HeaderMap::new(), body, PAGE + 2);
            let mut replies = asked.await.map_err(unread)?;
            let before = found.len();
            loop {
                let reply = tokio::time::timeout(patience, replies.next()).await;
                let reply = reply.map_err(|_| {
                    RegisterError::Unavailable(format!("no answer from {}", names.direct_get))
                })?;
                let reply = reply.map_err(unread)?;
                match reply.status {
                    // Nothing at or after the asked position; or the end of what there is.
                    Some(StatusCode::NOT_FOUND) => return Ok(found),
                    Some(status) if status.as_u16() == END_OF_BATCH => break,
                    Some(_) => {
                        let words = reply.description.unwrap_or_default();
                        return Err(RegisterError::Unavailable(format!(
                            "unexpected reply {words:?}"
                        )));
                    }
                    None => {}
                }
                let headers = reply.headers.unwrap_or_default();
                let subject = api::header(&headers, "Nats-Subject").unwrap_or_default();
                if let Some(revision) = position(&headers) {
                    from = revision + 1;
                    if let Some((_, name)) = named(&names.publish, subject) {
                        found.push((name, Register { revision, value: reply.payload }));
                    }
                }
            }
            if found.len() == before {
                return Ok(found);
            }
        }
    }

    fn watch(&self) -> broadcast::Receiver<Watched> {
        self.shared.watchers.subscribe()
    }
}

/// Why there is no answer to what changes nothing.
fn unread(error: RequestError) -> RegisterError {
    match error {
        RequestError::NoResponders(_) => RegisterError::Unavailable(
            "JetStream isn't enabled on the NATS servers or for this user".to_owned(),
        ),
        RequestError::Refused(error) => RegisterError::Refused(error),
        error => RegisterError::Unavailable(error.to_string()),
    }
}

fn epoch_of(names: &RegisterNames, config: &Config) -> Result<u64, StreamFault> {
    let unfit = |wrong| StreamFault::Unfit { stream: names.stream.clone(), wrong };
    let republished = config.republish.as_ref().is_some_and(|republish| {
        republish.dest == format!("{}.>", names.live) && !republish.headers_only
    });
    let wrong = if config.subjects != [format!("{}.>", names.publish)] {
        Some("it must have the subject of Warp's registers and no other")
    } else if config.max_msgs_per_subject != 1 {
        Some("it must keep one message of each subject")
    } else if config.discard != "new" || config.max_age != 0 {
        Some("it must not drop messages (discard new, no max_age)")
    } else if !republished {
        Some("it must republish to the live subject of Warp's registers")
    } else if !(config.allow_direct && config.allow_msg_ttl) {
        Some("it must allow direct get and messages with a TTL")
    } else {
        None
    };
    match (wrong, config.epoch().and_then(|epoch| epoch.parse().ok())) {
        (Some(wrong), _) => Err(unfit(wrong)),
        (None, Some(epoch)) => Ok(epoch),
        (None, None) => Err(unfit("its metadata must name the epoch, a time in milliseconds")),
    }
}

/// Reads the reply to a `STREAM.MSG.GET`.
fn read_got(reply: &[u8]) -> Result<Option<Register>, RegisterError> {
    #[derive(Deserialize)]
    struct Got {
        error: Option<ApiError>,
        message: Option<Stored>,
    }
    #[derive(Deserialize)]
    struct Stored {
        seq: u64,
        #[serde(default)]
        data: String,
    }
    let unreadable = |cause: &str| {
        RegisterError::Unavailable(format!("the server's reply can't be understood: {cause}"))
    };
    match serde_json::from_slice(reply).map_err(|error| unreadable(&error.to_string()))? {
        Got { error: Some(ApiError { err_code: MESSAGE_NOT_FOUND, .. }), .. } => Ok(None),
        Got { error: Some(error), .. } => Err(RegisterError::Unavailable(error.words())),
        Got { message: Some(Stored { seq, data }), .. } => {
            let value = STANDARD.decode(data).map_err(|error| unreadable(&error.to_string()))?;
            Ok(Some(Register { revision: seq, value: value.into() }))
        }
        Got { .. } => Err(unreadable("it has no message")),
    }
}

/// Reads the acknowledgement of a write: its revision.
fn read_ack(reply: &[u8]) -> Result<u64, RegisterError> {
    #[derive(Deserialize)]
    struct Ack {
        error: Option<ApiError>,
        #[serde(default)]
        seq: u64,
    }
    match serde_json::from_slice(reply) {
        Ok(Ack { error: None, seq: seq @ 1.. }) => Ok(seq),
        Ok(Ack { error: Some(ApiError { err_code: WRONG_LAST_SEQUENCE, .. }), .. }) => {
            Err(RegisterError::Crossed)
        }
        Ok(Ack { error: Some(error), .. }) => Err(RegisterError::Refused(error.words())),
        Ok(_) => Err(RegisterError::Unknown("the acknowledgement has no position".to_owned())),
        Err(error) => {
            Err(RegisterError::Unknown(format!("the acknowledgement can't be read: {error}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_is_found_by_its_subject() {
        let root = "warp.shop_main.regrp";
        let name = Bytes::from_static(b"a b*");
        let subject = format!("{root}.lock.{}", hex::encode(&name));
        assert_eq!(named(root, &subject), Some((Space::Lock, name)));
        for other in ["warp.shop_main.regrp.lock", "warp.shop_main.regrp.what.00", "warp.x.regrp"] {
            assert_eq!(named(root, other), None);
        }
        assert_eq!(named(root, "warp.shop_main.regrp.lease.0"), None, "no whole byte");
    }

    #[test]
    fn answers_are_read() {
        let got = br#"{"type":"t","message":{"subject":"s","seq":7,"data":"aGk=","time":"t"}}"#;
        let register = Register { revision: 7, value: Bytes::from_static(b"hi") };
        assert_eq!(read_got(got), Ok(Some(register)));
        let none = br#"{"error":{"code":404,"err_code":10037,"description":"no message found"}}"#;
        assert_eq!(read_got(none), Ok(None));
        assert_eq!(read_ack(br#"{"stream":"S","seq":7}"#), Ok(7));
        let crossed = br#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 9"},"stream":"S","seq":0}"#;
        assert_eq!(read_ack(crossed), Err(RegisterError::Crossed));
        assert!(matches!(read_ack(b"{}"), Err(RegisterError::Unknown(_))));
    }

    #[test]
    fn a_stream_that_could_drop_registers_is_refused() {
        let names = super::super::Names::new("shop_main").registers;
        let read = |change: fn(&mut serde_json::Value)| {
            let mut config = stream::register_config("shop_main", 3, 5);
            change(&mut config);
            epoch_of(&names, &serde_json::from_value(config).unwrap())
        };
        assert_eq!(read(|_| {}), Ok(5));
        for change in [
            (|config| config["discard"] = "old".into()) as fn(&mut serde_json::Value),
            |config| config["max_age"] = 5.into(),
            |config| config["max_msgs_per_subject"] = 2.into(),
            |config| config["allow_msg_ttl"] = false.into(),
            |config| config["metadata"] = json!({}),
        ] {
            assert!(matches!(read(change), Err(StreamFault::Unfit { .. })));
        }
    }
}
