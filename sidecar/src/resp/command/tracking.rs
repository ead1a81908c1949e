//! CLIENT TRACKING: clients keep copies of what they read, and are told when those are old.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;

use super::arguments::{SYNTAX_ERROR, is};
use super::introspection::keys_of;
use super::{Call, Command, Outcome, find};
use crate::channels::{Mode, Muted, Options, Redirection, Tracker};
use crate::resp::number::parse_i64;
use crate::resp::reply::Reply;
use crate::resp::session::Session;

/// Runs a command of a client that tracks.
pub(super) fn run(command: &Command, call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let muted = note(command, call.session, call.arguments);
    let outcome = (command.run)(call);
    // CLIENT CACHING is for one command, or for one transaction.
    if !command.name.starts_with("client|") && command.name != "multi" {
        forget_caching(call.session);
    }
    Ok(match outcome? {
        Outcome::Write(work) if muted.is_some() => Outcome::Write(
            async move {
                let reply = work.await;
                drop(muted);
                reply
            }
            .boxed(),
        ),
        outcome => outcome,
    })
}

/// Notes what a command for the Redis behind Warp may read, before it is sent there.
pub(in crate::resp) fn note_relayed(session: &mut Session, arguments: &[&[u8]]) {
    match find(arguments[0]) {
        Some(entry) => drop(note(entry.command, session, arguments)),
        None => {
            if let Some(tracker) = &session.tracker {
                // Which arguments of a command are keys that Warp doesn't know is only known to
                // Redis. What is no key does no harm.
                tracker.reads(arguments[1..].iter().copied());
            }
        }
    }
    forget_caching(session);
}

fn forget_caching(session: &mut Session) {
    if let Some(tracker) = &mut session.tracker {
        tracker.caching = false;
    }
}

fn note(command: &Command, session: &Session, arguments: &[&[u8]]) -> Option<Muted> {
    let tracker = session.tracker.as_ref()?;
    let is_flagged = |flag| command.flags.contains(&flag);
    if is_flagged("readonly") {
        tracker.reads(keys_of(command, arguments));
    }
    is_flagged("write").then(|| tracker.writes(keys_of(command, arguments))).flatten()
}

/// CLIENT TRACKING.
pub(super) fn tracking(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let asked = Asked::parse(call)?;
    if is(call.arguments[2], "OFF") {
        call.session.tracker = None;
    } else if is(call.arguments[2], "ON") {
        let options = asked.beside(call.session.tracker.as_deref())?;
        match &mut call.session.tracker {
            Some(tracker) => tracker.change(options),
            none => {
                let tracking = Arc::clone(call.engine.tracking());
                let inbox = Arc::clone(&call.session.inbox);
                *none = Some(Box::new(Tracker::new(tracking, inbox, options)));
            }
        }
    } else {
        return Err(SYNTAX_ERROR);
    }
    call.session.publish_tracking();
    Ok(Outcome::Reply(Reply::OK))
}

/// The options that were given.
#[derive(Default)]
struct Asked {
    redirection: Option<Redirection>,
    prefixes: Vec<Bytes>,
    broadcast: bool,
    opt_in: bool,
    opt_out: bool,
    no_loop: bool,
}

impl Asked {
    fn parse(call: &Call<'_>) -> Result<Self, Reply> {
        let mut asked = Self::default();
        let mut rest = call.arguments[3..].iter();
        while let Some(option) = rest.next() {
            if is(option, "BCAST") {
                asked.broadcast = true;
            } else if is(option, "OPTIN") {
                asked.opt_in = true;
            } else if is(option, "OPTOUT") {
                asked.opt_out = true;
            } else if is(option, "NOLOOP") {
                asked.no_loop = true;
            } else if let (true, Some(to)) = (is(option, "REDIRECT"), rest.clone().next()) {
                rest.next();
                if asked.redirection.is_some() {
                    return Err(Reply::err("A client can only redirect to a single other client"));
                }
                asked.redirection = redirection(call, to)?;
            } else if let (true, Some(prefix)) = (is(option, "PREFIX"), rest.clone().next()) {
                rest.next();
                asked.prefixes.push(Bytes::copy_from_slice(prefix));
            } else {
                return Err(SYNTAX_ERROR);
            }
        }
        Ok(asked)
    }

    /// What it comes to for a client that tracks already as `before` says.
    fn beside(self, before: Option<&Tracker>) -> Result<Options, Reply> {
        let before = before.map(|tracker| &tracker.options().mode);
        let switched = |what: &str| {
            Reply::err(&format!(
                "You can't switch {what} before disabling tracking for this client, and then \
                 re-enabling it with a different mode."
            ))
        };
        if !self.broadcast && !self.prefixes.is_empty() {
            return Err(Reply::err("PREFIX option requires BCAST mode to be enabled"));
        }
        if before.is_some_and(|mode| matches!(mode, Mode::Broadcast(_)) != self.broadcast) {
            return Err(switched("BCAST mode on/off"));
        }
        if self.broadcast && (self.opt_in || self.opt_out) {
            return Err(Reply::err("OPTIN and OPTOUT are not compatible with BCAST"));
        }
        if self.opt_in && self.opt_out {
            return Err(Reply::err("You can't specify both OPTIN mode and OPTOUT mode"));
        }
        if (self.opt_in && before == Some(&Mode::OptOut))
            || (self.opt_out && before == Some(&Mode::OptIn))
        {
            return Err(switched("OPTIN/OPTOUT mode"));
        }
        let mode = if self.broadcast {
            let before = match before {
                Some(Mode::Broadcast(prefixes)) => prefixes.as_slice(),
                _ => &[],
            };
            Mode::Broadcast(together(before, self.prefixes)?)
        } else if self.opt_in {
            Mode::OptIn
        } else if self.opt_out {
            Mode::OptOut
        } else {
            Mode::Read
        };
        Ok(Options { mode, redirection: self.redirection, no_loop: self.no_loop })
    }
}

/// The client that is to be told; 0 is none.
fn redirection(call: &Call<'_>, to: &[u8]) -> Result<Option<Redirection>, Reply> {
    let to = parse_i64(to).ok_or_else(|| Reply::err("value is not an integer or out of range"))?;
    let inbox = u64::try_from(to)
        .ok()
        .and_then(|to| Some(Redirection { to, inbox: call.host.clients.get(to)?.inbox() }));
    inbox.map(Some).ok_or_else(|| Reply::err("The client ID you want redirect to does not exist"))
}

/// Prefixes that a client has, and those that come to them, none of which may begin with another.
fn together(before: &[Bytes], more: Vec<Bytes>) -> Result<Vec<Bytes>, Reply> {
    let overlap = |one: &Bytes, other: &Bytes| one.starts_with(other) || other.starts_with(one);
    let refused = |one: &Bytes, what: &str, other: &Bytes| {
        Err(Reply::err(&format!(
            "Prefix '{}' overlaps with {what} prefix '{}'. Prefixes for a single client must not \
             overlap.",
            String::from_utf8_lossy(one),
            String::from_utf8_lossy(other),
        )))
    };
    for (at, prefix) in more.iter().enumerate() {
        if let Some(other) = before.iter().find(|other| overlap(prefix, other)) {
            return refused(prefix, "an existing", other);
        }
        if let Some(other) = more[at + 1..].iter().find(|other| overlap(prefix, other)) {
            return refused(prefix, "another provided", other);
        }
    }
    let all: Vec<Bytes> = before.iter().cloned().chain(more).collect();
    Ok(if all.is_empty() { vec![Bytes::new()] } else { all })
}

/// CLIENT CACHING.
pub(super) fn caching(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let Some(tracker) = &mut call.session.tracker else {
        return Err(Reply::err(
            "CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or \
             OPTOUT mode enabled",
        ));
    };
    let (mode, words) = match call.arguments[2] {
        yes if is(yes, "YES") => {
            (Mode::OptIn, "YES is only valid when tracking is enabled in OPTIN")
        }
        no if is(no, "NO") => (Mode::OptOut, "NO is only valid when tracking is enabled in OPTOUT"),
        _ => return Err(SYNTAX_ERROR),
    };
    if tracker.options().mode != mode {
        return Err(Reply::err(&format!("CLIENT CACHING {words} mode.")));
    }
    tracker.caching = true;
    Ok(Outcome::Reply(Reply::OK))
}

/// Who is told in the client's place: 0 is nobody, -1 that it doesn't track.
fn redirected_to(session: &Session) -> i64 {
    session.tracker.as_ref().map_or(-1, |tracker| {
        let to = tracker.options().redirection.as_ref().map_or(0, |redirection| redirection.to);
        i64::try_from(to).unwrap_or(i64::MAX)
    })
}

/// CLIENT GETREDIR.
pub(super) fn getredir(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    Ok(Outcome::Reply(Reply::Integer(redirected_to(call.session))))
}

/// CLIENT TRACKINGINFO.
pub(super) fn trackinginfo(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let tracker = call.session.tracker.as_deref();
    let mut flags = vec![if tracker.is_some() { "on" } else { "off" }];
    let mut prefixes: &[Bytes] = &[];
    if let Some(tracker) = tracker {
        match &tracker.options().mode {
            Mode::Read => {}
            Mode::Broadcast(own) => {
                flags.push("bcast");
                prefixes = own;
            }
            Mode::OptIn => flags.push("optin"),
            Mode::OptOut => flags.push("optout"),
        }
        match tracker.options().mode {
            Mode::OptIn if tracker.caching => flags.push("caching-yes"),
            Mode::OptOut if tracker.caching => flags.push("caching-no"),
            _ => {}
        }
        if tracker.options().no_loop {
            flags.push("noloop");
        }
        if tracker.is_broken() {
            flags.push("broken_redirect");
        }
    }
    Ok(Outcome::Reply(Reply::Map(vec![
        (Reply::text("flags"), Reply::Set(flags.into_iter().map(Reply::text).collect())),
        (Reply::text("redirect"), Reply::Integer(redirected_to(call.session))),
        (
            Reply::text("prefixes"),
            Reply::Array(prefixes.iter().cloned().map(Reply::Bulk).collect()),
        ),
    ])))
}
