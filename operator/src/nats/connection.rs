//! One short connection to NATS for administration. It is made for each look at the bus and dropped
//! after it, so that "reachable" means now.

use std::time::Duration;

use async_nats::{Client, ConnectOptions};

/// How long connecting, and each request after it, may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// As whom to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// As nobody.
    None,
    /// An NKEY user's seed.
    Seed(String),
    /// The text of a `.creds` file.
    File(String),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The Secret's value is of neither form.
    #[error(
        "the NATS credentials are neither the text of a .creds file nor an NKEY user seed (SU…)"
    )]
    NotCredentials,
    /// The `.creds` text can't be read.
    #[error("the NATS credentials can't be read: {0}")]
    Unreadable(#[source] std::io::Error),
    /// No server took the connection.
    #[error(
        "no NATS server of {urls} could be reached; check that one runs there and takes these credentials: {source}"
    )]
    Unreachable {
        /// Where it was tried.
        urls: String,
        /// The client's words.
        source: async_nats::ConnectError,
    },
}

impl Credentials {
    /// Tells the two forms of a credentials Secret apart.
    pub fn read(text: &[u8]) -> Result<Self, ConnectError> {
        let text = std::str::from_utf8(text).map_err(|_| ConnectError::NotCredentials)?.trim();
        if text.contains("BEGIN NATS USER JWT") {
            Ok(Self::File(text.to_owned()))
        } else if text.starts_with("SU") && !text.contains(char::is_whitespace) {
            Ok(Self::Seed(text.to_owned()))
        } else {
            Err(ConnectError::NotCredentials)
        }
    }
}

/// Connects to the first of `urls` that answers.
pub async fn connect(urls: &[String], credentials: Credentials) -> Result<Client, ConnectError> {
    let options = match credentials {
        Credentials::None => ConnectOptions::new(),
        Credentials::Seed(seed) => ConnectOptions::with_nkey(seed),
        Credentials::File(text) => {
            ConnectOptions::with_credentials(&text).map_err(ConnectError::Unreadable)?
        }
    };
    options
        .name("warp-operator")
        .connection_timeout(PATIENCE)
        .request_timeout(Some(PATIENCE))
        .max_reconnects(1)
        .connect(urls)
        .await
        .map_err(|source| ConnectError::Unreachable { urls: urls.join(", "), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_forms_of_credentials_are_told_apart() {
        assert_eq!(Credentials::read(b" SUABC\n").unwrap(), Credentials::Seed("SUABC".to_owned()));
        let file = "-----BEGIN NATS USER JWT-----\ne30\n------END NATS USER JWT------";
        assert_eq!(Credentials::read(file.as_bytes()).unwrap(), Credentials::File(file.to_owned()));
        for wrong in [&b"hunter2"[..], b"", b"\xff", b"SUA SUB"] {
            assert!(matches!(Credentials::read(wrong), Err(ConnectError::NotCredentials)));
        }
    }
}
