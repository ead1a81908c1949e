//! What a connection sends next: the commands of one batch, and what each waits for.

use super::dialect::{Dialect, Expected};
use super::keys::{Key, Keys};

/// The kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// Reads.
    Get,
    /// Writes.
    Set,
    /// So many writes in a hundred commands, spread evenly; reads else.
    Mixed {
        /// Writes in a hundred.
        sets: u32,
    },
    /// Reads, and a write of each key that wasn't there: how an application fills a cache.
    ReadThrough,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Script {
    dialect: Dialect,
    workload: Workload,
    keys: Keys,
    drawn: u32,
}

impl Script {
    pub(crate) fn new(dialect: Dialect, workload: Workload, keys: Keys) -> Self {
        Self { dialect, workload, keys, drawn: 0 }
    }

    pub(crate) fn dialect(&self) -> &Dialect {
        &self.dialect
    }

    /// Appends a batch of `size` draws, after the writes that `missed` calls for.
    pub(crate) fn batch(
        &mut self,
        size: usize,
        missed: &mut Vec<Key>,
        out: &mut Vec<u8>,
        expected: &mut Vec<Expected>,
    ) {
        if self.workload == Workload::ReadThrough {
            for key in missed.drain(..) {
                self.dialect.set(key, out);
                expected.push(Expected::Stored);
            }
        }
        for _ in 0..size {
            let key = self.keys.next();
            if self.is_set() {
                self.dialect.set(key, out);
                expected.push(Expected::Stored);
            } else {
                self.dialect.get(key, out);
                expected.push(Expected::Value(key));
            }
        }
    }

    /// Whether this draw is a write.
    fn is_set(&mut self) -> bool {
        match self.workload {
            Workload::Get | Workload::ReadThrough => false,
            Workload::Set => true,
            Workload::Mixed { sets } => {
                // 37 has no divisor in common with 100: every remainder comes once in a hundred.
                self.drawn = (self.drawn + 37) % 100;
                self.drawn < sets
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::dialect::{Expiry, Protocol};
    use super::*;

    fn batch(workload: Workload, size: usize, missed: &mut Vec<Key>) -> Vec<Expected> {
        let dialect = Dialect::new(Protocol::Resp, 8, Expiry::Never);
        let mut script = Script::new(dialect, workload, Keys::each(1000));
        let (mut out, mut expected) = (Vec::new(), Vec::new());
        script.batch(size, missed, &mut out, &mut expected);
        expected
    }

    #[test]
    fn a_mixture_has_its_share_of_writes_in_every_hundred() {
        let expected = batch(Workload::Mixed { sets: 10 }, 300, &mut Vec::new());
        for hundred in expected.chunks(100) {
            assert_eq!(hundred.iter().filter(|e| **e == Expected::Stored).count(), 10);
        }
    }

    #[test]
    fn what_was_missed_is_written_before_more_is_read() {
        let mut missed = vec![Key(7)];
        let expected = batch(Workload::ReadThrough, 2, &mut missed);
        let read = |n| Expected::Value(Key(n));
        assert_eq!(expected, [Expected::Stored, read(0), read(1)]);
        assert!(missed.is_empty());
    }
}
