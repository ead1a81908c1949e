//! A PgBouncer in transaction mode in front of a PostgreSQL: each transaction may meet another
//! server process than the one before it.

use std::fs;
use std::ops::Deref;

use super::postgres::Postgres;
use super::{Server, find, unprivileged};

#[derive(Debug)]
pub struct PgBouncer(Server);

impl PgBouncer {
    /// Runs one.
    pub fn start(postgres: &Postgres) -> Self {
        let program = find("pgbouncer", &["/usr/sbin"]);
        let bouncer = Self(Server::prepare(&program, unprivileged(), |dir, port| {
            let config = dir.join("pgbouncer.ini");
            let text = format!(
                "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
                 listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
                 default_pool_size = 4\nserver_round_robin = 1\n",
                postgres.port
            );
            // `any` logs everybody in as the user of the database's line.
            let text = text.replace("* = host", "postgres = user=postgres host");
            fs::write(&config, text).unwrap();
            vec![config.to_str().unwrap().to_owned()]
        }));
        bouncer.start_until(|server| server.connect().is_some());
        bouncer
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }
}

impl Deref for PgBouncer {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}
