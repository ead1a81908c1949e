//! COMMAND and its subcommands: what the other commands are. A Redis behind Warp tells it itself,
//! since its commands reach a client too.

use std::borrow::Cow;

use warp_crds::pattern::glob_match;

use super::arguments::{SYNTAX_ERROR, is};
use super::client::help_text;
use super::table::{COMMANDS, Entry, find};
use super::{Call, Command, Keys, NO_KEYS, Outcome, sort};
use crate::resp::number::parse_u64;
use crate::resp::reply::Reply;

const PLAIN: &[&str] = &["loading", "stale"];

#[rustfmt::skip]
pub(super) const FAMILY: &[Command] = &[
    Command::new("command", -1, PLAIN, NO_KEYS, "2.8.13", "Returns detailed information about all commands.", all)
        .with_subcommands(&[
            Command::new("command|count", 2, PLAIN, NO_KEYS, "2.8.13", "Returns a count of commands.", count),
            Command::new("command|docs", -2, PLAIN, NO_KEYS, "7.0.0", "Returns documentary information about one, multiple or all commands.", docs),
            Command::new("command|getkeys", -3, PLAIN, NO_KEYS, "2.8.13", "Extracts the key names from an arbitrary command.", getkeys),
            Command::new("command|help", 2, PLAIN, NO_KEYS, "5.0.0", "Returns helpful text about the different subcommands.", help),
            Command::new("command|info", -2, PLAIN, NO_KEYS, "2.8.13", "Returns information about one, multiple or all commands.", info),
            Command::new("command|list", -2, PLAIN, NO_KEYS, "7.0.0", "Returns a list of command names.", list),
        ]),
];

const HELP: &[&str] = &[
    "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "(no subcommand)",
    "    Return details about all commands.",
    "COUNT",
    "    Return the total number of commands in this server.",
    "LIST",
    "    Return a list of all commands in this server.",
    "INFO [<command-name> ...]",
    "    Return details about multiple commands.",
    "DOCS [<command-name> ...]",
    "    Return documentation details about multiple commands.",
    "GETKEYS <full-command>",
    "    Return the keys from a full command.",
    "HELP",
    "    Print this help.",
];

/// Answers with `local`, unless a Redis behind Warp knows better.
fn answer(call: &Call<'_>, local: impl FnOnce() -> Result<Reply, Reply>) -> Result<Outcome, Reply> {
    if call.is_redis() { Ok(Outcome::Relay) } else { local().map(Outcome::Reply) }
}

fn all(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    answer(call, || Ok(Reply::Array(COMMANDS.iter().map(entry_info).collect())))
}

fn count(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    answer(call, || Ok(Reply::count(COMMANDS.len() as u64)))
}

fn help(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    answer(call, || Ok(help_text(HELP)))
}

fn info(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let names = &call.arguments[2..];
    answer(call, || {
        Ok(Reply::Array(if names.is_empty() {
            COMMANDS.iter().map(entry_info).collect()
        } else {
            names.iter().map(|name| named(name).map_or(Reply::Null, info_of)).collect()
        }))
    })
}

/// A command by its name, or a subcommand by its full one.
fn named(name: &[u8]) -> Option<(&'static Command, &'static str)> {
    let container = name.split(|byte| *byte == b'|').next().unwrap_or_default();
    let entry = find(container)?;
    if container.len() == name.len() {
        return Some((entry.command, entry.group));
    }
    let subcommand = entry
        .command
        .subcommands
        .iter()
        .find(|subcommand| subcommand.name.as_bytes().eq_ignore_ascii_case(name))?;
    Some((subcommand, entry.group))
}

fn entry_info(entry: &Entry) -> Reply {
    info_of((entry.command, entry.group))
}

fn info_of((command, group): (&'static Command, &'static str)) -> Reply {
    let keys = command.keys;
    let flags = command.flags.iter().map(|flag| Reply::Simple(Cow::Borrowed(flag)));
    let categories = categories(command, group).into_iter();
    let subcommands = command.subcommands.iter().map(|subcommand| info_of((subcommand, group)));
    Reply::Array(vec![
        Reply::text(command.name),
        Reply::Integer(command.arity.into()),
        Reply::Set(flags.collect()),
        Reply::Integer(keys.first.into()),
        Reply::Integer(keys.last.into()),
        Reply::Integer(keys.step.into()),
        Reply::Set(categories.map(|category| Reply::Simple(Cow::Borrowed(category))).collect()),
        Reply::Set(Vec::new()),
        Reply::Set(key_specifications(command)),
        Reply::Set(subcommands.collect()),
    ])
}

/// The categories that Redis derives from a command's flags and group.
fn categories(command: &Command, group: &str) -> Vec<&'static str> {
    let has = |flag: &str| command.flags.contains(&flag);
    let mut categories = Vec::new();
    if command.keys != NO_KEYS && group == "generic" {
        categories.push("@keyspace");
    }
    if has("write") {
        categories.push("@write");
    }
    if has("readonly") {
        categories.push("@read");
    }
    if has("admin") {
        categories.extend(["@admin", "@dangerous"]);
    }
    match group {
        "string" => categories.push("@string"),
        "bitmap" => categories.push("@bitmap"),
        "hyperloglog" => categories.push("@hyperloglog"),
        "hash" => categories.push("@hash"),
        "list" => categories.push("@list"),
        "set" => categories.push("@set"),
        "sorted-set" => categories.push("@sortedset"),
        "connection" => categories.push("@connection"),
        "scripting" => categories.push("@scripting"),
        _ => {}
    }
    categories.push(if has("fast") { "@fast" } else { "@slow" });
    if has("blocking") {
        categories.push("@blocking");
    }
    categories
}

fn key_specifications(command: &Command) -> Vec<Reply> {
    let Keys { first, last, step, numbered } = command.keys;
    let access = if command.flags.contains(&"write") { ["RW", "update"] } else { ["RO", "access"] };
    let number =
        |name: &'static str, number: i32| (Reply::text(name), Reply::Integer(number.into()));
    let of_type = |name: &'static str, specification: Vec<(Reply, Reply)>| {
        Reply::Map(vec![
            (Reply::text("type"), Reply::text(name)),
            (Reply::text("spec"), Reply::Map(specification)),
        ])
    };
    let specification = |begin: i32, find: Reply| {
        let flags = access.map(|flag| Reply::Simple(Cow::Borrowed(flag)));
        Reply::Map(vec![
            (Reply::text("flags"), Reply::Set(flags.into())),
            (Reply::text("begin_search"), of_type("index", vec![number("index", begin)])),
            (Reply::text("find_keys"), find),
        ])
    };
    let mut specifications = Vec::new();
    if first > 0 {
        // Counted from the first key.
        let last = if last < 0 { last } else { last - first };
        let range = vec![number("lastkey", last), number("keystep", step), number("limit", 0)];
        specifications.push(specification(first, of_type("range", range)));
    }
    if numbered > 0 {
        let counted = vec![number("keynumidx", 0), number("firstkey", 1), number("keystep", 1)];
        specifications.push(specification(numbered, of_type("keynum", counted)));
    }
    specifications
}

fn docs(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let names = &call.arguments[2..];
    answer(call, || {
        let described: Vec<_> = if names.is_empty() {
            COMMANDS.iter().map(|entry| (entry.command, entry.group)).collect()
        } else {
            names.iter().filter_map(|name| named(name)).collect()
        };
        Ok(Reply::Map(described.into_iter().map(docs_of).collect()))
    })
}

fn docs_of((command, group): (&'static Command, &'static str)) -> (Reply, Reply) {
    let mut docs = vec![
        (Reply::text("summary"), Reply::text(command.summary)),
        (Reply::text("since"), Reply::text(command.since)),
        (Reply::text("group"), Reply::text(group)),
    ];
    if !command.subcommands.is_empty() {
        let subcommands = command.subcommands.iter().map(|command| docs_of((command, group)));
        docs.push((Reply::text("subcommands"), Reply::Map(subcommands.collect())));
    }
    (Reply::text(command.name), Reply::Map(docs))
}

fn list(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let options = &call.arguments[2..];
    answer(call, || {
        let matches: Box<dyn Fn(&Entry) -> bool> = match options {
            [] => Box::new(|_| true),
            [filter, kind, wanted] if is(filter, "FILTERBY") && is(kind, "PATTERN") => {
                let pattern = wanted.to_ascii_lowercase();
                Box::new(move |entry| glob_match(&pattern, entry.command.name.as_bytes()))
            }
            [filter, kind, wanted] if is(filter, "FILTERBY") && is(kind, "ACLCAT") => {
                let category = [b"@", wanted.to_ascii_lowercase().as_slice()].concat();
                Box::new(move |entry| {
                    categories(entry.command, entry.group)
                        .iter()
                        .any(|own| own.as_bytes() == category)
                })
            }
            // There are no modules.
            [filter, kind, _] if is(filter, "FILTERBY") && is(kind, "MODULE") => {
                Box::new(|_| false)
            }
            _ => return Err(SYNTAX_ERROR),
        };
        let names = COMMANDS.iter().filter(|entry| matches(entry));
        Ok(Reply::Array(names.map(|entry| Reply::text(entry.command.name)).collect()))
    })
}

fn getkeys(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let arguments = &call.arguments[2..];
    answer(call, || {
        let command = find(arguments[0])
            .map(|entry| entry.command)
            .ok_or_else(|| Reply::err("Invalid command specified"))?;
        if command.keys == NO_KEYS {
            return Err(Reply::err("The command has no key arguments"));
        }
        if !command.takes(arguments.len()) {
            return Err(Reply::err("Invalid number of arguments specified for command"));
        }
        let stored = sort::stored(command, arguments);
        let keys = keys_of(command, arguments).chain(stored);
        Ok(Reply::Array(keys.map(Reply::bulk).collect()))
    })
}

/// The keys among the arguments of `command`.
pub(super) fn keys_of<'a>(
    command: &Command,
    arguments: &'a [&'a [u8]],
) -> impl Iterator<Item = &'a [u8]> {
    let place = |at: i32| usize::try_from(at).unwrap_or_default();
    let Keys { first, last, step, numbered } = command.keys;
    let end =
        if last < 0 { (arguments.len() + 1).saturating_sub(place(-last)) } else { place(last) + 1 };
    let end = if first == 0 { 0 } else { end.min(arguments.len()) };
    let keys = arguments.get(place(first)..end).unwrap_or_default();
    let count = arguments.get(place(numbered)).filter(|_| numbered > 0);
    let count = count.and_then(|count| parse_u64(count)).unwrap_or_default();
    let counted = arguments.iter().copied().skip(place(numbered) + 1);
    keys.iter()
        .copied()
        .step_by(place(step).max(1))
        .chain(counted.take(usize::try_from(count).unwrap_or(usize::MAX)))
}

#[cfg(test)]
mod tests {
    use super::{find, keys_of, named};

    fn keys(arguments: &[&'static str]) -> Vec<String> {
        let arguments: Vec<_> = arguments.iter().map(|text| text.as_bytes()).collect();
        let keys = keys_of(find(arguments[0]).unwrap().command, &arguments);
        keys.map(|key| String::from_utf8(key.to_vec()).unwrap()).collect()
    }

    #[test]
    fn keys_are_found_by_their_places() {
        assert_eq!(keys(&["get", "a"]), ["a"]);
        assert_eq!(keys(&["set", "a", "b", "EX", "1"]), ["a"]);
        assert_eq!(keys(&["del", "a", "b", "c"]), ["a", "b", "c"]);
        assert_eq!(keys(&["mset", "a", "1", "b", "2"]), ["a", "b"]);
        assert_eq!(
            keys(&["zunionstore", "to", "2", "a", "b", "WEIGHTS", "1", "2"]),
            ["to", "a", "b"]
        );
        assert_eq!(keys(&["sintercard", "9", "a", "b"]), ["a", "b"]);
        assert_eq!(keys(&["sintercard", "x", "a"]), [""; 0]);
        assert_eq!(keys(&["object", "encoding", "a"]), [""; 0]);
        assert_eq!(keys(&["ping"]), [""; 0]);
    }

    #[test]
    fn subcommands_are_named_in_full() {
        assert_eq!(named(b"CLIENT|id").unwrap().0.name, "client|id");
        assert!(named(b"client|nothing").is_none());
        assert!(named(b"get|id").is_none());
    }
}
