//! What the register of a lease holds, as JSON: its TTL and the keys that live as long as it does.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::adapter::Key;
use crate::sync_bus::observed;

/// How long who ends a lease has time to remove its keys, before another does it.
pub(super) const REMOVAL: Duration = Duration::from_secs(5);
/// The most that the keys of a lease may take in its record: what a NATS takes at once as it comes,
/// with room to spare.
const MOST_BYTES: usize = 512 << 10;

/// See the module. One without a TTL is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Milliseconds from a sign of life.
    #[serde(default)]
    pub(super) ttl: u64,
    /// Grows with each sign of life.
    #[serde(default)]
    pub(super) beat: u64,
    /// What it comes to an end by, once it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ends: Option<End>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[serde(serialize_with = "write_keys", deserialize_with = "read_keys")]
    pub(super) keys: BTreeSet<Key>,
}

impl End {
    /// In one word, for a push and a metric.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// How a lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum End {
    /// Nobody kept it alive.
    Expired,
    /// Somebody revoked it.
    Revoked,
}

/// A sign of life of whom a lease, or what is left of it, waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    Alive { beat: u64 },
    Ending { beat: u64 },
}

/// The keys of a lease take too much room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooManyKeys;

impl Record {
    /// That of a new lease.
    pub(super) fn new(ttl: Duration) -> Self {
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        Self { ttl, ..Self::default() }
    }

    pub(super) const fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl)
    }

    pub(super) const fn is_alive(&self) -> bool {
        self.ttl > 0 && self.ends.is_none()
    }

    /// With another sign of life. *What has begun to end doesn't come back.*
    pub(super) fn beaten(&self) -> Option<Self> {
        self.is_alive().then(|| Self { beat: self.beat + 1, ..self.clone() })
    }

    /// With more keys; the same where it has them already.
    pub(super) fn with(&self, keys: &[Key]) -> Option<Result<Self, TooManyKeys>> {
        let mut new = self.is_alive().then(|| self.clone())?;
        new.keys.extend(keys.iter().cloned());
        let bytes: usize = new.keys.iter().map(|key| key.len() * 4 / 3 + 8).sum();
        Some(if bytes > MOST_BYTES { Err(TooManyKeys) } else { Ok(new) })
    }

    /// Without some keys.
    pub(super) fn without(&self, keys: &[Key]) -> Option<Self> {
        let mut new = self.is_alive().then(|| self.clone())?;
        new.keys.retain(|key| !keys.contains(key));
        Some(new)
    }

    /// With its end begun.
    pub(super) fn ended(&self, by: End) -> Option<Self> {
        self.is_alive().then(|| Self { ends: Some(by), ..self.clone() })
    }

    /// As it is written when its time is over: with its end begun, or with another one who removes
    /// its keys.
    pub(super) fn overdue(&self) -> Self {
        let ends = Some(self.ends.unwrap_or(End::Expired));
        Self { beat: self.beat + 1, ends, ..self.clone() }
    }
}

impl observed::Record for Record {
    type Sign = Sign;

    fn read(value: &[u8], _: u64) -> Result<Self, String> {
        serde_json::from_slice(value)
            .map_err(|error| format!("the lease's record can't be read: {error}"))
    }

    fn encode(&self) -> Bytes {
        // Numbers and strings have always a form.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    fn is_empty(&self) -> bool {
        self.ttl == 0
    }

    fn sign(&self) -> Option<(Sign, Duration)> {
        match self.ends {
            _ if self.ttl == 0 => None,
            None => Some((Sign::Alive { beat: self.beat }, self.ttl())),
            Some(_) => Some((Sign::Ending { beat: self.beat }, REMOVAL)),
        }
    }
}

/// A key is of any bytes, and a string of JSON isn't.
fn write_keys<S: Serializer>(keys: &BTreeSet<Key>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(keys.iter().map(|key| STANDARD_NO_PAD.encode(key)))
}

fn read_keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<Key>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let key = |text| STANDARD_NO_PAD.decode(text).map(Key::from).map_err(serde::de::Error::custom);
    texts.into_iter().map(key).collect()
}

#[cfg(test)]
mod tests {
    use observed::Record as _;

    use super::*;

    #[test]
    fn a_record_reads_as_it_was_written() {
        let keys = [&b"user:1"[..], b"\xff\x00\"", b""].map(Key::copy_from_slice);
        let record = Record::new(Duration::from_secs(5)).with(&keys).unwrap().unwrap();
        assert_eq!(Record::read(&record.encode(), 7), Ok(record.clone()));
        let ended = record.ended(End::Revoked).unwrap();
        assert_eq!(Record::read(&ended.encode(), 7), Ok(ended));
        assert!(Record::read(&Record::default().encode(), 7).unwrap().is_empty());
        assert!(Record::read(br#"{"ttl":1,"keys":["?"]}"#, 7).is_err());
    }

    #[test]
    fn what_has_begun_to_end_does_not_come_back() {
        let key = [Key::from_static(b"k")];
        let record = Record::new(Duration::from_secs(5)).with(&key).unwrap().unwrap();
        assert_eq!(record.beaten().unwrap().beat, 1);
        assert_eq!(record.without(&key).unwrap().keys, BTreeSet::new());
        let ended = record.ended(End::Expired).unwrap();
        assert_eq!(ended.keys, record.keys);
        assert!(ended.beaten().is_none() && ended.with(&key).is_none());
        assert!(ended.without(&key).is_none() && ended.ended(End::Revoked).is_none());
        assert!(Record::default().beaten().is_none());
        assert_eq!(record.overdue().ends, Some(End::Expired));
        let again = record.ended(End::Revoked).unwrap().overdue();
        assert_eq!((again.ends, again.beat), (Some(End::Revoked), 1));
    }

    #[test]
    fn the_keys_of_a_lease_have_an_end() {
        let long = [Key::from(vec![b'k'; MOST_BYTES])];
        let record = Record::new(Duration::from_secs(5));
        assert_eq!(record.with(&long), Some(Err(TooManyKeys)));
    }
}
