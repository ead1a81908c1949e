//! Making the JetStream streams of a cluster, that of its invalidations and that of its registers,
//! what [`warp_crds::stream`] says, and keeping them so.
//!
//! Their metadata carries an epoch: whoever sees another epoch knows that positions of before mean
//! nothing any more. A stream that is made gets a new one, one that is updated keeps its own.

use std::time::{SystemTime, UNIX_EPOCH};

use async_nats::jetstream::context::{
    CreateStreamError, CreateStreamErrorKind, GetStreamErrorKind,
};
use async_nats::jetstream::stream::Config;
use async_nats::jetstream::{self, ErrorCode};
use async_nats::{Client, jetstream::stream::Info};
use rand::Rng;
use warp_crds::{names, stream};

/// Which stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// That of the invalidations.
    Invalidations,
    /// That of the registers, which locks and leases are made of.
    Registers,
}

impl Kind {
    fn name(self, tenant: &str) -> String {
        match self {
            Self::Invalidations => names::invalidation_stream(tenant),
            Self::Registers => names::register_stream(tenant),
        }
    }

    /// The stream as it is made; with the epoch that it has, if it can have that.
    fn config(
        self,
        wanted: &Wanted,
        epoch: Option<&String>,
        new_epoch: impl FnOnce(Self) -> String,
    ) -> serde_json::Result<Config> {
        let tenant = &wanted.tenant;
        let replicas = wanted.limits.map_or(1, |limits| limits.replicas);
        let epoch = epoch.filter(|epoch| !epoch.is_empty());
        let config = match self {
            Self::Invalidations => {
                let epoch = epoch.cloned().unwrap_or_else(|| new_epoch(self));
                stream::config(tenant, replicas, &epoch)
            }
            Self::Registers => {
                let stands = epoch.and_then(|epoch| epoch.parse().ok());
                // It is a time, which is a number.
                let epoch = stands.unwrap_or_else(|| new_epoch(self).parse().unwrap_or_default());
                stream::register_config(tenant, replicas, epoch)
            }
        };
        serde_json::from_value(config)
    }

    /// What there is room for.
    fn bytes(self, limits: Limits) -> i64 {
        match self {
            Self::Invalidations => limits.bytes,
            Self::Registers => limits.bytes / 4,
        }
    }
}

/// What is asked of the streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// See [`names::tenant`].
    pub tenant: String,
    /// The servers are ours, so that the streams' sizes are too.
    pub limits: Option<Limits>,
}

/// How large the streams are on servers of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Copies of each message.
    pub replicas: u8,
    /// Bytes that there is room for invalidations, and a quarter of it for registers; the streams
    /// may be smaller.
    pub bytes: i64,
}

/// What the streams were found to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// That of the invalidations; see [`stream::EPOCH`].
    pub epoch: String,
    /// Names of the servers whose copy of one of them is behind or that are offline.
    pub behind: Vec<String>,
}

/// Why the stream isn't as it must be.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The definition isn't one that the client takes.
    #[error("the stream's definition can't be read: {0}")]
    Definition(#[from] serde_json::Error),
    /// It couldn't be read.
    #[error(
        "stream {name} can't be read; the user needs $JS.API.STREAM.INFO.{name}, and JetStream must be on: {source}"
    )]
    Read {
        /// The stream.
        name: String,
        /// The client's words.
        source: jetstream::context::GetStreamError,
    },
    /// It couldn't be made.
    #[error("stream {name} can't be created: {source}")]
    Create {
        /// The stream.
        name: String,
        /// The client's words.
        source: CreateStreamError,
    },
    /// It couldn't be changed.
    #[error("stream {name} can't be updated: {source}")]
    Update {
        /// The stream.
        name: String,
        /// The client's words.
        source: CreateStreamError,
    },
}

/// The stream as it must be, from what it is. On servers that aren't ours an existing stream keeps
/// its limits, which its owner may have chosen, unless registers would be lost by them.
pub fn planned(
    kind: Kind,
    present: Option<&Config>,
    wanted: &Wanted,
    new_epoch: impl FnOnce(Kind) -> String,
) -> serde_json::Result<Config> {
    let stands = present.and_then(|config| config.metadata.get(stream::EPOCH));
    let mut new = kind.config(wanted, stands, new_epoch)?;
    if let Some(limits) = wanted.limits {
        new.max_bytes = new.max_bytes.min(kind.bytes(limits));
    }
    let Some(present) = present else { return Ok(new) };
    let mut config = present.clone();
    config.subjects = new.subjects;
    config.republish = new.republish;
    config.allow_direct = new.allow_direct;
    config.metadata.extend(new.metadata);
    if kind == Kind::Registers {
        config.allow_message_ttl = new.allow_message_ttl;
        config.max_messages_per_subject = new.max_messages_per_subject;
        config.discard = new.discard;
        config.max_age = new.max_age;
    }
    if wanted.limits.is_some() {
        config.max_age = new.max_age;
        config.max_bytes = new.max_bytes;
        if kind == Kind::Invalidations {
            config.duplicate_window = new.duplicate_window;
        }
        config.num_replicas = new.num_replicas;
    }
    Ok(config)
}

/// Makes the streams what they must be and says what they are.
pub async fn ensure(client: &Client, wanted: &Wanted) -> Result<Found, StreamError> {
    let invalidations = ensure_one(Kind::Invalidations, client, wanted).await?;
    let registers = ensure_one(Kind::Registers, client, wanted).await?;
    let mut behind = behind(&invalidations);
    behind.extend(self::behind(&registers));
    behind.sort();
    behind.dedup();
    let epoch = invalidations.config.metadata.get(stream::EPOCH).cloned().unwrap_or_default();
    Ok(Found { epoch, behind })
}

async fn ensure_one(kind: Kind, client: &Client, wanted: &Wanted) -> Result<Info, StreamError> {
    let context = jetstream::new(client.clone());
    let name = kind.name(&wanted.tenant);
    let present = match context.get_stream(&name).await {
        Ok(stream) => Some(stream.cached_info().clone()),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(ref answer)
                if answer.error_code() == ErrorCode::STREAM_NOT_FOUND =>
            {
                None
            }
            _ => return Err(StreamError::Read { name, source: error }),
        },
    };
    let config = planned(kind, present.as_ref().map(|info| &info.config), wanted, new_epoch)?;
    Ok(match present {
        Some(info) if info.config == config => info,
        Some(_) => {
            let updated = context.update_stream(&config).await;
            tracing::info!(stream = name, "stream updated");
            updated.map_err(|source| StreamError::Update { name, source })?
        }
        None => {
            let created = create(&context, config, client.server_info().cluster.is_some(), wanted);
            let created = created.await;
            tracing::info!(stream = name, "stream created");
            created.map_err(|source| StreamError::Create { name, source })?
        }
    })
}

/// On servers of unknown number, three copies where they can be had.
async fn create(
    context: &jetstream::Context,
    config: Config,
    clustered: bool,
    wanted: &Wanted,
) -> Result<Info, CreateStreamError> {
    if wanted.limits.is_none() && clustered {
        let three = Config { num_replicas: 3, ..config.clone() };
        match context.create_stream(three).await {
            Ok(stream) => return Ok(stream.cached_info().clone()),
            Err(error) => match error.kind() {
                // No three servers, or the account may not: one copy then.
                CreateStreamErrorKind::JetStream(_) => {}
                _ => return Err(error),
            },
        }
    }
    Ok(context.create_stream(config).await?.cached_info().clone())
}

fn behind(info: &Info) -> Vec<String> {
    let replicas = info.cluster.iter().flat_map(|cluster| &cluster.replicas);
    let behind = replicas.filter(|peer| !peer.current || peer.offline);
    behind.map(|peer| peer.name.clone()).collect()
}

/// Registers have a time, by which a later epoch is known from an earlier one.
fn new_epoch(kind: Kind) -> String {
    match kind {
        Kind::Invalidations => format!("{:016x}", rand::rng().random::<u64>()),
        Kind::Registers => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            now.as_millis().to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use async_nats::ConnectOptions;
    use async_nats::jetstream::stream::DiscardPolicy;
    use futures::StreamExt;
    use warp_crds::nats::Credentials;

    use super::*;
    use crate::nats::connection::connect;
    use crate::nats::server;

    fn wanted(bytes: i64) -> Wanted {
        Wanted { tenant: "prod_shop".to_owned(), limits: Some(Limits { replicas: 1, bytes }) }
    }

    fn jetstream_alone(folder: &Path) -> String {
        format!("jetstream: {{ store_dir: {folder:?} }}")
    }

    #[test]
    fn a_stream_that_is_right_stays_as_it_is() {
        for (kind, grown_to) in [(Kind::Invalidations, 1 << 21), (Kind::Registers, 1 << 19)] {
            let planned = |present: Option<&Config>, bytes: i64, epoch: &str| {
                planned(kind, present, &wanted(bytes), |_| epoch.to_owned()).unwrap()
            };
            let made = planned(None, 1 << 20, "1");
            assert_eq!(planned(Some(&made), 1 << 20, "2"), made);
            let grown = planned(Some(&made), 1 << 21, "2");
            assert_eq!(grown.max_bytes, grown_to);
            assert_eq!(grown.metadata[stream::EPOCH], "1");
            assert_eq!(grown.first_sequence, made.first_sequence);
        }
    }

    #[test]
    fn a_stream_of_registers_never_drops_any_on_servers_of_others_either() {
        let theirs = Config {
            name: "WARP_REG_prod_shop".to_owned(),
            max_age: Duration::from_secs(5),
            num_replicas: 5,
            ..Default::default()
        };
        let wanted = Wanted { limits: None, ..wanted(0) };
        let kept = planned(Kind::Registers, Some(&theirs), &wanted, |_| "7".to_owned()).unwrap();
        assert_eq!((kept.max_age, kept.max_messages_per_subject), (Duration::ZERO, 1));
        assert_eq!((kept.discard, kept.num_replicas), (DiscardPolicy::New, 5));
        assert_eq!(kept.metadata[stream::EPOCH], "7");
    }

    #[test]
    fn on_servers_of_others_an_existing_stream_keeps_its_limits() {
        let theirs = Config {
            name: "WARP_INV_prod_shop".to_owned(),
            subjects: vec!["warp.prod_shop.>".to_owned()],
            num_replicas: 5,
            max_bytes: 7,
            ..Default::default()
        };
        let wanted = Wanted { limits: None, ..wanted(0) };
        let kept =
            planned(Kind::Invalidations, Some(&theirs), &wanted, |_| "e".to_owned()).unwrap();
        assert_eq!((kept.num_replicas, kept.max_bytes, kept.max_age), (5, 7, Duration::ZERO));
        assert_eq!(kept.subjects, ["warp.prod_shop.inv"]);
        assert!(kept.allow_direct && kept.republish.is_some());
    }

    #[tokio::test]
    async fn a_stored_invalidation_is_republished_to_the_sidecars_subject() {
        let server = server::start(jetstream_alone).await;
        let client = connect(&[server.url()], Credentials::None, "prod_shop").await.unwrap();
        let first = ensure(&client, &wanted(1 << 20)).await.unwrap();
        assert_eq!(first.epoch.len(), 16);
        assert_eq!(first.behind, [""; 0]);
        assert_eq!(ensure(&client, &wanted(1 << 20)).await.unwrap(), first);
        assert_eq!(ensure(&client, &wanted(1 << 21)).await.unwrap(), first);

        let mut live = client.subscribe(names::republish_subject("prod_shop")).await.unwrap();
        client.flush().await.unwrap();
        let context = jetstream::new(client.clone());
        let subject = names::invalidation_subject("prod_shop");
        let ack = context.publish(subject.clone(), "key".into()).await.unwrap().await.unwrap();
        let seen = live.next().await.unwrap();
        assert_eq!(&seen.payload[..], b"key");
        let headers = seen.headers.unwrap();
        assert_eq!(headers.get("Nats-Subject").unwrap().as_str(), subject);
        assert_eq!(headers.get("Nats-Sequence").unwrap().as_str(), ack.sequence.to_string());

        let stream = context.get_stream("WARP_INV_prod_shop").await.unwrap();
        assert_eq!(stream.cached_info().config.max_bytes, 1 << 21);
        assert_eq!(&stream.direct_get(ack.sequence).await.unwrap().payload[..], b"key");

        // A stream that is lost comes back under another epoch.
        context.delete_stream("WARP_INV_prod_shop").await.unwrap();
        assert_ne!(ensure(&client, &wanted(1 << 20)).await.unwrap().epoch, first.epoch);
    }

    #[tokio::test]
    async fn users_may_do_what_they_need_and_no_more() {
        use std::collections::BTreeMap;

        use crate::nats::config::{DATA_DIR, Servers};
        use crate::nats::keys::Keys;
        let keys = Keys::complete(&BTreeMap::new(), &mut rand::rng()).unwrap();
        let servers = Servers {
            name: "shop-nats",
            namespace: "prod",
            replicas: 1,
            volume: 64 << 20,
            tenant: "prod_shop",
            keys: &keys,
        };
        let server =
            server::start(|folder| servers.main_file().replace(DATA_DIR, folder.to_str().unwrap()))
                .await;
        let urls = [server.url()];
        assert!(connect(&urls, Credentials::None, "prod_shop").await.is_err());
        let seed = Credentials::Seed(keys.operator.seed.clone());
        let operator = connect(&urls, seed, "prod_shop").await.unwrap();
        let wanted = wanted(servers.stream_bytes());
        let epoch = ensure(&operator, &wanted).await.unwrap().epoch;

        let (denied, mut denials) = tokio::sync::mpsc::unbounded_channel();
        let sidecar = ConnectOptions::with_nkey(keys.sidecar.seed.clone())
            .custom_inbox_prefix(names::sidecar_inbox("prod_shop"))
            .request_timeout(Some(Duration::from_secs(2)))
            .event_callback(move |event| {
                let _ = denied.send(event.to_string());
                std::future::ready(())
            })
            .connect(&urls[..])
            .await
            .unwrap();
        let mut live = sidecar.subscribe("warp.prod_shop.rp").await.unwrap();
        sidecar.flush().await.unwrap();
        let context = jetstream::new(sidecar.clone());
        let ack = context.publish("warp.prod_shop.inv", "k".into()).await.unwrap().await.unwrap();
        assert_eq!(&live.next().await.unwrap().payload[..], b"k");
        let stream = context.get_stream("WARP_INV_prod_shop").await.unwrap();
        assert_eq!(stream.cached_info().config.metadata[stream::EPOCH], epoch);
        assert_eq!(&stream.direct_get(ack.sequence).await.unwrap().payload[..], b"k");

        // Listening to the operator's replies, or to those of a client that chose no place for them.
        for inbox in [names::operator_inbox("prod_shop") + ".>", "_INBOX.>".to_owned()] {
            let _replies = sidecar.subscribe(inbox.clone()).await.unwrap();
            let denial = loop {
                let event = denials.recv().await.unwrap();
                if event.contains(&inbox) {
                    break event;
                }
            };
            assert!(denial.to_lowercase().contains("permissions violation"), "{denial}");
        }
        let mut messages = sidecar.subscribe("warp.prod_shop.msg").await.unwrap();
        sidecar.publish("warp.prod_shop.msg", "m".into()).await.unwrap();
        assert_eq!(&messages.next().await.unwrap().payload[..], b"m");

        // Registers: written by compare-and-swap, told to who watches, read from the leader.
        let mut told = sidecar.subscribe("warp.prod_shop.regrp.>").await.unwrap();
        sidecar.flush().await.unwrap();
        let write = |expected: &str| {
            let mut headers = async_nats::HeaderMap::new();
            headers.insert("Nats-Expected-Last-Subject-Sequence", expected);
            headers.insert("Nats-TTL", "60s");
            context.publish_with_headers("warp.prod_shop.reg.lock.6b", headers, "r".into())
        };
        let first = write("0").await.unwrap().await.unwrap().sequence;
        assert!(first > 1 << 40, "it counts from its epoch on: {first}");
        assert!(write("0").await.unwrap().await.is_err(), "somebody was first");
        assert_eq!(told.next().await.unwrap().subject.as_str(), "warp.prod_shop.regrp.lock.6b");
        let registers = context.get_stream("WARP_REG_prod_shop").await.unwrap();
        let read = registers.get_last_raw_message_by_subject("warp.prod_shop.reg.lock.6b").await;
        assert_eq!(read.unwrap().sequence, first);
        assert_eq!(&registers.direct_get(first).await.unwrap().payload[..], b"r");
        assert!(context.delete_stream("WARP_REG_prod_shop").await.is_err());
        assert!(registers.purge().await.is_err());

        // Skipping the stream, reaching another tenant, administering: denied.
        assert!(stream.get_raw_message(ack.sequence).await.is_err());
        sidecar.publish("warp.prod_shop.rp", "forged".into()).await.unwrap();
        sidecar.publish("warp.other.inv", "forged".into()).await.unwrap();
        assert!(context.delete_stream("WARP_INV_prod_shop").await.is_err());
        context.publish("warp.prod_shop.inv", "last".into()).await.unwrap().await.unwrap();
        assert_eq!(&live.next().await.unwrap().payload[..], b"last");
        assert!(operator.publish("warp.prod_shop.inv", "k".into()).await.is_ok());
        assert_eq!(ensure(&operator, &wanted).await.unwrap().epoch, epoch);
    }
}
