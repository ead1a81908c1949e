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
    Change, Current, Key, Mutation, PostgresAdapter, PostgresSettings, SetCondition, SetExpiry,
    Storage, StorageError, unix_millis,
};

use servers::pgbouncer::PgBouncer;
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

mod fence {
    use super::*;

    async fn fence(
        connection: &mut PgConnection,
        function: &str,
        lock: &str,
        epoch: i64,
        sequence: i64,
    ) -> Result<(), String> {
        let call = format!("SELECT {function}('{lock}', {epoch}, {sequence})");
        match connection.execute(AssertSqlSafe(call)).await {
            Ok(_) => Ok(()),
            Err(sqlx::Error::Database(error)) => {
                assert_eq!(error.code().as_deref(), Some("WF001"), "{error}");
                Err(error.message().to_owned())
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[tokio::test]
    async fn an_older_token_is_refused_and_those_of_other_locks_are_nothing_to_it() {
        let server = Postgres::shared();
        for (table, function) in
            [("fenced", "warp_fence"), ("some_schema.fenced", "some_schema.warp_fence")]
        {
            connect(settings(server, table)).apply(&key("k"), forever("v")).await.unwrap();
            let mut writer = stranger(server).await;
            let lock = table;
            for (epoch, sequence, passes) in [
                (1, 5, true),
                (1, 5, true),
                (1, 4, false),
                (1, 9, true),
                (2, 1, true),
                (1, 10, false),
                (2, 1, true),
            ] {
                let fenced = fence(&mut writer, function, lock, epoch, sequence).await;
                assert_eq!(fenced.is_ok(), passes, "{epoch} {sequence}: {fenced:?}");
            }
            let refused = fence(&mut writer, function, lock, 1, 10).await.unwrap_err();
            assert!(refused.contains("token 1 10 is older than 2 1"), "{refused}");
            fence(&mut writer, function, "another", 1, 1).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_later_holder_waits_for_what_an_older_one_is_doing_and_then_nothing_of_his_passes() {
        let server = Postgres::shared();
        connect(settings(server, "waited")).apply(&key("k"), forever("v")).await.unwrap();
        let (mut older, mut later) = (stranger(server).await, stranger(server).await);
        run(&mut older, "CREATE TABLE account (balance int); INSERT INTO account VALUES (0)").await;
        run(&mut older, "BEGIN").await;
        fence(&mut older, "warp_fence", "account", 1, 7).await.unwrap();
        run(&mut older, "UPDATE account SET balance = 7").await;
        let waiting = tokio::spawn(async move {
            run(&mut later, "BEGIN").await;
            fence(&mut later, "warp_fence", "account", 1, 8).await.unwrap();
            run(&mut later, "UPDATE account SET balance = balance * 10 + 8; COMMIT").await;
        });
        sleep(Duration::from_millis(200)).await;
        assert!(!waiting.is_finished(), "it went on beside the older one");
        run(&mut older, "COMMIT").await;
        timeout(LONG, waiting).await.unwrap().unwrap();
        run(&mut older, "BEGIN").await;
        assert!(fence(&mut older, "warp_fence", "account", 1, 7).await.is_err());
        run(&mut older, "ROLLBACK").await;
        assert_eq!(number(&mut older, "SELECT balance::bigint FROM account").await, 78);
    }

    #[tokio::test]
    async fn many_may_create_it_at_once() {
        let server = Postgres::shared();
        let tasks: Vec<_> = (0..8)
            .map(|at| {
                let adapter = connect(settings(server, &format!("crowd.t{at}")));
                tokio::spawn(async move { adapter.count().await })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), Ok(0));
        }
        let mut writer = stranger(server).await;
        fence(&mut writer, "crowd.warp_fence", "l", 1, 1).await.unwrap();
    }

    #[tokio::test]
    async fn who_may_not_create_it_has_his_keys_all_the_same() {
        let server = Postgres::shared();
        let mut stranger = stranger(server).await;
        run(
            &mut stranger,
            "CREATE SCHEMA narrow; CREATE ROLE narrow LOGIN; \
             GRANT USAGE ON SCHEMA narrow TO narrow; CREATE TABLE narrow.kept (\
             key bytea PRIMARY KEY, value bytea NOT NULL, \
             version bigint GENERATED ALWAYS AS IDENTITY, expires_at timestamptz, \
             id bigint GENERATED ALWAYS AS IDENTITY UNIQUE); \
             GRANT ALL ON narrow.kept TO narrow",
        )
        .await;
        let url = server.url().replace("postgres@", "narrow@");
        assert!(url.contains("narrow@"), "{url}");
        let adapter = connect(PostgresSettings::new(url, "narrow.kept"));
        adapter.apply(&key("k"), forever("v")).await.unwrap();
        assert_eq!(got(&adapter, "k").await.unwrap(), "v");
    }
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

mod transactions {
    use super::*;

    fn put(name: &str, data: &str) -> (Key, Change) {
        (key(name), Change::Put { data: key(data), expires_at: None })
    }

    fn remove(name: &str) -> (Key, Change) {
        (key(name), Change::Remove)
    }

    fn keys(names: &[&str]) -> Vec<Key> {
        names.iter().map(|name| key(name)).collect()
    }

    /// Waits for others as long as a busy machine takes.
    fn patient(url: String, table: &str) -> PostgresSettings {
        PostgresSettings {
            max_connections: 4,
            statement_timeout: LONG,
            ..PostgresSettings::new(url, table)
        }
    }

    async fn add_one(adapter: &PostgresAdapter, name: &str) {
        let transaction = adapter.begin(keys(&[name])).await.unwrap();
        let before = transaction.values()[0]
            .1
            .as_ref()
            .map_or("0", |value| std::str::from_utf8(&value.data).unwrap());
        let sum = before.parse::<u64>().unwrap() + 1;
        transaction.commit(vec![put(name, &sum.to_string())]).await.unwrap();
    }

    async fn rows(server: &Postgres, table: &str) -> i64 {
        number(&mut stranger(server).await, &format!("SELECT count(*) FROM {table}")).await
    }

    #[tokio::test]
    async fn what_is_committed_is_done_together_and_only_that() {
        let server = Postgres::shared();
        let adapter = connect(settings(server, "together"));
        let pairs = ["a", "b", "c"].map(|name| (key(name), key("old")));
        adapter.set_many(&pairs).await.unwrap();
        let transaction = adapter.begin(keys(&["d", "c", "b", "a", "b"])).await.unwrap();
        let read = |(name, value): &(Key, Option<_>)| (name.clone(), value.is_some());
        let values: Vec<_> = transaction.values().iter().map(read).collect();
        let expected = [("a", true), ("b", true), ("c", true), ("d", false)];
        assert_eq!(values, expected.map(|(name, there)| (key(name), there)));
        assert_eq!(got(&adapter, "d").await, None);
        let later = unix_millis() + 600_000;
        let lasting = Change::Put { data: key("new"), expires_at: Some(later) };
        let changes = vec![put("d", "new"), remove("b"), (key("a"), lasting)];
        transaction.commit(changes).await.unwrap();
        let all = adapter.get(&keys(&["a", "b", "c", "d"])).await.unwrap();
        let data = |value: &Option<_>| {
            value.as_ref().map(|value: &warp_sidecar::adapter::Value| value.data.clone())
        };
        let found: Vec<_> = all.iter().map(data).collect();
        assert_eq!(found, [Some(key("new")), None, Some(key("old")), Some(key("new"))]);
        let expires_at = all[0].as_ref().unwrap().expires_at.unwrap();
        assert!(expires_at.abs_diff(later) < 10_000, "{expires_at} {later}");
        assert_eq!(all[3].as_ref().unwrap().expires_at, None);
    }

    #[tokio::test]
    async fn what_the_server_refuses_in_part_is_not_done_at_all() {
        let server = Postgres::shared();
        let adapter = connect(settings(server, "refused"));
        adapter.set_many(&[(key("a"), key("old")), (key("b"), key("old"))]).await.unwrap();
        let mut stranger = stranger(server).await;
        run(&mut stranger, "ALTER TABLE refused ADD CHECK (value <> 'bad')").await;
        run(
            &mut stranger,
            "CREATE FUNCTION stay() RETURNS trigger LANGUAGE plpgsql AS \
             $$BEGIN RAISE EXCEPTION 'it stays'; END$$; \
             CREATE TRIGGER stays BEFORE DELETE ON refused FOR EACH ROW EXECUTE FUNCTION stay()",
        )
        .await;
        for changes in [vec![put("a", "new"), put("b", "bad")], vec![put("a", "new"), remove("b")]]
        {
            let transaction = adapter.begin(keys(&["a", "b"])).await.unwrap();
            let refused = transaction.commit(changes).await;
            assert!(matches!(refused, Err(StorageError::Refused(_))), "{refused:?}");
            assert_eq!(got(&adapter, "a").await.unwrap(), "old");
        }
    }

    #[tokio::test]
    async fn placeholders_are_gone_however_it_ends() {
        let server = Postgres::shared();
        let adapter = connect(settings(server, "placeholders"));
        for ending in 0..3 {
            let transaction = adapter.begin(keys(&["x", "y"])).await.unwrap();
            assert_eq!(adapter.count().await.unwrap(), 0);
            match ending {
                0 => transaction.rollback().await,
                1 => drop(transaction),
                _ => transaction.commit(vec![put("x", "v")]).await.unwrap(),
            }
        }
        assert_eq!(rows(server, "placeholders").await, 1);
        let transaction = adapter.begin(keys(&["x", "y"])).await.unwrap();
        transaction.commit(vec![remove("x"), (key("y"), Change::Nothing)]).await.unwrap();
        assert_eq!(rows(server, "placeholders").await, 0);
    }

    #[tokio::test]
    async fn a_row_that_has_expired_is_an_absent_key() {
        let server = Postgres::shared();
        let adapter = connect(settings(server, "expired"));
        adapter.apply(&key("k"), forever("old")).await.unwrap();
        run(&mut stranger(server).await, "UPDATE expired SET expires_at = now()").await;
        assert_eq!(adapter.versions(&keys(&["k"])).await.unwrap(), [0]);
        let transaction = adapter.begin(keys(&["k"])).await.unwrap();
        assert_eq!(transaction.values(), [(key("k"), None)]);
        transaction.commit(vec![put("k", "new")]).await.unwrap();
        assert_eq!(got(&adapter, "k").await.unwrap(), "new");
    }

    #[tokio::test]
    async fn writers_of_its_keys_wait_for_its_end() {
        let server = Postgres::shared();
        let adapter = Arc::new(connect(patient(server.url(), "waited_for")));
        for (at, there) in [false, true].into_iter().enumerate() {
            for (round, commits) in [false, true].into_iter().enumerate() {
                for (kind, mutation) in [
                    ("add", Mutation::Add(1)),
                    ("set", forever("5")),
                    ("append", Mutation::Append(key("5"))),
                ] {
                    let name = key(&format!("{kind} {at} {round}"));
                    if there {
                        adapter.apply(&name, forever("3")).await.unwrap();
                    }
                    let transaction = adapter.begin(vec![name.clone()]).await.unwrap();
                    let (writer, written) = (Arc::clone(&adapter), name.clone());
                    let writing =
                        tokio::spawn(async move { writer.apply(&written, mutation).await });
                    sleep(Duration::from_millis(30)).await;
                    assert!(!writing.is_finished(), "{name:?}");
                    let before = match (there, commits) {
                        (_, true) => "7",
                        (true, false) => "3",
                        (false, false) => "",
                    };
                    if commits {
                        let data = Change::Put { data: key("7"), expires_at: None };
                        transaction.commit(vec![(name.clone(), data)]).await.unwrap();
                    } else {
                        drop(transaction);
                    }
                    assert!(timeout(LONG, writing).await.unwrap().unwrap().unwrap().done);
                    let after = match kind {
                        "add" => (before.parse().unwrap_or(0) + 1).to_string(),
                        "set" => "5".to_owned(),
                        _ => format!("{before}5"),
                    };
                    let name = std::str::from_utf8(&name).unwrap();
                    assert_eq!(got(&adapter, name).await.unwrap(), after, "{name}");
                }
            }
        }
    }

    #[tokio::test]
    async fn a_deletion_comes_before_it_or_after_it() {
        let server = Postgres::shared();
        let adapter = Arc::new(connect(patient(server.url(), "deleted")));
        adapter.apply(&key("k"), forever("v")).await.unwrap();
        let transaction = adapter.begin(keys(&["absent", "k"])).await.unwrap();
        assert_eq!(adapter.delete(&keys(&["absent"])).await.unwrap(), 0, "before it");
        let other = Arc::clone(&adapter);
        let deleting = tokio::spawn(async move { other.delete(&keys(&["k"])).await });
        sleep(Duration::from_millis(50)).await;
        assert!(!deleting.is_finished());
        transaction.commit(vec![put("absent", "w"), put("k", "w")]).await.unwrap();
        assert_eq!(timeout(LONG, deleting).await.unwrap().unwrap().unwrap(), 1);
        assert_eq!(got(&adapter, "k").await, None);
        assert_eq!(got(&adapter, "absent").await.unwrap(), "w");
    }

    /// Half of the tasks by transactions, half by the statement of a single key.
    async fn count_to_200(adapter: PostgresAdapter) {
        let adapter = Arc::new(adapter);
        let tasks: Vec<_> = (0..8)
            .map(|task| {
                let adapter = Arc::clone(&adapter);
                tokio::spawn(async move {
                    for _ in 0..25 {
                        if task % 2 == 0 {
                            add_one(&adapter, "counter").await;
                        } else {
                            adapter.apply(&key("counter"), Mutation::Add(1)).await.unwrap();
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(got(&adapter, "counter").await.unwrap(), "200");
    }

    #[tokio::test]
    async fn a_counter_loses_nothing() {
        count_to_200(connect(patient(Postgres::shared().url(), "counted"))).await;
    }

    #[tokio::test]
    async fn a_counter_loses_nothing_behind_a_pgbouncer() {
        let bouncer = PgBouncer::start(Postgres::shared());
        count_to_200(connect(patient(bouncer.url(), "counted_behind"))).await;
    }

    #[tokio::test]
    async fn crossing_keys_are_never_waited_for_in_a_circle() {
        let server = Postgres::start();
        let adapter =
            connect(PostgresSettings { max_connections: 6, ..patient(server.url(), "crossing") });
        let adapter = Arc::new(adapter);
        let tasks: Vec<_> = (0..6)
            .map(|task| {
                let adapter = Arc::clone(&adapter);
                tokio::spawn(async move {
                    let mut names = ["a", "b", "c", "d"];
                    for round in 0..40 {
                        names.rotate_left(1 + task % 3);
                        if round % 2 == 0 {
                            names.reverse();
                        }
                        let names = &names[..3];
                        let pairs: Vec<_> =
                            names.iter().map(|name| (key(name), key("v"))).collect();
                        match task {
                            0 => adapter.set_many(&pairs).await.unwrap(),
                            1 => drop(adapter.delete(&keys(names)).await.unwrap()),
                            _ => {
                                let transaction = adapter.begin(keys(names)).await.unwrap();
                                let changes = vec![put(names[0], "w"), remove(names[1])];
                                transaction.commit(changes).await.unwrap();
                            }
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let log = server.log();
        assert!(!log.contains("deadlock detected"), "{log}");
    }

    #[tokio::test]
    async fn dropped_it_holds_nobody_up_and_has_done_nothing() {
        let server = Postgres::shared();
        let adapter = connect(settings(server, "dropped_in_the_middle"));
        adapter.apply(&key("k"), forever("1")).await.unwrap();
        for patience in 0..20 {
            let begun =
                timeout(Duration::from_micros(150 * patience), adapter.begin(keys(&["k", "l"])));
            drop(begun.await);
        }
        let done = timeout(LONG, adapter.apply(&key("k"), Mutation::Add(1))).await.unwrap();
        assert_eq!(done.unwrap().number, 2);
        assert_eq!(adapter.count().await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_silent_holder_loses_it() {
        let server = Postgres::shared();
        let (hasty, patient) =
            (connect(hasty(server, "silent")), connect(patient(server.url(), "silent")));
        hasty.apply(&key("k"), forever("1")).await.unwrap();
        let transaction = hasty.begin(keys(&["k"])).await.unwrap();
        assert_eq!(patient.apply(&key("k"), Mutation::Add(1)).await.unwrap().number, 2);
        let late = transaction.commit(vec![put("k", "late")]).await;
        assert!(is_unavailable(&late), "{late:?}");
        assert_eq!(got(&hasty, "k").await.unwrap(), "2");
    }

    #[tokio::test]
    async fn one_that_cannot_have_its_keys_is_unavailable_in_bounded_time() {
        let server = Postgres::shared();
        let (hasty, patient) =
            (connect(hasty(server, "taken")), connect(patient(server.url(), "taken")));
        let transaction = patient.begin(keys(&["a", "b"])).await.unwrap();
        let begun = Instant::now();
        assert!(is_unavailable(&hasty.begin(keys(&["b", "c"])).await));
        assert!(begun.elapsed() < Duration::from_secs(10));
        transaction.commit(vec![put("a", "v")]).await.unwrap();
        hasty.begin(keys(&["b", "c"])).await.unwrap().rollback().await;
    }

    #[tokio::test]
    async fn its_versions_are_those_of_the_table() {
        let adapter = connect(settings(Postgres::shared(), "watched"));
        let both = keys(&["k", "absent"]);
        assert_eq!(adapter.versions(&both).await.unwrap(), [0, 0]);
        let mut last = 0;
        for round in 0..4 {
            let transaction = adapter.begin(both.clone()).await.unwrap();
            let read = transaction.values()[1].1.as_ref().map_or(0, |value| value.version);
            assert_eq!(read, if round == 2 { 0 } else { last });
            transaction.commit(vec![put("k", "v")]).await.unwrap();
            let versions = adapter.versions(&both).await.unwrap();
            assert!(versions[0] > last && versions[1] == 0, "{versions:?} after {last}");
            last = versions[0];
            if round == 1 {
                adapter.delete(&both).await.unwrap();
                assert_eq!(adapter.versions(&both).await.unwrap(), [0, 0]);
            }
        }
    }

    #[tokio::test]
    async fn a_server_killed_in_the_middle_leaves_nothing_half_done() {
        let server = Postgres::start();
        let adapter = connect(settings(&server, "killed_in_the_middle"));
        adapter.set_many(&[(key("a"), key("0")), (key("b"), key("0"))]).await.unwrap();
        let mut stored = "0".to_owned();
        for round in 1..5 {
            let new = round.to_string();
            let transaction = adapter.begin(keys(&["a", "b", "c"])).await.unwrap();
            let changes = vec![put("a", &new), put("b", &new)];
            let ended = if round == 1 {
                server.kill();
                transaction.commit(changes).await
            } else {
                let committing = tokio::spawn(transaction.commit(changes));
                sleep(Duration::from_micros(200 * (round - 2))).await;
                server.kill();
                committing.await.unwrap()
            };
            assert!(!matches!(ended, Err(StorageError::Refused(_))), "{ended:?}");
            if ended.is_err() {
                assert!(is_unavailable(&adapter.begin(keys(&["a"])).await));
            }
            server.start_again();
            let both = adapter.get(&keys(&["a", "b", "c"])).await.unwrap();
            let data = |at: usize| both[at].as_ref().map(|value| value.data.clone());
            assert_eq!(data(0), data(1), "round {round}");
            assert_eq!(data(2), None);
            let now = String::from_utf8(data(0).unwrap().to_vec()).unwrap();
            match ended {
                Ok(()) => assert_eq!(now, new),
                Err(StorageError::Unknown { .. }) => assert!(now == new || now == stored),
                Err(_) => assert_eq!(now, stored),
            }
            stored = now;
        }
    }

    #[tokio::test]
    async fn a_commit_without_an_answer_is_unknown_in_bounded_time() {
        let server = Postgres::start();
        let adapter = connect(hasty(&server, "unanswered"));
        let transaction = adapter.begin(keys(&["k"])).await.unwrap();
        server.pause();
        let begun = Instant::now();
        let unknown = transaction.commit(vec![put("k", "v")]).await;
        assert!(
            matches!(unknown, Err(StorageError::Unknown { kind: "postgres", .. })),
            "{unknown:?}"
        );
        assert!(is_unavailable(&adapter.begin(keys(&["k"])).await));
        assert!(begun.elapsed() < Duration::from_secs(12));
        server.resume();
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
        // The server has what was sent before the pause, and may come to it after a later read.
        let expected = if open { "w" } else { "v" };
        let settled = timeout(LONG, async {
            while got(&adapter, "k").await.unwrap() != expected {
                sleep(Duration::from_millis(20)).await;
            }
        });
        settled.await.unwrap();
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
