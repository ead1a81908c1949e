//! The two protocols that the peers speak, as templates: what stands around a key and a value, and
//! what the three replies look like. A template is filled by copying, and a reply is known by its
//! first bytes, so that neither costs the generator more than the other.

use super::keys::{KEY_SIZE, Key};
use crate::failure::Failure;

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Redis'.
    Resp,
    /// Memcached's meta commands.
    Memcached,
}

impl Protocol {
    /// A command that is answered at once, whatever is stored.
    pub(crate) const fn ping(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Self::Resp => (b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"),
            Self::Memcached => (b"mn\r\n", b"MN\r\n"),
        }
    }
}

/// How long what is written may live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// As long as there is room.
    Never,
    /// So many seconds.
    Seconds(u32),
}

/// What a command waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// The key's value, or that there is none.
    Value(Key),
    /// That it is stored.
    Stored,
}

/// A reply that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Hit,
    Miss,
    Stored,
}

/// A protocol with values of one size.
#[derive(Clone, Debug)]
pub(crate) struct Dialect {
    get: [Vec<u8>; 2],
    set: [Vec<u8>; 3],
    hit: Vec<u8>,
    miss: &'static [u8],
    stored: &'static [u8],
    /// What follows a key's mark in its value.
    filling: Vec<u8>,
}

impl Dialect {
    /// Values have at least the eight bytes of the key's mark.
    pub(crate) fn new(protocol: Protocol, value_size: usize, expiry: Expiry) -> Self {
        let value_size = value_size.max(8);
        let filling = vec![b'v'; value_size - 8];
        let bytes = |text: String| text.into_bytes();
        match protocol {
            Protocol::Resp => {
                let (words, end) = match expiry {
                    Expiry::Never => (3, "\r\n".to_owned()),
                    Expiry::Seconds(n) => {
                        (5, format!("\r\n$2\r\nEX\r\n${}\r\n{n}\r\n", n.to_string().len()))
                    }
                };
                Self {
                    get: [bytes(format!("*2\r\n$3\r\nGET\r\n${KEY_SIZE}\r\n")), b"\r\n".to_vec()],
                    set: [
                        bytes(format!("*{words}\r\n$3\r\nSET\r\n${KEY_SIZE}\r\n")),
                        bytes(format!("\r\n${value_size}\r\n")),
                        bytes(end),
                    ],
                    hit: bytes(format!("${value_size}\r\n")),
                    miss: b"$-1\r\n",
                    stored: b"+OK\r\n",
                    filling,
                }
            }
            Protocol::Memcached => {
                let time = match expiry {
                    Expiry::Never => String::new(),
                    Expiry::Seconds(n) => format!(" T{n}"),
                };
                Self {
                    get: [b"mg ".to_vec(), b" v\r\n".to_vec()],
                    set: [
                        b"ms ".to_vec(),
                        bytes(format!(" {value_size}{time}\r\n")),
                        b"\r\n".to_vec(),
                    ],
                    hit: bytes(format!("VA {value_size}\r\n")),
                    miss: b"EN\r\n",
                    stored: b"HD\r\n",
                    filling,
                }
            }
        }
    }

    /// Appends a command that reads.
    pub(crate) fn get(&self, key: Key, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.get[0]);
        out.extend_from_slice(&key.text());
        out.extend_from_slice(&self.get[1]);
    }

    /// Appends a command that writes.
    pub(crate) fn set(&self, key: Key, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.set[0]);
        out.extend_from_slice(&key.text());
        out.extend_from_slice(&self.set[1]);
        out.extend_from_slice(&key.mark());
        out.extend_from_slice(&self.filling);
        out.extend_from_slice(&self.set[2]);
    }

    /// The reply that `bytes` begin with and its length; `None` while it isn't whole.
    pub(crate) fn reply(
        &self,
        expected: Expected,
        bytes: &[u8],
    ) -> Result<Option<(Reply, usize)>, Failure> {
        match expected {
            Expected::Value(key) => {
                if bytes.starts_with(&self.hit) {
                    return self.value(key, bytes);
                }
                Self::line(self.miss, Reply::Miss, &[&self.hit], "a value", bytes)
            }
            Expected::Stored => Self::line(self.stored, Reply::Stored, &[], "\"stored\"", bytes),
        }
    }

    /// A value after its head.
    fn value(&self, key: Key, bytes: &[u8]) -> Result<Option<(Reply, usize)>, Failure> {
        let body = &bytes[self.hit.len()..];
        let size = 8 + self.filling.len();
        let Some(after) = body.get(size..size + 2) else { return Ok(None) };
        if body[..8] != key.mark() || after != b"\r\n" {
            return Err(unexpected("the value of the key that was asked for", bytes));
        }
        Ok(Some((Reply::Hit, self.hit.len() + size + 2)))
    }

    fn line(
        line: &[u8],
        reply: Reply,
        others: &[&[u8]],
        expected: &'static str,
        bytes: &[u8],
    ) -> Result<Option<(Reply, usize)>, Failure> {
        if bytes.starts_with(line) {
            return Ok(Some((reply, line.len())));
        }
        let may_become = |whole: &[u8]| whole.starts_with(bytes);
        if may_become(line) || others.iter().any(|other| may_become(other)) {
            return Ok(None);
        }
        Err(unexpected(expected, bytes))
    }
}

fn unexpected(expected: &'static str, bytes: &[u8]) -> Failure {
    Failure::Reply { expected, begin: bytes[..bytes.len().min(60)].escape_ascii().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key(42);

    fn resp() -> Dialect {
        Dialect::new(Protocol::Resp, 10, Expiry::Seconds(3600))
    }

    fn hit(head: &[u8]) -> Vec<u8> {
        [head, &KEY.mark(), b"vv\r\n"].concat()
    }

    #[test]
    fn commands_are_what_the_servers_read() {
        let mut out = Vec::new();
        resp().get(KEY, &mut out);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000042\r\n");
        out.clear();
        resp().set(KEY, &mut out);
        let value = [&KEY.mark()[..], b"vv"].concat();
        let head = b"*5\r\n$3\r\nSET\r\n$16\r\nkey:000000000042\r\n$10\r\n".as_slice();
        assert_eq!(out, [head, &value, b"\r\n$2\r\nEX\r\n$4\r\n3600\r\n"].concat());
        out.clear();
        let memcached = Dialect::new(Protocol::Memcached, 10, Expiry::Seconds(60));
        memcached.set(KEY, &mut out);
        memcached.get(KEY, &mut out);
        let head = b"ms key:000000000042 10 T60\r\n".as_slice();
        assert_eq!(out, [head, &value, b"\r\nmg key:000000000042 v\r\n"].concat());
    }

    #[test]
    fn each_reply_is_known_in_both_protocols() {
        let memcached = Dialect::new(Protocol::Memcached, 10, Expiry::Never);
        for (dialect, head, miss, stored) in [
            (resp(), b"$10\r\n".as_slice(), b"$-1\r\n".as_slice(), b"+OK\r\n".as_slice()),
            (memcached, b"VA 10\r\n", b"EN\r\n", b"HD\r\n"),
        ] {
            let value = hit(head);
            for (expected, bytes, reply) in [
                (Expected::Value(KEY), value.as_slice(), Reply::Hit),
                (Expected::Value(KEY), miss, Reply::Miss),
                (Expected::Stored, stored, Reply::Stored),
            ] {
                for cut in 0..bytes.len() {
                    assert_eq!(dialect.reply(expected, &bytes[..cut]).unwrap(), None);
                }
                let followed = [bytes, b"$"].concat();
                assert_eq!(dialect.reply(expected, &followed).unwrap(), Some((reply, bytes.len())));
            }
        }
    }

    #[test]
    fn an_error_another_size_and_another_keys_value_are_refused() {
        let wrong = |expected, bytes: &[u8]| resp().reply(expected, bytes).unwrap_err().to_string();
        assert!(wrong(Expected::Value(KEY), b"-ERR no\r\n").contains("-ERR no"));
        assert!(wrong(Expected::Value(KEY), b"$11\r\n").contains("$11"));
        assert!(wrong(Expected::Stored, b"$-1\r\n").contains("stored"));
        let other = hit(b"$10\r\n");
        assert!(wrong(Expected::Value(Key(43)), &other).contains("asked for"));
    }
}
