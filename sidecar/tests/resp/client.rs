//! A client that shows what it gets.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use warp_sidecar::resp::reply::Reply;
use warp_sidecar::resp::reply_parse;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Client {
    pub stream: TcpStream,
    received: BytesMut,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), received: BytesMut::new() }
    }

    pub async fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub async fn send(&mut self, arguments: &[&[u8]]) {
        let command = command(arguments);
        self.send_raw(&command).await;
    }

    /// The bytes of the next reply.
    pub async fn receive_raw(&mut self) -> Bytes {
        self.try_receive_raw().await.expect("a reply before the connection's end")
    }

    /// The bytes of the next reply, or none at the connection's end.
    pub async fn try_receive_raw(&mut self) -> Option<Bytes> {
        loop {
            if let Some(length) = reply_parse::length(&self.received).unwrap() {
                return Some(self.received.split_to(length).freeze());
            }
            let read = self.stream.read_buf(&mut self.received);
            match tokio::time::timeout(PATIENCE, read).await.expect("a reply in time") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    pub async fn receive(&mut self) -> String {
        show(&reply_parse::parse(&self.receive_raw().await).unwrap())
    }

    /// Whether the server has closed the connection, everything before having been received.
    pub async fn is_closed(&mut self) -> bool {
        self.try_receive_raw().await.is_none()
    }

    /// Sends words that are separated by blanks, and shows the reply.
    pub async fn ask(&mut self, line: &str) -> String {
        let words: Vec<&[u8]> = line.split_whitespace().map(str::as_bytes).collect();
        self.send(&words).await;
        self.receive().await
    }

    /// Checks lines of the form `command -> reply`.
    pub async fn expect(&mut self, script: &str) {
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (command, expected) = line.split_once("->").unwrap();
            assert_eq!(self.ask(command).await, expected.trim(), "{command}");
        }
    }
}

pub fn command(arguments: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        out.put_slice(format!("${}\r\n", argument.len()).as_bytes());
        out.put_slice(argument);
        out.put_slice(b"\r\n");
    }
    out
}

/// A reply in one line: `OK`, `'text'`, `(nil)`, `7`, `[…]`, `{… => …}`, `ERR …`.
pub fn show(reply: &Reply) -> String {
    let list = |open: &str, items: &[Reply], close: &str| {
        let items: Vec<String> = items.iter().map(show).collect();
        format!("{open}{}{close}", items.join(" "))
    };
    match reply {
        Reply::Simple(text) | Reply::Error(text) => text.trim_end().to_owned(),
        Reply::Integer(number) => number.to_string(),
        Reply::Bulk(data) => format!("'{}'", String::from_utf8_lossy(data)),
        Reply::Null => "(nil)".to_owned(),
        Reply::NullArray => "(nil array)".to_owned(),
        Reply::Array(items) => list("[", items, "]"),
        Reply::Set(items) => list("~[", items, "]"),
        Reply::Push(items) => list(">[", items, "]"),
        Reply::Map(pairs) => {
            let mut text = String::from("{");
            for (key, value) in pairs {
                let _ = write!(text, "{}=>{} ", show(key), show(value));
            }
            text.trim_end().to_owned() + "}"
        }
        Reply::Double(number) => format!("{number}f"),
        Reply::Boolean(truth) => truth.to_string(),
        Reply::BigNumber(digits) => format!("{digits}n"),
        Reply::Verbatim(_, text) => format!("\"{}\"", String::from_utf8_lossy(text)),
        Reply::Raw(_) => "(raw)".to_owned(),
    }
}
