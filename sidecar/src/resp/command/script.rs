//! EVAL and its kin, and SCRIPT. Over a Redis they are Redis' own.
//!
//! Over a SQL table a script is a transaction: the keys that it names are locked in the storage and
//! read, it runs on a memory that holds them and nothing else, and what it has changed there is
//! stored by one commit before its reply is given. *What it reads is true until that commit, and a
//! commit that fails leaves nothing of it.* So it can read and write its `KEYS` only.
//!
//! A script's commands are Warp's commands: each goes through the table as if a client had sent it,
//! while the script has the keys for itself ([`View::exclusively`](crate::core::View)). So a
//! script occupies the thread of its connection, at most for [`Limits::time`]; other clients of the
//! thread wait. SCRIPT KILL, too, is heard only by another thread: a server with one thread has
//! always finished its script before it reads the next command.
//!
//! Beyond the memory's limit a script's writes are refused like a client's, those behind its first
//! write too: the limit is a hard one, unlike Redis', so `allow-oom` can't lift it.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;

use super::arguments::{Arguments, integer, is};
use super::client::{help_text, needs_subcommand};
use super::introspection::keys_of;
use super::transaction::names_keys;
use super::{
    Call, Command, Keys, Locked, NO_KEYS, Origin, Outcome, Pending, find, kept_all, shown,
    subcommand_of,
};
use crate::resp::reply::Reply;
use crate::resp::script::{self, Flags, Interpreter, Limits, Script, Sha, Ticket};

const EVAL: &[&str] = &["noscript", "stale", "skip_monitor", "no_mandatory_keys", "movablekeys"];
const EVAL_RO: &[&str] =
    &["readonly", "noscript", "stale", "skip_monitor", "no_mandatory_keys", "movablekeys"];
const NOSCRIPT: &[&str] = &["noscript"];
const LOAD: &[&str] = &["noscript", "stale"];
const KILL: &[&str] = &["noscript", "allow_busy"];
const PLAIN: &[&str] = &["loading", "stale"];

/// The second argument says how many keys follow.
const KEYS_BEHIND_TEXT: Keys = Keys { numbered: 2, ..NO_KEYS };

#[rustfmt::skip]
pub(super) const FAMILY: &[Command] = &[
    Command::new("eval", -3, EVAL, KEYS_BEHIND_TEXT, "2.6.0", "Executes a server-side Lua script.", eval).beside_redis(),
    Command::new("evalsha", -3, EVAL, KEYS_BEHIND_TEXT, "2.6.0", "Executes a server-side Lua script by SHA1 digest.", evalsha).beside_redis(),
    Command::new("eval_ro", -3, EVAL_RO, KEYS_BEHIND_TEXT, "7.0.0", "Executes a read-only server-side Lua script.", eval_ro).beside_redis(),
    Command::new("evalsha_ro", -3, EVAL_RO, KEYS_BEHIND_TEXT, "7.0.0", "Executes a read-only server-side Lua script by SHA1 digest.", evalsha_ro).beside_redis(),
    Command::new("script", -2, &[], NO_KEYS, "2.6.0", "A container for Lua scripts management commands.", needs_subcommand).beside_redis()
        .with_subcommands(&[
            Command::new("script|exists", -3, NOSCRIPT, NO_KEYS, "2.6.0", "Determines whether server-side Lua scripts exist in the script cache.", exists).beside_redis(),
            Command::new("script|flush", -2, NOSCRIPT, NO_KEYS, "2.6.0", "Removes all server-side Lua scripts from the script cache.", flush).beside_redis(),
            Command::new("script|help", 2, PLAIN, NO_KEYS, "5.0.0", "Returns helpful text about the different subcommands.", help).beside_redis(),
            Command::new("script|kill", 2, KILL, NO_KEYS, "2.6.0", "Terminates a server-side Lua script during execution.", kill).beside_redis(),
            Command::new("script|load", 3, LOAD, NO_KEYS, "2.6.0", "Loads a server-side Lua script to the script cache.", load).beside_redis(),
        ]),
];

const HELP: &[&str] = &[
    "SCRIPT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "EXISTS <sha1> [<sha1> ...]",
    "    Return information about the existence of the scripts in the script cache.",
    "FLUSH [ASYNC|SYNC]",
    "    Flush the Lua scripts cache. Very dangerous on replicas.",
    "    When called without the optional mode argument, the behavior is determined",
    "    by the lazyfree-lazy-user-flush configuration directive. Valid modes are:",
    "    * ASYNC: Asynchronously flush the scripts cache.",
    "    * SYNC: Synchronously flush the scripts cache.",
    "KILL",
    "    Kill the currently executing Lua script.",
    "LOAD <script>",
    "    Load a script into the scripts cache without executing it.",
    "HELP",
    "    Print this help.",
];

const NO_SCRIPT: &str = "NOSCRIPT No matching script. Please use EVAL.";

thread_local! {
    /// The thread's interpreter, since Lua belongs to one. It takes memory from the first script on.
    static INTERPRETER: RefCell<Interpreter> = RefCell::new(Interpreter::new(Limits::default()));
}

/// How a script is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    ByText,
    BySha,
}

/// What the command allows a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Write,
    Read,
}

fn eval(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    evaluate(call, Named::ByText, Access::Write)
}

fn evalsha(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    evaluate(call, Named::BySha, Access::Write)
}

fn eval_ro(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    evaluate(call, Named::ByText, Access::Read)
}

fn evalsha_ro(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    evaluate(call, Named::BySha, Access::Read)
}

fn evaluate(call: &mut Call<'_>, named: Named, access: Access) -> Result<Outcome, Reply> {
    // Of a wrong length is said before a wrong number.
    if named == Named::BySha && call.arguments[1].len() != 40 {
        return Err(Reply::Error(NO_SCRIPT.into()));
    }
    let [keys, arguments] = keys_and_arguments(call.arguments)?;
    with_interpreter(|interpreter| {
        let script = match named {
            Named::ByText => call.host.scripts.lock().load(call.arguments[1], interpreter)?,
            Named::BySha => Sha::parse(call.arguments[1])
                .and_then(|sha| call.host.scripts.lock().get(sha).cloned())
                .ok_or(Reply::Error(NO_SCRIPT.into()))?,
        };
        let access = granted(script.flags, access)?;
        if !call.is_in_memory() {
            let commands = vec![kept_all(call.arguments)];
            let entry = find(call.arguments[0]);
            let pending = entry.map(|entry| Pending::new(entry.command, call));
            let locked = Locked { commands, watched: Vec::new(), is_list: false, pending };
            return Ok(Outcome::Lock(Box::new(locked)));
        }
        refuse_when_full(call, script.flags)?;
        let (view, host, now) = (call.view, call.host, call.now);
        let reply = view.exclusively(now, || {
            let ticket = host.running.begin(interpreter.kill());
            run(call, &script, keys, arguments, interpreter, &ticket, access)
        });
        // The command was admitted because there are such keys.
        Ok(reply.map_or(Outcome::Relay, Outcome::Reply))
    })
}

fn with_interpreter<T>(
    work: impl FnOnce(&mut Interpreter) -> Result<T, Reply>,
) -> Result<T, Reply> {
    INTERPRETER.with(|interpreter| match interpreter.try_borrow_mut() {
        Ok(mut interpreter) => work(&mut interpreter),
        // No command does so that a script may call.
        Err(_) => Err(Reply::err("a script can't run within a script")),
    })
}

/// `KEYS` and `ARGV`.
fn keys_and_arguments(arguments: Arguments<'_>) -> Result<[Arguments<'_>; 2], Reply> {
    let count = usize::try_from(integer(arguments[2])?)
        .map_err(|_| Reply::err("Number of keys can't be negative"))?;
    arguments[3..]
        .split_at_checked(count)
        .map(|(keys, arguments)| [keys, arguments])
        .ok_or_else(|| Reply::err("Number of keys can't be greater than number of args"))
}

/// What a script may do that asks for `flags`. Without a header it says nothing about itself, and is
/// stopped when it comes to a write.
fn granted(flags: Flags, access: Access) -> Result<Access, Reply> {
    match access {
        Access::Read if flags.declared && !flags.no_writes => {
            Err(Reply::err("Can not execute a script with write flag using *_ro command."))
        }
        Access::Write if !flags.no_writes => Ok(Access::Write),
        Access::Read | Access::Write => Ok(Access::Read),
    }
}

/// A script that says that it writes is begun only if a write would be.
fn refuse_when_full(call: &Call<'_>, flags: Flags) -> Result<(), Reply> {
    let writes = flags.declared && !flags.no_writes && !flags.allow_oom;
    if writes && call.make_room().is_err() {
        return Err(Reply::Error(
            "OOM allow-oom flag is not set on the script, can not run it when used memory > \
             'maxmemory'"
                .into(),
        ));
    }
    Ok(())
}

/// Runs a script while nobody else touches the keys.
fn run(
    call: &mut Call<'_>,
    script: &Script,
    keys: &[&[u8]],
    arguments: &[&[u8]],
    interpreter: &mut Interpreter,
    ticket: &Ticket<'_>,
    access: Access,
) -> Reply {
    let (name, protocol) = (call.session.last_command, call.session.protocol);
    let reply = interpreter.run(script, keys, arguments, &mut |asked: script::Call<'_>| {
        call.session.protocol = asked.protocol;
        permitted(asked.arguments, access, ticket)
            .and_then(|command| has_its_keys(command, asked.arguments, keys, call))
            .map_or_else(|refused| refused, |()| command(call, asked.arguments))
    });
    (call.session.last_command, call.session.protocol) = (name, protocol);
    reply
}

/// The command that `arguments` name, if a script may call it.
fn permitted(
    arguments: &[&[u8]],
    access: Access,
    ticket: &Ticket<'_>,
) -> Result<&'static Command, Reply> {
    let command = find(arguments[0])
        .and_then(|entry| subcommand_of(entry.command, arguments).ok())
        .ok_or_else(|| Reply::err("Unknown Redis command called from script"))?;
    let is = |flag: &str| command.flags.contains(&flag);
    if !command.takes(arguments.len()) {
        Err(Reply::err("Wrong number of args calling Redis command from script"))
    } else if is("noscript") {
        Err(Reply::err("This Redis command is not allowed from script"))
    } else if is("write") && access == Access::Read {
        Err(Reply::err("Write commands are not allowed from read-only scripts."))
    } else if is("write") && !ticket.may_write() {
        Err(Reply::err("Script killed by user with SCRIPT KILL..."))
    } else {
        Ok(command)
    }
}

/// Whether a script that runs on locked keys has those of a command among its own.
fn has_its_keys(
    command: &Command,
    arguments: &[&[u8]],
    keys: &[&[u8]],
    call: &Call<'_>,
) -> Result<(), Reply> {
    if !call.view.is_scratch() {
        return Ok(());
    }
    names_keys(command)?;
    match keys_of(command, arguments).find(|key| !keys.contains(key)) {
        None => Ok(()),
        Some(key) => Err(Reply::err(&format!(
            "a script over a SQL table (storage {}) has the keys that its KEYS name, and '{}' isn't \
             one of them",
            call.view.kind(),
            shown(key, 64),
        ))),
    }
}

/// Executes a command of a script as if a client had sent it.
fn command(call: &mut Call<'_>, arguments: &[&[u8]]) -> Reply {
    let mark = call.out.len();
    let answered = call.nested(arguments, Origin::Script);
    let reply = Bytes::copy_from_slice(&call.out[mark..]);
    call.out.truncate(mark);
    answered.map_or_else(
        || Reply::err("This Redis command is not allowed from script"),
        |()| Reply::Raw(reply),
    )
}

fn exists(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let scripts = call.host.scripts.lock();
    let known = |sha: &&[u8]| Sha::parse(sha).is_some_and(|sha| scripts.exists(sha));
    let known = call.arguments[2..].iter().map(|sha| Reply::Integer(known(sha).into()));
    Ok(Outcome::Reply(Reply::Array(known.collect())))
}

/// Both ways to flush are one here.
fn flush(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    match &call.arguments[2..] {
        [] => {}
        [way] if is(way, "ASYNC") || is(way, "SYNC") => {}
        _ => return Err(Reply::err("SCRIPT FLUSH only support SYNC|ASYNC option")),
    }
    call.host.scripts.lock().flush();
    Ok(Outcome::Reply(Reply::OK))
}

fn help(_: &mut Call<'_>) -> Result<Outcome, Reply> {
    Ok(Outcome::Reply(help_text(HELP)))
}

fn kill(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    call.host.running.kill()?;
    Ok(Outcome::Reply(Reply::OK))
}

fn load(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let script: Arc<Script> = with_interpreter(|interpreter| {
        Ok(call.host.scripts.lock().load(call.arguments[2], interpreter)?)
    })?;
    Ok(Outcome::Reply(Reply::Bulk(script.sha.to_string().into())))
}
