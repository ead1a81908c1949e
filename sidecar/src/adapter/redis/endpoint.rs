//! Where the server is, and how a connection to it becomes ready for commands.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustix::net::{RecvFlags, recv};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use url::Url;

use super::RedisSettings;
use super::frame::{Found, Frames, Reply, is_push, parse, write_command};
use crate::adapter::SettingsError;

/// A connection whose other end is gone without a word is noticed after about half a minute, also
/// while nothing is asked over it.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(15))
    .with_interval(Duration::from_secs(5))
    .with_retries(3);

/// A connection's bytes.
pub(super) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Whether the other side has closed it and nothing is left to be read. The system is asked itself:
/// it knows before the runtime has looked.
pub(super) fn is_closed(stream: &Stream) -> bool {
    let socket = match stream {
        Either::Left(plain) => plain,
        Either::Right(tls) => tls.get_ref().0,
    };
    let peeked = recv(socket, &mut [0_u8; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    matches!(peeked, Ok((_, 0)))
}

/// The server's address, and what it wants to hear first.
pub(super) struct Endpoint {
    host: String,
    port: u16,
    tls: bool,
    user: String,
    password: Option<String>,
    database: u32,
    connect_timeout: Duration,
    reply_limit: usize,
    trust: OnceLock<Arc<ClientConfig>>,
}

/// Without the password.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.host, self.port, self.database)
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Warp's own commands, with the feed of what others write.
    Link,
    /// An application's commands, in the version of the protocol that it speaks.
    Relay {
        /// Version 3.
        resp3: bool,
    },
}

impl Endpoint {
    /// Reads the URL; the settings' password comes before the URL's own.
    pub(super) fn new(settings: RedisSettings) -> Result<Self, SettingsError> {
        let refused = |cause: &str| SettingsError::Url {
            form: "redis://[user@]host[:6379][/db], or rediss:// for TLS",
            cause: cause.to_owned(),
        };
        let url = Url::parse(&settings.url).map_err(|error| refused(&error.to_string()))?;
        let tls = match url.scheme() {
            "redis" => false,
            "rediss" => true,
            _ => return Err(refused("it must start with redis:// or rediss://")),
        };
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| refused("it has no host"))?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refused("parameters behind ? or # are not known"));
        }
        let database = match url.path().trim_matches('/') {
            "" => 0,
            number => number.parse().map_err(|_| refused("the database is not a number"))?,
        };
        let decoded = |text: &str| {
            percent_encoding::percent_decode_str(text)
                .decode_utf8()
                .map(String::from)
                .map_err(|_| refused("user or password is not UTF-8"))
        };
        let user = match url.username() {
            "" => "default".to_owned(),
            user => decoded(user)?,
        };
        let password = match (settings.password, url.password()) {
            (Some(password), _) => Some(password),
            (None, Some(password)) => Some(decoded(password)?),
            (None, None) => None,
        };
        Ok(Self {
            // The URL writes an IPv6 address in brackets.
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: url.port().unwrap_or(6379),
            tls,
            user,
            password,
            database,
            connect_timeout: settings.connect_timeout,
            reply_limit: settings.reply_limit,
            trust: OnceLock::new(),
        })
    }

    /// A connection that is ready; or why there is none.
    pub(super) async fn connect(&self, purpose: Purpose) -> Result<Wire, String> {
        let ready = async {
            let mut wire = self.open().await.map_err(|error| error.to_string())?;
            self.greet(&mut wire, purpose).await?;
            Ok(wire)
        };
        timeout(self.connect_timeout, ready).await.unwrap_or_else(|_| {
            Err(format!("no connection within {:.1} s", self.connect_timeout.as_secs_f32()))
        })
    }

    async fn open(&self) -> io::Result<Wire> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE)?;
        let stream = if self.tls {
            let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
            let connector = TlsConnector::from(self.trust()?);
            Either::Right(Box::new(connector.connect(name, stream).await?))
        } else {
            Either::Left(stream)
        };
        Ok(Wire { stream, input: BytesMut::new(), frames: Frames::new(self.reply_limit) })
    }

    /// The certificates that the machine trusts, read once.
    fn trust(&self) -> io::Result<Arc<ClientConfig>> {
        if let Some(config) = self.trust.get() {
            return Ok(Arc::clone(config));
        }
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let cause = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
            return Err(io::Error::other(format!(
                "no trusted certificates on this machine; install ca-certificates or set \
                 SSL_CERT_FILE{cause}"
            )));
        }
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::clone(self.trust.get_or_init(|| Arc::new(config))))
    }

    async fn greet(&self, wire: &mut Wire, purpose: Purpose) -> Result<(), String> {
        let database = self.database.to_string();
        let mut commands: Vec<Vec<&str>> = Vec::new();
        if let Purpose::Relay { resp3: false } = purpose {
            if let Some(password) = &self.password {
                commands.push(match self.user.as_str() {
                    // Servers without users know this form alone.
                    "default" => vec!["AUTH", password],
                    user => vec!["AUTH", user, password],
                });
            }
        } else {
            let mut hello = vec!["HELLO", "3"];
            if let Some(password) = &self.password {
                hello.extend(["AUTH", &self.user, password]);
            }
            if purpose == Purpose::Link {
                hello.extend(["SETNAME", "warp-sidecar"]);
            }
            commands.push(hello);
        }
        if self.database != 0 {
            commands.push(vec!["SELECT", &database]);
        }
        let replies = wire.ask(&commands).await?;
        if purpose == Purpose::Link {
            let mut tracking = vec!["CLIENT", "TRACKING", "ON", "BCAST"];
            if replies.first().is_some_and(tells_own_from_others) {
                tracking.push("NOLOOP");
            }
            wire.ask(&[tracking]).await?;
        }
        Ok(())
    }
}

/// Whether the server, by its answer to HELLO, may be asked to leave out what this connection
/// writes itself (NOLOOP).
///
/// When two connections write one key in one turn of the server's event loop, the key is counted
/// as written by one of them. Since Redis 7 that is the later one. Before, it was the earlier one,
/// and another's write on top of an own one went unreported; there the own writes are told as well.
fn tells_own_from_others(hello: &Reply) -> bool {
    let Reply::Array(fields) = hello else { return false };
    let version = fields.chunks_exact(2).find_map(|field| match field {
        [Reply::Text(name), Reply::Text(version)] if name == "version" => Some(version),
        _ => None,
    });
    version
        .and_then(|version| std::str::from_utf8(version).ok())
        .and_then(|version| version.split('.').next()?.parse::<u32>().ok())
        .is_some_and(|major| major >= 7)
}

/// A connection, and what has been read of it.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) stream: Stream,
    pub(super) input: BytesMut,
    pub(super) frames: Frames,
}

impl Wire {
    /// Writes commands and flushes them.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// The next whole frame. Nothing is lost when this is given up in the middle.
    pub(super) async fn receive(&mut self) -> io::Result<Found> {
        loop {
            if let Some(found) = self.frames.next(&mut self.input).map_err(io::Error::other)? {
                return Ok(found);
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Asks for what must not be refused.
    async fn ask(&mut self, commands: &[Vec<&str>]) -> Result<Vec<Reply>, String> {
        let mut bytes = BytesMut::new();
        for command in commands {
            write_command(command, &mut bytes);
        }
        self.send(&bytes).await.map_err(|error| error.to_string())?;
        let mut replies = Vec::with_capacity(commands.len());
        while replies.len() < commands.len() {
            let frame: Bytes = match self.receive().await.map_err(|error| error.to_string())? {
                Found::Frame(frame) if is_push(&frame) => continue,
                Found::Frame(frame) => frame,
                Found::TooLong { .. } => return Err("the server's greeting is too long".to_owned()),
            };
            let reply = parse(&frame).map_err(|error| error.to_string())?;
            if let Reply::Error(words) = reply {
                let name = commands[replies.len()][0];
                return Err(match name {
                    "HELLO" if !words.starts_with("WRONGPASS") && !words.starts_with("NOAUTH") => {
                        format!("Redis 6 or newer is needed, and HELLO was refused: {words}")
                    }
                    name => format!("{name} was refused: {words}"),
                });
            }
            replies.push(reply);
        }
        Ok(replies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str) -> Result<Endpoint, SettingsError> {
        Endpoint::new(RedisSettings::new(url, None))
    }

    #[test]
    fn a_url_says_where_who_and_which_database() {
        let plain = endpoint("redis://cache").unwrap();
        assert_eq!((plain.host.as_str(), plain.port, plain.database), ("cache", 6379, 0));
        assert_eq!((plain.user.as_str(), plain.tls, &plain.password), ("default", false, &None));
        let full = endpoint("rediss://app:p%40ss@[::1]:7000/3").unwrap();
        assert_eq!((full.host.as_str(), full.port, full.database), ("::1", 7000, 3));
        assert_eq!((full.user.as_str(), full.tls), ("app", true));
        assert_eq!(full.password.as_deref(), Some("p@ss"));
    }

    #[test]
    fn the_password_of_the_settings_comes_first() {
        let settings = RedisSettings::new("redis://:url@h", Some("secret".to_owned()));
        assert!(!format!("{settings:?}").contains("secret"));
        let endpoint = Endpoint::new(settings).unwrap();
        assert_eq!(endpoint.password.as_deref(), Some("secret"));
        assert!(!format!("{endpoint:?}").contains("secret"));
    }

    #[test]
    fn a_wrong_url_is_refused_without_being_shown() {
        for url in
            ["", "cache:6379", "http://:secret@h", "redis://:secret@h/x", "redis://:secret@h?db=1"]
        {
            let error = endpoint(url).unwrap_err().to_string();
            assert!(error.contains("redis://[user@]host"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn own_writes_are_left_out_where_the_server_tells_them_apart() {
        let hello = |version: &str| {
            let text = |text: &str| Reply::Text(Bytes::copy_from_slice(text.as_bytes()));
            Reply::Array(vec![text("server"), text("redis"), text("version"), text(version)])
        };
        assert!(tells_own_from_others(&hello("7.0.15")));
        assert!(tells_own_from_others(&hello("10.0.0")));
        assert!(!tells_own_from_others(&hello("6.2.14")));
        assert!(!tells_own_from_others(&Reply::Nil));
    }
}
