//! All commands, found by name.

use std::sync::LazyLock;

use hashbrown::HashMap;

use super::{
    Command, bitmap, client, connection, expiry, hash, introspection, key, keyspace, list, object,
    pubsub, scan, script, server, set, sort, sorted_set, string, string_in_memory, transaction,
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
}

/// The commands in the order of their families.
pub static COMMANDS: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let families: [(&str, &'static [Command]); 20] = [
        ("string", string::FAMILY),
        ("string", string_in_memory::FAMILY),
        ("bitmap", bitmap::FAMILY),
        ("hash", hash::FAMILY),
        ("list", list::FAMILY),
        ("set", set::FAMILY),
        ("sorted-set", sorted_set::FAMILY),
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
    ];
    let commands = families
        .iter()
        .flat_map(|(group, commands)| commands.iter().map(move |command| (*group, command)));
    commands.enumerate().map(|(index, (group, command))| Entry { index, command, group }).collect()
});

static BY_NAME: LazyLock<HashMap<&'static [u8], Entry, foldhash::fast::RandomState>> =
    LazyLock::new(|| {
        COMMANDS.iter().map(|entry| (entry.command.name.as_bytes(), *entry)).collect()
    });

/// The longest name is far shorter.
const LONGEST_NAME: usize = 32;

/// The command of that name, in letters of any case.
pub fn find(name: &[u8]) -> Option<&'static Entry> {
    let mut lower = [0; LONGEST_NAME];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    BY_NAME.get(&*lower)
}

#[cfg(test)]
mod tests {
    use super::{COMMANDS, LONGEST_NAME, find};

    #[test]
    fn names_are_found_in_any_case() {
        assert_eq!(find(b"GeT").unwrap().command.name, "get");
        assert!(find(b"nothing").is_none());
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
