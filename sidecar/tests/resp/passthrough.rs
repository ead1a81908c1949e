//! A Redis behind Warp: what Warp has no meaning for goes on to it, and what that writes is not
//! answered from memory any more.

use std::sync::Arc;
use std::time::Duration;

use warp_sidecar::adapter::{RedisAdapter, RedisSettings};
use warp_sidecar::resp::Settings;

use crate::client::Client;
use crate::pod::Pod;
use crate::servers::redis::Redis;

async fn pod() -> (Redis, Pod, Client) {
    let redis = Redis::start();
    let settings = RedisSettings::new(redis.url(), None);
    let storage = Arc::new(RedisAdapter::connect(settings).unwrap());
    let pod = Pod::start(storage, Settings::default());
    let client = pod.client().await;
    (redis, pod, client)
}

#[tokio::test]
async fn other_types_live_in_redis() {
    let (_redis, _pod, mut client) = pod().await;
    client
        .expect(
            "HSET h f v               -> 1
             HGETALL h                -> ['f' 'v']
             RPUSH l a b              -> 2
             LRANGE l 0 -1            -> ['a' 'b']
             TYPE h                   -> hash
             TYPE l                   -> list
             EXISTS h l nothing       -> 2
             TTL h                    -> -1
             EXPIRE h 100             -> 1
             TTL h                    -> 100
             EXPIRE h 50 XX LT        -> 1
             PERSIST h                -> 1
             GET h                    -> WRONGTYPE Operation against a key holding the wrong kind of value
             STRLEN h                 -> WRONGTYPE Operation against a key holding the wrong kind of value
             GETRANGE h 0 1           -> WRONGTYPE Operation against a key holding the wrong kind of value
             INCR h                   -> WRONGTYPE Operation against a key holding the wrong kind of value
             APPEND h x               -> WRONGTYPE Operation against a key holding the wrong kind of value
             GETSET h x               -> WRONGTYPE Operation against a key holding the wrong kind of value
             SET h x GET              -> WRONGTYPE Operation against a key holding the wrong kind of value
             GETEX h EX 10            -> WRONGTYPE Operation against a key holding the wrong kind of value
             GETDEL h                 -> WRONGTYPE Operation against a key holding the wrong kind of value
             SET s v                  -> OK
             MGET s h nothing         -> ['v' (nil) (nil)]
             SCAN 0 COUNT 100 TYPE hash -> ['0' ['h']]
             DBSIZE                   -> 3
             SET h x                  -> OK
             GET h                    -> 'x'
             DEL l h s                -> 3
             FOO a                    -> ERR unknown command 'FOO', with args beginning with: 'a'
             PSYNC ? -1               -> ERR unknown command 'PSYNC', with args beginning with: '?' '-1'",
        )
        .await;
    assert!(client.ask("COMMAND COUNT").await.parse::<u32>().unwrap() > 200);
    assert_eq!(client.ask("CONFIG GET appendonly").await, "['appendonly' 'yes']");
    assert!(client.ask("INFO").await.contains("storage:redis"));
}

#[tokio::test]
async fn what_is_cached_gives_way_to_what_is_written_around_it() {
    let (_redis, pod, mut client) = pod().await;
    let mut other = pod.client().await;
    let cached = |key: &'static str| pod.engine.cached(key.as_bytes(), pod.engine.now()).is_some();
    for (write, read) in [
        ("SETRANGE k 0 V", "GET k -> 'Vv'"),
        ("INCRBYFLOAT n 0.5", "GET n -> '1.5'"),
        ("RENAME k2 k", "GET k -> 'v2'"),
        ("MSETNX k3 1 k4 2", "GET k3 -> '1'"),
        ("EVAL return(redis.call('SET',KEYS[1],ARGV[1])) 1 k eval", "GET k -> 'eval'"),
        ("COPY n k REPLACE", "GET k -> '1'"),
    ] {
        client.expect("MSET k vv k2 v2 n 1 -> OK\nDEL k3 k4 -> 0").await;
        client.expect("GET k -> 'vv'\nGET n -> '1'\nGET k3 -> (nil)").await;
        assert!(cached("k") && cached("n"));
        client.ask(write).await;
        other.expect(read).await;
        client.expect(read).await;
        client.ask("DEL k3 k4").await;
    }
}

#[tokio::test]
async fn transactions_are_those_of_redis() {
    let (_redis, pod, mut client) = pod().await;
    client
        .expect(
            "SET k v                  -> OK
             GET k                    -> 'v'
             MULTI                    -> OK
             SET k w                  -> QUEUED
             GET k                    -> QUEUED
             PING                     -> QUEUED
             HSET h f v               -> QUEUED
             EXEC                     -> [OK 'w' PONG 1]
             GET k                    -> 'w'
             EXEC                     -> ERR EXEC without MULTI
             MULTI                    -> OK
             SET k x                  -> QUEUED
             DISCARD                  -> OK
             GET k                    -> 'w'
             MULTI                    -> OK
             NOSUCH                   -> ERR unknown command 'NOSUCH', with args beginning with:
             EXEC                     -> EXECABORT Transaction discarded because of previous errors.
             MULTI                    -> OK
             SET k x                  -> QUEUED
             CLIENT ID                -> ERR Command not allowed inside a transaction
             EXEC                     -> EXECABORT Transaction discarded because of previous errors.
             GET k                    -> 'w'
             MULTI                    -> OK
             RESET                    -> RESET
             GET k                    -> 'w'",
        )
        .await;
    let mut other = pod.client().await;
    client.expect("WATCH k -> OK\nGET k -> 'w'\nMULTI -> OK\nSET k mine -> QUEUED").await;
    other.expect("SET k theirs -> OK").await;
    client.expect("EXEC -> (nil array)\nGET k -> 'theirs'").await;
    client.expect("WATCH k -> OK\nUNWATCH -> OK\nGET k -> 'theirs'").await;
    client.expect("WATCH k -> OK\nMULTI -> OK\nSET k mine -> QUEUED\nEXEC -> [OK]").await;
    other.expect("GET k -> 'mine'").await;
    client.expect("MULTI -> OK\nGET k -> QUEUED").await;
    assert!(other.ask("CLIENT LIST").await.contains(" flags=x db=0 sub=0 psub=0 ssub=0 multi=1 "));
}

#[tokio::test]
async fn a_lost_transaction_ends_its_connection() {
    let (redis, _pod, mut client) = pod().await;
    client.expect("MULTI -> OK\nSET k v -> QUEUED").await;
    redis.kill();
    let reply = client.ask("SET k w").await;
    assert!(reply.starts_with("STORAGEDOWN redis ") || reply.starts_with("STORAGEUNKNOWN redis "));
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_line_that_redis_closed_is_opened_again() {
    let (redis, _pod, mut client) = pod().await;
    client.expect("HSET h f v -> 1").await;
    redis.kill();
    let reply = client.ask("HSET h f w").await;
    assert!(reply.starts_with("STORAGEDOWN redis can't be reached, nothing was done; try again: "));
    redis.start_again();
    for _ in 0..1000 {
        if client.ask("HSET h f w").await == "0" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    client.expect("HGET h f -> 'w'").await;
}

#[tokio::test]
async fn a_blocked_client_waits_alone_and_leaves_nothing_behind() {
    let (redis, pod, mut client) = pod().await;
    let mut other = pod.client().await;
    let mut direct = Client::connect(([127, 0, 0, 1], redis.port).into()).await;
    client.send_raw(b"BLPOP q 0\r\nPING\r\n").await;
    other.expect("SET k v -> OK\nRPUSH q one -> 1").await;
    assert_eq!(client.receive().await, "['q' 'one']");
    assert_eq!(client.receive().await, "PONG");

    client.send_raw(b"BLPOP q 0\r\n").await;
    // Until it waits there.
    while !direct.ask("CLIENT LIST").await.contains("cmd=blpop") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(client);
    while direct.ask("CLIENT LIST").await.contains("cmd=blpop") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    other.expect("RPUSH q two -> 1\nLLEN q -> 1").await;
}

#[tokio::test]
async fn messages_come_through_between_replies() {
    let (_redis, pod, mut client) = pod().await;
    let mut other = pod.client().await;
    client.expect("SUBSCRIBE a b            -> ['subscribe' 'a' 1]").await;
    assert_eq!(client.receive().await, "['subscribe' 'b' 2]");
    client
        .expect(
            "PSUBSCRIBE p*            -> ['psubscribe' 'p*' 3]
             GET k                    -> ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context
             PING                     -> ['pong' '']
             PING hi                  -> ['pong' 'hi']",
        )
        .await;
    other.expect("PUBLISH a hello -> 1\nPUBLISH pa hi -> 1\nSET k v -> OK").await;
    assert_eq!(client.receive().await, "['message' 'a' 'hello']");
    assert_eq!(client.receive().await, "['pmessage' 'p*' 'pa' 'hi']");
    assert!(other.ask("CLIENT LIST TYPE pubsub").await.contains("flags=P"));
    client.send_raw(b"UNSUBSCRIBE\r\nPUNSUBSCRIBE p*\r\nGET k\r\n").await;
    // In Redis' own order.
    let left = [client.receive().await, client.receive().await];
    assert!(left[0].starts_with("['unsubscribe' '") && left[0].ends_with("' 2]"), "{left:?}");
    assert!(left[1].starts_with("['unsubscribe' '") && left[1].ends_with("' 1]"), "{left:?}");
    assert_eq!(client.receive().await, "['punsubscribe' 'p*' 0]");
    assert_eq!(client.receive().await, "'v'");
    client
        .expect("HSET h f v -> 1\nSUBSCRIBE c -> ['subscribe' 'c' 1]\nRESET -> RESET\nGET k -> 'v'")
        .await;
}

#[tokio::test]
async fn a_resp3_client_may_do_both_on_one_connection() {
    let (_redis, pod, mut client) = pod().await;
    let mut other = pod.client().await;
    client.ask("HELLO 3").await;
    client
        .expect(
            "SUBSCRIBE a              -> >['subscribe' 'a' 1]
             SET k v                  -> OK
             GET k                    -> 'v'
             HSET h f v               -> 1
             HGETALL h                -> {'f'=>'v'}
             SSUBSCRIBE s             -> >['ssubscribe' 's' 1]
             PING                     -> PONG",
        )
        .await;
    other.expect("PUBLISH a hello -> 1\nSPUBLISH s hi -> 1").await;
    assert_eq!(client.receive().await, ">['message' 'a' 'hello']");
    assert_eq!(client.receive().await, ">['smessage' 's' 'hi']");
    client
        .expect("UNSUBSCRIBE -> >['unsubscribe' 'a' 0]\nSUNSUBSCRIBE s -> >['sunsubscribe' 's' 0]")
        .await;
    assert!(client.ask("HELLO 2").await.starts_with("['server'"));
    client.expect("HGETALL h -> ['f' 'v']\nSUBSCRIBE a -> ['subscribe' 'a' 1]").await;
}

#[tokio::test]
async fn a_monitor_sees_what_reaches_redis() {
    let (_redis, pod, mut client) = pod().await;
    let mut other = pod.client().await;
    client.expect("MONITOR -> OK").await;
    client.send_raw(b"GET k\r\n").await;
    other.expect("HSET seen f v -> 1").await;
    let mut awaited =
        vec!["ERR a connection in MONITOR takes QUIT and RESET only", "\"HSET\" \"seen\""];
    while !awaited.is_empty() {
        let line = client.receive().await;
        awaited.retain(|awaited| !line.contains(awaited));
    }
    client.send_raw(b"QUIT\r\n").await;
    while let Some(reply) = client.try_receive_raw().await {
        if reply == "+OK\r\n" {
            assert!(client.is_closed().await);
            return;
        }
    }
    panic!("QUIT was not answered");
}

#[tokio::test]
async fn subscribers_are_told_when_redis_is_gone() {
    let (redis, pod, mut client) = pod().await;
    client.expect("SUBSCRIBE a -> ['subscribe' 'a' 1]").await;
    let mut former = pod.client().await;
    former
        .expect("SUBSCRIBE a -> ['subscribe' 'a' 1]\nUNSUBSCRIBE a -> ['unsubscribe' 'a' 0]")
        .await;
    redis.kill();
    assert!(client.is_closed().await);
    former.expect("PING -> PONG").await;
}

#[tokio::test]
async fn a_pipeline_for_redis_goes_there_at_once_and_in_order() {
    let (redis, pod, mut client) = pod().await;
    let mut pipeline = Vec::new();
    for n in 0..500 {
        pipeline.extend(format!("RPUSH list {n}\r\n").into_bytes());
    }
    pipeline.extend_from_slice(b"SET k v\r\nGET k\r\nSETRANGE k 0 w\r\nGET k\r\nLLEN list\r\n");
    pipeline.extend_from_slice(b"CLIENT REPLY SKIP\r\nRPUSH list x\r\nLLEN list\r\n*1\r\n:\r\n");
    client.send_raw(&pipeline).await;
    for n in 1..=500 {
        assert_eq!(client.receive().await, n.to_string());
    }
    for reply in ["OK", "'v'", "1", "'w'", "500", "501"] {
        assert_eq!(client.receive().await, reply);
    }
    assert_eq!(client.receive().await, "ERR Protocol error: expected '$', got ':'");
    assert!(client.is_closed().await);

    let mut client = pod.client().await;
    let mut pipeline = b"SET n 0\r\nGET n\r\nMULTI\r\n".to_vec();
    pipeline.extend(b"INCR n\r\n".repeat(300));
    pipeline
        .extend_from_slice(b"EXEC\r\nGET n\r\nMULTI\r\nINCR n\r\nSELECT 1\r\nEXEC\r\nGET n\r\n");
    client.send_raw(&pipeline).await;
    for reply in ["OK", "'0'", "OK"] {
        assert_eq!(client.receive().await, reply);
    }
    for _ in 0..300 {
        assert_eq!(client.receive().await, "QUEUED");
    }
    assert!(client.receive().await.ends_with(" 299 300]"));
    for reply in ["'300'", "OK", "QUEUED", "ERR Command not allowed inside a transaction"] {
        assert_eq!(client.receive().await, reply);
    }
    assert!(client.receive().await.starts_with("EXECABORT "));
    assert_eq!(client.receive().await, "'300'");

    // What waits holds up only what comes behind it.
    client.send_raw(b"RPUSH other a\r\nBLPOP empty 0\r\nLLEN other\r\n").await;
    assert_eq!(client.receive().await, "1");
    pod.client().await.expect("RPUSH empty b -> 1").await;
    assert_eq!(client.receive().await, "['empty' 'b']");
    assert_eq!(client.receive().await, "1");
    redis.kill();
    client.send_raw(b"RPUSH other a\r\nLLEN other\r\nPING\r\n").await;
    for reply in [client.receive().await, client.receive().await] {
        assert!(reply.starts_with("STORAGE"), "{reply}");
    }
    assert_eq!(client.receive().await, "PONG");
}
