//! WARP.EXPLAIN: what Warp knows of a key, for a person.
//!
//! A map of names and texts (in RESP2 a list of both by turns), read by `redis-cli` as it is. What it
//! says is found out by [`Engine::explain`](crate::core::Engine::explain); here it is put into
//! words.

use crate::cache::Millis;
use crate::core::explain::{Explanation, Held};
use crate::core::history::{Cause, Noted, Outcome as Came, Why};
use crate::preset::lifetime::Verdict;
use crate::resp::command::{Call, Command, ONE_KEY, Outcome};
use crate::resp::reply::Reply;

#[rustfmt::skip]
pub(in crate::resp::command) const FAMILY: &[Command] = &[
    Command::new("warp.explain", 2, &["readonly"], ONE_KEY, "0.1.0", "Shows which policy a key gets, what the cache holds of it, and why its reads are hits or not.", explain),
];

/// WARP.EXPLAIN key
fn explain(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let explanation = call.engine.explain(call.arguments[1]);
    let exists = call.view.on_keyspace(|keyspace| keyspace.contains(call.arguments[1]));
    let pairs = words(&explanation, exists);
    let reply = |text: &str| Reply::bulk(text.as_bytes());
    let pairs = pairs.into_iter().map(|(name, text)| (reply(&name), reply(&text)));
    Ok(Outcome::Reply(Reply::Map(pairs.collect())))
}

/// `exists` is whether the key is there where the storage is memory.
fn words(of: &Explanation, exists: Option<bool>) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut say = |name: &str, text: String| pairs.push((name.to_owned(), text));
    say("policy", of.class.clone());
    let matched = "none; the cluster's defaults hold";
    say("pattern", of.pattern.clone().unwrap_or_else(|| matched.to_owned()));
    say("preset", of.preset.unwrap_or("none").to_owned());
    for (field, text) in of.rules.fields() {
        say(&format!("rule.{field}"), text);
    }
    say("storage", of.storage.to_owned());
    if let Some(exists) = exists {
        let held = if exists { "the key" } else { "no such key" };
        say(
            "holds",
            format!(
                "{held}; the storage is memory, truth and copy in one, so that rules of copies don't apply"
            ),
        );
        return pairs;
    }
    held(of.held.as_ref(), &mut say);
    say("bus", of.bus.kind.to_owned());
    say("bus.epoch", of.bus.epoch.clone().unwrap_or_else(|| "not joined".to_owned()));
    say("bus.position", of.bus.position.to_string());
    let proof = of.bus.proof_age.map_or_else(|| "no proof yet".to_owned(), ago);
    let bound = of.bus.bound.map_or_else(
        || "hits need none".to_owned(),
        |bound| format!("hits need one of at most {bound} ms"),
    );
    say("bus.proof", format!("{proof}; {bound}"));
    say(
        "next-read",
        match of.why_not {
            None => "a hit".to_owned(),
            Some(why) => format!("goes to the storage: {}", reason(why)),
        },
    );
    say("last-miss", miss(of));
    say("last-invalidation", invalidation(of));
    say("this-sidecar", of.origin.to_string());
    pairs
}

fn held(held: Option<&Held>, say: &mut impl FnMut(&str, String)) {
    let Some(held) = held else {
        say("holds", "nothing".to_owned());
        return;
    };
    say(
        "holds",
        match held.bytes {
            Some(bytes) => format!("a value of {bytes} bytes"),
            None => "that there is no such key".to_owned(),
        },
    );
    if held.version > 0 {
        say("version", held.version.to_string());
    }
    say("age", format!("{} ms", held.age));
    if held.idle != held.age {
        say("last-use", ago(held.idle));
    }
    if let Some(left) = held.expires_in {
        say("expires", format!("in {left} ms, in the storage"));
    }
    let left = |until: Millis| until.saturating_sub(held.age);
    say(
        "state",
        match held.verdict {
            Verdict::Fresh => format!("fresh for {} ms", left(held.fresh_until)),
            Verdict::Due => {
                format!("fresh for {} ms; the next hit has it refreshed", left(held.fresh_until))
            }
            Verdict::Stale => format!(
                "stale; for {} ms it stands in for a storage that fails",
                left(held.stale_until)
            ),
            Verdict::Ended => "ended".to_owned(),
        },
    );
}

fn reason(why: Why) -> &'static str {
    match why {
        Why::NotHeld => "nothing is held",
        Why::Unproven => "the bus's last proof is older than maxStaleness",
        Why::Ended => "the copy's time has passed",
        Why::Expired => "the value has expired in the storage",
    }
}

fn miss(of: &Explanation) -> String {
    let Some(Noted { what: (why, came), at }) = of.notes.miss else {
        return "none is remembered".to_owned();
    };
    let came = match came {
        Came::Loaded => "the storage was asked",
        Came::Coalesced => "another read's answer was shared",
        Came::Absent => "the storage has no such key",
        Came::Stale => "an older copy stood in for the storage",
        Came::Failed => "the read failed",
    };
    let when = ago(of.now.saturating_sub(at));
    format!("{when}: {}; {came}. Every read since was a hit", reason(why))
}

fn invalidation(of: &Explanation) -> String {
    let Some(Noted { what, at }) = of.notes.forgotten else {
        return "none is remembered".to_owned();
    };
    let by = match what {
        Cause::OwnWrite => "a write of this pod".to_owned(),
        Cause::Peer(origin, position) => {
            format!("a write of sidecar {origin}, position {position}")
        }
        Cause::Storage => "the storage, which another program wrote or may have written".to_owned(),
        Cause::Joined => "the joining of the bus, which forgot everything".to_owned(),
        Cause::Reset => "the bus, which lost invalidations; everything was forgotten".to_owned(),
        Cause::Configuration => "a changed configuration, which forgot everything".to_owned(),
        Cause::Lease => "the end of the lease that it was attached to".to_owned(),
    };
    format!("{}: {by}", ago(of.now.saturating_sub(at)))
}

fn ago(millis: Millis) -> String {
    format!("{millis} ms ago")
}
