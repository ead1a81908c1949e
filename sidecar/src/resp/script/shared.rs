//! What the functions of one interpreter share while a script runs: its bounds, its random numbers,
//! its protocol, and why it ended.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mlua::Table;

use super::fault::{self, Raised};
use super::libraries::cjson;
use super::random::Random;
use super::{Limits, Script};
use crate::resp::reply::Protocol;

/// Why a script was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It ran for longer than this.
    Late(Duration),
    /// Somebody asked for it.
    Killed,
}

/// What a script failed with, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// With its prefix.
    pub words: String,
    /// The source and the line.
    pub origin: Option<(String, i64)>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Shared {
    /// Set from outside to end the script.
    pub kill: Arc<AtomicBool>,
    pub failure: RefCell<Option<Failure>>,
    /// The globals of the script, for `loadstring`.
    pub environment: RefCell<Option<Table>>,
    pub random: Cell<Random>,
    pub protocol: Cell<Protocol>,
    pub json: Cell<cjson::Config>,
    limits: Cell<Limits>,
    started: Cell<Instant>,
    end: Cell<Option<End>>,
    steps: Cell<u32>,
}

impl Shared {
    pub(super) fn new(kill: Arc<AtomicBool>) -> Self {
        Self {
            kill,
            failure: RefCell::default(),
            environment: RefCell::default(),
            random: Cell::default(),
            protocol: Cell::default(),
            json: Cell::default(),
            limits: Cell::default(),
            started: Cell::new(Instant::now()),
            end: Cell::default(),
            steps: Cell::default(),
        }
    }

    /// Forgets everything about the last script.
    pub(super) fn begin(&self, limits: Limits) {
        self.kill.store(false, Ordering::Relaxed);
        self.failure.take();
        self.environment.take();
        self.random.take();
        self.protocol.take();
        self.json.take();
        self.limits.set(limits);
        self.started.set(Instant::now());
        self.end.take();
    }

    /// Why the script was ended, if it was.
    pub(super) fn end(&self) -> Option<End> {
        self.end.get()
    }

    /// Fails when the script's time is over; *and from then on it always fails*, so that no script
    /// goes on by catching it.
    pub(super) fn check_time(&self) -> mlua::Result<()> {
        if self.end.get().is_none() {
            let time = self.limits.get().time;
            if self.kill.load(Ordering::Relaxed) {
                self.end.set(Some(End::Killed));
            } else if self.started.get().elapsed() >= time {
                self.end.set(Some(End::Late(time)));
            }
        }
        if self.end.get().is_some() { Err(Raised::Over.into()) } else { Ok(()) }
    }

    /// Counts a step of a loop in Rust, which Lua's hook doesn't see. `bytes` is what the loop has
    /// allocated outside of Lua.
    pub(super) fn step(&self, bytes: usize) -> mlua::Result<()> {
        if bytes > self.limits.get().memory {
            return Err(fault::memory());
        }
        let steps = self.steps.get().wrapping_add(1);
        self.steps.set(steps);
        if steps.is_multiple_of(1024) { self.check_time() } else { Ok(()) }
    }

    /// The words for how a script ended, as Redis words `SCRIPT KILL`.
    pub(super) fn farewell(end: End) -> String {
        match end {
            End::Killed => "ERR Script killed by user with SCRIPT KILL...".to_owned(),
            End::Late(time) => {
                format!("ERR Script killed by timeout after {} milliseconds...", time.as_millis())
            }
        }
    }
}

impl Failure {
    /// The reply's words: ` script: SHA, on @user_script:1.` follows when the place is known.
    pub(super) fn reply(&self, script: &Script) -> String {
        match &self.origin {
            Some((source, line)) => {
                format!("{} script: {}, on {source}:{line}.", self.words, script.sha)
            }
            None => self.words.clone(),
        }
    }
}
