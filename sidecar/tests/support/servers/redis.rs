//! A Redis that keeps its data over a `kill -9`.

use std::io::{Read, Write};
use std::ops::Deref;

use super::{Server, certificates, find};

#[derive(Debug)]
pub struct Redis(Server);

impl Redis {
    /// Runs one.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Runs one with more options, `--requirepass secret`.
    pub fn start_with(options: &[&str]) -> Self {
        let redis = Self::prepare(options);
        redis.start_again();
        redis
    }

    /// Runs one that takes TLS alone; `ca.pem` in its folder is whom to trust.
    pub fn start_with_tls() -> Self {
        let redis = Self(Server::prepare(&find("redis-server", &[]), None, |dir, port| {
            let mut arguments = arguments(dir, 0, &[]);
            for (option, value) in [
                ("--tls-port", port.to_string()),
                ("--tls-cert-file", "server.pem".to_owned()),
                ("--tls-key-file", "server.key".to_owned()),
                ("--tls-auth-clients", "no".to_owned()),
            ] {
                arguments.extend([option.to_owned(), value]);
            }
            arguments
        }));
        certificates(&redis.dir);
        redis.start_until(|server| server.connect().is_some());
        redis
    }

    fn prepare(options: &[&str]) -> Self {
        Self(Server::prepare(&find("redis-server", &[]), None, |dir, port| {
            arguments(dir, port, options)
        }))
    }

    /// Runs it again after it was killed.
    pub fn start_again(&self) {
        self.start_until(|server| {
            let Some(mut stream) = server.connect() else { return false };
            let mut answer = [0; 5];
            stream.write_all(b"PING\r\n").is_ok()
                && stream.read_exact(&mut answer).is_ok()
                && (&answer == b"+PONG" || &answer == b"-NOAU")
        });
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

fn arguments(dir: &std::path::Path, port: u16, options: &[&str]) -> Vec<String> {
    let dir = dir.to_str().unwrap();
    let port = port.to_string();
    ["--bind", "127.0.0.1", "--port", &port, "--dir", dir, "--save", "", "--appendonly", "yes"]
        .iter()
        .chain(options)
        .map(|&argument| argument.to_owned())
        .collect()
}

impl Deref for Redis {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}
