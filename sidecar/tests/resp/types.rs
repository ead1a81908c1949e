//! Commands on the types that only the memory storage and a Redis have: what the comparison with a
//! Redis of Debian's can't show.

use std::sync::Arc;

use warp_sidecar::adapter::{
    MemoryAdapter, PostgresAdapter, PostgresSettings, WhenFull, unix_millis,
};
use warp_sidecar::resp::Settings;

use crate::client::Client;
use crate::pod::Pod;

async fn client() -> (Pod, Client) {
    let pod = Pod::of_memory();
    let client = pod.client().await;
    (pod, client)
}

#[tokio::test]
async fn each_type_is_named_and_refuses_the_others_commands() {
    let (_pod, mut client) = client().await;
    let wrong = "WRONGTYPE Operation against a key holding the wrong kind of value";
    client
        .expect(
            "SET s v -> OK\nHSET h f v -> 1\nSADD t m -> 1\nZADD z 1 m -> 1\nRPUSH l e -> 1
             TYPE s -> string\nTYPE h -> hash\nTYPE t -> set\nTYPE z -> zset\nTYPE l -> list",
        )
        .await;
    for (key, commands) in [
        (
            "s",
            ["HGET s f", "SADD s m", "ZADD s 1 m", "LPUSH s e", "ZUNION 1 s", "SORT s"].as_slice(),
        ),
        ("h", &["GET h", "APPEND h x", "INCR h", "GETRANGE h 0 1", "SETBIT h 0 1", "SORT h"]),
        ("t", &["STRLEN t", "GETDEL t", "SET t x GET", "GETEX t EX 1", "LLEN t", "ZSCORE t m"]),
        (
            "z",
            &["SMEMBERS z", "SUNIONSTORE d z", "LMOVE l z LEFT LEFT", "HLEN z", "INCRBYFLOAT z 1"],
        ),
        ("l", &["SMOVE t l m", "RPOPLPUSH l z", "PFADD"]),
    ] {
        for command in commands.iter().filter(|command| **command != "PFADD") {
            assert_eq!(client.ask(command).await, wrong, "{key}: {command}");
        }
    }
    client.expect("MGET s h t -> ['v' (nil) (nil)]\nSET h text -> OK\nTYPE h -> string").await;
}

#[tokio::test]
async fn encodings_have_the_names_and_limits_of_redis() {
    let (_pod, mut client) = client().await;
    let long = "x".repeat(65);
    client
        .expect(&format!(
            "SET s 12345                   -> OK
             OBJECT ENCODING s             -> 'int'
             SET s short                   -> OK
             OBJECT ENCODING s             -> 'embstr'
             SET s {long}                  -> OK
             OBJECT ENCODING s             -> 'raw'
             SADD t 1 2 3                  -> 3
             OBJECT ENCODING t             -> 'intset'
             SADD t a                      -> 1
             OBJECT ENCODING t             -> 'listpack'
             SADD t {long}                 -> 1
             OBJECT ENCODING t             -> 'hashtable'
             HSET h f v                    -> 1
             OBJECT ENCODING h             -> 'listpack'
             HSET h f {long}               -> 0
             OBJECT ENCODING h             -> 'hashtable'
             ZADD z 1 a                    -> 1
             OBJECT ENCODING z             -> 'listpack'
             ZADD z 1 {long}               -> 1
             OBJECT ENCODING z             -> 'skiplist'
             RPUSH l a                     -> 1
             OBJECT ENCODING l             -> 'listpack'
             RPUSH l {}                    -> 2
             OBJECT ENCODING l             -> 'quicklist'
             OBJECT ENCODING nothing       -> (nil)
             OBJECT REFCOUNT l             -> 1
             OBJECT IDLETIME l             -> 0
             OBJECT WHAT l                 -> ERR unknown subcommand 'WHAT'. Try OBJECT HELP.
             MEMORY USAGE nothing          -> (nil)
             MEMORY USAGE l SAMPLES x      -> ERR value is not an integer or out of range",
            "y".repeat(9_000)
        ))
        .await;
}

#[tokio::test]
async fn what_redis_has_since_its_7_2_is_there() {
    let (_pod, mut client) = client().await;
    client
        .expect(
            "ZADD z 1 a 2 b 3.5 c     -> 3
             ZRANK z b WITHSCORE      -> [1 '2']
             ZREVRANK z c WITHSCORE   -> [0 '3.5']
             ZRANK z x WITHSCORE      -> (nil array)
             ZRANK z a WITH           -> ERR syntax error
             ZRANK z a WITHSCORE x    -> ERR wrong number of arguments for 'zrank' command
             ZADD z 1.1 d 1e30 e      -> 2
             ZMSCORE z d e x          -> ['1.1' '1e+30' (nil)]
             HSET h a 1 b 2           -> 2
             HSCAN h 0 NOVALUES       -> ['0' ['a' 'b']]
             SADD t a                 -> 1
             SSCAN t 0 NOVALUES       -> ERR syntax error",
        )
        .await;
}

#[tokio::test]
async fn numbers_are_added_as_decimals() {
    let (_pod, mut client) = client().await;
    client
        .expect(
            "SET f 0.1                -> OK
             INCRBYFLOAT f 0.2        -> '0.3'
             INCRBYFLOAT f 5.0e3      -> '5000.3'
             HSET h i 9223372036854775807 -> 1
             HINCRBY h i 1            -> ERR increment or decrement would overflow
             HINCRBYFLOAT h f 10.50   -> '10.5'
             HINCRBYFLOAT h f 0.1     -> '10.6'
             HINCRBYFLOAT h f inf     -> ERR value is NaN or Infinity",
        )
        .await;
}

#[tokio::test]
async fn all_elements_are_met_by_a_scan_in_pages() {
    let (_pod, mut client) = client().await;
    for at in 0..1_000 {
        client.send(&[b"SADD", b"t", format!("member:{at}").as_bytes()]).await;
        client.receive().await;
    }
    let (mut cursor, mut pages, mut seen) = ("0".to_owned(), 0, std::collections::HashSet::new());
    loop {
        let page = client.ask(&format!("SSCAN t {cursor} COUNT 100")).await;
        let mut words =
            page.split(|letter: char| " []'".contains(letter)).filter(|it| !it.is_empty());
        cursor = words.next().unwrap().to_owned();
        seen.extend(words.map(str::to_owned));
        pages += 1;
        if cursor == "0" {
            break;
        }
    }
    assert_eq!((pages, seen.len()), (10, 1_000));
}

#[tokio::test]
async fn picks_differ_from_time_to_time() {
    let (_pod, mut client) = client().await;
    client.expect("SADD t a b c d e f -> 6\nHSET h a 1 b 2 -> 2\nZADD z 1 a 2 b -> 2").await;
    let mut picks = std::collections::HashSet::new();
    for _ in 0..200 {
        picks.insert(client.ask("SRANDMEMBER t").await);
        picks.insert(client.ask("HRANDFIELD h").await);
        picks.insert(client.ask("ZRANDMEMBER z").await);
        picks.insert(client.ask("RANDOMKEY").await);
    }
    assert_eq!(picks.len(), 9, "{picks:?}");
    let many = client.ask("SRANDMEMBER t -20").await;
    assert_eq!(many.split(' ').count(), 20);
    assert_eq!(client.ask("SPOP t 2").await.split(' ').count(), 2);
    client.expect("SCARD t -> 4").await;
}

#[tokio::test]
async fn a_full_memory_refuses_what_takes_more_and_does_what_takes_less() {
    let memory = MemoryAdapter::new(128 * 1024, WhenFull::Refuse, unix_millis);
    let pod = Pod::start(Arc::new(memory), Settings::default());
    let mut client = pod.client().await;
    let element = "x".repeat(10_000);
    let mut pushed = 0;
    while client.ask(&format!("RPUSH l {element}")).await == (pushed + 1).to_string() {
        pushed += 1;
    }
    assert!((5..=13).contains(&pushed), "{pushed}");
    let full = "OOM command not allowed when used memory > 'maxmemory'.";
    client
        .expect(&format!(
            "RPUSH l {element} -> {full}
             SET s {element}{element} -> {full}
             LLEN l            -> {pushed}
             LPOP l 4          -> ['{element}' '{element}' '{element}' '{element}']
             RPUSH l {element} -> {}",
            pushed - 3
        ))
        .await;
}

#[tokio::test]
async fn a_cache_in_memory_makes_room() {
    let memory = MemoryAdapter::new(128 * 1024, WhenFull::Evict, unix_millis);
    let pod = Pod::start(Arc::new(memory), Settings::default());
    let mut client = pod.client().await;
    for at in 0..100 {
        assert_eq!(client.ask(&format!("RPUSH l{at} {}", "x".repeat(10_000))).await, "1");
    }
    let kept: usize = client.ask("DBSIZE").await.parse().unwrap();
    assert!((1..13).contains(&kept), "{kept}");
    client.expect("CONFIG GET maxmemory-policy -> ['maxmemory-policy' 'allkeys-lfu']").await;
}

#[tokio::test]
async fn a_table_of_strings_says_what_it_lacks() {
    let settings = PostgresSettings::new("postgres://127.0.0.1:1/nothing", "t".to_owned());
    let storage = PostgresAdapter::connect_lazy(settings).unwrap();
    let pod = Pod::start(Arc::new(storage), Settings::default());
    let mut client = pod.client().await;
    let refusal = |name: &str| {
        format!(
            "ERR class 'default' keeps its keys as rows of a SQL table (storage postgres), which \
             hold strings only: {name} needs storage memory or redis"
        )
    };
    assert_eq!(client.ask("HSET h f v").await, refusal("HSET"));
    assert_eq!(client.ask("ZUNION 1 z").await, refusal("ZUNION"));
    assert_eq!(client.ask("OBJECT ENCODING k").await, refusal("OBJECT ENCODING"));
    assert_eq!(client.ask("BLPOP k 0").await, refusal("BLPOP"));
    client.expect("HSET h f -> ERR wrong number of arguments for 'hset' command").await;
}

#[tokio::test]
async fn commands_tell_their_keys() {
    let (_pod, mut client) = client().await;
    client
        .expect(
            "COMMAND GETKEYS ZUNIONSTORE d 2 a b WEIGHTS 1 2 -> ['d' 'a' 'b']
             COMMAND GETKEYS SINTERCARD 2 a b LIMIT 1        -> ['a' 'b']
             COMMAND GETKEYS SORT a STORE b STORE c          -> ['a' 'c']
             COMMAND GETKEYS RENAME a b                      -> ['a' 'b']
             COMMAND GETKEYS BITOP AND d a b                 -> ['d' 'a' 'b']",
        )
        .await;
}
