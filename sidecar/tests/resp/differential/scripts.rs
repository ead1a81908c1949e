//! Scripts sent to Warp over memory and to a Redis: the same replies, the same keys.

use warp_sidecar::resp::Settings;

use super::{Redis, Words, compare};
use crate::pod::{Pod, memory};

/// What applications do with scripts. Each is run with the keys `a` and `b` and the arguments given.
const RECIPES: [(&str, &[&str]); 22] = [
    // A lock that its owner alone gives back (Redlock, redis-py), or keeps for longer.
    (
        "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end",
        &["mine"],
    ),
    (
        "redis.call('set', KEYS[1], ARGV[1], 'NX', 'PX', 30000) if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('pexpire', KEYS[1], ARGV[2]) else return 0 end",
        &["mine", "60000"],
    ),
    (
        "local token = redis.call('get', KEYS[1]) if not token or token ~= ARGV[1] then return 0 end local expiration = redis.call('pttl', KEYS[1]) if not expiration then expiration = 0 end if expiration < 0 then return 0 end redis.call('pexpire', KEYS[1], expiration + ARGV[2]) return 1",
        &["mine", "1000"],
    ),
    (
        "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end",
        &["other"],
    ),
    ("return redis.call('SET', KEYS[1], ARGV[1], 'XX', 'GET')", &["other"]),
    (
        "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end",
        &["other"],
    ),
    // Limits of rates: a window that is counted, one that slides, and a bucket of tokens.
    (
        "local n = redis.call('INCR', KEYS[1]) if n == 1 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end return {n, redis.call('TTL', KEYS[1]) > 0}",
        &["100"],
    ),
    (
        "redis.call('DEL', KEYS[1]) for at = 1, 5 do redis.call('ZADD', KEYS[1], at * 10, 'e' .. at) end redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1]) local n = redis.call('ZCARD', KEYS[1]) if n < tonumber(ARGV[2]) then redis.call('ZADD', KEYS[1], 60, 'e6') redis.call('PEXPIRE', KEYS[1], 100000) return {1, n} end return {0, n}",
        &["20", "4"],
    ),
    (
        "return {redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'), redis.call('ZSCORE', KEYS[1], 'e6'), redis.call('ZSCORE', KEYS[1], 'none')}",
        &[],
    ),
    (
        "redis.call('DEL', KEYS[1]) local b = redis.call('HMGET', KEYS[1], 'tokens', 'at') local tokens = tonumber(b[1]) or 10 tokens = math.min(10, tokens + 2.5) - 1 redis.call('HSET', KEYS[1], 'tokens', tokens, 'at', ARGV[1]) redis.call('EXPIRE', KEYS[1], 60) return {tostring(tokens), redis.call('HGETALL', KEYS[1])}",
        &["1700000000"],
    ),
    // A queue whose jobs are moved, and records in JSON.
    (
        "redis.call('DEL', KEYS[1], KEYS[2]) redis.call('RPUSH', KEYS[1], unpack(ARGV)) local job = redis.call('LMOVE', KEYS[1], KEYS[2], 'LEFT', 'RIGHT') return {job, redis.call('LRANGE', KEYS[1], 0, -1), redis.call('LLEN', KEYS[2])}",
        &["j1", "j2", "j3"],
    ),
    (
        "redis.call('SET', KEYS[2], cjson.encode({id = 7, tags = {'x', 'y'}}.tags)) local r = cjson.decode(redis.call('GET', KEYS[2])) r[#r + 1] = ARGV[1] redis.call('SET', KEYS[2], cjson.encode(r)) return redis.call('GET', KEYS[2])",
        &["z"],
    ),
    (
        "redis.call('DEL', KEYS[1]) for i = 1, 300 do redis.call('HSET', KEYS[1], 'f' .. i, i) end local sum = 0 for _, v in ipairs(redis.call('HVALS', KEYS[1])) do sum = sum + v end return {sum, redis.call('HLEN', KEYS[1])}",
        &[],
    ),
    (
        "redis.call('DEL', KEYS[1]) redis.call('SADD', KEYS[1], 'm', 'n', 'o') local m = redis.call('SMEMBERS', KEYS[1]) table.sort(m) return {m, redis.call('SISMEMBER', KEYS[1], 'm'), redis.call('SMISMEMBER', KEYS[1], 'm', 'q')}",
        &[],
    ),
    (
        "redis.call('MSET', KEYS[1], 'v', KEYS[2], 'w') return redis.call('MGET', KEYS[1], 'none', KEYS[2])",
        &[],
    ),
    (
        "return {redis.call('EXISTS', KEYS[1], KEYS[2]), redis.call('TYPE', KEYS[1]), redis.call('TYPE', KEYS[1]).ok, redis.call('PING'), redis.call('ECHO', 'x')}",
        &[],
    ),
    (
        "redis.setresp(3) redis.call('DEL', KEYS[1]) redis.call('HSET', KEYS[1], 'f', 'v') return {redis.call('HGETALL', KEYS[1]).map.f, redis.call('GET', 'none') == nil}",
        &[],
    ),
    (
        "redis.setresp(3) redis.call('DEL', KEYS[1]) redis.call('SADD', KEYS[1], 'm') return redis.call('SMEMBERS', KEYS[1])",
        &[],
    ),
    (
        "redis.setresp(3) redis.call('DEL', KEYS[1]) redis.call('ZADD', KEYS[1], 1.5, 'm') return redis.call('ZSCORE', KEYS[1], 'm').double == 1.5",
        &[],
    ),
    (
        "redis.call('DEL', KEYS[1]) redis.call('ZADD', KEYS[1], 1.5, 'm', 3, 'n') return {redis.call('ZINCRBY', KEYS[1], 1, 'm'), redis.call('ZRANGEBYSCORE', KEYS[1], 0, 10, 'WITHSCORES')}",
        &[],
    ),
    (
        "redis.call('DEL', KEYS[1]) return {redis.call('GETSET', KEYS[1], 'v'), redis.call('SETNX', KEYS[1], 'w'), redis.call('APPEND', KEYS[1], ARGV[1]), redis.call('STRLEN', KEYS[1]), redis.call('SETRANGE', KEYS[1], 1, 'zz')}",
        &["\u{ff}\0"],
    ),
    ("redis.call('FLUSHALL') return redis.call('DBSIZE')", &[]),
];

/// What goes wrong.
const FAULTS: [&str; 34] = [
    "return redis.call('NOTHING')",
    "return redis.pcall('NOTHING')",
    "return redis.call('GET')",
    "return redis.call('CONFIG', 'NOTHING')",
    "return redis.call('CLIENT', 'ID', 'x', 'y')",
    "return redis.call('CLIENT', 'ID')",
    "return redis.call('HELLO')",
    "return redis.call('AUTH', 'x')",
    "return redis.call('EVAL', 'return 1', 0)",
    "return redis.call('SCRIPT', 'FLUSH')",
    "return redis.pcall('EVAL', 'return 1', 0).err",
    "return redis.call('SCRIPT')",
    "redis.call('SET', 'a', 'v') return redis.call('INCR', 'a')",
    "redis.call('SET', 'a', 'v') return redis.call('LPUSH', 'a', 'x')",
    "redis.call('SET', 'a', 'v') return redis.pcall('LPUSH', 'a', 'x')",
    "redis.call('SET', 'a', 'v') return redis.pcall('LPUSH', 'a', 'x').err",
    "redis.call('SET', 'a', 'v') local ok, e = pcall(redis.call, 'HGET', 'a', 'f') return {ok, e}",
    "redis.call('SET', 'a', 'v', 'BAD')",
    "redis.call('SET', 'a', 'v') redis.call('SET', 'b', 'w') error('after two writes')",
    "redis.call('SET', 'a', 'v') error({err = 'MY words'})",
    "return error('x', 2)",
    "error('x', 2)",
    "error(nil)",
    "return redis.call()",
    "return redis.call({})",
    "return redis.call('EXPIRE', 'a', 'x')",
    "return (",
    "return nothing",
    "x = 1",
    "return redis.call('SELECT', 'x')",
    "return redis.error_reply('MY words')",
    "return redis.status_reply('fine')",
    "return {redis.pcall('GET'), 1}",
    "#!js\nreturn 1",
];

/// The commands themselves, where they are wrong or ask for what isn't there.
const FORMS: &str = "
    EVAL|EVAL a|EVAL x 0|EVAL 1 -1|EVAL 1 x|EVAL 1 3 a|EVAL 1 1|EVAL_RO|EVAL_RO x 0|EVALSHA
    EVALSHA a 0|EVALSHA a x|EVALSHA ffffffffffffffffffffffffffffffffffffffff 0
    EVALSHA ffffffffffffffffffffffffffffffffffffffff -1
    EVALSHA ffffffffffffffffffffffffffffffffffffffff 5 a
    EVALSHA zfffffffffffffffffffffffffffffffffffffff 0|EVALSHA_RO a 0
    SCRIPT|SCRIPT WHAT|SCRIPT LOAD|SCRIPT LOAD a b|SCRIPT LOAD return|SCRIPT LOAD (|SCRIPT EXISTS
    SCRIPT EXISTS a|SCRIPT EXISTS a ffffffffffffffffffffffffffffffffffffffff
    SCRIPT EXISTS 63143b6f8007b98c53ca2149822777b3566f9241 63143B6F8007B98C53CA2149822777B3566F9241
    EVALSHA 63143b6f8007b98c53ca2149822777b3566f9241 0
    EVALSHA 63143B6F8007B98C53CA2149822777B3566F9241 1 a
    EVALSHA_RO 63143b6f8007b98c53ca2149822777b3566f9241 0
    SCRIPT FLUSH BAD|SCRIPT FLUSH SYNC x|SCRIPT FLUSH ASYNC|SCRIPT FLUSH|SCRIPT KILL|SCRIPT KILL a
    SCRIPT EXISTS 63143b6f8007b98c53ca2149822777b3566f9241
    EVALSHA 63143b6f8007b98c53ca2149822777b3566f9241 0
    COMMAND GETKEYS EVAL x 2 a b c";

/// What a script may do by its header and by the command that runs it.
const HEADERS: [&str; 7] = [
    "return redis.call('SET', KEYS[1], 'v')",
    "return redis.call('GET', KEYS[1])",
    "#!lua\nreturn redis.call('SET', KEYS[1], 'v')",
    "#!lua\nreturn redis.call('GET', KEYS[1])",
    "#!lua flags=no-writes\nreturn redis.call('SET', KEYS[1], 'v')",
    "#!lua flags=no-writes\nreturn redis.pcall('DEL', KEYS[1])",
    "#!lua flags=allow-oom,allow-stale\nreturn redis.call('GET', KEYS[1])",
];

fn words(words: &[&str]) -> Words {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

#[tokio::test]
async fn over_memory() {
    let pod = Pod::start(memory(), Settings::default());
    let server = Redis::start();
    for protocol in ["2", "3"] {
        let (mut warp, mut redis) = pod.client_beside(&server, protocol).await;
        for client in [&mut warp, &mut redis] {
            client.expect("FLUSHALL -> OK\nSCRIPT FLUSH -> OK").await;
        }
        for (source, arguments) in RECIPES {
            let call = [&["EVAL", source, "2", "a", "b"], arguments].concat();
            // Twice: the second time with the keys that the first has left.
            let commands =
                [words(&call), words(&call), words(&["TYPE", "a"]), words(&["PTTL", "a"])];
            compare(&mut warp, &mut redis, &commands).await;
        }
        for source in FAULTS {
            let commands = [
                words(&["EVAL", source, "0"]),
                words(&["MGET", "a", "b"]),
                words(&["PING"]),
                words(&["FLUSHALL"]),
            ];
            compare(&mut warp, &mut redis, &commands).await;
        }
        for source in HEADERS {
            for command in ["EVAL", "EVAL_RO"] {
                let commands = [words(&[command, source, "1", "a"]), words(&["GET", "a"])];
                compare(&mut warp, &mut redis, &commands).await;
            }
        }
        let forms: Vec<Words> = FORMS
            .split(['|', '\n'])
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|form| !form.is_empty())
            .map(|form| words(&form))
            .collect();
        compare(&mut warp, &mut redis, &forms).await;
    }
}
