//! The PostgreSQL storage under faults, its table and its versions, on a real server.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of tests fail like tests")]

#[path = "support/servers/mod.rs"]
mod servers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use tokio::time::{sleep, timeout};
use warp_sidecar::adapter::{
    Current, Key, Mutation, PostgresAdapter, PostgresSettings, SetCondition, SetExpiry, Storage,
    StorageError, unix_millis,
};

use servers::postgres::Postgres;

/// Longer than anything takes on a busy machine.
const LONG: Duration = Duration::from_secs(20);

fn key(text: &str) -> Key {
    Bytes::copy_from_slice(text.as_bytes())
}

fn set(data: &str, expiry: SetExpiry) -> Mutation {
    Mutation::Set { data: key(data), condition: SetCondition::Always, expiry, get: false }
}

fn forever(data: &str) -> Mutation {
    set(data, SetExpiry::Clear)
}

fn settings(server: &Postgres, table: &str) -> PostgresSettings {
    PostgresSettings::new(server.url(), table)
}

/// Gives up sooner than a sidecar does, so that tests of it end soon.
fn hasty(server: &Postgres, table: &str) -> PostgresSettings {
    PostgresSettings {
        connect_timeout: Duration::from_millis(700),
        statement_timeout: Duration::from_millis(700),
        ..settings(server, table)
    }
}

fn connect(settings: PostgresSettings) -> PostgresAdapter {
    PostgresAdapter::connect_lazy(settings).unwrap()
}

async fn got(adapter: &PostgresAdapter, name: &str) -> Option<Bytes> {
    adapter.get(&[key(name)]).await.unwrap().remove(0).map(|value| value.data)
}

/// Somebody else at the database.
async fn stranger(server: &Postgres) -> PgConnection {
    PgConnection::connect(&server.url()).await.unwrap()
}

async fn run(connection: &mut PgConnection, sql: &str) {
    connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
}

async fn number(connection: &mut PgConnection, sql: &str) -> i64 {
    connection.fetch_one(AssertSqlSafe(sql.to_owned())).await.unwrap().get(0)
}

fn is_unavailable<T>(result: &Result<T, StorageError>) -> bool {
    matches!(result, Err(StorageError::Unavailable { kind: "postgres", .. }))
}

mod table {
    use super::*;

    #[tokio::test]
    async fn many_may_create_it_at_once() {
        let server = Postgres::shared();
        for table in ["created", "some_schema.created"] {
            let tasks: Vec<_> = (0..8)
                .map(|at| {
                    let adapter = connect(settings(server, table));
                    tokio::spawn(async move {
                        adapter.apply(&key(&at.to_string()), forever("v")).await.unwrap();
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            assert_eq!(connect(settings(server, table)).count().await.unwrap(), 8);
        }
    }

    #[tokio::test]
    async fn it_is_made_again_when_it_was_dropped() {
        let server = Postgres::shared();
        let adapter = connect(settings(server, "dropped"));
        adapter.apply(&key("k"), forever("v")).await.unwrap();
        let mut stranger = stranger(server).await;
        run(&mut stranger, "DROP TABLE dropped").await;
        assert_eq!(got(&adapter, "k").await, None);
        run(&mut stranger, "DROP TABLE dropped").await;
        assert_eq!(adapter.apply(&key("n"), Mutation::Add(2)).await.unwrap().number, 2);
    }

    #[tokio::test]
    async fn expired_rows_are_purged_and_others_stay() {
        let server = Postgres::shared();
        let adapter = connect(PostgresSettings {
            purge_interval: Duration::from_millis(50),
            ..settings(server, "purged")
        });
        adapter.apply(&key("stays"), forever("v")).await.unwrap();
        let later = SetExpiry::At(unix_millis() + 600_000);
        adapter.apply(&key("later"), set("v", later)).await.unwrap();
        let mut stranger = stranger(server).await;
        run(
            &mut stranger,
            "INSERT INTO purged (key, value, expires_at) SELECT int4send(n), '', now() \
             FROM generate_series(1, 2500) AS n",
        )
        .await;
        assert_eq!(adapter.count().await.unwrap(), 2);
        let begun = Instant::now();
        while number(&mut stranger, "SELECT count(*) FROM purged").await > 2 {
            assert!(begun.elapsed() < LONG);
            sleep(Duration::from_millis(20)).await;
        }
        assert!(got(&adapter, "stays").await.is_some() && got(&adapter, "later").await.is_some());
        // It ends with the adapter.
        drop(adapter);
        run(&mut stranger, "INSERT INTO purged (key, value, expires_at) VALUES ('', '', now())")
            .await;
        sleep(Duration::from_millis(300)).await;
        assert_eq!(number(&mut stranger, "SELECT count(*) FROM purged").await, 3);
    }

    #[tokio::test]
    async fn nothing_is_connected_before_the_first_call() {
        let server = Postgres::start();
        let adapter = connect(settings(&server, "lazy"));
        sleep(Duration::from_millis(50)).await;
        let mut stranger = stranger(&server).await;
        let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'warp-sidecar'";
        assert_eq!(number(&mut stranger, count).await, 0);
        adapter.probe().await.unwrap();
        assert_eq!(number(&mut stranger, count).await, 1);
    }
}

mod versions {
    use super::*;

    async fn version(adapter: &PostgresAdapter, mutation: Mutation) -> u64 {
        match adapter.apply(&key("k"), mutation).await.unwrap().current {
            Current::Value(value) => value.version,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn every_write_grows_them_over_a_deletion_too() {
        let adapter = connect(settings(Postgres::shared(), "versions"));
        let mut versions = Vec::new();
        for round in 0..3 {
            versions.push(version(&adapter, forever("1")).await);
            versions.push(version(&adapter, Mutation::Add(1)).await);
            adapter.set_many(&[(key("k"), key("5"))]).await.unwrap();
            versions.push(adapter.get(&[key("k")]).await.unwrap()[0].as_ref().unwrap().version);
            versions.push(version(&adapter, Mutation::Append(key("0"))).await);
            if round == 1 {
                adapter.flush().await.unwrap();
            } else {
                adapter.delete(&[key("k")]).await.unwrap();
            }
        }
        assert!(versions.is_sorted_by(|one, next| one < next), "{versions:?}");
    }

    #[tokio::test]
    async fn of_concurrent_writes_the_last_has_the_highest() {
        let server = Postgres::shared();
        for round in 0..20 {
            let name = key(&round.to_string());
            let tasks: Vec<_> = (0..6)
                .map(|at| {
                    let name = name.clone();
                    let adapter = connect(settings(server, "concurrent"));
                    tokio::spawn(async move {
                        let data = at.to_string();
                        let mutation =
                            if at % 2 == 0 { forever(&data) } else { Mutation::Append(key(&data)) };
                        match adapter.apply(&name, mutation).await.unwrap().current {
                            Current::Value(value) => value,
                            other => panic!("{other:?}"),
                        }
                    })
                })
                .collect();
            let mut written = Vec::new();
            for task in tasks {
                written.push(task.await.unwrap());
            }
            written.sort_by_key(|value| value.version);
            assert!(written.is_sorted_by(|one, next| one.version < next.version));
            let adapter = connect(settings(server, "concurrent"));
            let last = adapter.get(&[name]).await.unwrap().remove(0);
            assert_eq!(last.as_ref(), written.last(), "round {round}");
        }
    }
}

mod faults {
    use super::*;

    #[tokio::test]
    async fn a_killed_server_is_unavailable_and_back_with_the_next_call() {
        let server = Postgres::start();
        let adapter = connect(settings(&server, "killed"));
        adapter.apply(&key("k"), forever("v")).await.unwrap();
        server.kill();
        let begun = Instant::now();
        assert!(is_unavailable(&adapter.get(&[key("k")]).await));
        assert!(is_unavailable(&adapter.apply(&key("k"), forever("w")).await));
        assert!(is_unavailable(&adapter.apply(&key("k"), Mutation::Add(1)).await));
        assert!(begun.elapsed() < Duration::from_secs(3), "refused at once");
        server.start_again();
        assert!(adapter.apply(&key("k"), Mutation::Append(key("w"))).await.unwrap().done);
        assert_eq!(got(&adapter, "k").await.unwrap(), "vw");
    }

    #[tokio::test]
    async fn ended_connections_are_replaced() {
        let server = Postgres::start();
        let adapter = Arc::new(connect(settings(&server, "ended")));
        adapter.apply(&key("k"), forever("v")).await.unwrap();
        let both = tokio::join!(got(&adapter, "k"), got(&adapter, "k"));
        assert!(both.0.is_some() && both.1.is_some());
        let mut stranger = stranger(&server).await;
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE application_name = 'warp-sidecar'";
        run(&mut stranger, end).await;
        // A read finds a dead connection at any time; a write after the moment in which a
        // connection is taken to be alive.
        assert!(got(&adapter, "k").await.is_some());
        run(&mut stranger, end).await;
        sleep(Duration::from_millis(150)).await;
        assert!(adapter.apply(&key("k"), forever("w")).await.unwrap().done);
    }

    #[tokio::test]
    async fn a_server_that_hangs_leaves_writes_open_and_reads_undone() {
        let server = Postgres::start();
        let adapter = connect(hasty(&server, "hangs"));
        adapter.apply(&key("k"), forever("v")).await.unwrap();
        let both = tokio::join!(adapter.probe(), adapter.probe());
        assert!(both.0.is_ok() && both.1.is_ok());
        let begun = Instant::now();
        server.pause();
        let (write, read) = (key("k"), [key("k")]);
        let (write, read) = tokio::join!(adapter.apply(&write, forever("w")), adapter.get(&read));
        // A slow machine may take the connections for old ones, and send nothing over them.
        let open = matches!(write, Err(StorageError::Unknown { kind: "postgres", .. }));
        assert!(open || is_unavailable(&write), "{write:?}");
        assert!(is_unavailable(&read), "{read:?}");
        assert!(is_unavailable(&adapter.apply(&key("k"), forever("x")).await));
        assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
        server.resume();
        let back = timeout(LONG, async {
            while adapter.probe().await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        });
        back.await.unwrap();
        assert_eq!(got(&adapter, "k").await.unwrap(), if open { "w" } else { "v" });
    }

    #[tokio::test]
    async fn a_row_that_somebody_else_holds_is_waited_for_a_bounded_time() {
        let server = Postgres::shared();
        let adapter = connect(hasty(server, "held"));
        adapter.set_many(&[(key("k"), key("v")), (key("free"), key("v"))]).await.unwrap();
        let mut stranger = stranger(server).await;
        let mut holding = stranger.begin().await.unwrap();
        run(&mut holding, "SELECT FROM held WHERE key = 'k' FOR UPDATE").await;
        let begun = Instant::now();
        for mutation in [forever("w"), Mutation::Append(key("w"))] {
            let refused = adapter.apply(&key("k"), mutation).await;
            // The server gave up itself, so it is known that nothing was done.
            assert!(is_unavailable(&refused), "{refused:?}");
        }
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!(got(&adapter, "k").await.unwrap(), "v");
        assert!(adapter.apply(&key("free"), forever("w")).await.unwrap().done);
        holding.rollback().await.unwrap();
        assert!(adapter.apply(&key("k"), forever("w")).await.unwrap().done);
    }

    #[tokio::test]
    async fn a_call_that_is_given_up_in_the_middle_holds_nobody_up() {
        let server = Postgres::shared();
        let adapter = connect(settings(server, "given_up"));
        adapter.apply(&key("k"), forever("0")).await.unwrap();
        for patience in 0..30 {
            let patience = Duration::from_micros(100 * patience);
            let _ = timeout(patience, adapter.apply(&key("k"), Mutation::Add(1))).await;
        }
        let done = timeout(LONG, adapter.apply(&key("k"), Mutation::Add(1))).await.unwrap();
        assert!(done.unwrap().number <= 31);
    }

    #[tokio::test]
    async fn a_standby_is_left_for_the_primary() {
        let server = Postgres::start();
        let adapter = connect(settings(&server, "standby"));
        adapter.apply(&key("k"), forever("v")).await.unwrap();
        let mut stranger = stranger(&server).await;
        run(&mut stranger, "ALTER SYSTEM SET default_transaction_read_only = on").await;
        run(&mut stranger, "SELECT pg_reload_conf()").await;
        let begun = Instant::now();
        while !is_unavailable(&adapter.apply(&key("k"), forever("w")).await) {
            assert!(begun.elapsed() < LONG);
            sleep(Duration::from_millis(20)).await;
        }
        assert!(got(&adapter, "k").await.is_some(), "reads go on");
    }

    #[tokio::test]
    async fn refusals_say_what_the_server_said() {
        let server = Postgres::shared();
        let owner = connect(settings(server, "guarded"));
        owner.apply(&key("k"), forever("v")).await.unwrap();
        let mut stranger = stranger(server).await;
        run(&mut stranger, "CREATE ROLE reader LOGIN; GRANT SELECT ON guarded TO reader").await;
        let url = server.url().replace("postgres@", "reader@");
        let reader = connect(PostgresSettings::new(url.clone(), "guarded"));
        assert_eq!(got(&reader, "k").await.unwrap(), "v");
        let refused = reader.apply(&key("k"), forever("w")).await.unwrap_err();
        assert_eq!(
            refused,
            StorageError::Refused(
                "ERR postgres: permission denied for table guarded (SQLSTATE 42501)".to_owned()
            )
        );
        assert_eq!(got(&reader, "k").await.unwrap(), "v", "the connection is still good");
        let elsewhere = connect(PostgresSettings::new(url, "forbidden.table"));
        let refused = elsewhere.probe().await.unwrap_err().to_string();
        assert!(refused.contains("permission denied for database"), "{refused}");
    }

    #[tokio::test]
    async fn tls_and_passwords_are_spoken() {
        let server = Postgres::shared();
        let mut stranger = stranger(server).await;
        run(&mut stranger, "CREATE ROLE app LOGIN SUPERUSER PASSWORD 'p@ss'").await;
        let ca = server.dir.join("ca.pem");
        let url = |password: &str, rest: &str| {
            format!("postgres://app:{password}@127.0.0.1:{}/postgres?{rest}", server.port)
        };
        let verified = format!("sslmode=verify-full&sslrootcert={}", ca.display());
        for rest in ["sslmode=require", &verified, "sslmode=disable"] {
            let adapter = connect(PostgresSettings::new(url("p%40ss", rest), "secured"));
            adapter.apply(&key("k"), forever("v")).await.unwrap();
        }
        for (password, rest) in [("wrong", "sslmode=disable"), ("p%40ss", "sslmode=verify-full")] {
            let adapter = connect(PostgresSettings::new(url(password, rest), "secured"));
            assert!(is_unavailable(&adapter.probe().await), "{password} {rest}");
        }
    }
}
