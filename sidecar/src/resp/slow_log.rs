//! The commands that took long, the last first: SLOWLOG.
//!
//! *What is kept is bounded*, whatever clients set and send: so many commands, of each so many
//! arguments, of each so many bytes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::redaction::redacted;

/// How many commands are kept at most, whatever `slowlog-max-len` says.
const MOST: usize = 10_000;
/// How many arguments are kept of a command, and how many bytes of an argument; as in Redis.
const ARGUMENTS: usize = 32;
const BYTES: usize = 128;

/// Microseconds that a quick command may take when nothing is in its way.
const QUICK: i64 = 1_000;

/// A command that took long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slow {
    /// Counts them from 0 on; no number comes twice.
    pub id: u64,
    /// When it was noted, in Unix seconds.
    pub at: u64,
    /// How long it took.
    pub took: Duration,
    /// What it was.
    pub command: Trimmed,
    /// Whose it was.
    pub client: String,
    /// What that client called itself.
    pub client_name: Bytes,
}

/// A command's arguments, without credentials and not longer than are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trimmed(pub Vec<Bytes>);

/// See the module.
#[derive(Debug)]
pub struct SlowLog {
    /// Microseconds; negative is never.
    threshold: AtomicI64,
    most: AtomicUsize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The last first.
    commands: VecDeque<Slow>,
    next_id: u64,
}

impl Default for SlowLog {
    fn default() -> Self {
        Self {
            threshold: AtomicI64::new(10_000),
            most: AtomicUsize::new(128),
            kept: Mutex::default(),
        }
    }
}

impl SlowLog {
    /// From how many microseconds on a command is noted; negative is never.
    pub fn threshold(&self) -> i64 {
        self.threshold.load(Ordering::Relaxed)
    }

    /// Whether even a quick command may be as slow as is asked for.
    #[inline]
    pub fn wants_quick(&self) -> bool {
        (0..QUICK).contains(&self.threshold())
    }

    /// Changes it.
    pub fn set_threshold(&self, micros: i64) {
        self.threshold.store(micros, Ordering::Relaxed);
    }

    /// How many commands are kept.
    pub fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    /// Changes it. Those that are too many leave with the next that comes.
    pub fn set_most(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// Whether what took so long is noted.
    pub fn wants(&self, took: Duration) -> bool {
        let threshold = u128::try_from(self.threshold());
        threshold.is_ok_and(|threshold| took.as_micros() >= threshold)
    }

    /// Keeps a command that [`SlowLog::wants`].
    pub fn keep(
        &self,
        command: Trimmed,
        took: Duration,
        at: u64,
        client: &str,
        client_name: Bytes,
    ) {
        let mut kept = self.kept.lock();
        let id = kept.next_id;
        kept.next_id += 1;
        let client = client.to_owned();
        kept.commands.push_front(Slow { id, at, took, command, client, client_name });
        kept.commands.truncate(self.most().min(MOST));
    }

    /// The last `count` of them, the last first.
    pub fn last(&self, count: usize) -> Vec<Slow> {
        self.kept.lock().commands.iter().take(count).cloned().collect()
    }

    /// How many are kept.
    pub fn count(&self) -> usize {
        self.kept.lock().commands.len()
    }

    /// Forgets them.
    pub fn reset(&self) {
        self.kept.lock().commands.clear();
    }
}

impl Trimmed {
    /// What is kept of `arguments`.
    pub fn of(arguments: &[&[u8]]) -> Self {
        let shown = redacted(arguments);
        let is_long = shown.len() > ARGUMENTS;
        let whole = if is_long { ARGUMENTS - 1 } else { shown.len() };
        let mut kept: Vec<Bytes> = shown.iter().take(whole).map(|text| trimmed(text)).collect();
        if is_long {
            kept.push(format!("... ({} more arguments)", shown.len() - whole).into());
        }
        Self(kept)
    }
}

fn trimmed(text: &[u8]) -> Bytes {
    if text.len() <= BYTES {
        return Bytes::copy_from_slice(text);
    }
    let mut kept = text[..BYTES].to_vec();
    kept.extend_from_slice(format!("... ({} more bytes)", text.len() - BYTES).as_bytes());
    kept.into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::{ARGUMENTS, BYTES, SlowLog, Trimmed};

    #[test]
    fn the_last_are_kept_and_numbers_go_on() {
        let log = SlowLog::default();
        assert!(!log.wants(Duration::from_micros(9_999)) && log.wants(Duration::from_millis(10)));
        log.set_threshold(-1);
        assert!(!log.wants(Duration::MAX));
        log.set_threshold(0);
        assert!(log.wants(Duration::ZERO));
        log.set_most(2);
        let keep = || log.keep(Trimmed::of(&[b"GET"]), Duration::ZERO, 7, "c", Bytes::new());
        (0..3).for_each(|_| keep());
        let ids: Vec<u64> = log.last(10).iter().map(|slow| slow.id).collect();
        assert_eq!((ids, log.count()), (vec![2, 1], 2));
        log.reset();
        keep();
        assert_eq!(log.last(1)[0].id, 3);
        log.set_most(0);
        keep();
        assert_eq!(log.count(), 0);
    }

    #[test]
    fn little_is_kept_of_a_long_command() {
        let long = vec![b'x'; BYTES + 72];
        let mut arguments: Vec<&[u8]> = vec![&long; ARGUMENTS];
        let kept = Trimmed::of(&arguments).0;
        assert_eq!((kept.len(), &kept[0][BYTES..]), (ARGUMENTS, &b"... (72 more bytes)"[..]));
        arguments.extend([&b"y"[..]; 9]);
        let kept = Trimmed::of(&arguments).0;
        assert_eq!((kept.len(), &kept[31][..]), (ARGUMENTS, &b"... (10 more arguments)"[..]));
    }
}
