//! One connection to NATS, from its opening to its end. It isn't mended by the client but replaced
//! by the next one, so that there is one way to begin: with a new subscription and a question.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_nats::{ConnectOptions, Event, ServerAddr, ServerError, Statistics, Subscriber};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use warp_crds::names;
use warp_crds::nats::{self, Credentials, Login};

use super::NatsSettings;
use super::Shared;
use super::messages::Messages;
use super::registers::Feed;
use super::requests::{Refusals, Requests};

/// Commands that wait for the socket.
const COMMANDS: usize = 256;
/// Live messages that wait for the subscriber's task; what doesn't fit is dropped by the client,
/// found missing, and fetched.
const LIVE: usize = 2048;
/// A refused subscription is an error that comes a moment later.
const REFUSAL: Duration = Duration::from_millis(20);
const OLDEST_SERVER: (i64, i64, i64) = (2, 11, 0);

/// See the module.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) requests: Requests,
    pub(super) messages: Messages,
    _registers: Feed,
    pub(super) max_payload: usize,
    statistics: Arc<Statistics>,
    ended: Ended,
}

/// That the session is over, and why.
#[derive(Clone, Debug, Default)]
struct Ended {
    token: CancellationToken,
    reason: Arc<OnceLock<String>>,
}

impl Ended {
    fn end(&self, reason: &str) {
        // The first reason is the cause of the others.
        let _ = self.reason.set(reason.to_owned());
        self.token.cancel();
    }

    fn reason(&self) -> String {
        self.reason.get().cloned().unwrap_or_default()
    }
}

impl Session {
    /// Connects and subscribes; the error is for people.
    pub(super) async fn open(shared: &Shared) -> Result<(Arc<Self>, Subscriber), String> {
        let Shared { settings, names, servers, told, watchers, .. } = shared;
        let ended = Ended::default();
        let handler = Handler {
            ended: ended.clone(),
            refusals: Arc::new(OnceLock::new()),
            live: format!("\"{}\"", names.live),
            messages: format!("\"{}\"", names.messages),
            registers: format!("\"{}.>\"", names.registers.live),
            warned: Arc::default(),
        };
        let options = options(settings, servers, handler.clone())?;
        let client = options.connect(servers).await.map_err(|error| {
            format!("can't connect to {}: {error}", nats::shown(&settings.urls))
        })?;
        let (major, minor, patch) = OLDEST_SERVER;
        if !client.is_server_compatible(major, minor, patch) {
            let version = client.server_info().version;
            return Err(format!("NATS {version} is too old; {major}.{minor} or newer is needed"));
        }
        let failed = |error: async_nats::SubscribeError| format!("can't subscribe: {error}");
        let requests = Requests::open(client.clone()).await.map_err(failed)?;
        let _ = handler.refusals.set(requests.refusals());
        let live = client.subscribe(names.live.clone()).await.map_err(failed)?;
        let messages =
            Messages::open(client.clone(), &names.messages, told.clone()).await.map_err(failed)?;
        let registers =
            Feed::open(&client, &names.registers, watchers.clone()).await.map_err(failed)?;
        let (max_payload, statistics) = (client.max_payload(), client.statistics());
        let session =
            Self { requests, messages, _registers: registers, max_payload, statistics, ended };
        if let Ok(reason) = tokio::time::timeout(REFUSAL, session.ended()).await {
            return Err(reason);
        }
        Ok((Arc::new(session), live))
    }

    /// Whether the client has mended the connection after all, because the event of its end was
    /// lost among others.
    pub(super) fn is_mended(&self) -> bool {
        self.statistics.connects.load(Ordering::Relaxed) > 1
    }

    /// Waits for the end; its reason.
    pub(super) async fn ended(&self) -> String {
        self.ended.token.cancelled().await;
        self.ended.reason()
    }
}

fn options(
    settings: &NatsSettings,
    servers: &[ServerAddr],
    handler: Handler,
) -> Result<ConnectOptions, String> {
    let options = ConnectOptions::new()
        .name(&settings.name)
        .custom_inbox_prefix(names::sidecar_inbox(&settings.tenant))
        .connection_timeout(settings.timings.connect_timeout)
        .ping_interval(settings.timings.ping_interval)
        .client_capacity(COMMANDS)
        .subscription_capacity(LIVE)
        // Each server once. A session ends with its connection; the client's own attempt to mend
        // it then finds nobody who wants it.
        .max_reconnects(servers.len())
        .reconnect_delay_callback(|_| Duration::ZERO)
        .event_callback(move |event| {
            let handler = handler.clone();
            async move { handler.handle(&event) }
        });
    // The client leaves whom a URL names to its caller.
    match &settings.credentials {
        Credentials::None => Ok(match settings.urls.iter().find_map(|url| Login::of(url)) {
            None => options,
            Some(Login::Password { user, password }) => options.user_and_password(user, password),
            Some(Login::Token(token)) => options.token(token),
        }),
        Credentials::Seed(seed) => Ok(options.nkey(seed.clone())),
        Credentials::File(text) => options
            .credentials(text)
            .map_err(|error| format!("the credentials can't be read: {error}")),
    }
}

/// What the client tells of the connection.
#[derive(Clone)]
struct Handler {
    ended: Ended,
    refusals: Arc<OnceLock<Refusals>>,
    /// The live subject as it is quoted in errors.
    live: String,
    /// The subject of channels' messages as it is quoted in errors.
    messages: String,
    /// The registers' subject as it is quoted in errors.
    registers: String,
    /// It was said that they don't get through.
    warned: Arc<OnceLock<()>>,
}

impl Handler {
    fn handle(&self, event: &Event) {
        match event {
            Event::Disconnected | Event::Closed => self.end("the connection was lost"),
            Event::LameDuckMode => self.end("the server is shutting down"),
            Event::ServerError(ServerError::Other(error)) => self.refused(error),
            Event::ServerError(error) => self.end(&error.to_string()),
            // Found by the positions.
            Event::SlowConsumer(_) => debug!("live invalidations come faster than they are taken"),
            Event::Connected | Event::Draining | Event::ClientError(_) => {}
        }
    }

    fn refused(&self, error: &str) {
        let needed = error.contains(&self.live) || error.contains("\"_INBOX.");
        if !error.contains("Permissions Violation") {
            // What follows is the end of the connection, and this its reason.
            let _ = self.ended.reason.set(error.to_owned());
        } else if needed && error.contains("Subscription") {
            self.end(&format!("the NATS user may not subscribe to what Warp needs: {error}"));
        } else if error.contains(&self.messages) {
            // What is cached is as good without them.
            if self.warned.set(()).is_ok() {
                warn!(
                    error,
                    "PUBLISH reaches this pod only: NATS refuses the messages of channels"
                );
            }
        } else if error.contains(&self.registers) {
            // Who waits for a lock asks now and then.
            warn!(error, "locks are handed over late: NATS refuses to tell of them");
        } else if let Some(refusals) = self.refusals.get() {
            refusals.refused(error);
        }
    }

    fn end(&self, reason: &str) {
        self.ended.end(reason);
        if let Some(refusals) = self.refusals.get() {
            refusals.lost(reason);
        }
    }
}
