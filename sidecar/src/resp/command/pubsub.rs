//! Channels: who is subscribed, and what is published. Over a Redis all of it is the Redis' own.

use bytes::Bytes;

use super::client::{help_text, needs_subcommand};
use super::{ALL_KEYS, Call, Command, NO_KEYS, ONE_KEY, Outcome, kept};
use crate::channels::Kind;
use crate::resp::reply::{Protocol, Reply};

const SUBSCRIBING: &[&str] = &["pubsub", "noscript", "loading", "stale"];
const PUBLISHING: &[&str] = &["pubsub", "loading", "stale", "fast", "may_replicate"];
const ASKING: &[&str] = &["pubsub", "loading", "stale"];
const PLAIN: &[&str] = &["loading", "stale"];

#[rustfmt::skip]
pub(super) const FAMILY: &[Command] = &[
    Command::new("subscribe", -2, SUBSCRIBING, NO_KEYS, "2.0.0", "Listens for messages published to channels.", subscribe).beside_redis(),
    Command::new("unsubscribe", -1, SUBSCRIBING, NO_KEYS, "2.0.0", "Stops listening to messages posted to channels.", unsubscribe).beside_redis(),
    Command::new("psubscribe", -2, SUBSCRIBING, NO_KEYS, "2.0.0", "Listens for messages published to channels that match one or more patterns.", psubscribe).beside_redis(),
    Command::new("punsubscribe", -1, SUBSCRIBING, NO_KEYS, "2.0.0", "Stops listening to messages published to channels that match one or more patterns.", punsubscribe).beside_redis(),
    Command::new("ssubscribe", -2, SUBSCRIBING, ALL_KEYS, "7.0.0", "Listens for messages published to shard channels.", ssubscribe).beside_redis(),
    Command::new("sunsubscribe", -1, SUBSCRIBING, ALL_KEYS, "7.0.0", "Stops listening to messages posted to shard channels.", sunsubscribe).beside_redis(),
    Command::new("publish", 3, PUBLISHING, NO_KEYS, "2.0.0", "Posts a message to a channel.", publish).beside_redis(),
    Command::new("spublish", 3, PUBLISHING, ONE_KEY, "7.0.0", "Post a message to a shard channel", spublish).beside_redis(),
    Command::new("pubsub", -2, &[], NO_KEYS, "2.8.0", "A container for Pub/Sub commands.", needs_subcommand).beside_redis()
        .with_subcommands(SUBCOMMANDS),
];

#[rustfmt::skip]
const SUBCOMMANDS: &[Command] = &[
    Command::new("pubsub|channels", -2, ASKING, NO_KEYS, "2.8.0", "Returns the active channels.", channels).beside_redis(),
    Command::new("pubsub|help", 2, PLAIN, NO_KEYS, "6.2.0", "Returns helpful text about the different subcommands.", help).beside_redis(),
    Command::new("pubsub|numpat", 2, ASKING, NO_KEYS, "2.8.0", "Returns a count of unique pattern subscriptions.", numpat).beside_redis(),
    Command::new("pubsub|numsub", -2, ASKING, NO_KEYS, "2.8.0", "Returns a count of subscribers to channels.", numsub).beside_redis(),
    Command::new("pubsub|shardchannels", -2, ASKING, NO_KEYS, "7.0.0", "Returns the active shard channels.", shardchannels).beside_redis(),
    Command::new("pubsub|shardnumsub", -2, ASKING, NO_KEYS, "7.0.0", "Returns the count of subscribers of shard channels.", shardnumsub).beside_redis(),
];

const HELP: &[&str] = &[
    "PUBSUB <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CHANNELS [<pattern>]",
    "    Return the currently active channels matching a <pattern> (default: '*').",
    "NUMPAT",
    "    Return number of subscriptions to patterns.",
    "NUMSUB [<channel> ...]",
    "    Return the number of subscribers for the specified channels, excluding",
    "    pattern subscriptions(default: no channels).",
    "SHARDCHANNELS [<pattern>]",
    "    Return the currently active shard level channels matching a <pattern> (default: '*').",
    "SHARDNUMSUB [<shardchannel> ...]",
    "    Return the number of subscribers for the specified shard level channel(s)",
    "HELP",
    "    Print this help.",
];

fn subscribe(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    call.subscribe("subscribe", Kind::Channel)
}

fn psubscribe(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    call.subscribe("psubscribe", Kind::Pattern)
}

fn ssubscribe(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    call.subscribe("ssubscribe", Kind::Shard)
}

fn unsubscribe(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    call.unsubscribe("unsubscribe", Kind::Channel)
}

fn punsubscribe(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    call.unsubscribe("punsubscribe", Kind::Pattern)
}

fn sunsubscribe(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    call.unsubscribe("sunsubscribe", Kind::Shard)
}

impl Call<'_> {
    fn subscribe(&mut self, word: &'static str, kind: Kind) -> Result<Outcome, Reply> {
        let hub = self.engine.hub();
        for name in &self.arguments[1..] {
            let name = kept(name);
            self.session.subscriber(hub).subscribe(kind, name.clone());
            self.confirm(word, kind, Reply::Bulk(name));
        }
        self.session.publish_subscriptions();
        Ok(Outcome::Written)
    }

    fn unsubscribe(&mut self, word: &'static str, kind: Kind) -> Result<Outcome, Reply> {
        let names: Vec<Bytes> = match &self.arguments[1..] {
            [] => self.session.subscribed_to(kind),
            names => names.iter().map(|name| kept(name)).collect(),
        };
        if names.is_empty() {
            self.confirm(word, kind, Reply::Null);
        }
        for name in names {
            self.session.unsubscribe(kind, &name);
            self.confirm(word, kind, Reply::Bulk(name));
        }
        self.session.publish_subscriptions();
        Ok(Outcome::Written)
    }

    /// Says that a name is subscribed to or not any more, and to how many the client still is.
    /// Channels and patterns are counted together.
    fn confirm(&mut self, word: &'static str, kind: Kind, name: Reply) {
        let [channels, patterns, shards] = self.session.subscriptions();
        let count = if kind == Kind::Shard { shards } else { channels + patterns };
        let reply = Reply::Push(vec![Reply::text(word), name, Reply::count(count as u64)]);
        reply.encode(self.session.protocol, self.out);
    }

    /// Refuses what a client mustn't send in RESP2 while it is subscribed: its replies couldn't be
    /// told from messages.
    pub(super) fn admit_of_subscriber(&self, command: &Command) -> Result<(), Reply> {
        const ALLOWED: [&str; 9] = [
            "subscribe",
            "unsubscribe",
            "psubscribe",
            "punsubscribe",
            "ssubscribe",
            "sunsubscribe",
            "ping",
            "quit",
            "reset",
        ];
        if self.session.protocol == Protocol::Resp3
            || !self.session.is_subscribed()
            || ALLOWED.contains(&command.name)
        {
            return Ok(());
        }
        Err(Reply::err(&format!(
            "Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are \
             allowed in this context",
            command.name
        )))
    }
}

fn publish(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (channel, payload) = (kept(call.arguments[1]), kept(call.arguments[2]));
    let told = call.engine.tell(channel, payload, false);
    Ok(Outcome::Reply(Reply::count(told as u64)))
}

fn spublish(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (channel, payload) = (kept(call.arguments[1]), kept(call.arguments[2]));
    let told = call.engine.tell(channel, payload, true);
    Ok(Outcome::Reply(Reply::count(told as u64)))
}

fn channels(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    names(call, Kind::Channel)
}

fn shardchannels(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    names(call, Kind::Shard)
}

fn names(call: &Call<'_>, kind: Kind) -> Result<Outcome, Reply> {
    let pattern = match &call.arguments[1..] {
        [_] => None,
        [_, pattern] => Some(*pattern),
        _ => {
            let subcommand = String::from_utf8_lossy(call.arguments[1]);
            return Err(Reply::err(&format!(
                "unknown subcommand or wrong number of arguments for '{subcommand}'. Try PUBSUB \
                 HELP."
            )));
        }
    };
    let names = call.engine.hub().names(kind, pattern);
    Ok(Outcome::Reply(Reply::Array(names.into_iter().map(Reply::Bulk).collect())))
}

fn numpat(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    Ok(Outcome::Reply(Reply::count(call.engine.hub().count(Kind::Pattern) as u64)))
}

fn numsub(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    Ok(subscribers(call, Kind::Channel))
}

fn shardnumsub(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    Ok(subscribers(call, Kind::Shard))
}

fn subscribers(call: &Call<'_>, kind: Kind) -> Outcome {
    let hub = call.engine.hub();
    let counted = call.arguments[2..]
        .iter()
        .flat_map(|name| [Reply::bulk(name), Reply::count(hub.subscribers(kind, name) as u64)]);
    Outcome::Reply(Reply::Array(counted.collect()))
}

fn help(_: &mut Call<'_>) -> Result<Outcome, Reply> {
    Ok(Outcome::Reply(help_text(HELP)))
}

/// The answer to PING of a RESP2 client that is subscribed, which looks like a message.
pub(super) fn pong_as_message(call: &Call<'_>) -> Reply {
    let text = call.arguments.get(1).copied().unwrap_or_default();
    Reply::Array(vec![Reply::text("pong"), Reply::bulk(text)])
}
