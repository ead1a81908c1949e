//! redis-rs against Warp, with both protocols. Usage: smoke PORT STORAGE

use std::num::NonZeroUsize;
use std::time::Duration;

use redis::caching::CacheConfig;
use redis::{
    AsyncCommands, AsyncConnectionConfig, Client, Commands, Connection, ConnectionAddr, ErrorKind,
    ExistenceCheck, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo, RedisResult, Script,
    ServerErrorKind, SetExpiry, SetOptions,
};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const RELEASE: &str =
    "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0";

fn client(port: u16, settings: RedisConnectionInfo) -> RedisResult<Client> {
    let address = ConnectionAddr::Tcp("127.0.0.1".to_owned(), port);
    Client::open(address.into_connection_info()?.set_redis_settings(settings))
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().ok_or("PORT")?.parse()?;
    let storage = arguments.next().ok_or("STORAGE")?;
    for protocol in [ProtocolVersion::RESP2, ProtocolVersion::RESP3] {
        let settings = RedisConnectionInfo::default().set_protocol(protocol);
        let client = client(port, settings.clone())?;
        tokio::task::block_in_place(|| -> Outcome {
            let mut connection = client.get_connection()?;
            everyday(&mut connection)?;
            pool(&client)?;
            transactions(&client, &mut connection)?;
            channels(&client, &mut connection)?;
            if storage != "postgres" {
                types(&mut connection)?;
                scripts(&mut connection)?;
            }
            let wrong = settings.set_username("nobody").set_password("wrong");
            let refused = self::client(port, wrong)?.get_connection().map(drop).unwrap_err();
            let is_refused = refused.kind() == ErrorKind::AuthenticationFailed
                || refused.code() == Some("WRONGPASS");
            assert!(is_refused, "{refused}");
            Ok(())
        })?;
        at_once(&client).await?;
    }
    copies(port).await?;
    println!("ok");
    Ok(())
}

fn everyday(client: &mut Connection) -> Outcome {
    let () = client.flushall()?;
    let options = SetOptions::default()
        .conditional_set(ExistenceCheck::NX)
        .with_expiration(SetExpiry::EX(100));
    assert!(client.set_options::<_, _, bool>("k", "v", options.clone())?);
    assert!(!client.set_options::<_, _, bool>("k", "w", options)?);
    assert_eq!(client.get::<_, String>("k")?, "v");
    let left: i64 = client.ttl("k")?;
    assert!(left > 90);
    let values: Vec<Option<String>> = client.mget(&["k", "nothing"])?;
    assert_eq!(values, [Some("v".to_owned()), None]);
    let sum: i64 = client.incr("n", 42)?;
    assert_eq!(sum, 42);
    let bytes = vec![0, 255, 13, 10];
    let () = client.set("bytes", &bytes)?;
    let read: Vec<u8> = client.get("bytes")?;
    assert_eq!(read, bytes);
    let refused = client.incr::<_, _, i64>("k", 1).unwrap_err();
    assert_eq!(refused.detail(), Some("value is not an integer or out of range"));

    let mut pipeline = redis::pipe();
    for n in 0..1000 {
        pipeline.set(format!("p:{n}"), n).ignore().get(format!("p:{n}"));
    }
    let values: Vec<usize> = pipeline.query(client)?;
    assert!(values.into_iter().eq(0..1000));
    let found: RedisResult<std::collections::HashSet<String>> =
        client.scan_match::<_, String>("p:*")?.collect();
    assert_eq!(found?.len(), 1000);
    let list: String = redis::cmd("CLIENT").arg("LIST").query(client)?;
    assert!(list.contains("lib-name=redis-rs"), "{list}");
    Ok(())
}

fn pool(client: &Client) -> Outcome {
    let pool = r2d2::Pool::builder().max_size(4).build(client.clone())?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|n| {
                let pool = pool.clone();
                scope.spawn(move || {
                    let mut connection = pool.get().unwrap();
                    let () = Commands::set(&mut *connection, format!("t:{n}"), n).unwrap();
                    let read: i32 = Commands::get(&mut *connection, format!("t:{n}")).unwrap();
                    assert_eq!(read, n);
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    Ok(())
}

fn transactions(other: &Client, client: &mut Connection) -> Outcome {
    let () = client.set("n", 1)?;
    let mut tries = 0;
    // Tried again until nobody wrote in between.
    let (sum,): (i64,) = redis::transaction(client, &["n"], |client, pipe| {
        let read: i64 = client.get("n")?;
        tries += 1;
        if tries == 1 {
            let () = Commands::set(&mut other.get_connection()?, "n", 10)?;
        }
        pipe.set("n", read + 1).ignore().get("n").query(client)
    })?;
    assert_eq!((tries, sum), (2, 11));
    Ok(())
}

fn channels(client: &Client, publisher: &mut Connection) -> Outcome {
    let mut connection = client.get_connection()?;
    connection.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut subscriber = connection.as_pubsub();
    subscriber.subscribe("news")?;
    let told: i64 = Commands::publish(publisher, "news", "hello")?;
    assert_eq!(told, 1);
    let message = subscriber.get_message()?;
    assert_eq!((message.get_channel_name(), &*message.get_payload::<String>()?), ("news", "hello"));
    Ok(())
}

fn types(client: &mut Connection) -> Outcome {
    let fields: i64 = client.hset("h", "f", "v")?;
    assert_eq!(fields, 1);
    let hash: std::collections::HashMap<String, String> = client.hgetall("h")?;
    assert_eq!(hash["f"], "v");
    let length: i64 = client.rpush("l", &["a", "b"])?;
    assert_eq!(length, 2);
    let list: Vec<String> = client.lrange("l", 0, -1)?;
    assert_eq!(list, ["a", "b"]);
    let () = client.zadd("z", "a", 1.5)?;
    let scores: Vec<(String, f64)> = client.zrange_withscores("z", 0, -1)?;
    assert_eq!(scores, [("a".to_owned(), 1.5)]);
    let refused = client.get::<_, String>("h").unwrap_err();
    assert_eq!(refused.code(), Some("WRONGTYPE"));
    Ok(())
}

/// Sends EVALSHA, is told NOSCRIPT, loads the script and sends it again.
fn scripts(client: &mut Connection) -> Outcome {
    let () = redis::cmd("SCRIPT").arg("FLUSH").query(client)?;
    let release = Script::new(RELEASE);
    let () = client.set("lock", "mine")?;
    let sha = redis::cmd("EVALSHA").arg(release.get_hash()).arg(0).query::<i64>(client);
    assert_eq!(sha.unwrap_err().kind(), ErrorKind::Server(ServerErrorKind::NoScript));
    assert_eq!(release.key("lock").arg("other").invoke::<i64>(client)?, 0);
    assert_eq!(release.key("lock").arg("mine").invoke::<i64>(client)?, 1);
    Ok(())
}

/// Many tasks on one connection.
async fn at_once(client: &Client) -> Outcome {
    let connection = client.get_connection_manager().await?;
    let tasks: Vec<_> = (0..100)
        .map(|n| {
            let mut connection = connection.clone();
            tokio::spawn(async move {
                let () = AsyncCommands::set(&mut connection, format!("a:{n}"), n).await?;
                AsyncCommands::get::<_, i32>(&mut connection, format!("a:{n}")).await
            })
        })
        .collect();
    for (n, task) in (0..).zip(tasks) {
        assert_eq!(task.await??, n);
    }
    Ok(())
}

/// The copies that redis-rs keeps are told to be old.
async fn copies(port: u16) -> Outcome {
    let settings = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
    let client = client(port, settings)?;
    let size = NonZeroUsize::new(100).ok_or("a size")?;
    let config = AsyncConnectionConfig::new().set_cache_config(CacheConfig::new().set_size(size));
    let mut cached = client.get_multiplexed_async_connection_with_config(&config).await?;
    let mut other = client.get_multiplexed_async_connection().await?;
    for value in ["v", "w", "x"] {
        let () = AsyncCommands::set(&mut other, "copied", value).await?;
        for left in (0..2000).rev() {
            if AsyncCommands::get::<_, String>(&mut cached, "copied").await? == value {
                break;
            }
            assert!(left > 0, "{value} never came");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(AsyncCommands::get::<_, String>(&mut cached, "copied").await?, value);
    }
    let statistics = cached.get_cache_statistics().ok_or("statistics")?;
    assert!(statistics.hit > 0 && statistics.invalidate > 0, "{statistics:?}");
    Ok(())
}
