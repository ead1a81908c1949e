//! A transaction over several keys, in whose middle the caller decides what to write.
//!
//! All its keys are locked at once when it begins, in the order in which every statement of this
//! adapter locks several rows. So transactions, and the writers of single keys, wait for each other
//! and never in a circle, and what a transaction has read holds until its end. It ends by
//! [`PostgresTransaction::commit`], in one message; however else it ends, nothing was done.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::{Duration, Instant};

use super::pool::Lease;
use super::sql::{self, Table};
use super::{
    GRACE, KIND, PostgresAdapter, Server, TRIES, bytes, crowded, stored, too_long, value, version,
};
use crate::adapter::{Access, Change, Key, Result, StorageError, Value, unix_millis};

/// Locked keys and what they hold. Dropped, it closes its connection, and the server rolls back.
pub struct PostgresTransaction {
    lease: Lease,
    table: Table,
    values: Vec<(Key, Option<Value>)>,
    locked_at: Instant,
    limit: Duration,
}

/// Without the users' values, which belong in no log.
impl fmt::Debug for PostgresTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresTransaction")
            .field("keys", &self.values.len())
            .finish_non_exhaustive()
    }
}

impl PostgresAdapter {
    /// Locks `keys` and reads them. A transaction may be held for as long as a statement may take;
    /// soon after that the server rolls it back.
    pub async fn begin(&self, keys: Vec<Key>) -> Result<PostgresTransaction> {
        if keys.is_empty() {
            return Err(StorageError::Refused("ERR a transaction without keys".to_owned()));
        }
        self.start_purge();
        let keys: Vec<Key> = BTreeSet::from_iter(keys).into_iter().collect();
        let deadline = self.server.deadline();
        for _ in 0..TRIES {
            let lease = self.server.lease(deadline).await?;
            if let Some(transaction) = PostgresTransaction::open(&self.server, lease, &keys).await?
            {
                return Ok(transaction);
            }
        }
        Err(crowded())
    }

    /// The versions of `keys`, in their order; 0 where there is no such key. A key that was created
    /// and deleted again has the same as before.
    pub async fn versions(&self, keys: &[Key]) -> Result<Vec<u64>> {
        let rows = self.ask(self.server.table.versions(keys), Access::Read).await?;
        let mut found = HashMap::with_capacity(rows.len());
        for row in &rows {
            found.insert(bytes(row, "key")?, version(row)?);
        }
        Ok(keys.iter().map(|key| found.get(key).copied().unwrap_or_default()).collect())
    }
}

impl PostgresTransaction {
    /// `None` if it may do better next time. Nothing is written yet, so that a broken connection
    /// leaves nothing open.
    async fn open(server: &Server, mut lease: Lease, keys: &[Key]) -> Result<Option<Self>> {
        let limit = server.settings.statement_timeout;
        let begun = unix_millis();
        // The server is more patient with the holder than the holder is, who so knows by itself
        // when it is too late.
        let lock = server.table.lock_all(keys, limit, limit + GRACE);
        let rows = match lease.rows(lock).await {
            Ok(rows) => rows,
            Err(failure) if server.is_passing(&failure, Access::Read) => return Ok(None),
            Err(failure) => return Err(stored(failure, Access::Read)),
        };
        let locked_at = Instant::now();
        let mut found = HashMap::with_capacity(rows.len());
        for row in &rows {
            found.insert(bytes(row, "key")?, value(row, begun)?);
        }
        let values = keys.iter().map(|key| (key.clone(), found.remove(key))).collect();
        Ok(Some(Self { lease, table: server.table.clone(), values, locked_at, limit }))
    }

    /// The keys, in order and each once, with what they hold until the end.
    pub fn values(&self) -> &[(Key, Option<Value>)] {
        &self.values
    }

    /// Stores `changes`, all or none, which are about keys that it began with. Where there are
    /// several of one key, the last holds.
    pub async fn commit(mut self, changes: Vec<(Key, Change)>) -> Result<()> {
        if self.locked_at.elapsed() >= self.limit {
            let cause = format!("a transaction was held for more than {:?}", self.limit);
            return Err(StorageError::Unavailable { kind: KIND, cause });
        }
        // What was absent has a placeholder now, unless there was a row that has expired.
        let absent = self.values.iter().filter(|(_, value)| value.is_none());
        let mut last: BTreeMap<Key, Change> =
            absent.map(|(key, _)| (key.clone(), Change::Remove)).collect();
        last.extend(changes.into_iter().filter(|(_, change)| *change != Change::Nothing));
        let now = unix_millis();
        let (mut puts, mut gone) = (Vec::new(), Vec::new());
        for (key, change) in last {
            match change {
                Change::Nothing => {}
                Change::Remove => gone.push(key),
                Change::Put { data, expires_at } => {
                    puts.push((key, data, expires_at.map(|at| at.saturating_sub(now))));
                }
            }
        }
        if puts.iter().map(|(_, data, _)| data.len()).sum::<usize>() > sql::LONGEST {
            self.rollback().await;
            return Err(too_long());
        }
        match self.lease.rows(self.table.commit_all(&puts, &gone)).await {
            Ok(_) => {
                self.lease.give_back();
                Ok(())
            }
            Err(failure) => Err(stored(failure, Access::Write)),
        }
    }

    /// Ends it with nothing done, and keeps its connection for others.
    pub async fn rollback(self) {
        self.lease.roll_back().await;
    }
}
