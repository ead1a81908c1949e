//! All commands, found by name.

use std::sync::LazyLock;

use hashbrown::HashMap;

use super::{
    Command, bitmap, blocking, client, config, connection, diagnosis, expiry, hash, hyperloglog,
    introspection, key, keyspace, list, object, pubsub, scan, script, server, set, sort,
    sorted_set, string, string_in_memory, transaction, warp,
};

/// A command with its place in the table.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its index in [`COMMANDS`].
    pub index: usize,
    /// The command.
    pub command: &'static Command,
    /// The family that COMMAND DOCS puts it in.
    pub group: &'static str,
    /// Whether it does little, however much its key holds.
    pub is_quick: bool,
}

/// The commands in the order of their families.
pub static COMMANDS: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let families: [(&str, &'static [Command]); 29] = [
        ("string", string::FAMILY),
        ("string", string_in_memory::FAMILY),
        ("bitmap", bitmap::FAMILY),
        ("hyperloglog", hyperloglog::FAMILY),
        ("hash", hash::FAMILY),
        ("list", list::FAMILY),
        ("list", blocking::LISTS),
        ("set", set::FAMILY),
        ("sorted-set", sorted_set::FAMILY),
        ("sorted-set", blocking::SORTED_SETS),
        ("generic", key::FAMILY),
        ("generic", keyspace::FAMILY),
        ("generic", object::FAMILY),
        ("generic", sort::FAMILY),
        ("generic", expiry::FAMILY),
        ("generic", scan::FAMILY),
        ("pubsub", pubsub::FAMILY),
        ("transactions", transaction::FAMILY),
        ("scripting", script::FAMILY),
        ("connection", connection::FAMILY),
        ("connection", client::FAMILY),
        ("server", introspection::FAMILY),
        ("server", server::FAMILY),
        ("server", config::FAMILY),
        ("server", diagnosis::FAMILY),
        ("warp", warp::explain::FAMILY),
        ("warp", warp::session::FAMILY),
        ("warp", warp::lock::FAMILY),
        ("warp", warp::lease::FAMILY),
    ];
    let commands = families
        .iter()
        .flat_map(|(group, commands)| commands.iter().map(move |command| (*group, command)));
    let is_quick = |command: &Command| {
        // Redis doesn't call SET fast, since it may wait for memory that others use.
        command.subcommands.is_empty() && (command.flags.contains(&"fast") || command.name == "set")
    };
    let entry =
        |(index, (group, command))| Entry { index, command, group, is_quick: is_quick(command) };
    commands.enumerate().map(entry).collect()
});

/// The commands by their names. Most names are of at most eight letters, which are compared as one
/// number; the others have a table of their own.
struct Index {
    /// Open addressing, a quarter full.
    short: Box<[Option<(u64, &'static Entry)>]>,
    long: HashMap<&'static [u8], &'static Entry, foldhash::fast::RandomState>,
}

/// Bits of a place in [`Index::short`].
const SHORT_BITS: u32 = 10;

static INDEX: LazyLock<Index> = LazyLock::new(|| {
    let mut index = Index { short: vec![None; 1 << SHORT_BITS].into(), long: HashMap::default() };
    for entry in COMMANDS.iter() {
        let name = entry.command.name.as_bytes();
        match word(name).filter(|_| name.iter().all(u8::is_ascii_lowercase)) {
            Some(word) => {
                let free = index.places(word).find(|place| index.short[*place].is_none());
                if let Some(place) = free {
                    index.short[place] = Some((word, entry));
                }
            }
            None => drop(index.long.insert(name, entry)),
        }
    }
    index
});

impl Index {
    /// Where a word may be, the likeliest place first.
    #[inline]
    fn places(&self, word: u64) -> impl Iterator<Item = usize> + use<> {
        let mask = self.short.len() - 1;
        let first = word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - SHORT_BITS);
        (0..=mask).map(move |step| (first as usize + step) & mask)
    }
}

/// A name of one to eight bytes as a number, its letters made small: what isn't a letter may become
/// another byte that isn't one. Zeros fill it up, which no name has.
#[inline]
fn word(name: &[u8]) -> Option<u64> {
    const SMALL: u64 = u64::from_ne_bytes([b' '; 8]);
    let part = |at: usize| {
        let bytes = name.get(at..at + 4)?;
        Some(u64::from(u32::from_le_bytes(bytes.try_into().ok()?)))
    };
    let length = name.len();
    let word = match length {
        1..=3 => {
            let byte = |at: usize| u64::from(name[at]) << (8 * at);
            byte(0) | byte(length / 2) | byte(length - 1)
        }
        4..=8 => part(0)? | part(length - 4)? << (8 * (length - 4)),
        _ => return None,
    };
    Some((word | SMALL) & (u64::MAX >> (u64::BITS as usize - 8 * length)))
}

/// The longest name is far shorter.
const LONGEST_NAME: usize = 32;

/// The command of that name, in letters of any case.
#[inline]
pub fn find(name: &[u8]) -> Option<&'static Entry> {
    let index = &*INDEX;
    let found = word(name).and_then(|word| {
        let mut taken = index.places(word).map_while(|place| index.short[place]);
        taken.find(|(there, _)| *there == word)
    });
    found.map(|(_, entry)| entry).or_else(|| find_long(name))
}

fn find_long(name: &[u8]) -> Option<&'static Entry> {
    let mut lower = [0; LONGEST_NAME];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    INDEX.long.get(&*lower).copied()
}

#[cfg(test)]
mod tests {
    use super::{COMMANDS, LONGEST_NAME, find};

    #[test]
    fn names_are_found_in_any_case() {
        assert_eq!(find(b"GeT").unwrap().command.name, "get");
        assert!(find(b"nothing").is_none());
        assert!(find(b"").is_none() && find(b"G").is_none() && find(b"GET ").is_none());
        assert!(find(b"get\0").is_none() && find(b"\0get").is_none());
        assert!(find(&[b'a'; 100]).is_none());
    }

    #[test]
    fn names_are_unique_and_subcommands_carry_their_parents() {
        for entry in COMMANDS.iter() {
            let name = entry.command.name;
            assert_eq!(find(name.as_bytes()).unwrap().index, entry.index, "{name} is there twice");
            assert!(name.len() <= LONGEST_NAME && name == name.to_ascii_lowercase());
            for subcommand in entry.command.subcommands {
                assert!(subcommand.name.starts_with(&format!("{name}|")), "{}", subcommand.name);
            }
        }
    }
}
