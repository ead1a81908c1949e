//! The registers of one space as one sidecar knows them: the last record of each, and since when it
//! shows the same sign of life.
//!
//! Every sidecar watches all registers of a space, so that the time of a writer who is gone passes
//! though nobody asks, and so that what he left behind is tidied up by whoever is there.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::tenure::{Boot, Sightings};
use super::{Register, RegisterError, Registers, Space};

/// How long an empty record, which is as good as none, is kept at least.
const EMPTY_FOR: Duration = Duration::from_mins(1);

/// What a register holds.
pub trait Record: Default + PartialEq + Send + Sync + 'static {
    /// A sign of life. *Signs don't come back.*
    type Sign: PartialEq + Send;

    /// Reads one that was written at `revision`; the error is for people.
    fn read(value: &[u8], revision: u64) -> Result<Self, String>;

    /// As it is written.
    fn encode(&self) -> Bytes;

    /// Whether it is as good as none.
    fn is_empty(&self) -> bool;

    /// What is to change before others may go on without its writer, and how long that may take.
    fn sign(&self) -> Option<(Self::Sign, Duration)>;
}

/// A record as it was seen.
#[derive(Debug)]
pub struct Seen<R> {
    /// The write that it comes from; 0 is none.
    pub revision: u64,
    /// What it says.
    pub record: Arc<R>,
    /// Since when it shows the same sign of life.
    pub since: Boot,
}

impl<R> Clone for Seen<R> {
    fn clone(&self) -> Self {
        Self { record: Arc::clone(&self.record), ..*self }
    }
}

/// Told of a register's name, its record before and its record now.
pub type OnChange<R> = Box<dyn Fn(&Bytes, &R, &R) + Send + Sync>;

/// See the module.
pub struct Observed<R: Record> {
    registers: Arc<dyn Registers>,
    space: Space,
    book: Mutex<Book<R>>,
    on_change: OnChange<R>,
}

struct Book<R: Record> {
    known: HashMap<Bytes, Known<R>>,
    sightings: Sightings<R::Sign>,
}

struct Known<R> {
    revision: u64,
    record: Arc<R>,
    changed: Arc<Notify>,
}

impl<R: Record> fmt::Debug for Observed<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observed").field("space", &self.space).finish_non_exhaustive()
    }
}

impl<R: Record> Known<R> {
    fn new() -> Self {
        Self { revision: 0, record: Arc::default(), changed: Arc::default() }
    }

    fn seen(&self, name: &Bytes, sightings: &mut Sightings<R::Sign>, now: Boot) -> Seen<R> {
        let since = if let Some((sign, _)) = self.record.sign() {
            sightings.see(name, sign, now)
        } else {
            sightings.forget(name);
            now
        };
        Seen { revision: self.revision, record: Arc::clone(&self.record), since }
    }

    /// Whether nobody would miss it.
    fn is_needless(&self) -> bool {
        self.record.is_empty() && Arc::strong_count(&self.changed) == 1
    }
}

impl<R: Record> Observed<R> {
    /// Nothing is known yet. `on_change` must not wait.
    pub fn new(registers: Arc<dyn Registers>, space: Space, on_change: OnChange<R>) -> Self {
        let book = Book { known: HashMap::new(), sightings: Sightings::default() };
        Self { registers, space, book: Mutex::new(book), on_change }
    }

    /// Where they are.
    pub fn registers(&self) -> &dyn Registers {
        &*self.registers
    }

    /// The record as the bus has it.
    pub async fn read(&self, name: &Bytes) -> Result<Seen<R>, RegisterError> {
        let register = self.registers.read(self.space, name).await?;
        self.note(name, register.as_ref()).map_err(RegisterError::Refused)
    }

    /// Writes a record over the one that `expected` names.
    pub async fn write(
        &self,
        name: &Bytes,
        expected: u64,
        record: &R,
    ) -> Result<Seen<R>, RegisterError> {
        let kept_for = record.is_empty().then_some(EMPTY_FOR);
        let value = record.encode();
        let written = self.registers.write(self.space, name, expected, value.clone(), kept_for);
        let register = Register { revision: written.await?, value };
        self.note(name, Some(&register)).map_err(RegisterError::Refused)
    }

    /// Reads all that there are; those that are known and weren't found.
    pub async fn read_all(&self) -> Result<Vec<Bytes>, RegisterError> {
        let all = self.registers.all(self.space).await?;
        let mut missing = self.names();
        for (name, register) in all {
            // One that can't be read is nobody's.
            let _ = self.note(&name, Some(&register));
            missing.retain(|known| *known != name);
        }
        Ok(missing)
    }

    /// Notes what a register holds; none was read later than any, for only what is empty is
    /// forgotten. *What is older than the known changes nothing.*
    pub fn note(&self, name: &Bytes, register: Option<&Register>) -> Result<Seen<R>, String> {
        let (revision, record) = match register {
            Some(Register { revision, value }) => (*revision, R::read(value, *revision)?),
            None => (0, R::default()),
        };
        let mut before = None;
        let seen = {
            let mut book = self.book.lock();
            let Book { known, sightings } = &mut *book;
            let one = known.entry(name.clone()).or_insert_with(Known::new);
            if revision > one.revision || (revision == 0 && one.revision > 0) {
                one.revision = revision;
                before = Some(std::mem::replace(&mut one.record, Arc::new(record)));
                one.changed.notify_waiters();
            }
            let seen = one.seen(name, sightings, Boot::now());
            if one.is_needless() {
                known.remove(name);
            }
            seen
        };
        if let Some(before) = before {
            (self.on_change)(name, &before, &seen.record);
        }
        Ok(seen)
    }

    /// What is known, if that is more than what `revision` names.
    pub fn newer(&self, name: &Bytes, revision: u64) -> Option<Seen<R>> {
        let mut book = self.book.lock();
        let Book { known, sightings } = &mut *book;
        let one = known.get(name).filter(|one| one.revision > revision)?;
        Some(one.seen(name, sightings, Boot::now()))
    }

    /// Waits until more is known than what `revision` names.
    pub async fn changed(&self, name: &Bytes, revision: u64) {
        loop {
            let changed = {
                let mut book = self.book.lock();
                let one = book.known.entry(name.clone()).or_insert_with(Known::new);
                Arc::clone(&one.changed)
            };
            let notified = changed.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.newer(name, revision).is_some() {
                return;
            }
            notified.await;
        }
    }

    /// The names of all that are known and not empty.
    pub fn names(&self) -> Vec<Bytes> {
        let book = self.book.lock();
        let there = book.known.iter().filter(|(_, one)| !one.record.is_empty());
        there.map(|(name, _)| name.clone()).collect()
    }

    /// All that are known and not empty, as they are seen now.
    pub fn all(&self) -> Vec<(Bytes, Seen<R>)> {
        let now = Boot::now();
        let mut book = self.book.lock();
        let Book { known, sightings } = &mut *book;
        known.retain(|_, one| !one.is_needless());
        let there = known.iter().filter(|(_, one)| !one.record.is_empty());
        there.map(|(name, one)| (name.clone(), one.seen(name, sightings, now))).collect()
    }
}
