//! One short connection to NATS for administration. It is made for each look at the bus and dropped
//! after it, so that "reachable" means now.

use std::time::Duration;

use async_nats::{Client, ConnectOptions};
use warp_crds::names;
use warp_crds::nats::{self, Credentials, Login};

/// How long connecting, and each request after it, may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The `.creds` text can't be read.
    #[error("the NATS credentials can't be read: {0}")]
    Unreadable(#[source] std::io::Error),
    /// No server took the connection.
    #[error(
        "no NATS server of {urls} could be reached; check that one runs there and takes these credentials: {source}"
    )]
    Unreachable {
        /// Where it was tried, without whom the URLs name.
        urls: String,
        /// The client's words.
        source: async_nats::ConnectError,
    },
}

/// Connects to the first of `urls` that answers, as the sidecars do: without credentials as the
/// first whom one of the URLs names. `tenant` is whose stream it is about.
pub async fn connect(
    urls: &[String],
    credentials: Credentials,
    tenant: &str,
) -> Result<Client, ConnectError> {
    let options = match credentials {
        Credentials::None => match urls.iter().find_map(|url| Login::of(url)) {
            None => ConnectOptions::new(),
            Some(Login::Password { user, password }) => {
                ConnectOptions::with_user_and_password(user, password)
            }
            Some(Login::Token(token)) => ConnectOptions::with_token(token),
        },
        Credentials::Seed(seed) => ConnectOptions::with_nkey(seed),
        Credentials::File(text) => {
            ConnectOptions::with_credentials(&text).map_err(ConnectError::Unreadable)?
        }
    };
    options
        .name("warp-operator")
        .custom_inbox_prefix(names::operator_inbox(tenant))
        .connection_timeout(PATIENCE)
        .request_timeout(Some(PATIENCE))
        .max_reconnects(1)
        .connect(urls)
        .await
        .map_err(|source| ConnectError::Unreachable { urls: nats::shown(urls), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nats::server;

    #[tokio::test]
    async fn whom_a_url_names_logs_in_and_is_not_shown() {
        let server =
            server::start(|_| r#"authorization: { user: "me", password: "p@ss/1" }"#.to_owned())
                .await;
        let with = |userinfo: &str| [server.url().replace("://", &format!("://{userinfo}@"))];
        assert!(connect(&with("me:p%40ss%2F1"), Credentials::None, "t").await.is_ok());
        let refused = connect(&with("me:s3cret"), Credentials::None, "t").await.unwrap_err();
        assert!(!refused.to_string().contains("s3cret"), "{refused}");
        assert!(!format!("{refused:?}").contains("s3cret"), "{refused:?}");
    }
}
