//! A table in PostgreSQL as the storage: one row for each key.
//!
//! The plain writes are one statement each. What depends on the old string locks its row, reads
//! it, lets [`Mutation::apply`] decide, and writes, in one transaction of two round trips. What
//! depends on several keys is a [`PostgresTransaction`], in which the caller decides.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{Row, TypeInfo as _, ValueRef as _};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;
use warp_crds::pattern::glob_match;

use self::pool::{Failure, Lease, Pool};
use self::sql::{Expiry, Table};
use super::mutation::{Change, Effect};
use super::{
    Access, Applied, Current, Key, Mutation, Page, Result, SetCondition, SetExpiry, SettingsError,
    Storage, StorageError, UnixMillis, Value, unix_millis,
};

mod pool;
mod purge;
mod sql;
mod transaction;

pub use transaction::PostgresTransaction;

const KIND: &str = "postgres";

/// How often a call is begun again after it certainly did nothing, because others got in its way.
const TRIES: usize = 8;

/// How much longer than the server's own limit a statement is waited for, so that what wasn't done
/// by then won't be done.
const GRACE: Duration = Duration::from_secs(1);

/// The most rows that one page of a scan looks at.
const LONGEST_PAGE: usize = 10_000;

/// Where the table is, and how long to wait.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresSettings {
    /// `postgres://user:password@host:5432/database`, with libpq's `sslmode`, `sslrootcert`, ….
    pub url: String,
    /// `name` or `schema.name`; created, with its schema, where it is missing.
    pub table: String,
    /// Connections at most.
    pub max_connections: u32,
    /// For a connection to be opened.
    pub connect_timeout: Duration,
    /// For a statement; the server is told too.
    pub statement_timeout: Duration,
    /// Between two purges of expired rows, and the age at which an idle connection is closed.
    pub purge_interval: Duration,
}

impl PostgresSettings {
    /// 2 connections, 2 s to connect, 5 s for a statement, a purge each minute.
    pub fn new(url: impl Into<String>, table: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            table: table.into(),
            max_connections: 2,
            connect_timeout: Duration::from_secs(2),
            statement_timeout: Duration::from_secs(5),
            purge_interval: Duration::from_mins(1),
        }
    }
}

/// Without the URL, which holds a password.
impl fmt::Debug for PostgresSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSettings").field("table", &self.table).finish_non_exhaustive()
    }
}

/// Keys in a table.
#[derive(Debug)]
pub struct PostgresAdapter {
    server: Arc<Server>,
    purge: Mutex<Option<AbortOnDropHandle<()>>>,
}

/// What calls and the purge share.
struct Server {
    pool: Arc<Pool>,
    table: Table,
    /// Whether the table was seen. It is looked for again when a statement misses it.
    table_is_there: AtomicBool,
    settings: PostgresSettings,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl PostgresAdapter {
    /// An adapter that connects when it is first asked. To be used within a Tokio runtime.
    pub fn connect_lazy(settings: PostgresSettings) -> std::result::Result<Self, SettingsError> {
        let refused = |cause: String| SettingsError::Url {
            form: "postgres://user:password@host:5432/database",
            cause,
        };
        if !["postgres://", "postgresql://"].iter().any(|scheme| settings.url.starts_with(scheme)) {
            return Err(refused("it must start with postgres://".to_owned()));
        }
        let options = PgConnectOptions::from_str(&settings.url)
            .map_err(|error| refused(error.to_string()))?
            .application_name("warp-sidecar")
            // PgBouncer refuses start-up parameters that it doesn't know.
            .extra_float_digits(None);
        let pool = Pool::new(
            options,
            settings.max_connections,
            settings.connect_timeout,
            settings.statement_timeout + GRACE,
        );
        let server = Server {
            pool: Arc::new(pool),
            table: Table::new(&settings.table),
            table_is_there: AtomicBool::new(false),
            settings,
        };
        Ok(Self { server: Arc::new(server), purge: Mutex::default() })
    }

    /// The keys that `query` gives: its one column, `bytea` or text, in its order; a hundred thousand at
    /// most. The query may only read.
    pub async fn keys_of(&self, query: &str) -> Result<Vec<Key>> {
        let rows = self.ask(sql::keys_of(query), Access::Read).await?;
        rows.iter().filter_map(|row| key_of(row).transpose()).collect()
    }

    /// Runs one statement, which is one transaction.
    async fn ask(&self, sql: String, access: Access) -> Result<Vec<PgRow>> {
        self.start_purge();
        self.server.ask(sql, access).await
    }

    /// A sidecar that never uses the table doesn't purge it.
    fn start_purge(&self) {
        let mut purge = self.purge.lock();
        if purge.is_none() {
            let server = Arc::clone(&self.server);
            *purge = Some(AbortOnDropHandle::new(tokio::spawn(purge::run(server))));
        }
    }

    /// A SET that answers nothing of the old string.
    async fn set(
        &self,
        key: &Key,
        data: &Bytes,
        condition: SetCondition,
        expiry: SetExpiry,
    ) -> Result<Applied> {
        let begun = unix_millis();
        let stored = match expiry {
            SetExpiry::Clear => Expiry::After(None),
            SetExpiry::Keep => Expiry::Kept,
            SetExpiry::At(at) => Expiry::After(Some(at.saturating_sub(begun))),
        };
        let sql = self.server.table.set(key, data, condition, stored);
        let rows = self.ask(sql, Access::Write).await?;
        let Some(row) = rows.first() else {
            return Ok(Applied {
                done: false,
                previous: None,
                number: 0,
                current: Current::Unknown,
            });
        };
        let value = Value {
            data: data.clone(),
            expires_at: match expiry {
                SetExpiry::Clear => None,
                SetExpiry::Keep => expires_at(row, begun)?,
                SetExpiry::At(at) => Some(at),
            },
            version: version(row)?,
        };
        Ok(Applied { done: true, previous: None, number: 0, current: Current::Value(value) })
    }

    /// A mutation that depends on what the key holds.
    async fn change(&self, key: &Key, mutation: &Mutation) -> Result<Applied> {
        self.start_purge();
        let server = &self.server;
        let deadline = server.deadline();
        for _ in 0..TRIES {
            let mut lease = server.lease(deadline).await?;
            let begun = unix_millis();
            let lock = server.table.lock(key, server.settings.statement_timeout);
            let rows = match lease.rows(lock).await {
                Ok(rows) => rows,
                // Nothing was written yet, so a broken connection is only a reason to try again.
                Err(failure) if server.is_passing(&failure, Access::Read) => continue,
                Err(failure) => return Err(stored(failure, Access::Read)),
            };
            let row = rows.first();
            let before = match row {
                Some(row) if row.try_get("live").map_err(|error| unreadable(&error))? => {
                    Some(value(row, begun)?)
                }
                _ => None,
            };
            let effect = match mutation.apply(before.as_ref(), begun).and_then(check_length) {
                Ok(effect) => effect,
                Err(refusal) => {
                    lease.roll_back().await;
                    return Err(refusal);
                }
            };
            let left = |at: &Option<UnixMillis>| at.map(|at| at.saturating_sub(begun));
            let sql = match &effect.change {
                Change::Nothing => {
                    lease.roll_back().await;
                    return Ok(effect.stored(before, 0));
                }
                Change::Remove => server.table.delete_locked(key),
                Change::Put { data, expires_at } if row.is_some() => {
                    let same = before.as_ref().is_some_and(|before| before.data == *data);
                    let data = (!same).then_some(data.as_ref());
                    server.table.update_locked(key, data, left(expires_at))
                }
                Change::Put { data, expires_at } => {
                    server.table.insert_absent(key, data, left(expires_at))
                }
            };
            let written = match lease.rows(sql).await {
                Ok(rows) => rows,
                Err(failure) if server.is_passing(&failure, Access::Write) => continue,
                Err(failure) => return Err(stored(failure, Access::Write)),
            };
            lease.give_back();
            match (&effect.change, written.first()) {
                // Somebody else created the key after it was looked for.
                (Change::Put { .. }, None) => {}
                (_, row) => {
                    let version = row.map(version).transpose()?.unwrap_or_default();
                    return Ok(effect.stored(before, version));
                }
            }
        }
        Err(crowded())
    }
}

impl Server {
    /// Until when a call that begins now waits for a free connection.
    fn deadline(&self) -> Instant {
        Instant::now() + self.settings.statement_timeout
    }

    /// See [`PostgresAdapter::ask`].
    async fn ask(&self, sql: String, access: Access) -> Result<Vec<PgRow>> {
        let deadline = self.deadline();
        for _ in 0..TRIES {
            let mut lease = self.lease(deadline).await?;
            let limited = sql::limited(self.settings.statement_timeout, &sql);
            match lease.rows(limited).await {
                Ok(rows) => {
                    lease.give_back();
                    return Ok(rows);
                }
                Err(failure) if self.is_passing(&failure, access) => {}
                Err(failure) => {
                    // The connection is good as long as the server only refused this.
                    let error = stored(failure, access);
                    if matches!(error, StorageError::Refused(_)) {
                        lease.give_back();
                    }
                    return Err(error);
                }
            }
        }
        Err(crowded())
    }

    /// A connection to a database that has the table.
    async fn lease(&self, deadline: Instant) -> Result<Lease> {
        let mut lease =
            self.pool.lease(deadline).await.map_err(|failure| stored(failure, Access::Read))?;
        if !self.table_is_there.load(Ordering::Acquire) {
            self.ensure_table(&mut lease).await.map_err(|failure| stored(failure, Access::Read))?;
        }
        Ok(lease)
    }

    async fn ensure_table(&self, lease: &mut Lease) -> std::result::Result<(), Failure> {
        let limited = |sql: &str| sql::limited(self.settings.statement_timeout, sql);
        let rows = lease.rows(limited(&self.table.exists())).await?;
        let is_there =
            |what: &str| rows.first().is_some_and(|row| matches!(row.try_get(what), Ok(true)));
        if !is_there("table") {
            let created = lease.rows(limited(&self.table.create(!is_there("schema"))));
            match created.await {
                // Somebody who doesn't take our lock was faster.
                Err(Failure::Server { code, .. })
                    if ["23505", "42P06", "42P07"].contains(&&*code) => {}
                created => drop(created?),
            }
        }
        // Without it the storage is as good: who wants to fence tells the user who may create it.
        if !is_there("fence")
            && let Err(error) = lease.rows(limited(&self.table.create_fence())).await
        {
            warn!(?error, "the function warp_fence can't be created; tokens can't be checked");
        }
        self.table_is_there.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether the call can be begun again: it certainly did nothing, and may do better next time.
    fn is_passing(&self, failure: &Failure, access: Access) -> bool {
        match failure {
            Failure::Lost(_) => access == Access::Read,
            Failure::NotSent(_) | Failure::Late(_) => false,
            Failure::Server { code, .. } => match code.as_str() {
                // The table was dropped: make it again.
                "42P01" => {
                    self.table_is_there.store(false, Ordering::Release);
                    true
                }
                // serialization_failure, deadlock_detected
                "40001" | "40P01" => true,
                _ => false,
            },
        }
    }
}

/// What a failure means to the caller.
fn stored(failure: Failure, access: Access) -> StorageError {
    let unavailable = |cause| StorageError::Unavailable { kind: KIND, cause };
    match failure {
        Failure::NotSent(cause) => unavailable(cause),
        Failure::Lost(cause) | Failure::Late(cause) => StorageError::no_answer(KIND, access, cause),
        Failure::Server { code, message } => match code.as_str() {
            // Cancelled or out of time, locked, read-only (a standby), serialization failure,
            // deadlock: rolled back.
            "57014" | "55P03" | "25006" | "40001" | "40P01" => unavailable(message),
            // Out of disk, memory or connections: rolled back.
            code if code.starts_with("53") => unavailable(message),
            code => StorageError::Refused(format!("ERR postgres: {message} (SQLSTATE {code})")),
        },
    }
}

fn crowded() -> StorageError {
    StorageError::Unavailable {
        kind: KIND,
        cause: format!("others changed the key {TRIES} times in a row"),
    }
}

fn unreadable(error: &sqlx::Error) -> StorageError {
    StorageError::Refused(format!("ERR postgres: the table isn't as Warp makes it: {error}"))
}

fn too_long() -> StorageError {
    StorageError::Refused(format!(
        "ERR string exceeds the maximum size of the PostgreSQL storage ({} bytes)",
        sql::LONGEST
    ))
}

fn check_length(effect: Effect) -> Result<Effect> {
    match &effect.change {
        Change::Put { data, .. } if data.len() > sql::LONGEST => Err(too_long()),
        _ => Ok(effect),
    }
}

fn version(row: &PgRow) -> Result<u64> {
    let version: i64 = row.try_get("version").map_err(|error| unreadable(&error))?;
    Ok(version.cast_unsigned())
}

/// `begun` is the time at which the statement was sent: what was left then is at least what was
/// left when the server looked, so that the answer is never too late.
fn expires_at(row: &PgRow, begun: UnixMillis) -> Result<Option<UnixMillis>> {
    let left: Option<i64> = row.try_get("left_ms").map_err(|error| unreadable(&error))?;
    Ok(left.map(|left| begun.saturating_add_signed(left)))
}

fn bytes(row: &PgRow, column: &str) -> Result<Bytes> {
    let digits: &str = row.try_get(column).map_err(|error| unreadable(&error))?;
    hex::decode(digits)
        .map(Bytes::from)
        .map_err(|error| StorageError::Refused(format!("ERR postgres: {column}: {error}")))
}

/// The key in a row of a user's query; none for NULL.
fn key_of(row: &PgRow) -> Result<Option<Key>> {
    let refused =
        |error: String| StorageError::Refused(format!("ERR postgres: the query's column: {error}"));
    let column = row.try_get_raw("key").map_err(|error| refused(error.to_string()))?;
    if column.is_null() {
        return Ok(None);
    }
    let is_bytea = column.type_info().name() == "BYTEA";
    let text = column.as_str().map_err(|error| refused(error.to_string()))?;
    if !is_bytea {
        return Ok(Some(Key::copy_from_slice(text.as_bytes())));
    }
    let digits = text.strip_prefix("\\x").unwrap_or(text);
    hex::decode(digits).map(|key| Some(Key::from(key))).map_err(|error| refused(error.to_string()))
}

fn value(row: &PgRow, begun: UnixMillis) -> Result<Value> {
    Ok(Value {
        data: bytes(row, "value")?,
        expires_at: expires_at(row, begun)?,
        version: version(row)?,
    })
}

fn number(rows: &[PgRow]) -> Result<u64> {
    let row = rows.first().ok_or_else(|| unreadable(&sqlx::Error::RowNotFound))?;
    let number: i64 = row.try_get("number").map_err(|error| unreadable(&error))?;
    Ok(number.cast_unsigned())
}

#[async_trait]
impl Storage for PostgresAdapter {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Value>>> {
        let begun = unix_millis();
        let rows = self.ask(self.server.table.select(keys), Access::Read).await?;
        let mut found = HashMap::with_capacity(rows.len());
        for row in &rows {
            found.insert(bytes(row, "key")?, value(row, begun)?);
        }
        Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
    }

    async fn apply(&self, key: &Key, mutation: Mutation) -> Result<Applied> {
        match &mutation {
            Mutation::Set { data, .. } if data.len() > sql::LONGEST => Err(too_long()),
            Mutation::Set { data, condition, expiry, get: false } if !matches!(expiry, SetExpiry::At(at) if *at <= unix_millis()) => {
                self.set(key, data, *condition, *expiry).await
            }
            mutation => self.change(key, mutation).await,
        }
    }

    async fn set_many(&self, pairs: &[(Key, Bytes)]) -> Result<()> {
        if pairs.iter().map(|(_, data)| data.len()).sum::<usize>() > sql::LONGEST {
            return Err(too_long());
        }
        let last: BTreeMap<&Key, &Bytes> = pairs.iter().map(|(key, data)| (key, data)).collect();
        if !last.is_empty() {
            let sql = self.server.table.set_many(last.into_iter());
            self.ask(sql, Access::Write).await?;
        }
        Ok(())
    }

    async fn delete(&self, keys: &[Key]) -> Result<u64> {
        number(&self.ask(self.server.table.delete(keys), Access::Write).await?)
    }

    async fn scan(&self, cursor: u64, pattern: Option<&[u8]>, count: usize) -> Result<Page> {
        let count = count.clamp(1, LONGEST_PAGE);
        // Ids are signed in the table: behind a greater cursor there is nothing.
        let cursor = cursor.min(i64::MAX.cast_unsigned());
        let rows = self.ask(self.server.table.scan(cursor, count), Access::Read).await?;
        let mut page = Page { cursor: 0, keys: Vec::new() };
        for row in &rows {
            let key = bytes(row, "key")?;
            let live: bool = row.try_get("live").map_err(|error| unreadable(&error))?;
            if live && pattern.is_none_or(|pattern| glob_match(pattern, &key)) {
                page.keys.push(key);
            }
        }
        if let Some(last) = rows.last().filter(|_| rows.len() == count) {
            let id: i64 = last.try_get("id").map_err(|error| unreadable(&error))?;
            page.cursor = id.cast_unsigned();
        }
        Ok(page)
    }

    async fn count(&self) -> Result<u64> {
        number(&self.ask(self.server.table.count(), Access::Read).await?)
    }

    async fn flush(&self) -> Result<()> {
        self.ask(self.server.table.truncate(), Access::Write).await.map(drop)
    }

    async fn probe(&self) -> Result<()> {
        self.ask("SELECT 1".to_owned(), Access::Read).await.map(drop)
    }

    /// A server goes on with the statement of a connection that is lost.
    fn settles_within(&self) -> Duration {
        self.server.settings.statement_timeout + GRACE
    }

    fn as_postgres(&self) -> Option<&PostgresAdapter> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: &str) -> Failure {
        Failure::Server { code: code.to_owned(), message: "words".to_owned() }
    }

    #[test]
    fn a_failure_says_what_is_known_of_the_write() {
        let kind = |failure, access| match stored(failure, access) {
            StorageError::Unavailable { .. } => "unavailable",
            StorageError::Unknown { .. } => "unknown",
            StorageError::Refused(_) => "refused",
        };
        let lost = || Failure::Lost("words".to_owned());
        assert_eq!(kind(Failure::NotSent("words".to_owned()), Access::Write), "unavailable");
        assert_eq!(kind(lost(), Access::Write), "unknown");
        assert_eq!(kind(lost(), Access::Read), "unavailable");
        assert_eq!(kind(Failure::Late("words".to_owned()), Access::Write), "unknown");
        for (code, expected) in [
            ("57014", "unavailable"),
            ("53100", "unavailable"),
            ("25006", "unavailable"),
            ("42501", "refused"),
            ("", "refused"),
        ] {
            assert_eq!(kind(server(code), Access::Write), expected, "{code}");
        }
    }

    #[tokio::test]
    async fn a_wrong_url_is_refused_without_being_shown() {
        for url in ["mysql://u:secret@h/d", "postgres://u:secret@h:port/d"] {
            let settings = PostgresSettings::new(url, "warp_cache");
            assert!(!format!("{settings:?}").contains("secret"));
            let error = PostgresAdapter::connect_lazy(settings).unwrap_err().to_string();
            assert!(error.contains("postgres://user:password@"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
