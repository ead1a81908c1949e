//! The text of every statement, without I/O.
//!
//! Statements are sent whole, as simple queries with their values inside. A prepared statement
//! lives in one server process, and behind a PgBouncer in transaction mode the next message may
//! reach another one; a simple query has no such state, takes one round trip, and carries its own
//! time limit along. Only four things are ever put into the text: bytes in hexadecimal digits,
//! numbers, quoted identifiers, and fixed words; and the query of a warm-up, which is written by
//! whoever writes the URL, and runs in a transaction that may only read.
//!
//! Expiries cross the wire as time left, in both directions, so that the clocks of the database
//! and of the pod needn't agree.
//!
//! # Versions
//! A row's version is drawn from one sequence of the table while the row is locked. So the
//! versions of one row strictly grow, in the order of the commits, and so do those of a key that
//! is deleted and comes back. There are two ways to a lower one: the first write of a key, which
//! draws before it finds out that others have created and deleted the key in the meantime; and a
//! failover to a standby that had not received the last writes.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::adapter::{Key, SetCondition};

/// The longest string that is taken: as hexadecimal digits it fits in the server's longest message
/// (1 GiB) beside the rest.
pub(super) const LONGEST: usize = 256 * 1024 * 1024;

/// The longest expiry that PostgreSQL's calendar holds with room to spare, in milliseconds: some
/// 95,000 years. A later one is stored as this.
const LONGEST_EXPIRY: u64 = 3_000_000_000_000_000;

/// How many keys are taken of a user's query at most.
const MOST_KEYS: usize = 100_000;

/// How many expired rows one purge deletes at most.
pub(super) const PURGE: usize = 1000;

/// What is read of a row, besides its key.
const VALUE: &str = "encode(value, 'hex') AS value, version, \
    floor(extract(epoch FROM expires_at - clock_timestamp()) * 1000)::bigint AS left_ms";

/// Whether the row `t` hasn't expired.
const LIVE: &str = "(t.expires_at IS NULL OR t.expires_at > clock_timestamp())";

/// The table, as it is written in SQL.
#[derive(Clone, Debug)]
pub(super) struct Table {
    name: String,
    schema: Option<String>,
    expiry_index: String,
}

/// What a statement does to a row's expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    /// Never, or so many milliseconds from now.
    After(Option<u64>),
    /// What it was, if the row was live.
    Kept,
}

impl Table {
    /// `name` or `schema.name`, which were checked with the manifest; quoted all the same.
    pub(super) fn new(table: &str) -> Self {
        let (schema, name) = match table.split_once('.') {
            Some((schema, name)) => (Some(identifier(schema)), name),
            None => (None, table),
        };
        let expiry_index = identifier(&format!("{name}_exp_idx"));
        let name = match &schema {
            Some(schema) => format!("{schema}.{}", identifier(name)),
            None => identifier(name),
        };
        Self { name, schema, expiry_index }
    }

    /// Whether the table is there, and its schema.
    pub(super) fn exists(&self) -> String {
        let table = literal(&self.name);
        let schema = match &self.schema {
            Some(schema) => format!("to_regnamespace({}) IS NOT NULL", literal(schema)),
            None => "true".to_owned(),
        };
        let fence = literal(&format!("{}(text, bigint, bigint)", self.beside("warp_fence")));
        format!(
            "SELECT to_regclass({table}) IS NOT NULL AS \"table\", {schema} AS \"schema\", \
             to_regprocedure({fence}) IS NOT NULL AS \"fence\""
        )
    }

    /// Something in the table's schema.
    fn beside(&self, name: &str) -> String {
        self.schema.as_ref().map_or_else(|| name.to_owned(), |schema| format!("{schema}.{name}"))
    }

    /// Creates the function `warp_fence(lock, epoch, sequence)`, which fails with SQLSTATE `WF001`
    /// if it was ever called with a greater token of that lock, and the table where it keeps the
    /// greatest.
    ///
    /// It holds the lock's row until the transaction that calls it ends: so who has a greater token
    /// waits for what one with an older token is doing, and nobody does anything with an older one
    /// afterwards. A token that was seen before is only compared, so that rows aren't written for
    /// nothing.
    pub(super) fn create_fence(&self) -> String {
        let (function, fences) = (self.beside("warp_fence"), self.beside("warp_fences"));
        let lock = literal(&format!("warp {function}"));
        format!(
            "SELECT pg_advisory_xact_lock(hashtextextended({lock}, 0)); \
             CREATE TABLE IF NOT EXISTS {fences} (\
             lock text PRIMARY KEY, \
             epoch bigint NOT NULL, \
             sequence bigint NOT NULL); \
             CREATE OR REPLACE FUNCTION {function}(lock text, epoch bigint, sequence bigint) \
             RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $fence$ \
             #variable_conflict use_column\n\
             DECLARE seen {fences}; \
             BEGIN \
             INSERT INTO {fences} AS f (lock, epoch, sequence) VALUES ($1, $2, $3) \
             ON CONFLICT (lock) DO UPDATE \
             SET epoch = EXCLUDED.epoch, sequence = EXCLUDED.sequence \
             WHERE (f.epoch, f.sequence) < (EXCLUDED.epoch, EXCLUDED.sequence); \
             IF NOT FOUND THEN \
             SELECT * INTO STRICT seen FROM {fences} AS f WHERE f.lock = $1; \
             IF (seen.epoch, seen.sequence) > ($2, $3) THEN \
             RAISE EXCEPTION 'lock % was granted to another since: token % % is older than % %', \
             $1, $2, $3, seen.epoch, seen.sequence USING ERRCODE = 'WF001'; \
             END IF; \
             END IF; \
             END $fence$"
        )
    }

    /// Creates it; one creator at a time, and the later ones find it there.
    pub(super) fn create(&self, schema_too: bool) -> String {
        let Self { name, expiry_index, schema } = self;
        let schema = match schema {
            Some(schema) if schema_too => format!("CREATE SCHEMA IF NOT EXISTS {schema}; "),
            _ => String::new(),
        };
        let lock = literal(&format!("warp {name}"));
        format!(
            "SELECT pg_advisory_xact_lock(hashtextextended({lock}, 0)); {schema}\
             CREATE TABLE IF NOT EXISTS {name} (\
             key bytea PRIMARY KEY, \
             value bytea NOT NULL, \
             version bigint GENERATED ALWAYS AS IDENTITY, \
             expires_at timestamptz, \
             id bigint GENERATED ALWAYS AS IDENTITY UNIQUE); \
             CREATE INDEX IF NOT EXISTS {expiry_index} ON {name} (expires_at) \
             WHERE expires_at IS NOT NULL"
        )
    }

    /// The live ones of `keys`.
    pub(super) fn select(&self, keys: &[Key]) -> String {
        let Self { name, .. } = self;
        let keys = array(keys);
        format!(
            "SELECT encode(key, 'hex') AS key, {VALUE} FROM {name} AS t \
             WHERE key = ANY({keys}) AND {LIVE}"
        )
    }

    /// Sets one key; no row comes back where the condition doesn't hold.
    pub(super) fn set(
        &self,
        key: &[u8],
        data: &[u8],
        condition: SetCondition,
        expiry: Expiry,
    ) -> String {
        let Self { name, .. } = self;
        let (key, data) = (Hex(key), Hex(data));
        let fresh = match expiry {
            Expiry::After(after) => expiry_of(after),
            Expiry::Kept => "NULL".to_owned(),
        };
        let over = match expiry {
            Expiry::After(_) => fresh.clone(),
            Expiry::Kept => format!("CASE WHEN {LIVE} THEN t.expires_at END"),
        };
        let change = format!("value = {data}, version = DEFAULT, expires_at = {over}");
        let returning = "RETURNING version, \
            floor(extract(epoch FROM t.expires_at - clock_timestamp()) * 1000)::bigint AS left_ms";
        let only = match condition {
            SetCondition::Always => String::new(),
            SetCondition::IfAbsent => format!(" WHERE NOT {LIVE}"),
            SetCondition::IfPresent => {
                return format!(
                    "UPDATE {name} AS t SET {change} WHERE key = {key} AND {LIVE} {returning}"
                );
            }
        };
        format!(
            "INSERT INTO {name} AS t (key, value, expires_at) VALUES ({key}, {data}, {fresh}) \
             ON CONFLICT (key) DO UPDATE SET {change}{only} {returning}"
        )
    }

    /// Sets all of `pairs`, whose keys differ and are in order: every statement that locks several
    /// rows does so in the order of their keys, so that no two wait for each other.
    pub(super) fn set_many<'a>(&self, pairs: impl Iterator<Item = (&'a Key, &'a Bytes)>) -> String {
        let Self { name, .. } = self;
        let rows: Vec<String> =
            pairs.map(|(key, data)| format!("({}, {})", Hex(key), Hex(data))).collect();
        let rows = rows.join(", ");
        format!(
            "INSERT INTO {name} (key, value) VALUES {rows} ON CONFLICT (key) DO UPDATE \
             SET value = EXCLUDED.value, version = DEFAULT, expires_at = NULL"
        )
    }

    /// Deletes `keys`; how many of them were live.
    pub(super) fn delete(&self, keys: &[Key]) -> String {
        let Self { name, .. } = self;
        let keys = array(keys);
        format!(
            "WITH locked AS (SELECT key FROM {name} WHERE key = ANY({keys}) ORDER BY key FOR UPDATE), \
             gone AS (DELETE FROM {name} AS t USING locked WHERE t.key = locked.key \
             RETURNING {LIVE} AS live) \
             SELECT count(*) FILTER (WHERE live) AS number FROM gone"
        )
    }

    /// Opens a transaction that locks one row and reads it. Whoever opens it and goes silent loses
    /// it after `patience`, so that a pod that is cut off holds nobody up for longer.
    pub(super) fn lock(&self, key: &[u8], patience: Duration) -> String {
        let Self { name, .. } = self;
        let (key, patience) = (Hex(key), patience.as_millis());
        format!(
            "BEGIN; SET LOCAL statement_timeout = {patience}; \
             SET LOCAL idle_in_transaction_session_timeout = {patience}; \
             SELECT {LIVE} AS live, {VALUE} FROM {name} AS t WHERE key = {key} FOR UPDATE"
        )
    }

    /// Creates the row that [`Self::lock`] didn't find; none comes back if somebody else has.
    pub(super) fn insert_absent(&self, key: &[u8], data: &[u8], after: Option<u64>) -> String {
        let Self { name, .. } = self;
        let (key, data, expires_at) = (Hex(key), Hex(data), expiry_of(after));
        format!(
            "INSERT INTO {name} (key, value, expires_at) VALUES ({key}, {data}, {expires_at}) \
             ON CONFLICT (key) DO NOTHING RETURNING version; COMMIT"
        )
    }

    /// Replaces the row that [`Self::lock`] found; its string too if one is given.
    pub(super) fn update_locked(
        &self,
        key: &[u8],
        data: Option<&[u8]>,
        after: Option<u64>,
    ) -> String {
        let Self { name, .. } = self;
        let (key, expires_at) = (Hex(key), expiry_of(after));
        let value = data.map(|data| format!("value = {}, ", Hex(data))).unwrap_or_default();
        format!(
            "UPDATE {name} SET {value}version = DEFAULT, expires_at = {expires_at} \
             WHERE key = {key} RETURNING version; COMMIT"
        )
    }

    /// Deletes the row that [`Self::lock`] found.
    pub(super) fn delete_locked(&self, key: &[u8]) -> String {
        format!("DELETE FROM {} WHERE key = {}; COMMIT", self.name, Hex(key))
    }

    /// Opens a transaction that locks the rows of `keys`, which are at least one, differ and are in
    /// order, and reads the live ones. Each wait ends after `patience`, and the transaction when nothing was heard
    /// of it for `limit`.
    ///
    /// A row that isn't there can't be locked, and a key has to be locked before the next one is:
    /// so the insertion of a placeholder either puts a row there that only this transaction sees,
    /// and for whose end others wait who want the key, or meets the row and locks it, which
    /// PostgreSQL does before it asks whether there is anything to update. A placeholder has
    /// expired, so that everybody takes it for what it is if it should ever be seen.
    pub(super) fn lock_all(&self, keys: &[Key], patience: Duration, limit: Duration) -> String {
        let Self { name, .. } = self;
        let (patience, limit) = (patience.as_millis(), limit.as_millis());
        let rows: Vec<String> =
            keys.iter().map(|key| format!("({}, '', 'epoch')", Hex(key))).collect();
        let (rows, select) = (rows.join(", "), self.select(keys));
        // Read committed, so that what is read is what the locks were waited for.
        format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = {patience}; \
             SET LOCAL idle_in_transaction_session_timeout = {limit}; \
             INSERT INTO {name} AS t (key, value, expires_at) VALUES {rows} \
             ON CONFLICT (key) DO UPDATE SET value = t.value WHERE false; {select}"
        )
    }

    /// Ends what [`Self::lock_all`] began: stores `puts`, strings with the milliseconds that they
    /// have left, and deletes the rows of `gone`.
    pub(super) fn commit_all(&self, puts: &[(Key, Bytes, Option<u64>)], gone: &[Key]) -> String {
        let Self { name, .. } = self;
        let mut sql = String::new();
        if !puts.is_empty() {
            let row = |(key, data, after): &(Key, Bytes, Option<u64>)| {
                format!("({}, {}, {})", Hex(key), Hex(data), expiry_of(*after))
            };
            let rows = puts.iter().map(row).collect::<Vec<_>>().join(", ");
            sql += &format!(
                "INSERT INTO {name} (key, value, expires_at) VALUES {rows} \
                 ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value, version = DEFAULT, \
                 expires_at = EXCLUDED.expires_at; "
            );
        }
        if !gone.is_empty() {
            sql += &format!("DELETE FROM {name} WHERE key = ANY({}); ", array(gone));
        }
        sql + "COMMIT"
    }

    /// The versions of the live ones of `keys`.
    pub(super) fn versions(&self, keys: &[Key]) -> String {
        let Self { name, .. } = self;
        let keys = array(keys);
        format!(
            "SELECT encode(key, 'hex') AS key, version FROM {name} AS t \
             WHERE key = ANY({keys}) AND {LIVE}"
        )
    }

    /// `count` rows in the order in which their keys appeared, from behind `cursor`.
    pub(super) fn scan(&self, cursor: u64, count: usize) -> String {
        let Self { name, .. } = self;
        format!(
            "SELECT id, encode(key, 'hex') AS key, {LIVE} AS live FROM {name} AS t \
             WHERE id > {cursor} ORDER BY id LIMIT {count}"
        )
    }

    /// How many live rows there are.
    pub(super) fn count(&self) -> String {
        format!("SELECT count(*) AS number FROM {} AS t WHERE {LIVE}", self.name)
    }

    /// Deletes every row. The sequences go on.
    pub(super) fn truncate(&self) -> String {
        format!("TRUNCATE {}", self.name)
    }

    /// Deletes expired rows, the oldest first, leaving those that somebody works on; how many.
    pub(super) fn purge(&self) -> String {
        let Self { name, .. } = self;
        format!(
            "WITH gone AS (DELETE FROM {name} WHERE key = ANY(ARRAY(SELECT key FROM {name} \
             WHERE expires_at <= clock_timestamp() ORDER BY expires_at LIMIT {PURGE} \
             FOR UPDATE SKIP LOCKED)) RETURNING 1) SELECT count(*) AS number FROM gone"
        )
    }
}

/// The keys that a user's query gives, in a transaction that may only read.
pub(super) fn keys_of(query: &str) -> String {
    let query = query.trim().trim_end_matches(';');
    // The line's end is for a query that ends in a comment.
    format!(
        "SET TRANSACTION READ ONLY; SET LOCAL bytea_output = 'hex'; \
         SELECT keys.key FROM ({query}\n) AS keys(key) LIMIT {MOST_KEYS}"
    )
}

/// A statement that the server gives up after `limit`: what a client has stopped waiting for
/// doesn't happen long afterwards. The statements of one simple query are one transaction.
pub(super) fn limited(limit: Duration, sql: &str) -> String {
    format!("SET LOCAL statement_timeout = {}; {sql}", limit.as_millis())
}

fn expiry_of(after: Option<u64>) -> String {
    match after {
        None => "NULL".to_owned(),
        Some(ms) => {
            format!("clock_timestamp() + {} * interval '1 millisecond'", ms.min(LONGEST_EXPIRY))
        }
    }
}

fn array(keys: &[Key]) -> String {
    let keys: Vec<String> = keys.iter().map(|key| Hex(key).to_string()).collect();
    format!("ARRAY[{}]::bytea[]", keys.join(", "))
}

/// A `bytea` in SQL.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "decode('{}', 'hex')", hex::encode(self.0))
    }
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_quoted_part_by_part() {
        assert_eq!(Table::new("warp_cache").name, r#""warp_cache""#);
        let table = Table::new("app.user");
        assert_eq!(table.name, r#""app"."user""#);
        assert_eq!(table.expiry_index, r#""user_exp_idx""#);
        assert_eq!(Table::new("a\"; DROP TABLE b").name, r#""a""; DROP TABLE b""#);
    }

    #[test]
    fn bytes_reach_the_text_as_digits_alone() {
        let hostile = b"'); DROP TABLE t; --\\\0\xff";
        let sql = Table::new("t").set(
            hostile,
            hostile,
            SetCondition::Always,
            Expiry::After(Some(u64::MAX)),
        );
        assert!(!sql.contains("DROP") && !sql.contains('\\'), "{sql}");
        assert!(sql.contains(&format!("decode('{}', 'hex')", hex::encode(hostile))));
        assert!(sql.contains("3000000000000000 * interval"), "a far expiry is stored as the last");
    }
}
