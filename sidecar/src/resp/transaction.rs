//! MULTI and WATCH as a client's connection sees them, without I/O.
//!
//! Transactions are the business of the Redis behind Warp. While one is going on, every command of
//! its connection has to go there, and what it will have written is known when it ends.

use std::borrow::Cow;

use crate::resp::reply::Reply;
use crate::sync_bus::Scope;

/// How far a connection is in a transaction.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    queued: Option<Queued>,
    watching: bool,
}

/// What is between MULTI and EXEC.
#[derive(Debug, Default)]
struct Queued {
    commands: usize,
    written: Option<Scope>,
    /// A command was refused here, of which Redis knows nothing; EXEC must fail as it does when
    /// Redis refuses one.
    spoiled: bool,
}

/// Where a command goes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Route {
    /// To Warp, as if there were no transaction.
    Warp,
    /// To Redis.
    Redis,
    /// To Redis goes DISCARD instead, and this is the answer.
    Discard(Reply),
    /// Nowhere; this is the answer.
    Refused(Reply),
}

/// The commands that decide about a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Multi,
    Exec,
    Discard,
    Watch,
    Unwatch,
    /// None of them.
    Other,
}

impl Step {
    /// The command of that name.
    pub(super) fn of(name: &[u8]) -> Self {
        let steps: [(&[u8], Self); 5] = [
            (b"MULTI", Self::Multi),
            (b"EXEC", Self::Exec),
            (b"DISCARD", Self::Discard),
            (b"WATCH", Self::Watch),
            (b"UNWATCH", Self::Unwatch),
        ];
        steps
            .into_iter()
            .find(|(own, _)| own.eq_ignore_ascii_case(name))
            .map_or(Self::Other, |(_, step)| step)
    }
}

/// What is between a connection and Warp, and would be lost or do harm in a transaction of Redis.
const OF_THE_CONNECTION: [&str; 16] = [
    "QUIT",
    "RESET",
    "HELLO",
    "AUTH",
    "CLIENT",
    "SELECT",
    "MONITOR",
    "SUBSCRIBE",
    "PSUBSCRIBE",
    "SSUBSCRIBE",
    "UNSUBSCRIBE",
    "PUNSUBSCRIBE",
    "SUNSUBSCRIBE",
    "SYNC",
    "PSYNC",
    "REPLCONF",
];

impl Transaction {
    /// Whether one is going on.
    pub(super) fn is_open(&self) -> bool {
        self.queued.is_some() || self.watching
    }

    /// How many commands are queued; `None` is outside MULTI.
    pub(super) fn queued(&self) -> Option<usize> {
        self.queued.as_ref().map(|queued| queued.commands)
    }

    /// Whether a command of that name goes to Redis for sure, behind commands that are on their
    /// way there and change nothing about the transaction.
    pub(super) fn takes(&self, name: &[u8]) -> bool {
        let is_spoiled = self.queued.as_ref().is_some_and(|queued| queued.spoiled);
        self.is_open() && !is_spoiled && !is_of_the_connection(name)
    }

    /// Where a command of that name goes.
    pub(super) fn route(&mut self, name: &[u8]) -> Route {
        let ends = [&b"QUIT"[..], b"RESET"].iter().any(|end| end.eq_ignore_ascii_case(name));
        if !self.is_open() || ends {
            return Route::Warp;
        }
        let own = is_of_the_connection(name);
        match &mut self.queued {
            None if own => Route::Warp,
            Some(queued) if own => {
                queued.spoiled = true;
                Route::Refused(Reply::Error(Cow::Borrowed(
                    "ERR Command not allowed inside a transaction",
                )))
            }
            Some(Queued { spoiled: true, .. }) if Step::of(name) == Step::Exec => {
                Route::Discard(Reply::Error(Cow::Borrowed(
                    "EXECABORT Transaction discarded because of previous errors.",
                )))
            }
            _ => Route::Redis,
        }
    }

    /// Takes note of Redis' reply to a command, which writes to `scope`. What has been written by
    /// it now, if anything: the whole transaction's writes with EXEC.
    pub(super) fn observe(
        &mut self,
        step: Step,
        reply: &[u8],
        scope: Option<Scope>,
    ) -> Option<Scope> {
        let succeeded = !reply.starts_with(b"-");
        match (step, &mut self.queued) {
            (Step::Multi, None) if succeeded => {
                self.queued = Some(Queued::default());
                None
            }
            (Step::Watch, None) if succeeded => {
                self.watching = true;
                None
            }
            (Step::Unwatch, None) => {
                self.watching = false;
                None
            }
            (Step::Exec | Step::Discard, Some(queued)) => {
                let written = queued.written.take();
                *self = Self::default();
                written.filter(|_| step == Step::Exec)
            }
            (_, Some(queued)) => {
                if reply.starts_with(b"+QUEUED") {
                    queued.commands += 1;
                    queued.written = merged(queued.written.take(), scope);
                }
                None
            }
            (_, None) => scope,
        }
    }
}

fn is_of_the_connection(name: &[u8]) -> bool {
    OF_THE_CONNECTION.iter().any(|own| own.as_bytes().eq_ignore_ascii_case(name))
}

fn merged(one: Option<Scope>, other: Option<Scope>) -> Option<Scope> {
    match (one, other) {
        (Some(Scope::Keys(mut keys)), Some(Scope::Keys(more))) => {
            keys.extend(more);
            Some(Scope::Keys(keys))
        }
        (Some(Scope::Everything), _) | (_, Some(Scope::Everything)) => Some(Scope::Everything),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Route, Step, Transaction};
    use crate::sync_bus::Scope;

    fn keys(keys: &[&'static str]) -> Option<Scope> {
        Some(Scope::Keys(keys.iter().map(|key| Bytes::from(*key)).collect()))
    }

    #[test]
    fn nothing_is_routed_outside_a_transaction() {
        let mut transaction = Transaction::default();
        assert_eq!(transaction.route(b"GET"), Route::Warp);
        assert_eq!(transaction.observe(Step::Other, b":1\r\n", keys(&["a"])), keys(&["a"]));
    }

    #[test]
    fn exec_has_written_what_was_queued() {
        let mut transaction = Transaction::default();
        transaction.observe(Step::Multi, b"+OK\r\n", None);
        assert_eq!(transaction.route(b"get"), Route::Redis);
        assert!(transaction.takes(b"get") && transaction.takes(b"exec"));
        assert!(!transaction.takes(b"select"));
        assert_eq!(transaction.observe(Step::Other, b"+QUEUED\r\n", keys(&["a"])), None);
        assert_eq!(transaction.observe(Step::Other, b"+QUEUED\r\n", None), None);
        assert_eq!(transaction.observe(Step::Other, b"-ERR\r\n", keys(&["x"])), None);
        assert_eq!(transaction.observe(Step::Other, b"+QUEUED\r\n", keys(&["b"])), None);
        assert_eq!(transaction.queued(), Some(3));
        assert_eq!(transaction.observe(Step::Exec, b"*2\r\n", None), keys(&["a", "b"]));
        assert!(!transaction.is_open());
    }

    #[test]
    fn discard_has_written_nothing() {
        let mut transaction = Transaction::default();
        transaction.observe(Step::Multi, b"+OK\r\n", None);
        transaction.observe(Step::Other, b"+QUEUED\r\n", Some(Scope::Everything));
        assert_eq!(transaction.observe(Step::Discard, b"+OK\r\n", None), None);
        assert!(!transaction.is_open());
    }

    #[test]
    fn watching_lasts_until_unwatch_or_the_end() {
        let mut transaction = Transaction::default();
        transaction.observe(Step::Watch, b"+OK\r\n", None);
        assert_eq!(transaction.route(b"GET"), Route::Redis);
        assert_eq!(transaction.route(b"HELLO"), Route::Warp);
        transaction.observe(Step::Unwatch, b"+OK\r\n", None);
        assert!(!transaction.is_open());
        transaction.observe(Step::Watch, b"+OK\r\n", None);
        transaction.observe(Step::Multi, b"+OK\r\n", None);
        transaction.observe(Step::Exec, b"*-1\r\n", None);
        assert!(!transaction.is_open());
    }

    #[test]
    fn exec_outside_multi_leaves_a_watch() {
        let mut transaction = Transaction::default();
        transaction.observe(Step::Watch, b"+OK\r\n", None);
        transaction.observe(Step::Exec, b"-ERR EXEC without MULTI\r\n", None);
        assert!(transaction.is_open());
    }

    #[test]
    fn a_command_refused_here_spoils_the_transaction() {
        let mut transaction = Transaction::default();
        transaction.observe(Step::Multi, b"+OK\r\n", None);
        assert!(matches!(transaction.route(b"SELECT"), Route::Refused(_)));
        assert_eq!(transaction.route(b"QUIT"), Route::Warp);
        assert!(!transaction.takes(b"SET") && !transaction.takes(b"QUIT"));
        assert!(matches!(transaction.route(b"exec"), Route::Discard(_)));
    }

    #[test]
    fn unknown_writes_swallow_known_ones() {
        let mut transaction = Transaction::default();
        transaction.observe(Step::Multi, b"+OK\r\n", None);
        transaction.observe(Step::Other, b"+QUEUED\r\n", keys(&["a"]));
        transaction.observe(Step::Other, b"+QUEUED\r\n", Some(Scope::Everything));
        transaction.observe(Step::Other, b"+QUEUED\r\n", keys(&["b"]));
        assert_eq!(transaction.observe(Step::Exec, b"*3\r\n", None), Some(Scope::Everything));
    }
}
