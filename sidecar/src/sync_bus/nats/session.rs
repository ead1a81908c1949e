//! One connection to NATS, from its opening to its end. It isn't mended by the client but replaced
//! by the next one, so that there is one way to begin: with a new subscription and a question.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_nats::{ConnectOptions, Event, ServerAddr, ServerError, Statistics, Subscriber};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::api::Names;
use super::requests::{Refusals, Requests};
use super::{Credentials, NatsSettings};

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
    pub(super) async fn open(
        settings: &NatsSettings,
        names: &Names,
        servers: &[ServerAddr],
    ) -> Result<(Arc<Self>, Subscriber), String> {
        let ended = Ended::default();
        let handler = Handler {
            ended: ended.clone(),
            refusals: Arc::new(OnceLock::new()),
            live: format!("\"{}\"", names.live),
        };
        let options = options(settings, servers, handler.clone())?;
        let client = options
            .connect(servers)
            .await
            .map_err(|error| format!("can't connect to {}: {error}", shown(servers)))?;
        let (major, minor, patch) = OLDEST_SERVER;
        if !client.is_server_compatible(major, minor, patch) {
            let version = client.server_info().version;
            return Err(format!("NATS {version} is too old; {major}.{minor} or newer is needed"));
        }
        let failed = |error: async_nats::SubscribeError| format!("can't subscribe: {error}");
        let requests = Requests::open(client.clone()).await.map_err(failed)?;
        let _ = handler.refusals.set(requests.refusals());
        let live = client.subscribe(names.live.clone()).await.map_err(failed)?;
        let (max_payload, statistics) = (client.max_payload(), client.statistics());
        let session = Self { requests, max_payload, statistics, ended };
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
    match &settings.credentials {
        Credentials::None => Ok(match servers.iter().find(|server| server.username().is_some()) {
            Some(server) => with_userinfo(options, server),
            None => options,
        }),
        Credentials::Seed(seed) => Ok(options.nkey(seed.trim().to_owned())),
        Credentials::File(text) => options
            .credentials(text)
            .map_err(|error| format!("the credentials can't be read: {error}")),
    }
}

/// The client leaves a URL's `user:password@`, or `token@`, to its caller.
fn with_userinfo(options: ConnectOptions, server: &ServerAddr) -> ConnectOptions {
    let user = decoded(server.username().unwrap_or_default());
    match server.password() {
        Some(password) => options.user_and_password(user, decoded(password)),
        None => options.token(user),
    }
}

/// Without percent-encoding (RFC 3986, 2.1).
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| first == b'%');
        let byte = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The servers without their secrets.
fn shown(servers: &[ServerAddr]) -> String {
    let shown =
        |server: &ServerAddr| format!("{}://{}:{}", server.scheme(), server.host(), server.port());
    servers.iter().map(shown).collect::<Vec<_>>().join(", ")
}

/// What the client tells of the connection.
#[derive(Clone)]
struct Handler {
    ended: Ended,
    refusals: Arc<OnceLock<Refusals>>,
    /// The live subject as it is quoted in errors.
    live: String,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_url_are_decoded_and_not_shown() {
        let server: ServerAddr = "tls://me:p%40ss%2F100%25@nats.example:4222".parse().unwrap();
        assert_eq!(decoded(server.password().unwrap()), "p@ss/100%");
        assert_eq!(decoded("50%"), "50%");
        assert_eq!(shown(&[server]), "tls://nats.example:4222");
    }
}
