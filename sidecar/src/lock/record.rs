//! What the register of a lock holds: who holds it and who waits, as JSON, so that it can be read
//! with the tools of the bus.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::sync_bus::observed;

/// How long who is offered a lock has time to take it.
pub(super) const CLAIM: Duration = Duration::from_secs(2);

/// See the module. One that is empty is as good as none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Record {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) holder: Option<Holder>,
    /// In the order in which they came.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub(super) queue: VecDeque<Waiter>,
}

/// Who holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Holder {
    /// Names this one holding.
    pub(super) id: u64,
    /// The revision of the write that granted it; 0 in that write itself.
    pub(super) grant: u64,
    /// How often it was renewed.
    pub(super) beat: u64,
    /// Milliseconds from a renewal.
    pub(super) ttl: u64,
}

impl Holder {
    pub(super) const fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl)
    }
}

/// Who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Waiter {
    /// Names this one wait.
    pub(super) id: u64,
    /// The run of the sidecar that he waits at.
    pub(super) pod: u64,
}

/// A sign of life of whom a lock waits for. Signs don't come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Sign {
    /// It is held.
    Held { grant: u64, beat: u64 },
    /// It is free, and the first who waits may take it.
    Offered { to: u64 },
}

impl Record {
    /// As it reads at `revision`, at which it was written.
    pub(super) fn at(mut self, revision: u64) -> Self {
        if let Some(holder) = &mut self.holder
            && holder.grant == 0
        {
            holder.grant = revision;
        }
        self
    }

    /// The revision that granted it to its holder.
    pub(super) fn grant(&self) -> u64 {
        self.holder.map_or(0, |holder| holder.grant)
    }

    pub(super) fn holds(&self, id: u64) -> Option<&Holder> {
        self.holder.as_ref().filter(|holder| holder.id == id)
    }

    pub(super) fn awaits(&self, id: u64) -> bool {
        self.queue.iter().any(|waiter| waiter.id == id)
    }
}

impl observed::Record for Record {
    type Sign = Sign;

    fn read(value: &[u8], revision: u64) -> Result<Self, String> {
        let record: Self = serde_json::from_slice(value)
            .map_err(|error| format!("the lock's record can't be read: {error}"))?;
        Ok(record.at(revision))
    }

    fn encode(&self) -> Bytes {
        // Numbers and lists of them have always a form.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    fn is_empty(&self) -> bool {
        self.holder.is_none() && self.queue.is_empty()
    }

    fn sign(&self) -> Option<(Sign, Duration)> {
        match (&self.holder, self.queue.front()) {
            (Some(holder), _) => {
                let sign = Sign::Held { grant: holder.grant, beat: holder.beat };
                Some((sign, holder.ttl()))
            }
            (None, Some(first)) => Some((Sign::Offered { to: first.id }, CLAIM)),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use observed::Record as _;

    use super::*;

    #[test]
    fn a_grant_is_the_revision_that_it_was_written_at() {
        let holder = Holder { id: 1, grant: 0, beat: 0, ttl: 500 };
        let record = Record { holder: Some(holder), queue: [Waiter { id: 2, pod: 3 }].into() };
        let read = Record::read(&record.encode(), 9).unwrap();
        assert_eq!(read.holds(1), Some(&Holder { grant: 9, ..holder }));
        assert_eq!(Record::read(&read.encode(), 12).unwrap(), read, "and stays that");
        assert_eq!(Record::default().encode(), "{}");
        assert!(Record::read(b"{}", 1).unwrap().is_empty());
        assert!(Record::read(b"?", 1).is_err());
    }
}
