//! Commands that wait for a key: beside a Redis, and what a Redis can't show.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use warp_sidecar::resp::Settings;

use crate::client::Client;
use crate::pod::{Pod, memory};
use crate::servers::redis::Redis;

/// Waits until so many clients wait for a key.
async fn until_blocked(client: &mut Client, count: usize) {
    let wanted = format!("blocked_clients:{count}\r\n");
    let deadline = Instant::now() + Duration::from_secs(10);
    while !client.ask("INFO clients").await.contains(&wanted) {
        assert!(Instant::now() < deadline, "never {wanted}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Runs a play on a server: what each client was told. Lines are `who: COMMAND`, which is asked;
/// `who> COMMAND`, which is sent only; `who<`, whose next reply is taken; and `=n`, until so many
/// clients wait.
async fn play(address: std::net::SocketAddr, protocol: &str, script: &str) -> Vec<String> {
    let mut clients: Vec<(String, Client)> = Vec::new();
    let mut told = Vec::new();
    let mut observer = Client::connect(address).await;
    observer.expect("FLUSHALL -> OK").await;
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(count) = line.strip_prefix('=') {
            until_blocked(&mut observer, count.parse().unwrap()).await;
            continue;
        }
        let at = line.find([':', '>', '<']).unwrap();
        let (who, command) = (&line[..at], line[at + 1..].trim());
        if !clients.iter().any(|(name, _)| name == who) {
            let mut client = Client::connect(address).await;
            client.ask(&format!("HELLO {protocol}")).await;
            clients.push((who.to_owned(), client));
        }
        let client = &mut clients.iter_mut().find(|(name, _)| name == who).unwrap().1;
        let reply = match &line[at..=at] {
            ":" => client.ask(command).await,
            ">" => {
                let words: Vec<&[u8]> = command.split_whitespace().map(str::as_bytes).collect();
                client.send(&words).await;
                continue;
            }
            _ => client.receive().await,
        };
        told.push(format!("{line} {reply}"));
    }
    told
}

const PLAYS: [&str; 12] = [
    // What is there is taken at once.
    "w: RPUSH k a b c\n w: ZADD z 1 x 2 y 3 v\n w: SET s text
     w: BLPOP none k 0\n w: BRPOP k none 0\n w: BLMOVE k l LEFT RIGHT 0\n w: BRPOPLPUSH l l 0
     w: BLMPOP 0 2 none l LEFT COUNT 5\n w: BZPOPMIN z 0\n w: BZPOPMAX none z 0
     w: BZMPOP 0 2 none z MIN COUNT 5\n w: BLPOP s 0\n w: BLPOP none s 0\n w: BZPOPMIN s 0
     w: BLMOVE none s LEFT LEFT 0.01\n w: RPUSH k a\n w: BLMOVE k s LEFT LEFT 0\n w: LRANGE k 0 -1",
    // The time is over.
    "w: BLPOP k 0.01\n w: BRPOP k 0.001\n w: BLMPOP 0.01 1 k RIGHT\n w: BLMOVE k l LEFT LEFT 0.01
     w: BRPOPLPUSH k l 0.01\n w: BZPOPMIN k 0.01\n w: BZPOPMAX k 0.01\n w: BZMPOP 0.01 1 k MAX",
    // What is wrong with it.
    "w: BLPOP\n w: BLPOP k\n w: BLPOP k x\n w: BLPOP k -1\n w: BLPOP k nan\n w: BLMOVE a b LEFT\n
     w: BLMOVE a b WHAT LEFT 1\n w: BLMOVE a b LEFT LEFT x\n w: BRPOPLPUSH a b x\n w: BRPOPLPUSH a b -1
     w: BLMPOP x 1 k LEFT\n w: BLMPOP 1 0 k LEFT\n w: BLMPOP 1 x k LEFT\n w: BLMPOP 1 1 k WHAT
     w: BLMPOP 1 1 k LEFT COUNT 0\n w: BLMPOP 1 3 k LEFT\n w: BLMPOP x 0 k LEFT\n w: BZMPOP -1 1 k MIN
     w: BZMPOP x 1 k WHAT\n w: BZMPOP 1 1 k MIN COUNT x\n w: BZPOPMIN k x\n w: BLMPOP 1 1 k LEFT WHAT 1
     w: CLIENT UNBLOCK\n w: CLIENT UNBLOCK x\n w: CLIENT UNBLOCK 1 WHAT\n w: CLIENT UNBLOCK 987654
     w: CLIENT UNBLOCK -1",
    // The first who waits is served first, by one push for all of them, and the rest stays.
    "1> BLPOP k 0\n =1\n 2> BRPOP k j 0\n =2\n 3> BLMPOP 0 2 j k LEFT COUNT 9\n =3
     w: RPUSH k a b c d\n 1<\n 2<\n 3<\n w: LRANGE k 0 -1\n w: EXISTS k j",
    // Of several keys the first that is written counts; within a transaction the first that is asked.
    "1> BLPOP a b c 0\n =1\n w: RPUSH c x\n 1<\n 1> BLPOP a b c 0\n =1
     w: MULTI\n w: RPUSH c third\n w: RPUSH a first\n w: EXEC\n 1<\n w: EXISTS a b c",
    // Another type isn't what is waited for.
    "1> BLPOP k 0\n =1\n 2> BZPOPMIN k 0\n =2\n w: SET k v\n w: DEL k\n w: ZADD k 1 m\n 2<
     w: EXISTS k\n w: RPUSH k x\n 1<",
    // What one moves serves another, also in a circle.
    "1> BLMOVE a b LEFT RIGHT 0\n =1\n 2> BLMOVE b c RIGHT LEFT 0\n =2\n 3> BRPOPLPUSH c a 0\n =3
     w: RPUSH a x\n 1<\n 2<\n 3<\n w: LRANGE a 0 -1\n w: EXISTS b c",
    // A target of another type fails, and the element stays.
    "w: SET to text\n 1> BLMOVE from to LEFT LEFT 0\n =1\n w: RPUSH from x\n 1<\n w: LRANGE from 0 -1",
    // What is written and gone again within a transaction or a script was never there.
    "1> BLPOP k 0\n =1\n w: MULTI\n w: RPUSH k a\n w: DEL k\n w: EXEC\n =1\n w: RPUSH k b\n 1<",
    // Keys come by other ways than pushes.
    "1> BLPOP k 0\n =1\n w: RPUSH j a b\n w: RENAME j k\n 1<\n 1> BLPOP copy 0\n =1\n w: COPY k copy\n 1<
     1> BRPOP sorted 0\n =1\n w: SORT k ALPHA STORE sorted\n 1<\n 1> BZPOPMAX u 0\n =1
     w: ZADD z 1 a 2 b\n w: ZUNIONSTORE u 1 z\n 1<\n 1> BZMPOP 0 1 v MAX COUNT 2\n =1\n w: ZRANGESTORE v z 0 -1\n 1<",
    // In a transaction and in a script nobody waits.
    "w: MULTI\n w: BLPOP k 0\n w: BLMOVE a b LEFT LEFT 0\n w: BZPOPMIN z 0\n w: RPUSH k a\n w: BRPOP k 0\n w: EXEC
     w: EVAL return{redis.call('BLMPOP',0,1,KEYS[1],'LEFT')} 1 k\n w: EVAL return{redis.call('BLPOP',KEYS[1],0)} 1 k",
    // Replies come in order, and a client of others isn't held up.
    "1> BLPOP k 0\n 1> PING\n 1> LLEN k\n =1\n w: PING\n w: RPUSH k a b\n 1<\n 1<\n 1<",
];

#[tokio::test]
async fn waits_go_as_at_a_redis() {
    let server = Redis::start();
    let pod = Pod::of_memory();
    for protocol in ["2", "3"] {
        for script in PLAYS {
            let redis = play(([127, 0, 0, 1], server.port).into(), protocol, script).await;
            let warp = play(pod.address, protocol, script).await;
            // Where a script failed is told in other words.
            let told = |told: &[String]| -> Vec<String> {
                told.iter().map(|line| line.split(" script: ").next().unwrap().to_owned()).collect()
            };
            assert_eq!(told(&warp), told(&redis), "{script}");
        }
    }
}

async fn id_of(client: &mut Client) -> u64 {
    client.ask("CLIENT ID").await.parse().unwrap()
}

#[tokio::test]
async fn a_wait_is_ended_by_another_client() {
    let pod = Pod::of_memory();
    let (mut one, mut other) = (pod.client().await, pod.client().await);
    let id = id_of(&mut one).await;
    other.expect(&format!("CLIENT UNBLOCK {id} -> 0")).await;
    for (how, reply) in [
        ("", "(nil array)"),
        (" TIMEOUT", "(nil array)"),
        (" error", "UNBLOCKED client unblocked via CLIENT UNBLOCK"),
    ] {
        one.send(&[b"BLPOP", b"k", b"0"]).await;
        until_blocked(&mut other, 1).await;
        let list = other.ask(&format!("CLIENT LIST ID {id}")).await;
        assert!(list.contains(" flags=b ") && list.contains(" cmd=blpop "), "{list}");
        other.expect(&format!("CLIENT UNBLOCK {id}{how} -> 1\nCLIENT UNBLOCK {id} -> 0")).await;
        assert_eq!(one.receive().await, reply);
        until_blocked(&mut other, 0).await;
    }
    let list = other.ask(&format!("CLIENT LIST ID {id}")).await;
    assert!(list.contains(" flags=N "), "{list}");
    one.expect("RPUSH k a -> 1\nBLPOP k 0 -> ['k' 'a']").await;
}

#[tokio::test]
async fn who_leaves_takes_nothing_and_sends_nothing_more() {
    let pod = Pod::of_memory();
    let (mut one, mut other) = (pod.client().await, pod.client().await);
    one.send_raw(b"BLPOP k 0\r\nSET sent behind\r\n").await;
    until_blocked(&mut other, 1).await;
    drop(one);
    until_blocked(&mut other, 0).await;
    other.expect("RPUSH k a -> 1\nLRANGE k 0 -1 -> ['a']\nEXISTS sent -> 0").await;
}

#[tokio::test]
async fn a_server_that_stops_waits_for_nobody_who_waits() {
    let mut pod = Pod::of_memory();
    let (mut one, mut other) = (pod.client().await, pod.client().await);
    one.send(&[b"BLPOP", b"k", b"0"]).await;
    until_blocked(&mut other, 1).await;
    let begun = Instant::now();
    pod.stop.cancel();
    (&mut pod.served).await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(one.is_closed().await);
}

#[tokio::test]
async fn a_wait_ends_with_its_storage() {
    let pod = Pod::of_memory();
    let (mut one, mut other) = (pod.client().await, pod.client().await);
    one.send(&[b"BLPOP", b"k", b"0"]).await;
    until_blocked(&mut other, 1).await;
    pod.engine.exchange_storage(memory());
    let reply = one.receive().await;
    assert!(reply.starts_with("UNBLOCKED force unblock"), "{reply}");
    one.expect("RPUSH k a -> 1\nBLPOP k 0 -> ['k' 'a']").await;
}

/// Many consumers and producers on several threads: each element comes once, and those of one
/// producer in their order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_comes_twice_over_several_threads() {
    const EACH: usize = 500;
    let threads = NonZeroUsize::new(3).unwrap();
    let pod = Arc::new(Pod::start(memory(), Settings { threads, ..Settings::default() }));
    let mut consumers = Vec::new();
    for name in 0..6 {
        let mut client = pod.client().await;
        consumers.push(tokio::spawn(async move {
            let mut taken = Vec::new();
            loop {
                // By turns with a time that is over now and then.
                let time = if taken.len() % 3 == name % 3 { "0.001" } else { "0" };
                let reply = client.ask(&format!("BLPOP a b {time}")).await;
                if reply == "(nil array)" {
                    continue;
                }
                let element = reply.split('\'').nth(3).unwrap().to_owned();
                if element == "end" {
                    return taken;
                }
                taken.push(element);
            }
        }));
    }
    let mut producers = Vec::new();
    for name in ["x", "y"] {
        let mut client = pod.client().await;
        producers.push(tokio::spawn(async move {
            for number in 0..EACH {
                let key = ["a", "b"][number % 2];
                client.ask(&format!("RPUSH {key} {name}{number}")).await;
                if number % 50 == 0 {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
        }));
    }
    for producer in producers {
        producer.await.unwrap();
    }
    let mut client = pod.client().await;
    while client.ask("EXISTS a b").await != "0" {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    client.ask(&format!("RPUSH a{}", " end".repeat(6))).await;
    let mut all = Vec::new();
    for consumer in consumers {
        all.extend(consumer.await.unwrap());
    }
    all.sort();
    let mut expected: Vec<String> =
        ["x", "y"].iter().flat_map(|name| (0..EACH).map(move |at| format!("{name}{at}"))).collect();
    expected.sort();
    assert_eq!(all, expected);
    until_blocked(&mut client, 0).await;
}
