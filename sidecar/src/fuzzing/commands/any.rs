//! Any command that Warp knows, with any arguments: *it is answered with whole replies*, and whatever
//! was said before, the server goes on.

use super::super::Input;
use super::{key, take, text};
use crate::resp::by_hand::ByHand;
use crate::resp::command::COMMANDS;
use crate::resp::reply::{Protocol, Reply};

/// What options and arguments are called, and numbers at the ends of their ranges.
const WORDS: [&[u8]; 96] = [
    b"0",
    b"1",
    b"-1",
    b"2",
    b"10",
    b"1000000",
    b"4294967295",
    b"-4294967296",
    b"536870911",
    b"2147483648",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"9223372036854775808",
    b"1.5",
    b"-1e308",
    b"inf",
    b"-inf",
    b"nan",
    b"(1",
    b"(inf",
    b"[a",
    b"(a",
    b"-",
    b"+",
    b"*",
    b"k*",
    b"[a-",
    b"#",
    b"k?->f",
    b"",
    b"NX",
    b"XX",
    b"GT",
    b"LT",
    b"CH",
    b"INCR",
    b"GET",
    b"EX",
    b"PX",
    b"EXAT",
    b"PXAT",
    b"KEEPTTL",
    b"PERSIST",
    b"COUNT",
    b"MATCH",
    b"TYPE",
    b"string",
    b"hash",
    b"WITHSCORES",
    b"WITHVALUES",
    b"BYSCORE",
    b"BYLEX",
    b"REV",
    b"LIMIT",
    b"WEIGHTS",
    b"AGGREGATE",
    b"SUM",
    b"MIN",
    b"MAX",
    b"LEFT",
    b"RIGHT",
    b"BEFORE",
    b"AFTER",
    b"RANK",
    b"MAXLEN",
    b"STORE",
    b"BY",
    b"ASC",
    b"DESC",
    b"ALPHA",
    b"BIT",
    b"BYTE",
    b"AND",
    b"OR",
    b"XOR",
    b"NOT",
    b"REPLACE",
    b"DB",
    b"ASYNC",
    b"ON",
    b"OFF",
    b"SKIP",
    b"BCAST",
    b"PREFIX",
    b"OPTIN",
    b"NOLOOP",
    b"REDIRECT",
    b"HELP",
    b"IDX",
    b"MINMATCHLEN",
    b"WITHMATCHLEN",
    b"SETNAME",
    b"AUTH",
    b"return redis.call('get',KEYS[1])",
    b"return {1,2.5,'x',false,{ok='y'}}",
    b"return redis.call('set',KEYS[1],ARGV[1])",
];

/// What ends the process, or waits by its nature.
const LEFT_OUT: [&str; 2] = ["shutdown", "debug"];

pub(in super::super) fn target(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut server = ByHand::new(Protocol::Resp2);
    while !input.is_empty() {
        if input.below(32) == 0 {
            ByHand::set_now(ByHand::now() + u64::from(input.byte()) * 8);
        }
        let mut sent = Vec::new();
        Reply::Array(command(&mut input)).encode(Protocol::Resp2, &mut sent);
        let mut received = server.send(&sent);
        while !received.is_empty() {
            take(&mut received);
        }
        if server.is_closing() || server.is_waiting() {
            server = ByHand::again(server, Protocol::Resp3);
        }
    }
    // Whatever is there, the connection's or another's commands still work.
    let mut other = ByHand::again(server, Protocol::Resp2);
    other.send(b"SET k v\r\n");
    assert_eq!(take(&mut other.send(b"GET k\r\n")), Reply::text("v"));
}

fn command(input: &mut Input<'_>) -> Vec<Reply> {
    let known: Vec<_> = COMMANDS
        .iter()
        .map(|entry| entry.command)
        .filter(|c| !LEFT_OUT.contains(&c.name))
        .collect();
    let command = known[usize::from(input.half()) % known.len()];
    let mut words = vec![Reply::text(command.name)];
    if !command.subcommands.is_empty() && input.below(16) > 0 {
        let subcommand = input.one_of(command.subcommands).name;
        words.push(Reply::text(&subcommand[command.name.len() + 1..]));
    }
    // As many as it takes, most of the time.
    let least = usize::try_from(command.arity.unsigned_abs()).unwrap_or(1);
    let more = if input.truth() { 0 } else { input.below(7) };
    while words.len() < least + more {
        words.push(match input.below(8) {
            0..=2 => Reply::bulk(&key(input)),
            3 => Reply::bulk(&text(input)),
            4 => Reply::bulk(input.bytes(4)),
            _ => Reply::Bulk(bytes::Bytes::from_static(input.one_of::<&[u8]>(&WORDS))),
        });
    }
    words
}
