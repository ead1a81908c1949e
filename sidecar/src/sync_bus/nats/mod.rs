//! The bus over NATS JetStream (server 2.11 or newer).
//!
//! A publisher sends an invalidation to a stream and waits for its acknowledgement. The stream
//! republishes what it has stored, and every sidecar is subscribed to that: one hop, and no state
//! in the server for any of them. The stream's sequence is the position. What a sidecar misses it
//! reads from the stream (Direct Get); what the stream no longer has is a reset.
//!
//! That nothing is missing is *asked*, not told: about once a second each sidecar asks the stream
//! for its last position. A heartbeat pushed through the stream would only prove what was true
//! when it was sent, an unknown while ago on a delayed connection, and would cost the square of
//! the sidecars in deliveries. An own round trip is dated by the own clock from before the
//! question, and costs one request for each sidecar. The stream's leader answers, and it isn't
//! believed when it hasn't heard from a majority of its replicas for 3 s.
//!
//! What clients publish on channels goes by a subject of its own, which no stream keeps.
//!
//! The division: `cursor` decides, `subscriber` carries out, `session` is one connection,
//! `requests` its replies, `messages` those of channels, `api` the server's formats. `registers` is
//! another stream, and has formats of its own.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderMap, ServerAddr};
use async_trait::async_trait;
use futures::future::try_join_all;
use parking_lot::Mutex;
use tokio::sync::{broadcast, mpsc};
use tokio_util::task::AbortOnDropHandle;
use warp_crds::nats::{self, Credentials};

use self::api::Names;
use self::registers::NatsRegisters;
use self::requests::RequestError;
use self::session::Session;
use super::wire::{self, Part};
use super::{
    BusEvent, ChannelMessage, Invalidation, NotTold, PublishError, Registers, SyncBus, Watched,
};

mod api;
mod messages;
mod registers;
mod requests;
mod session;
mod subscriber;

/// Events that wait for the engine to take them. Behind it the connection's own queue fills, and
/// what that drops is fetched.
const EVENTS: usize = 1024;
/// Messages of channels that wait for the engine to take them.
const MESSAGES: usize = 1024;
/// More than the headers of a published message.
const HEADERS: usize = 512;

/// What a NATS bus is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsSettings {
    /// `nats://host:4222` or `tls://host:4222`, at least one. A user and a password, or a token,
    /// may stand before the host; they are used when there are no other credentials.
    pub urls: Vec<String>,
    /// Who the servers are told this is.
    pub credentials: Credentials,
    /// Sets the stream and subjects apart from other clusters'; see `warp_crds::names::tenant`.
    pub tenant: String,
    /// The connection's name in the servers' monitoring.
    pub name: String,
    /// Whether to make the stream when it is missing, rather than wait for it.
    pub create_stream: bool,
    /// How long things take.
    pub timings: Timings,
}

impl NatsSettings {
    /// Without credentials, waiting for the stream, with the default timings.
    pub fn new(urls: Vec<String>, tenant: String) -> Self {
        Self {
            urls,
            credentials: Credentials::None,
            tenant,
            name: "warp-sidecar".to_owned(),
            create_stream: false,
            timings: Timings::default(),
        }
    }
}

/// How long things take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// At most this long between two questions for the last position.
    pub proof_period: Duration,
    /// For the answer to a question or a fetch.
    pub request_timeout: Duration,
    /// For the acknowledgement of a publish.
    pub publish_timeout: Duration,
    /// For one server's connection.
    pub connect_timeout: Duration,
    /// Silence after which the connection is probed; it is given up after three of them.
    pub ping_interval: Duration,
    /// How long a message that an answer spoke of may be on its way before it is fetched.
    pub settle: Duration,
    /// The longest pause before connecting again.
    pub longest_backoff: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            proof_period: Duration::from_secs(1),
            request_timeout: Duration::from_secs(1),
            publish_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(2),
            ping_interval: Duration::from_secs(2),
            settle: Duration::from_millis(50),
            longest_backoff: Duration::from_secs(2),
        }
    }
}

/// Why the settings can't be used. That NATS is away is none of these.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// There is no URL.
    #[error("the bus has no NATS URL; give at least one, as nats://host:4222")]
    NoUrl,
    /// One is no URL.
    #[error("{url:?} is no NATS URL ({cause}); give it as nats://host:4222 or tls://host:4222")]
    Url {
        /// As given, without whom it names.
        url: String,
        /// The parser's words.
        cause: String,
    },
}

/// See the module. Its tasks end when it is dropped.
#[derive(Debug)]
pub struct NatsBus {
    shared: Arc<Shared>,
    events: Mutex<Option<mpsc::Receiver<BusEvent>>>,
    messages: Mutex<Option<mpsc::Receiver<ChannelMessage>>>,
    registers: Arc<NatsRegisters>,
    _subscriber: AbortOnDropHandle<()>,
}

/// What publisher and subscriber share.
#[derive(Debug)]
struct Shared {
    settings: NatsSettings,
    names: Names,
    servers: Vec<ServerAddr>,
    connection: Mutex<Connection>,
    /// Where the messages of channels go that have come.
    told: mpsc::Sender<ChannelMessage>,
    /// Who watches the registers.
    watchers: broadcast::Sender<Watched>,
}

#[derive(Debug)]
enum Connection {
    Open(Arc<Session>),
    /// And why.
    Away(String),
}

impl NatsBus {
    /// Starts the bus and doesn't wait for NATS. Needs a tokio runtime. Its events must be taken
    /// and read: when they stand still for long, so does the connection.
    pub fn start(settings: NatsSettings) -> Result<Self, SettingsError> {
        let parse = |url: &String| {
            let refused = |error: std::io::Error| SettingsError::Url {
                url: nats::shown(std::slice::from_ref(url)),
                cause: error.to_string(),
            };
            url.parse::<ServerAddr>().map_err(refused)
        };
        let servers = settings.urls.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        if servers.is_empty() {
            return Err(SettingsError::NoUrl);
        }
        let names = Names::new(&settings.tenant);
        let connection = Mutex::new(Connection::Away("not connected yet".to_owned()));
        let (told, messages) = mpsc::channel(MESSAGES);
        let watchers = registers::watchers();
        let shared = Arc::new(Shared { settings, names, servers, connection, told, watchers });
        let (sender, events) = mpsc::channel(EVENTS);
        let subscriber = tokio::spawn(subscriber::run(Arc::clone(&shared), sender));
        Ok(Self {
            registers: Arc::new(NatsRegisters::new(Arc::clone(&shared))),
            shared,
            events: Mutex::new(Some(events)),
            messages: Mutex::new(Some(messages)),
            _subscriber: AbortOnDropHandle::new(subscriber),
        })
    }
}

#[async_trait]
impl SyncBus for NatsBus {
    fn kind(&self) -> &'static str {
        "nats"
    }

    /// The position of the last of the messages that `invalidation` takes.
    async fn publish(&self, invalidation: &Invalidation) -> Result<u64, PublishError> {
        let session = self.shared.session().map_err(PublishError)?;
        let parts = wire::encode(invalidation, session.max_payload.saturating_sub(HEADERS));
        let sends = parts.into_iter().map(|part| self.shared.publish(&session, part));
        let positions = try_join_all(sends).await?;
        Ok(positions.into_iter().max().unwrap_or_default())
    }

    fn events(&self) -> Option<mpsc::Receiver<BusEvent>> {
        self.events.lock().take()
    }

    fn tell(&self, message: &ChannelMessage) -> Result<(), NotTold> {
        match &*self.shared.connection.lock() {
            Connection::Open(session) => session.messages.send(message),
            Connection::Away(_) => Err(NotTold),
        }
    }

    fn messages(&self) -> Option<mpsc::Receiver<ChannelMessage>> {
        self.messages.lock().take()
    }

    fn registers(&self) -> Option<Arc<dyn Registers>> {
        Some(Arc::clone(&self.registers) as Arc<dyn Registers>)
    }
}

impl Shared {
    /// The connection, or why there is none.
    fn session(&self) -> Result<Arc<Session>, String> {
        match &*self.connection.lock() {
            Connection::Open(session) => Ok(Arc::clone(session)),
            Connection::Away(reason) => Err(reason.clone()),
        }
    }

    async fn publish(&self, session: &Session, part: Part) -> Result<u64, PublishError> {
        let Names { publish, stream, .. } = &self.names;
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", part.id);
        headers.insert("Nats-Expected-Stream", stream.as_str());
        let patience = self.settings.timings.publish_timeout;
        match session.requests.ask(publish, headers, part.payload, patience).await {
            Ok(reply) => api::read_ack(&reply.payload).map_err(PublishError),
            Err(RequestError::NoResponders(_)) => {
                Err(PublishError(format!("stream {stream} is missing or can't be reached")))
            }
            Err(error) => Err(PublishError(error.to_string())),
        }
    }
}
