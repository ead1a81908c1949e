//! Commands on HyperLogLogs, which are strings to all other commands.

use super::{ALL_KEYS, Call, Command, ONE_KEY, Outcome};
use crate::adapter::memory::Keyspace;
use crate::resp::hyperloglog::{HyperLogLog, NoHyperLogLog};
use crate::resp::reply::Reply;

const READ: &[&str] = &["readonly"];
const WRITE: &[&str] = &["write", "denyoom"];
const FAST_WRITE: &[&str] = &["write", "denyoom", "fast"];

#[rustfmt::skip]
pub(super) const FAMILY: &[Command] = &[
    Command::new("pfadd", -2, FAST_WRITE, ONE_KEY, "2.8.9", "Adds elements to a HyperLogLog key. Creates the key if it doesn't exist.", add).in_memory(),
    Command::new("pfcount", -2, READ, ALL_KEYS, "2.8.9", "Returns the approximated cardinality of the set(s) observed by the HyperLogLog key(s).", count).in_memory(),
    Command::new("pfmerge", -2, WRITE, ALL_KEYS, "2.8.9", "Merges one or more HyperLogLog values into a single key.", merge).in_memory(),
];

impl From<NoHyperLogLog> for Reply {
    fn from(error: NoHyperLogLog) -> Self {
        Self::Error(error.to_string().into())
    }
}

fn read(keyspace: &mut Keyspace, key: &[u8]) -> Result<Option<HyperLogLog>, Reply> {
    match keyspace.string(key)? {
        Some(string) => Ok(Some(HyperLogLog::read(&string)?)),
        None => Ok(None),
    }
}

/// Puts it in place of what is there, whose end stays.
fn put(keyspace: &mut Keyspace, key: &[u8], counted: &HyperLogLog) -> Result<(), Reply> {
    let expires_at = keyspace.expires_at(key).flatten();
    Ok(keyspace.put_string(key, &counted.write(), expires_at)?)
}

fn add(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (key, elements) = (call.arguments[1], &call.arguments[2..]);
    call.on_keyspace(|keyspace| {
        let found = read(keyspace, key)?;
        let mut changed = found.is_none();
        let mut counted = found.unwrap_or_default();
        for element in elements {
            changed |= counted.add(element);
        }
        if changed {
            put(keyspace, key, &counted)?;
        }
        Ok(Reply::Integer(changed.into()))
    })
}

/// Of several keys that of their union. *Nothing is written*, unlike in Redis, which keeps the count
/// in the string.
fn count(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let keys = &call.arguments[1..];
    call.on_keyspace(|keyspace| {
        let mut union: Option<HyperLogLog> = None;
        for key in keys {
            let Some(counted) = read(keyspace, key)? else { continue };
            match &mut union {
                Some(union) => union.merge(&counted),
                none => *none = Some(counted),
            }
        }
        Ok(Reply::count(union.map_or(0, |union| union.count())))
    })
}

fn merge(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let keys = &call.arguments[1..];
    call.on_keyspace(|keyspace| {
        let mut union = HyperLogLog::default();
        for key in keys {
            if let Some(counted) = read(keyspace, key)? {
                union.merge(&counted);
            }
        }
        put(keyspace, keys[0], &union)?;
        Ok(Reply::OK)
    })
}
