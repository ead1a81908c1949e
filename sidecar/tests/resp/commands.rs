//! What each family of commands answers, over memory.

use crate::client::Client;
use crate::pod::Pod;

async fn client() -> (Pod, Client) {
    let pod = Pod::of_memory();
    let client = pod.client().await;
    (pod, client)
}

#[tokio::test]
async fn strings_are_written_and_read() {
    let (_pod, mut client) = client().await;
    client
        .expect(
            "GET k                    -> (nil)
             SET k v                  -> OK
             GET k                    -> 'v'
             STRLEN k                 -> 1
             APPEND k alue            -> 5
             GETRANGE k 1 -2          -> 'alu'
             SUBSTR k 0 0             -> 'v'
             GETRANGE nothing 0 -1    -> ''
             STRLEN nothing           -> 0
             GETSET k new             -> 'value'
             GETDEL k                 -> 'new'
             GETDEL k                 -> (nil)
             SETNX k 1                -> 1
             SETNX k 2                -> 0
             MSET a 1 b 2 a 3         -> OK
             MGET a b nothing k       -> ['3' '2' (nil) '1']
             INCR n                   -> 1
             INCRBY n 10              -> 11
             DECR n                   -> 10
             DECRBY n 4               -> 6",
        )
        .await;
}

#[tokio::test]
async fn set_takes_all_its_options() {
    let (_pod, mut client) = client().await;
    client
        .expect(
            "SET k v XX               -> (nil)
             SET k v NX               -> OK
             SET k w NX               -> (nil)
             SET k w XX               -> OK
             SET k x GET              -> 'w'
             SET k y NX GET           -> 'x'
             GET k                    -> 'x'
             SET nothing y XX GET     -> (nil)
             SET k y EX 100           -> OK
             TTL k                    -> 100
             SET k z KEEPTTL          -> OK
             TTL k                    -> 100
             SET k z                  -> OK
             TTL k                    -> -1
             SET k z PXAT 99999999999999 -> OK
             PEXPIRETIME k            -> 99999999999999
             SET k z EXAT 99999999999 -> OK
             EXPIRETIME k             -> 99999999999
             SET k z EXAT 1           -> OK
             GET k                    -> (nil)
             SET k z EX 0             -> ERR invalid expire time in 'set' command
             SET k z PX -1            -> ERR invalid expire time in 'set' command
             SET k z EX 9223372036854775807 -> ERR invalid expire time in 'set' command
             SET k z EX x             -> ERR value is not an integer or out of range
             SET k z EX               -> ERR syntax error
             SET k z NX XX            -> ERR syntax error
             SET k z EX 1 PX 1        -> ERR syntax error
             SET k z EX 1 KEEPTTL     -> ERR syntax error
             SET k z WHAT             -> ERR syntax error
             SETEX k 0 v              -> ERR invalid expire time in 'setex' command
             PSETEX k 0 v             -> ERR invalid expire time in 'psetex' command
             SETEX k 100 v            -> OK
             PSETEX k 100000 v        -> OK
             GETEX k PERSIST          -> 'v'
             TTL k                    -> -1
             GETEX k EX 50            -> 'v'
             TTL k                    -> 50
             GETEX k                  -> 'v'
             GETEX k EX 0             -> ERR invalid expire time in 'getex' command
             GETEX nothing EX 0       -> (nil)
             GETEX k PERSIST EX 1     -> ERR syntax error",
        )
        .await;
}

#[tokio::test]
async fn numbers_have_their_limits() {
    let (_pod, mut client) = client().await;
    client
        .expect(
            "SET n 9223372036854775806  -> OK
             INCR n                     -> 9223372036854775807
             INCR n                     -> ERR increment or decrement would overflow
             DECRBY n -9223372036854775808 -> ERR decrement would overflow
             INCRBY n 1.5               -> ERR value is not an integer or out of range
             SET n abc                  -> OK
             INCR n                     -> ERR value is not an integer or out of range",
        )
        .await;
}

#[tokio::test]
async fn keys_expire() {
    let (_pod, mut client) = client().await;
    client
        .expect(
            "TTL k                    -> -2
             EXPIRE k 10              -> 0
             SET k v                  -> OK
             TTL k                    -> -1
             PTTL k                   -> -1
             EXPIRETIME k             -> -1
             PERSIST k                -> 0
             EXPIRE k 100             -> 1
             TTL k                    -> 100
             EXPIRE k 50 GT           -> 0
             EXPIRE k 200 GT          -> 1
             EXPIRE k 300 LT          -> 0
             EXPIRE k 100 LT          -> 1
             EXPIRE k 100 NX          -> 0
             EXPIRE k 120 XX          -> 1
             EXPIRE k 100 XX LT       -> 1
             PERSIST k                -> 1
             EXPIRE k 100 XX LT       -> 0
             EXPIRE k 100 XX          -> 0
             EXPIRE k 100 GT          -> 0
             EXPIRE k 100 LT          -> 1
             EXPIREAT k 99999999999   -> 1
             EXPIRETIME k             -> 99999999999
             PEXPIREAT k 99999999999999 -> 1
             PEXPIRETIME k            -> 99999999999999
             PEXPIRE k -5             -> 1
             EXISTS k                 -> 0
             EXPIRE k x               -> ERR value is not an integer or out of range
             EXPIRE k 9223372036854775807 -> ERR invalid expire time in 'expire' command
             PEXPIRE k 9223372036854775807 -> ERR invalid expire time in 'pexpire' command
             EXPIRE k 1 WHAT          -> ERR Unsupported option WHAT
             EXPIRE k 1 GT LT         -> ERR GT and LT options at the same time are not compatible
             EXPIRE k 1 NX XX         -> ERR NX and XX, GT or LT options at the same time are not compatible",
        )
        .await;
}

#[tokio::test]
async fn a_value_is_gone_at_its_expiry() {
    let (_pod, mut client) = client().await;
    client.expect("SET k v PX 30 -> OK").await;
    // The value is in memory from here on.
    let first = client.ask("GET k").await;
    assert!(first == "'v'" || first == "(nil)");
    tokio::time::sleep(std::time::Duration::from_millis(60)).await;
    client
        .expect(
            "GET k    -> (nil)
             EXISTS k -> 0
             TTL k    -> -2
             TYPE k   -> none
             STRLEN k -> 0
             MGET k   -> [(nil)]",
        )
        .await;
}

#[tokio::test]
async fn keys_are_counted_and_deleted() {
    let (_pod, mut client) = client().await;
    client
        .expect(
            "MSET a 1 b 2 c 3         -> OK
             EXISTS a a b nothing     -> 3
             TOUCH a nothing          -> 1
             TYPE a                   -> string
             TYPE nothing             -> none
             DBSIZE                   -> 3
             DEL a nothing            -> 1
             UNLINK b                 -> 1
             DBSIZE                   -> 1
             FLUSHDB WHAT             -> ERR syntax error
             FLUSHDB ASYNC            -> OK
             DBSIZE                   -> 0
             SET a 1                  -> OK
             FLUSHALL                 -> OK
             GET a                    -> (nil)",
        )
        .await;
}

#[tokio::test]
async fn all_keys_are_found() {
    let (_pod, mut client) = client().await;
    for n in 0..25 {
        assert_eq!(client.ask(&format!("SET key:{n} v")).await, "OK");
    }
    client.expect("SET other v -> OK").await;
    assert_eq!(client.ask("KEYS key:1?").await.matches("'key:1").count(), 10);
    assert_eq!(client.ask("KEYS nothing*").await, "[]");

    let mut found = std::collections::BTreeSet::new();
    let mut cursor = "0".to_owned();
    loop {
        let page = client.ask(&format!("SCAN {cursor} MATCH key:* COUNT 7 TYPE string")).await;
        let mut words = page.split('\'').skip(1).step_by(2);
        cursor = words.next().unwrap().to_owned();
        found.extend(words.map(str::to_owned));
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(found.len(), 25);
    client
        .expect(
            "SCAN 0 TYPE hash COUNT 1000 -> ['0' []]
             SCAN x                   -> ERR invalid cursor
             SCAN 0 COUNT 0           -> ERR syntax error
             SCAN 0 COUNT x           -> ERR value is not an integer or out of range
             SCAN 0 MATCH             -> ERR syntax error",
        )
        .await;
}

#[tokio::test]
async fn clients_shake_hands() {
    let (_pod, mut client) = client().await;
    client
        .expect(
            "HELLO 4                  -> NOPROTO unsupported protocol version
             HELLO x                  -> ERR Protocol version is not an integer or out of range
             HELLO 2 WHAT             -> ERR Syntax error in HELLO option 'WHAT'
             HELLO 2 AUTH me pw       -> WRONGPASS invalid username-password pair or user is disabled.
             HELLO 2 SETNAME a\u{1}b  -> ERR Client names cannot contain spaces, newlines or special characters.
             AUTH pw                  -> ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?
             AUTH default pw          -> OK
             AUTH me pw               -> WRONGPASS invalid username-password pair or user is disabled.
             AUTH a b c               -> ERR syntax error
             PING                     -> PONG
             PING hi                  -> 'hi'
             PING a b                 -> ERR wrong number of arguments for 'ping' command
             ECHO hi                  -> 'hi'
             SELECT 0                 -> OK
             SELECT 1                 -> ERR DB index is out of range
             SELECT x                 -> ERR value is not an integer or out of range
             CLIENT GETNAME           -> (nil)
             CLIENT SETNAME me        -> OK
             CLIENT GETNAME           -> 'me'
             CLIENT SETINFO LIB-NAME lib -> OK
             CLIENT SETINFO lib-ver 1.2  -> OK
             CLIENT SETINFO what 1.2  -> ERR Unrecognized option 'what'
             CLIENT NO-EVICT ON       -> OK
             CLIENT NO-TOUCH ON       -> OK
             CLIENT NO-TOUCH WHAT     -> ERR syntax error
             CLIENT GETREDIR          -> -1
             CLIENT TRACKING OFF      -> OK
             CLIENT MAINT_NOTIFICATIONS ON -> ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP.
             CLIENT LIST TYPE what    -> ERR Unknown client type 'what'
             CLIENT LIST ID x         -> ERR Invalid client ID
             CLIENT LIST ID 999999    -> ''
             CLIENT                   -> ERR wrong number of arguments for 'client' command",
        )
        .await;
    let info = client.ask("CLIENT INFO").await;
    assert!(info.contains(" name=me ") && info.contains(" flags=eT "), "{info}");
    assert!(info.contains(" cmd=client|info "), "{info}");
    assert!(info.contains(" resp=2 lib-name=lib lib-ver=1.2"), "{info}");
    let id: u64 = client.ask("CLIENT ID").await.parse().unwrap();
    assert!(client.ask("CLIENT LIST").await.contains(&format!("id={id} addr=127.0.0.1:")));
    client.expect("RESET -> RESET\nCLIENT GETNAME -> (nil)").await;
    client.expect("QUIT -> OK").await;
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn hello_chooses_the_protocol() {
    let (_pod, mut client) = client().await;
    let reply = client.ask("HELLO 3 AUTH default any SETNAME me").await;
    assert!(reply.starts_with("{'server'=>'redis' 'version'=>'7.4.0' 'proto'=>3 'id'=>"));
    assert!(reply.ends_with("'mode'=>'standalone' 'role'=>'master' 'modules'=>[]}"));
    client.send(&[b"GET", b"nothing"]).await;
    assert_eq!(client.receive_raw().await, "_\r\n");
    client.send(&[b"CLIENT", b"INFO"]).await;
    assert!(client.receive_raw().await.starts_with(b"="));
    assert!(client.ask("HELLO").await.contains("'proto'=>3"));
    assert!(client.ask("HELLO 2").await.starts_with("['server' 'redis'"));
    client.send(&[b"GET", b"nothing"]).await;
    assert_eq!(client.receive_raw().await, "$-1\r\n");
}

#[tokio::test]
async fn replies_can_be_turned_off() {
    let (_pod, mut client) = client().await;
    client
        .send_raw(
            b"CLIENT REPLY OFF\r\nSET k v\r\nGET k\r\nCLIENT REPLY ON\r\n\
              CLIENT REPLY SKIP\r\nGET k\r\nGET k\r\nCLIENT REPLY WHAT\r\n",
        )
        .await;
    assert_eq!(client.receive().await, "OK");
    assert_eq!(client.receive().await, "'v'");
    assert_eq!(client.receive().await, "ERR syntax error");
}

#[tokio::test]
async fn the_server_describes_itself() {
    let (pod, mut client) = client().await;
    client.expect("SET k v -> OK\nGET k -> 'v'").await;
    let info = client.ask("INFO").await;
    for line in [
        "# Server\r\nredis_version:7.4.0\r\n",
        "loading:0\r\n",
        "role:master\r\n",
        "connected_clients:1\r\n",
        "storage:memory\r\n",
        "maxmemory_policy:noeviction\r\n",
        "db0:keys=1,expires=0,avg_ttl=0\r\n",
    ] {
        assert!(info.contains(line), "{line:?} in {info}");
    }
    assert!(info.contains(&format!("tcp_port:{}\r\n", pod.address.port())));
    let replication = client.ask("INFO replication").await;
    assert!(replication.starts_with("'# Replication\r\nrole:master"), "{replication}");
    assert!(!replication.contains("# Server"));
    client
        .expect(
            "INFO nothing             -> ''
             CONFIG GET nothing       -> []
             CONFIG GET databases     -> ['databases' '1']
             CONFIG GET SAVE append*  -> ['appendonly' 'no' 'save' '']
             CONFIG SET a b           -> ERR Warp's settings are changed in its WarpCluster and WarpPolicy manifests, not with CONFIG
             CONFIG WHAT              -> ERR unknown subcommand 'WHAT'. Try CONFIG HELP.
             CONFIG GET               -> ERR wrong number of arguments for 'config|get' command",
        )
        .await;
    let time = client.ask("TIME").await;
    let seconds: u64 = time.split('\'').nth(1).unwrap().parse().unwrap();
    assert!(seconds.abs_diff(pod.engine.now().unix / 1000) < 60);
}

#[tokio::test]
async fn commands_are_described() {
    let (_pod, mut client) = client().await;
    let count: usize = client.ask("COMMAND COUNT").await.parse().unwrap();
    assert!(count > 40);
    assert_eq!(client.ask("COMMAND LIST").await.matches('\'').count(), 2 * count);
    client
        .expect(
            "COMMAND INFO nothing     -> [(nil)]
             COMMAND GETKEYS MSET a 1 b 2 -> ['a' 'b']
             COMMAND GETKEYS WHAT a   -> ERR Invalid command specified
             COMMAND GETKEYS PING a   -> ERR The command has no key arguments
             COMMAND GETKEYS GET a b  -> ERR Invalid number of arguments specified for command
             COMMAND LIST FILTERBY PATTERN get -> ['get']
             COMMAND LIST FILTERBY MODULE m -> []
             COMMAND LIST WHAT        -> ERR syntax error
             COMMAND DOCS nothing     -> []",
        )
        .await;
    let info = client.ask("COMMAND INFO get").await;
    assert!(
        info.starts_with("[['get' 2 [readonly fast] 1 1 1 [@read @string @fast] [] [["),
        "{info}"
    );
    assert!(client.ask("COMMAND DOCS get").await.starts_with("['get' ['summary' 'Returns the"));
    assert!(client.ask("COMMAND DOCS client|id").await.starts_with("['client|id'"));
    assert!(client.ask("COMMAND").await.len() > 5000);
}

#[tokio::test]
async fn what_is_unknown_is_refused_in_the_words_of_redis() {
    let (_pod, mut client) = client().await;
    client
        .expect(
            "foo a b    -> ERR unknown command 'foo', with args beginning with: 'a' 'b'
             XADD k 0   -> ERR unknown command 'XADD', with args beginning with: 'k' '0'
             GET        -> ERR wrong number of arguments for 'get' command
             GET a b    -> ERR wrong number of arguments for 'get' command
             MSET a     -> ERR wrong number of arguments for 'mset' command
             MSET a 1 b -> ERR wrong number of arguments for 'mset' command",
        )
        .await;
    client.send(&[b"foo", b"a", b"b"]).await;
    let raw = client.receive_raw().await;
    assert_eq!(raw, "-ERR unknown command 'foo', with args beginning with: 'a' 'b' \r\n");
    client.send(&[b"line\r\nbreak", &[b'x'; 200]]).await;
    let raw = client.receive_raw().await;
    assert!(raw.starts_with(b"-ERR unknown command 'line  break', with args beginning with: 'xxx"));
    assert!(raw.len() < 220);
}
