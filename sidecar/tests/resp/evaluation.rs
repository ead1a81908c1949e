//! EVAL over the memory storage: what the comparison with a Redis can't show.

use std::num::NonZeroUsize;
use std::sync::Arc;

use warp_sidecar::adapter::{MemoryAdapter, WhenFull, unix_millis};
use warp_sidecar::resp::Settings;

use crate::client::Client;
use crate::pod::{Pod, memory};

async fn eval(client: &mut Client, source: &str, rest: &[&str]) -> String {
    let mut words: Vec<&[u8]> = vec![b"EVAL", source.as_bytes()];
    words.extend(rest.iter().map(|word| word.as_bytes()));
    client.send(&words).await;
    client.receive().await
}

fn of_two_threads() -> Pod {
    let threads = NonZeroUsize::new(2).unwrap();
    Pod::start(memory(), Settings { threads, ..Settings::default() })
}

/// Each on a thread of its own: new clients go to the threads by turns.
async fn two_clients(pod: &Pod) -> (Client, Client) {
    let (mut one, mut other) = (pod.client().await, pod.client().await);
    for client in [&mut one, &mut other] {
        client.expect("PING -> PONG").await;
    }
    (one, other)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_is_one_step_to_the_clients_of_other_threads() {
    const RAISE: &str = "for _ = 1, 50 do \
         local n = tonumber(redis.call('GET', KEYS[1]) or 0) \
         redis.call('SET', KEYS[1], n + 1) \
         redis.call('SET', KEYS[2], n + 1) end \
         return redis.call('MGET', KEYS[1], KEYS[2])";
    let pod = of_two_threads();
    let (one, other) = two_clients(&pod).await;
    let work = |mut client: Client| {
        tokio::spawn(async move {
            for _ in 0..40 {
                eval(&mut client, RAISE, &["2", "n", "m"]).await;
                let both = client.ask("MGET n m").await;
                let words: Vec<_> = both.trim_matches(['[', ']']).split(' ').collect();
                assert_eq!(words[0], words[1], "a script was seen half done");
                client.ask("INCR other").await;
            }
            client
        })
    };
    let (one, other) = (work(one), work(other));
    let (mut client, _) = (one.await.unwrap(), other.await.unwrap());
    client.expect("MGET n m other -> ['4000' '4000' '80']").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_that_has_not_written_is_killed_from_another_thread() {
    let pod = of_two_threads();
    let (mut one, mut other) = two_clients(&pod).await;
    let endless = tokio::spawn(async move {
        let reply = eval(&mut one, "redis.call('GET', 'a') while true do end", &["0"]).await;
        one.expect("SET a 1 -> OK").await;
        reply
    });
    while other.ask("SCRIPT KILL").await != "OK" {
        assert!(!endless.is_finished(), "it was not killed");
        tokio::task::yield_now().await;
    }
    let reply = endless.await.unwrap();
    assert!(reply.starts_with("ERR Script killed by user with SCRIPT KILL... script: "), "{reply}");
    other.expect("GET a -> '1'").await;
    assert_eq!(other.ask("SCRIPT KILL").await, "NOTBUSY No scripts in execution right now.");
}

#[tokio::test]
async fn a_script_that_never_ends_is_ended() {
    let pod = Pod::of_memory();
    let (mut one, mut other) = two_clients(&pod).await;
    let source = "redis.call('SET', 'a', 1) while true do redis.pcall('INCR', 'a') end";
    let reply = eval(&mut one, source, &["0"]).await;
    assert!(reply.starts_with("ERR Script killed by timeout after 5000 milliseconds"), "{reply}");
    assert_eq!(other.ask("SET a 2").await, "OK");
    assert_eq!(eval(&mut one, "return redis.call('GET', 'a')", &["0"]).await, "'2'");
}

#[tokio::test]
async fn keys_do_not_expire_while_a_script_runs() {
    let pod = Pod::of_memory();
    let mut client = pod.client().await;
    let source = "redis.call('SET', 'a', 'v', 'PX', 1) \
        local begin = os.clock() while os.clock() - begin < 0.02 do end \
        return {redis.call('GET', 'a'), redis.call('PTTL', 'a')}";
    assert_eq!(eval(&mut client, source, &["0"]).await, "['v' 1]");
    while client.ask("GET a").await != "(nil)" {}
}

#[tokio::test]
async fn writes_beyond_the_limit_are_refused_to_scripts() {
    let storage = MemoryAdapter::new(64 * 1024, WhenFull::Refuse, unix_millis);
    let pod = Pod::start(Arc::new(storage), Settings::default());
    let mut client = pod.client().await;
    let fill = "for i = 1, 1000 do \
        local reply = redis.pcall('SET', 'k' .. i, string.rep('x', 1000)) \
        if reply.err then return reply end end";
    let full = "OOM command not allowed when used memory > 'maxmemory'.";
    assert_eq!(eval(&mut client, fill, &["0"]).await, full);
    let raised = eval(&mut client, "redis.call('LPUSH', 'l', string.rep('x', 9000))", &["0"]).await;
    assert!(raised.starts_with(&format!("{full} script: ")), "{raised}");
    eval(&mut client, "while type(redis.pcall('APPEND', 'k1', 'x')) == 'number' do end", &["0"])
        .await;
    let declared = "#!lua\nreturn redis.call('DEL', 'k1')";
    assert_eq!(
        eval(&mut client, declared, &["0"]).await,
        "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'"
    );
    assert_eq!(
        eval(&mut client, &declared.replace("lua", "lua flags=allow-oom"), &["0"]).await,
        "1"
    );
    assert_eq!(eval(&mut client, "return redis.call('DEL', 'k2')", &["0"]).await, "1");
}

#[tokio::test]
async fn a_connection_keeps_what_it_chose_whatever_a_script_chooses() {
    let pod = Pod::of_memory();
    let mut client = pod.client().await;
    client.expect("HSET h f v -> 1").await;
    let source = "redis.setresp(3) return redis.call('HGETALL', 'h').map.f";
    assert_eq!(eval(&mut client, source, &["0"]).await, "'v'");
    client.expect("HGETALL h -> ['f' 'v']").await;
    assert!(client.ask("CLIENT INFO").await.contains(" cmd=client|info "));
    eval(&mut client, "return redis.call('GET', 'x')", &["0"]).await;
    let other = pod.client().await.ask("CLIENT LIST").await;
    assert!(other.contains(" cmd=eval "), "{other}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_thread_loads_every_thread_runs() {
    let pod = of_two_threads();
    let (mut one, mut other) = two_clients(&pod).await;
    let sha = one.ask("SCRIPT LOAD return").await;
    let sha = sha.trim_matches('\'');
    for client in [&mut one, &mut other] {
        client.expect(&format!("EVALSHA {sha} 0 -> (nil)\nSCRIPT EXISTS {sha} x -> [1 0]")).await;
    }
    other.expect("SCRIPT FLUSH -> OK").await;
    one.expect(&format!("EVALSHA {sha} 0 -> NOSCRIPT No matching script. Please use EVAL.")).await;
}
