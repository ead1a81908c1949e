//! The Redis protocol in front of the cache, for any Redis client, in both its versions.
//!
//! Three rooms. *Without I/O*: [`request`] reads commands, [`reply`] writes replies, `transaction`
//! knows how far a client is in one. *Meaning*: [`command`] says what each command does to the
//! core, and what it answers; `connection` runs one client's commands in their order. *With I/O*:
//! `event_loop` reads and writes for all connections of a thread, [`Server`] starts the loops, and
//! `relay` and `subscription` are a client's own lines to a Redis behind Warp, which keeps
//! everything that Warp has no meaning for.

#[cfg(any(test, fuzzing))]
pub(crate) mod by_hand;
pub mod clients;
pub mod command;
mod connection;
mod decimal;
mod event_loop;
pub mod histogram;
pub mod host;
pub mod hyperloglog;
mod inline;
mod listener;
mod messages;
mod metrics;
pub mod monitor;
pub mod number;
pub mod queue;
mod redaction;
mod relay;
pub mod reply;
pub mod reply_parse;
pub mod request;
pub mod script;
mod server;
pub mod session;
mod settings;
pub mod slow_log;
mod subscription;
mod transaction;

pub use metrics::Metrics;
pub use server::Server;
pub use settings::Settings;
