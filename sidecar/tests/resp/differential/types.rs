//! Commands on hashes, lists, sets and sorted sets, over the memory storage.
//!
//! Keys of different types share their names, so that every command also meets the wrong type. What
//! is picked by chance is compared only where the whole is picked.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use warp_sidecar::resp::Settings;
use warp_sidecar::resp::reply::Reply;
use warp_sidecar::resp::reply_parse;

use super::{Words, any_command, compare, pick};
use crate::client::Client;
use crate::pod::{Pod, memory};
use crate::servers::redis::Redis;

const KEYS: [&str; 12] =
    ["s", "t", "u", "h", "i", "l", "m", "z", "y", "x", "a", "a key with a longer name"];
const MEMBERS: [&str; 16] = [
    "a",
    "b",
    "c",
    "d",
    "aa",
    "ab",
    "1",
    "2",
    "3",
    "10",
    "-7",
    "",
    "007",
    "foo",
    "\u{e9}",
    "an element that is longer than the sixty-four bytes which Redis packs into one piece",
];
const SCORES: [&str; 14] =
    ["0", "1", "2", "3", "-1", "1.5", "-2.25", "1e3", "inf", "-inf", "+inf", "7", "x", "nan"];
const ENDS: [&str; 16] = [
    "0", "1", "2", "-1", "-2", "5", "100", "-100", "(1", "(1.5", "-inf", "+inf", "inf", "x", "(",
    "",
];
const NAMES: [&str; 12] = ["-", "+", "[a", "(a", "[b", "(c", "[", "(", "a", "", "[zz", "[aa"];
const PLACES: [&str; 12] =
    ["0", "1", "2", "3", "-1", "-2", "-3", "10", "-100", "x", "9223372036854775807", ""];
const COUNTS: [&str; 8] = ["0", "1", "2", "3", "100", "-1", "x", ""];
const AMOUNTS: [&str; 10] = ["1", "-1", "10", "0", "1000000", "1.5", "-0.25", "x", "3e2", ""];

/// A line of the grammar of commands: each word that is written in capitals within `<>` stands for
/// one of a kind, `+` behind it for some of them.
const COMMANDS: [&str; 113] = [
    "HSET <KEY> <PAIR>+",
    "HSET <KEY> <PAIR>+",
    "HMSET <KEY> <PAIR>+",
    "HSETNX <KEY> <MEMBER> <MEMBER>",
    "HGET <KEY> <MEMBER>",
    "HMGET <KEY> <MEMBER>+",
    "HGETALL <KEY>",
    "HKEYS <KEY>",
    "HVALS <KEY>",
    "HLEN <KEY>",
    "HSTRLEN <KEY> <MEMBER>",
    "HEXISTS <KEY> <MEMBER>",
    "HDEL <KEY> <MEMBER>+",
    "HINCRBY <KEY> <MEMBER> <AMOUNT>",
    "HINCRBYFLOAT <KEY> <MEMBER> <AMOUNT>",
    "HRANDFIELD <KEY> 1000",
    "HRANDFIELD <KEY> 1000 WITHVALUES",
    "HRANDFIELD <KEY> 0",
    "HRANDFIELD <KEY> 5 BAD",
    "HSCAN <KEY> 0 COUNT 1000",
    "HSCAN <KEY> 0 MATCH a* COUNT <COUNT>",
    "SADD <KEY> <MEMBER>+",
    "SADD <KEY> <MEMBER>+",
    "SADD <KEY> <MEMBER>+",
    "SREM <KEY> <MEMBER>+",
    "SMOVE <KEY> <KEY> <MEMBER>",
    "SISMEMBER <KEY> <MEMBER>",
    "SMISMEMBER <KEY> <MEMBER>+",
    "SCARD <KEY>",
    "SMEMBERS <KEY>",
    "SPOP <KEY> 1000",
    "SPOP <KEY> <BADCOUNT>",
    "SRANDMEMBER <KEY> 1000",
    "SRANDMEMBER <KEY> 0",
    "SINTER <KEY>+",
    "SINTERSTORE <KEY> <KEY>+",
    "SUNION <KEY>+",
    "SUNIONSTORE <KEY> <KEY>+",
    "SDIFF <KEY>+",
    "SDIFFSTORE <KEY> <KEY>+",
    "SINTERCARD 2 <KEY> <KEY>",
    "SINTERCARD <COUNT> <KEY>+",
    "SINTERCARD 2 <KEY> <KEY> LIMIT <COUNT>",
    "SSCAN <KEY> 0 COUNT 1000",
    "SSCAN <KEY> 0 COUNT 1000 MATCH *a*",
    "ZADD <KEY> <SCORED>+",
    "ZADD <KEY> <SCORED>+",
    "ZADD <KEY> <SCORED>+",
    "ZADD <KEY> <ZOPT> <SCORED>+",
    "ZADD <KEY> <ZOPT> <ZOPT> <SCORED>+",
    "ZADD <KEY> <ZOPT> INCR <SCORED>",
    "ZADD <LEX> 0 <MEMBER> 0 <MEMBER>",
    "ZADD <LEX> 0 <MEMBER> 0 <MEMBER>",
    "ZINCRBY <KEY> <SCORE> <MEMBER>",
    "ZREM <KEY> <MEMBER>+",
    "ZCARD <KEY>",
    "ZSCORE <KEY> <MEMBER>",
    "ZMSCORE <KEY> <MEMBER>+",
    "ZRANK <KEY> <MEMBER>",
    "ZREVRANK <KEY> <MEMBER>",
    "ZRANDMEMBER <KEY> 1000",
    "ZRANDMEMBER <KEY> 1000 WITHSCORES",
    "ZSCAN <KEY> 0 COUNT 1000",
    "ZRANGE <KEY> <PLACE> <PLACE>",
    "ZRANGE <KEY> <PLACE> <PLACE> WITHSCORES",
    "ZRANGE <KEY> <PLACE> <PLACE> REV",
    "ZRANGE <KEY> <END> <END> BYSCORE",
    "ZRANGE <KEY> <END> <END> BYSCORE WITHSCORES REV LIMIT <PLACE> <PLACE>",
    "ZRANGE <LEX> <NAME> <NAME> BYLEX",
    "ZRANGE <LEX> <NAME> <NAME> BYLEX LIMIT <COUNT> <COUNT>",
    "ZRANGE <LEX> <NAME> <NAME> REV BYLEX",
    "ZRANGE <LEX> <NAME> <NAME> BYLEX WITHSCORES",
    "ZRANGE <KEY> <PLACE> <PLACE> LIMIT 1 2",
    "ZRANGESTORE <KEY> <KEY> <PLACE> <PLACE>",
    "ZRANGESTORE <KEY> <KEY> <END> <END> BYSCORE LIMIT <COUNT> <COUNT>",
    "ZREVRANGE <KEY> <PLACE> <PLACE> WITHSCORES",
    "ZRANGEBYSCORE <KEY> <END> <END> WITHSCORES",
    "ZRANGEBYSCORE <KEY> <END> <END> LIMIT <PLACE> <PLACE>",
    "ZREVRANGEBYSCORE <KEY> <END> <END>",
    "ZRANGEBYLEX <LEX> <NAME> <NAME>",
    "ZREVRANGEBYLEX <LEX> <NAME> <NAME> LIMIT <COUNT> <COUNT>",
    "ZCOUNT <KEY> <END> <END>",
    "ZLEXCOUNT <LEX> <NAME> <NAME>",
    "ZREMRANGEBYRANK <KEY> <PLACE> <PLACE>",
    "ZREMRANGEBYSCORE <KEY> <END> <END>",
    "ZREMRANGEBYLEX <LEX> <NAME> <NAME>",
    "ZPOPMIN <KEY>",
    "ZPOPMAX <KEY> <COUNT>",
    "ZMPOP 2 <KEY> <KEY> MIN",
    "ZMPOP <COUNT> <KEY> <KEY> MAX COUNT <COUNT>",
    "ZUNION 2 <KEY> <KEY> WITHSCORES",
    "ZUNIONSTORE <KEY> 2 <KEY> <KEY> WEIGHTS <SCORE> <SCORE>",
    "ZUNIONSTORE <KEY> <COUNT> <KEY>+ AGGREGATE <AGG>",
    "ZINTER 2 <KEY> <KEY> WITHSCORES AGGREGATE <AGG>",
    "ZINTERSTORE <KEY> 2 <KEY> <KEY> AGGREGATE <AGG> WEIGHTS 2 <SCORE>",
    "ZINTERCARD 2 <KEY> <KEY> LIMIT <COUNT>",
    "ZDIFF 2 <KEY> <KEY> WITHSCORES",
    "ZDIFFSTORE <KEY> <COUNT> <KEY>+",
    "LPUSH <KEY> <MEMBER>+",
    "RPUSH <KEY> <MEMBER>+",
    "RPUSH <KEY> <MEMBER>+",
    "LPUSHX <KEY> <MEMBER>+",
    "LPOP <KEY>",
    "RPOP <KEY> <COUNT>",
    "LMPOP 2 <KEY> <KEY> LEFT COUNT <COUNT>",
    "LINDEX <KEY> <PLACE>",
    "LRANGE <KEY> <PLACE> <PLACE>",
    "LPOS <KEY> <MEMBER> RANK <PLACE>",
    "LPOS <KEY> <MEMBER> COUNT <COUNT> MAXLEN <COUNT>",
    "LSET <KEY> <PLACE> <MEMBER>",
    "LINSERT <KEY> <WHERE> <MEMBER> <MEMBER>",
    "LREM <KEY> <PLACE> <MEMBER>",
    "LTRIM <KEY> <PLACE> <PLACE>",
];
const OTHERS: [&str; 42] = [
    "LLEN <KEY>",
    "LMOVE <KEY> <KEY> <SIDE> <SIDE>",
    "LMOVE <KEY> <KEY> <SIDE> <SIDE>",
    "RPOPLPUSH <KEY> <KEY>",
    "RPUSHX <KEY> <MEMBER>+",
    "TYPE <KEY>",
    "EXISTS <KEY>+",
    "DEL <KEY>",
    "RENAME <KEY> <KEY>",
    "RENAMENX <KEY> <KEY>",
    "COPY <KEY> <KEY>",
    "COPY <KEY> <KEY> REPLACE",
    "COPY <KEY> <KEY> DB 0",
    "EXPIRE <KEY> 1000",
    "PERSIST <KEY>",
    "TTL <KEY>",
    "KEYS *",
    "DBSIZE",
    "SCAN 0 COUNT 1000",
    "SCAN 0 COUNT 1000 TYPE zset",
    "GET <KEY>",
    "SET <KEY> <MEMBER>",
    "MGET <KEY>+",
    "SETRANGE <KEY> <PLACE> <MEMBER>",
    "INCRBYFLOAT s <AMOUNT>",
    "MSETNX <PAIRKEY>+",
    "SETBIT <KEY> <COUNT> 1",
    "GETBIT <KEY> <COUNT>",
    "BITCOUNT a <INT> <INT> <UNIT>",
    "BITPOS <KEY> 1 <INT> <INT> <UNIT>",
    "BITPOS <KEY> 0",
    "BITPOS <KEY> 0 <INT>",
    "BITOP AND <KEY> <KEY>+",
    "BITOP XOR <KEY> <KEY>+",
    "BITOP NOT <KEY> <KEY>",
    "LCS <KEY> <KEY> IDX WITHMATCHLEN",
    "LCS <KEY> <KEY>",
    "SORT <KEY> ALPHA",
    "SORT <KEY> DESC LIMIT <INT> <INT>",
    "SORT <KEY> BY * GET # GET *->a STORE <KEY>",
    "SORT <KEY> BY no ASC GET #",
    "SORT_RO <KEY> BY * ALPHA DESC",
];

/// The words of a line of the grammar.
fn words(random: &mut StdRng, line: &str) -> Words {
    let mut words = Words::new();
    for word in line.split(' ') {
        let (word, some) = match word.strip_suffix("+") {
            Some(word) if word.starts_with('<') => (word, random.random_range(1..4)),
            _ => (word, 1),
        };
        for _ in 0..some {
            fill(random, word, &mut words);
        }
    }
    words
}

fn fill(random: &mut StdRng, word: &str, words: &mut Words) {
    let from: &[&str] = match word {
        "<KEY>" => &KEYS,
        // All members are of one score there.
        "<LEX>" => &["n", "o"],
        "<MEMBER>" => &MEMBERS,
        "<SCORE>" => &SCORES,
        "<END>" => &ENDS,
        "<NAME>" => &NAMES,
        "<PLACE>" => &PLACES,
        "<COUNT>" => &COUNTS,
        "<BADCOUNT>" => &["-1", "x", "0"],
        "<AMOUNT>" => &AMOUNTS,
        "<INT>" => &["0", "1", "2", "-1", "-2", "-100", "100", "7", "9"],
        "<UNIT>" => &["BYTE", "BIT"],
        "<SIDE>" => &["LEFT", "right", "LEFT", "RIGHT", "up"],
        "<WHERE>" => &["BEFORE", "after", "in"],
        "<AGG>" => &["SUM", "min", "MAX", "avg"],
        "<ZOPT>" => &["NX", "XX", "GT", "LT", "CH", "xx", "BAD"],
        "<PAIR>" | "<SCORED>" | "<PAIRKEY>" => {
            let (one, other) = match word {
                "<PAIR>" => ("<MEMBER>", "<MEMBER>"),
                "<SCORED>" => ("<SCORE>", "<MEMBER>"),
                _ => ("<KEY>", "<MEMBER>"),
            };
            // Mostly a number that is one.
            if word == "<SCORED>" && random.random_range(0..4) > 0 {
                words.push(random.random_range(-4..5).to_string().into_bytes());
            } else {
                fill(random, one, words);
            }
            return fill(random, other, words);
        }
        word => return words.push(word.as_bytes().to_vec()),
    };
    words.push(pick(random, from).as_bytes().to_vec());
}

fn any_typed_command(random: &mut StdRng) -> Words {
    let mut words = match random.random_range(0..10) {
        0 => return any_command(random, true),
        1..=3 => {
            let line = pick(random, &OTHERS);
            words(random, line)
        }
        _ => {
            let line = pick(random, &COMMANDS);
            words(random, line)
        }
    };
    match random.random_range(0..60) {
        0 if !differs_with_more(&words[0]) => words.push(b"more".to_vec()),
        1 if words.len() > 1 && !is_picked_by_chance(&words[0]) => drop(words.pop()),
        _ => {}
    }
    words
}

/// What one argument more does to these has changed since Redis 7.0.
fn differs_with_more(name: &[u8]) -> bool {
    [b"ZRANK".as_slice(), b"ZREVRANK", b"BITCOUNT", b"BITPOS"].contains(&name)
}

/// Without a count these answer with one that is picked by chance.
fn is_picked_by_chance(name: &[u8]) -> bool {
    [b"SPOP".as_slice(), b"SRANDMEMBER", b"HRANDFIELD", b"ZRANDMEMBER"].contains(&name)
}

/// Whether two replies are the same but for an order that is left open, or for the last digits of a
/// floating point number, which Redis 7.0 writes longer.
pub(super) fn agree(name: &[u8], warp: &[u8], redis: &[u8]) -> bool {
    let name = String::from_utf8_lossy(name).to_ascii_uppercase();
    let unordered = [
        "SMEMBERS",
        "SINTER",
        "SUNION",
        "SDIFF",
        "HGETALL",
        "HKEYS",
        "HVALS",
        "KEYS",
        "SCAN",
        "SSCAN",
        "HSCAN",
        "ZSCAN",
        "SPOP",
        "SRANDMEMBER",
        "HRANDFIELD",
        "ZRANDMEMBER",
        "SORT",
        "SORT_RO",
    ]
    .contains(&name.as_str());
    let parsed = |reply: &[u8]| reply_parse::parse(&Bytes::copy_from_slice(reply)).unwrap();
    let floats = name.starts_with('Z') || name.ends_with("FLOAT");
    same(&parsed(warp), &parsed(redis), unordered, floats)
}

fn same(one: &Reply, other: &Reply, unordered: bool, floats: bool) -> bool {
    let all = |one: &[Reply], other: &[Reply]| {
        let sorted = |items: &[Reply]| {
            let mut items = items.to_vec();
            if unordered {
                items.sort_by_key(|item| format!("{item:?}"));
            }
            items
        };
        let (one, other) = (sorted(one), sorted(other));
        one.len() == other.len()
            && one.iter().zip(&other).all(|(one, other)| same(one, other, unordered, floats))
    };
    match (one, other) {
        (Reply::Array(one), Reply::Array(other)) | (Reply::Set(one), Reply::Set(other)) => {
            all(one, other)
        }
        (Reply::Map(one), Reply::Map(other)) => {
            let flat = |pairs: &[(Reply, Reply)]| {
                let pairs = pairs.iter().map(|(key, value)| vec![key.clone(), value.clone()]);
                pairs.map(Reply::Array).collect::<Vec<_>>()
            };
            all(&flat(one), &flat(other))
        }
        (Reply::Bulk(one), Reply::Bulk(other)) => {
            let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<f64>().ok();
            one == other
                || (floats
                    && match (number(one), number(other)) {
                        (Some(one), Some(other)) => (one - other).abs() <= one.abs() * 1e-12,
                        _ => false,
                    })
        }
        _ => one == other,
    }
}

#[tokio::test]
async fn over_memory() {
    let pod = Pod::start(memory(), Settings::default());
    let server = Redis::start();
    let seeds = std::env::var("WARP_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    for seed in 0..seeds {
        let mut random = StdRng::seed_from_u64(seed);
        let mut warp = pod.client().await;
        let mut redis = Client::connect(([127, 0, 0, 1], server.port).into()).await;
        for client in [&mut warp, &mut redis] {
            client.ask(&format!("HELLO {}", 2 + seed % 2)).await;
            client.expect("FLUSHALL -> OK").await;
        }
        for _ in 0..100 {
            let length = random.random_range(1..60);
            let commands: Vec<Words> =
                (0..length).map(|_| any_typed_command(&mut random)).collect();
            compare(&mut warp, &mut redis, &commands).await;
        }
    }
}

/// `PFADD` and its kin; and what one of the two has written is read by the other.
#[tokio::test]
async fn of_hyperloglogs() {
    let pod = Pod::of_memory();
    let server = Redis::start();
    let (mut warp, mut redis) = pod.client_beside(&server, "2").await;
    let mut random = StdRng::seed_from_u64(5);
    let text = |text: &str| text.as_bytes().to_vec();
    for client in [&mut warp, &mut redis] {
        client.expect("SET text v -> OK\nRPUSH list a -> 1\nSET cut HYLL\x01 -> OK").await;
    }
    for round in 0..200 {
        let key = |random: &mut StdRng| {
            text(pick(random, &["a", "b", "c", "d", "e", "f", "text", "list", "none", "cut"]))
        };
        let mut words = match random.random_range(0..10) {
            0..=5 => vec![text("PFADD"), key(&mut random)],
            6..=8 => vec![text("PFCOUNT"), key(&mut random)],
            _ => vec![text("PFMERGE"), key(&mut random)],
        };
        for _ in 0..[0, 1, 3, 40, 400][random.random_range(0..5)] {
            let element = random.random_range(0..1 + round * round);
            let named =
                if words[0] == b"PFADD" { text(&element.to_string()) } else { key(&mut random) };
            words.push(named);
            if words[0] != b"PFADD" && words.len() > 5 {
                break;
            }
        }
        compare(&mut warp, &mut redis, &[words]).await;
    }
    let lines = [
        "PFADD",
        "PFCOUNT",
        "PFMERGE",
        "PFADD a",
        "PFADD new",
        "EXISTS new",
        "PFCOUNT new",
        "TYPE a",
    ];
    for line in lines {
        let words: Words = line.split(' ').map(text).collect();
        compare(&mut warp, &mut redis, &[words]).await;
    }
    for key in ["a", "b", "c", "d", "e", "f", "new"] {
        let count = redis.ask(&format!("PFCOUNT {key}")).await;
        assert_eq!(
            counted_elsewhere(key, &mut warp, &mut redis).await,
            [&*count, &*count],
            "{key}"
        );
        assert_eq!(
            counted_elsewhere(key, &mut redis, &mut warp).await,
            [&*count, &*count],
            "{key}"
        );
    }
}

/// What a server counts of another one's string, as it is and anew.
async fn counted_elsewhere(key: &str, from: &mut Client, to: &mut Client) -> [String; 2] {
    from.send(&[b"GET", key.as_bytes()]).await;
    let Ok(Reply::Bulk(string)) = reply_parse::parse(&from.receive_raw().await) else {
        panic!("{key} is no string")
    };
    to.send(&[b"SET", b"other", &string]).await;
    assert_eq!(to.receive().await, "OK");
    let as_it_is = to.ask("PFCOUNT other").await;
    assert_eq!(to.ask("PFMERGE other").await, "OK");
    [as_it_is, to.ask("PFCOUNT other").await]
}
