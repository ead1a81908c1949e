//! A few connections, and what can be said when one fails: whether the statement was sent.
//!
//! sqlx's own pool asks the server whether a connection is alive each time it is given back, so
//! that with two of them half the round trips are questions; and it hides whether a failure came
//! before the statement or after. This one asks only after a pause, and drops what failed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{timeout, timeout_at};

/// A connection that was used more recently is taken to be alive. Shorter than a server's restart.
const SURELY_ALIVE: Duration = Duration::from_millis(100);

/// A pool of connections, opened when they are needed.
#[derive(Debug)]
pub(super) struct Pool {
    options: PgConnectOptions,
    connect_timeout: Duration,
    answer_timeout: Duration,
    idle: Mutex<Vec<Idle>>,
    permits: Arc<Semaphore>,
}

#[derive(Debug)]
struct Idle {
    connection: PgConnection,
    since: Instant,
}

/// One connection on loan. It goes back by [`Lease::give_back`]; dropped, it is closed, so that a
/// call that is given up leaves no half-read answer behind.
#[derive(Debug)]
pub(super) struct Lease {
    pool: Arc<Pool>,
    connection: PgConnection,
    _permit: OwnedSemaphorePermit,
}

/// Why a statement has no result.
#[derive(Debug)]
pub(super) enum Failure {
    /// No connection was to be had: it wasn't sent.
    NotSent(String),
    /// The connection broke after it was sent.
    Lost(String),
    /// The answer took too long.
    Late(String),
    /// The server said no.
    Server {
        /// SQLSTATE.
        code: String,
        /// The server's words.
        message: String,
    },
}

impl Pool {
    pub(super) fn new(
        options: PgConnectOptions,
        connections: u32,
        connect_timeout: Duration,
        answer_timeout: Duration,
    ) -> Self {
        Self {
            // Statements hold the users' values: they belong in no log.
            options: options.disable_statement_logging(),
            connect_timeout,
            answer_timeout,
            idle: Mutex::default(),
            permits: Arc::new(Semaphore::new(connections.max(1) as usize)),
        }
    }

    /// A live connection, when one is free before `deadline`.
    pub(super) async fn lease(self: &Arc<Self>, deadline: Instant) -> Result<Lease, Failure> {
        let permit = timeout_at(deadline.into(), Arc::clone(&self.permits).acquire_owned())
            .await
            .map_err(|_| Failure::NotSent("all connections are busy".to_owned()))?
            .map_err(|closed| Failure::NotSent(closed.to_string()))?;
        let connection = match self.idle_connection().await {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        Ok(Lease { pool: Arc::clone(self), connection, _permit: permit })
    }

    /// The most recently used one that is alive; the others are as old and die with it.
    async fn idle_connection(&self) -> Option<PgConnection> {
        loop {
            let Idle { mut connection, since } = self.idle.lock().pop()?;
            if since.elapsed() < SURELY_ALIVE {
                return Some(connection);
            }
            // A server that is there answers at once; a connection that is cut is given up soon.
            let alive = timeout(self.connect_timeout, connection.ping()).await;
            if matches!(alive, Ok(Ok(()))) {
                return Some(connection);
            }
            self.idle.lock().clear();
        }
    }

    async fn connect(&self) -> Result<PgConnection, Failure> {
        match timeout(self.connect_timeout, self.options.connect()).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(Failure::NotSent(error.to_string())),
            Err(_) => Err(Failure::NotSent(format!(
                "no connection within {:.1} s",
                self.connect_timeout.as_secs_f32()
            ))),
        }
    }

    /// Closes what nobody has used for `age`.
    pub(super) fn close_idle(&self, age: Duration) {
        self.idle.lock().retain(|idle| idle.since.elapsed() < age);
    }
}

impl Lease {
    /// The rows of the statements in `sql`.
    pub(super) async fn rows(&mut self, sql: String) -> Result<Vec<PgRow>, Failure> {
        let query = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut self.connection);
        match timeout(self.pool.answer_timeout, query).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(sqlx::Error::Database(error))) => {
                let code = error.code().unwrap_or_default().into_owned();
                let message = error.message().to_owned();
                Err(if ends_connection(&code) {
                    Failure::Lost(message)
                } else {
                    Failure::Server { code, message }
                })
            }
            Ok(Err(error)) => Err(Failure::Lost(error.to_string())),
            Err(_) => Err(Failure::Late(format!(
                "no answer within {:.1} s",
                self.pool.answer_timeout.as_secs_f32()
            ))),
        }
    }

    /// Ends the open transaction with nothing done, and gives the connection back.
    pub(super) async fn roll_back(mut self) {
        if self.rows("ROLLBACK".to_owned()).await.is_ok() {
            self.give_back();
        }
    }

    /// Gives the connection back, whose last statement ended well and left no transaction open.
    pub(super) fn give_back(self) {
        let since = Instant::now();
        self.pool.idle.lock().push(Idle { connection: self.connection, since });
    }
}

/// Whether an SQLSTATE is the server's farewell, perhaps from before the statement came: shut down,
/// terminated, idle for too long (57P.., 25P0.), or a protocol or connection failure (08...).
fn ends_connection(code: &str) -> bool {
    code.starts_with("57P") || code.starts_with("08") || matches!(code, "25P03" | "25P04")
}
