//! The same commands, sent to Warp and to a Redis: the same bytes come back.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use warp_sidecar::adapter::{RedisAdapter, RedisSettings, Storage};
use warp_sidecar::resp::Settings;
use warp_sidecar::resp::reply::Reply;
use warp_sidecar::resp::reply_parse;

use crate::client::{Client, command};
use crate::pod::{Pod, memory};
use crate::servers::redis::Redis;

mod scripts;
mod types;

type Words = Vec<Vec<u8>>;

const KEYS: [&str; 6] = ["a", "b", "c", "{d}", "key with blank", ""];
const VALUES: [&[u8]; 14] = [
    b"",
    b"v",
    b"0",
    b"-1",
    b"10",
    b"007",
    b" 1",
    b"1.5",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"9223372036854775808",
    b"\x00\xff\r\n",
    b"the quick brown fox",
    b"-0",
];
/// Never so near that a key expires while the test runs.
const TIMES: [&str; 12] = [
    "1000",
    "5000",
    "86400",
    "0",
    "-1",
    "-1000",
    "9223372036854775",
    "9223372036854775807",
    "-9223372036854775808",
    "x",
    "1.5",
    "",
];
const MILLISECONDS: [&str; 6] = ["1000000", "86400000", "0", "-5", "9223372036854775807", "x"];
const SECOND_STAMPS: [&str; 6] = ["1", "4102444800", "0", "-1", "9223372036854775807", "x"];
const MILLISECOND_STAMPS: [&str; 5] = ["1", "4102444800000", "0", "-1", "x"];

fn pick<'a, T: ?Sized>(random: &mut StdRng, from: &[&'a T]) -> &'a T {
    from[random.random_range(0..from.len())]
}

/// A command of the families that Warp answers itself, now and then a wrong one; with times that
/// are past already only if `past`.
fn any_command(random: &mut StdRng, past: bool) -> Words {
    let key = |random: &mut StdRng| pick(random, &KEYS).as_bytes().to_vec();
    let value = |random: &mut StdRng| pick(random, &VALUES).to_vec();
    let text = |text: &str| text.as_bytes().to_vec();
    let time = |random: &mut StdRng, form: &str| {
        text(match form {
            "EX" => pick(random, &TIMES),
            "PX" => pick(random, &MILLISECONDS),
            "EXAT" => pick(random, &SECOND_STAMPS[usize::from(!past)..]),
            _ => pick(random, &MILLISECOND_STAMPS[usize::from(!past)..]),
        })
    };
    let mut words = match random.random_range(0..33) {
        0..=3 => vec![text("get"), key(random)],
        4 | 5 => vec![text("SET"), key(random), value(random)],
        6..=9 => {
            let mut words = vec![text("SET"), key(random), value(random)];
            for _ in 0..random.random_range(0..4) {
                let option = pick(
                    random,
                    &["NX", "xx", "GET", "KEEPTTL", "EX", "PX", "EXAT", "PXAT", "BAD"],
                );
                words.push(text(option));
                if option.starts_with(['E', 'P']) {
                    words.push(time(random, option));
                }
            }
            words
        }
        10 => vec![text("SETEX"), key(random), time(random, "EX"), value(random)],
        11 => vec![text("PSETEX"), key(random), time(random, "PX"), value(random)],
        12 => vec![text("SETNX"), key(random), value(random)],
        13 => vec![text("GETSET"), key(random), value(random)],
        14 => vec![text("GETDEL"), key(random)],
        15 | 16 => {
            let mut words = vec![text("GETEX"), key(random)];
            for _ in 0..random.random_range(0..3) {
                let option = pick(random, &["EX", "PX", "EXAT", "PXAT", "PERSIST", "BAD"]);
                words.push(text(option));
                if option.ends_with(['X', 'T']) && option != "PERSIST" {
                    words.push(time(random, option));
                }
            }
            words
        }
        17 => {
            let mut words = vec![text("MGET")];
            words.extend((0..random.random_range(1..5)).map(|_| key(random)));
            words
        }
        18 => {
            let mut words = vec![text("MSET")];
            for _ in 0..random.random_range(1..5) {
                words.extend([key(random), value(random)]);
            }
            words
        }
        19 | 20 => {
            let name = pick(random, &["DEL", "UNLINK", "EXISTS", "TOUCH"]);
            let mut words = vec![text(name)];
            words.extend((0..random.random_range(1..4)).map(|_| key(random)));
            words
        }
        21..=23 => {
            let (name, form) =
                [("EXPIRE", "EX"), ("PEXPIRE", "PX"), ("EXPIREAT", "EXAT"), ("PEXPIREAT", "PXAT")]
                    [random.random_range(0..4)];
            let mut words = vec![text(name), key(random), time(random, form)];
            for _ in 0..random.random_range(0..3) {
                words.push(text(pick(random, &["NX", "XX", "gt", "LT", "BAD"])));
            }
            words
        }
        24 | 25 => {
            let names = ["TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME", "PERSIST", "TYPE", "STRLEN"];
            vec![text(pick(random, &names)), key(random)]
        }
        26 => vec![text(pick(random, &["INCR", "DECR"])), key(random)],
        27 | 28 => vec![text(pick(random, &["INCRBY", "DECRBY"])), key(random), value(random)],
        29 => vec![text("APPEND"), key(random), value(random)],
        30 | 31 => {
            let place = |random: &mut StdRng| {
                text(pick(
                    random,
                    &["0", "1", "-1", "-3", "100", "-100", "x", "9223372036854775807"],
                ))
            };
            vec![
                text(pick(random, &["GETRANGE", "SUBSTR"])),
                key(random),
                place(random),
                place(random),
            ]
        }
        _ => vec![text(pick(random, &["PING", "ECHO", "FLUSHDB"])), value(random)],
    };
    match random.random_range(0..40) {
        0 => words.push(text("more")),
        1 if words.len() > 1 => drop(words.pop()),
        _ => {}
    }
    words
}

/// Whether two replies are the same, or times that were asked for a moment apart.
fn agree(name: &[u8], warp: &[u8], redis: &[u8]) -> bool {
    let number = |reply: &[u8]| match reply_parse::parse(&bytes::Bytes::copy_from_slice(reply)) {
        Ok(Reply::Integer(number)) => Some(number),
        _ => None,
    };
    let tolerance = match name.to_ascii_uppercase().as_slice() {
        b"TTL" | b"EXPIRETIME" => 3,
        b"PTTL" | b"PEXPIRETIME" => 3_000,
        _ => 0,
    };
    warp == redis
        || match (number(warp), number(redis)) {
            (Some(warp), Some(redis)) if warp > 0 => warp.abs_diff(redis) <= tolerance,
            _ => false,
        }
        || types::agree(name, warp, redis)
}

async fn compare(warp: &mut Client, redis: &mut Client, commands: &[Words]) {
    let pipeline: Vec<u8> = commands
        .iter()
        .flat_map(|words| command(&words.iter().map(Vec::as_slice).collect::<Vec<_>>()))
        .collect();
    warp.send_raw(&pipeline).await;
    redis.send_raw(&pipeline).await;
    for (at, words) in commands.iter().enumerate() {
        let (here, there) = (warp.receive_raw().await, redis.receive_raw().await);
        let shown = |words: &Words| {
            let words: Vec<_> = words.iter().map(|word| word.escape_ascii().to_string()).collect();
            words.join(" | ")
        };
        let before: Vec<String> = commands[at.saturating_sub(12)..at].iter().map(shown).collect();
        assert!(
            agree(&words[0], &here, &there),
            "{}\n  warp:  {:?}\n  redis: {:?}\nafter\n  {}",
            shown(words),
            here.escape_ascii().to_string(),
            there.escape_ascii().to_string(),
            before.join("\n  "),
        );
    }
}

async fn same_as_redis(storage: Arc<dyn Storage>, past: bool) {
    let pod = Pod::start(storage, Settings::default());
    let server = Redis::start();
    for (seed, protocol) in [(1, "2"), (2, "3"), (3, "2")] {
        let mut random = StdRng::seed_from_u64(seed);
        let mut warp = pod.client().await;
        let mut redis = Client::connect(([127, 0, 0, 1], server.port).into()).await;
        for client in [&mut warp, &mut redis] {
            client.ask(&format!("HELLO {protocol}")).await;
            client.expect("FLUSHALL -> OK").await;
        }
        for _ in 0..120 {
            let length = random.random_range(1..40);
            let commands: Vec<Words> =
                (0..length).map(|_| any_command(&mut random, past)).collect();
            compare(&mut warp, &mut redis, &commands).await;
        }
    }
}

#[tokio::test]
async fn over_memory() {
    same_as_redis(memory(), true).await;
}

#[tokio::test]
async fn over_redis() {
    // What is stored with a time that is past lives for a millisecond in a Redis behind Warp.
    let server = Redis::start();
    let settings = RedisSettings::new(server.url(), None);
    same_as_redis(Arc::new(RedisAdapter::connect(settings).unwrap()), false).await;
}

/// What clients say about themselves, and what is wrong with it.
#[tokio::test]
async fn of_connections() {
    let pod = Pod::of_memory();
    let server = Redis::start();
    for protocol in ["2", "3"] {
        let (mut warp, mut redis) = pod.client_beside(&server, protocol).await;
        let lines = "
            PING|PING a|PING a b|ECHO|ECHO a|ECHO a b|AUTH|AUTH a|AUTH a b|AUTH a b c|AUTH default x
            HELLO 1|HELLO 4|HELLO x|HELLO 3 WHAT|HELLO 3 AUTH a|HELLO 3 AUTH a b|HELLO 3 SETNAME
            SELECT 0|SELECT 16|SELECT -1|SELECT x|SELECT 99999999999|SELECT 99999999999999999999
            CLIENT|CLIENT WHAT|CLIENT GETNAME|CLIENT GETNAME a|CLIENT SETNAME|CLIENT SETNAME \u{1}
            CLIENT SETNAME me|CLIENT GETNAME|CLIENT NO-EVICT on|CLIENT NO-EVICT x|CLIENT REPLY x
            CLIENT LIST TYPE x|CLIENT LIST x|CLIENT LIST ID|CLIENT LIST ID x|CLIENT LIST ID 987654321
            CLIENT LIST TYPE replica|CLIENT TRACKING OFF|CLIENT GETREDIR|CLIENT MAINT_NOTIFICATIONS on
            CONFIG|CONFIG GET|CONFIG WHAT|CONFIG GET nothing|CONFIG GET appendfsync-nothing *nothing
            COMMAND WHAT|COMMAND INFO nothing|COMMAND DOCS nothing|COMMAND GETKEYS
            COMMAND GETKEYS GET a|COMMAND GETKEYS MSET a 1 b 2|COMMAND GETKEYS GET a b
            COMMAND GETKEYS DEL a b c|COMMAND GETKEYS PING a|COMMAND GETKEYS NOTHING a
            COMMAND LIST FILTERBY PATTERN getde*|COMMAND LIST FILTERBY WHAT a|COMMAND LIST a
            COMMAND LIST FILTERBY ACLCAT nothing|COMMAND INFO get|COMMAND INFO expire get
            SCAN|SCAN x|SCAN 0 COUNT|SCAN 0 COUNT 0|SCAN 0 COUNT x|SCAN 0 WHAT 1|SCAN 0 TYPE hash
            SCAN 0 MATCH a|SCAN 0 COUNT 10 MATCH nothing TYPE string|KEYS|KEYS nothing|DBSIZE|DBSIZE a
            FLUSHDB x|FLUSHALL SYNC|FLUSHALL ASYNC a|INFO nothing|TIME a|TYPE|GET|GETRANGE a
            NOTHING|NOTHING a b|nothing's a|NOTHING aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa b
            RESET|GET nothing|HELLO 3 SETNAME x|CLIENT GETNAME|RESET|CLIENT GETNAME|RESET a|QUIT a";
        let commands: Vec<Words> = lines
            .split(['|', '\n'])
            .map(|line| line.split_whitespace().map(|word| word.as_bytes().to_vec()).collect())
            .filter(|words: &Words| !words.is_empty())
            .collect();
        let (last, others) = commands.split_last().unwrap();
        // HELLO's own reply names the version and the client.
        let hello =
            |words: &Words| words[0] == b"HELLO" && words.len() == 4 && words[2] == b"SETNAME";
        for words in others {
            if hello(words) {
                let sent: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
                for client in [&mut warp, &mut redis] {
                    client.send(&sent).await;
                    assert!(client.receive_raw().await.starts_with(b"%7\r\n"));
                }
            } else {
                compare(&mut warp, &mut redis, std::slice::from_ref(words)).await;
            }
        }
        compare(&mut warp, &mut redis, std::slice::from_ref(last)).await;
        assert!(warp.is_closed().await && redis.is_closed().await);
    }
}

/// Names, arities, flags and the places of keys.
#[tokio::test]
async fn of_what_commands_are() {
    let pod = Pod::of_memory();
    let server = Redis::start();
    let (mut warp, mut redis) = pod.client_beside(&server, "2").await;
    for name in [
        "blpop",
        "brpop",
        "blmove",
        "brpoplpush",
        "blmpop",
        "bzpopmin",
        "bzpopmax",
        "bzmpop",
        "monitor",
        "slowlog",
        "slowlog|get",
        "slowlog|len",
        "slowlog|reset",
        "slowlog|help",
        "latency",
        "latency|latest",
        "latency|history",
        "latency|reset",
        "latency|doctor",
        "latency|histogram",
        "latency|help",
        "client|unblock",
        "config|set",
        "config|get",
        "pfadd",
        "pfcount",
        "pfmerge",
    ] {
        let mut described = Vec::new();
        for client in [&mut warp, &mut redis] {
            client.send(&[b"COMMAND", b"INFO", name.as_bytes()]).await;
            let Ok(Reply::Array(mut all)) = reply_parse::parse(&client.receive_raw().await) else {
                panic!("{name}")
            };
            let Some(Reply::Array(mut parts)) = all.pop() else { panic!("{name} is unknown") };
            parts.truncate(6);
            described.push(parts);
        }
        assert_eq!(described[0], described[1], "{name}");
    }
}

/// What no server can make sense of.
#[tokio::test]
async fn of_broken_requests() {
    let pod = Pod::of_memory();
    let server = Redis::start();
    for sent in [
        &b"*1\r\n$4\r\nPING\r\n*x\r\n"[..],
        b"*-5\r\n*0\r\n\r\nPING\r\n*99999999999\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$600000000\r\n",
        b"*1\r\n$4x\r\n",
        b"*2\r\n$4\r\nECHO\r\n+4\r\n",
        b"*1\r\n\r\n",
        b"GET \"a\r\n",
        b"GET 'a'b\r\n",
        b"SET 'it\\'s' \"\\x41\\n\\q\"\r\nGET it's\r\nGET \"it's\r\n",
    ] {
        let mut warp = pod.client().await;
        let mut redis = Client::connect(([127, 0, 0, 1], server.port).into()).await;
        warp.send_raw(sent).await;
        redis.send_raw(sent).await;
        loop {
            let (here, there) = (warp.try_receive_raw().await, redis.try_receive_raw().await);
            assert_eq!(here, there, "{}", sent.escape_ascii());
            if here.is_none() {
                break;
            }
        }
    }
}
