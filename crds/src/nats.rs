//! How a NATS outside the cluster is named and logged in to: what a credentials Secret may hold, and
//! what a server's URL may say. Operator and sidecar read both here, so that one of them doesn't
//! accept what the other refuses, and neither shows what it mustn't.

use std::fmt;

/// Who the servers are told this is.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Nobody, or whom the URLs name.
    #[default]
    None,
    /// An NKEY user, by its seed (`SU…`).
    Seed(String),
    /// The text of a `.creds` file: a JWT and a seed.
    File(String),
}

/// A Secret's value that is of neither form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the NATS credentials are neither the text of a .creds file nor an NKEY user seed (SU…)")]
pub struct NotCredentials;

impl Credentials {
    /// What a Secret holds, whatever white space is around it.
    pub fn read(value: &[u8]) -> Result<Self, NotCredentials> {
        let text = std::str::from_utf8(value).map_err(|_| NotCredentials)?.trim();
        // A seed is base32, whose first two letters say that it is one, and a user's.
        let base32 = |c: char| c.is_ascii_uppercase() || ('2'..='7').contains(&c);
        if text.contains("-----BEGIN NATS USER JWT-----") {
            Ok(Self::File(text.to_owned()))
        } else if text.starts_with("SU") && text.chars().all(base32) {
            Ok(Self::Seed(text.to_owned()))
        } else {
            Err(NotCredentials)
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Seed(_) => "Seed(…)",
            Self::File(_) => "File(…)",
        })
    }
}

/// Whom a URL names before its `@`.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// `user:password@`.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// `token@`.
    Token(String),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Password(…)",
            Self::Token(_) => "Token(…)",
        })
    }
}

impl Login {
    /// Whom `url` names, if anyone.
    pub fn of(url: &str) -> Option<Self> {
        let (_, userinfo, _) = parts(url);
        let userinfo = userinfo.filter(|userinfo| !userinfo.is_empty())?;
        Some(match userinfo.split_once(':') {
            Some((user, password)) => {
                Self::Password { user: decoded(user), password: decoded(password) }
            }
            None => Self::Token(decoded(userinfo)),
        })
    }
}

/// The servers as a person may see them: without whom their URLs name.
pub fn shown(urls: &[String]) -> String {
    let shown = |url: &String| {
        let (scheme, _, rest) = parts(url);
        format!("{scheme}{rest}")
    };
    urls.iter().map(shown).collect::<Vec<_>>().join(", ")
}

/// Scheme with its `://`, user information, and the rest.
fn parts(url: &str) -> (&str, Option<&str>, &str) {
    let (scheme, rest) = url.split_at(url.find("://").map_or(0, |at| at + 3));
    // A password that isn't percent-encoded may hold any of these; nothing of it may be shown.
    match rest.rsplit_once('@') {
        Some((userinfo, host)) => (scheme, Some(userinfo), host),
        None => (scheme, None, rest),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_forms_of_credentials_are_told_apart() {
        assert_eq!(Credentials::read(b" SUABC\n"), Ok(Credentials::Seed("SUABC".to_owned())));
        let file = "-----BEGIN NATS USER JWT-----\ne30\n------END NATS USER JWT------";
        assert_eq!(
            Credentials::read(format!("\n{file}\n").as_bytes()),
            Ok(Credentials::File(file.to_owned()))
        );
        for wrong in
            [&b"hunter2"[..], b"", b"\xff", b"SUA SUB", b"SU-A", b"-----BEGIN CERTIFICATE-----"]
        {
            assert_eq!(Credentials::read(wrong), Err(NotCredentials));
        }
    }

    #[test]
    fn a_url_names_a_user_or_a_token_or_nobody() {
        let password = |user: &str, password: &str| {
            Some(Login::Password { user: user.to_owned(), password: password.to_owned() })
        };
        assert_eq!(Login::of("tls://me:p%40ss%2F100%25@nats:4222"), password("me", "p@ss/100%"));
        assert_eq!(Login::of("nats://me:50%@nats"), password("me", "50%"));
        assert_eq!(Login::of("nats://t0ken@nats:4222"), Some(Login::Token("t0ken".to_owned())));
        assert_eq!(Login::of("nats://nats:4222"), None);
        assert_eq!(Login::of("nats://@nats:4222"), None);
    }

    #[test]
    fn secrets_are_never_shown() {
        let urls = ["tls://me:s3cret@nats:4222", "nats://s3cret@[::1]:4222", "me:s3c@ret@nats"];
        let text = shown(&urls.map(str::to_owned));
        assert_eq!(text, "tls://nats:4222, nats://[::1]:4222, nats");
        let debug = format!("{:?} {:?}", Login::of(urls[0]), Credentials::read(b"SUSECRET"));
        assert!(!debug.contains("s3cret") && !debug.contains("SUSECRET"), "{debug}");
    }
}
