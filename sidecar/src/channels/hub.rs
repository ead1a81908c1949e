//! Who is subscribed to which channels, patterns and sharded channels, and what is published there.
//!
//! To publish is to put the message into the inboxes of the moment, under a lock that publishers
//! share: *the messages of one publisher reach each subscriber in their order*. A subscription ends
//! with its [`Subscriber`].

use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use indexmap::IndexSet;
use parking_lot::RwLock;
use warp_crds::pattern::glob_match;

use super::inbox::{Inbox, Message};

/// What a name is subscribed to as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A channel.
    Channel,
    /// A glob pattern of channels.
    Pattern,
    /// A sharded channel, which patterns don't match.
    Shard,
}

/// Names, and who is subscribed to each, by the ids of the inboxes. None is empty.
type Names = HashMap<Bytes, HashMap<u64, Arc<Inbox>, RandomState>, RandomState>;

/// See the module.
#[derive(Debug, Default)]
pub struct Hub {
    directory: RwLock<Directory>,
}

#[derive(Debug, Default)]
struct Directory {
    channels: Names,
    patterns: Names,
    shards: Names,
}

impl Directory {
    fn of(&self, kind: Kind) -> &Names {
        match kind {
            Kind::Channel => &self.channels,
            Kind::Pattern => &self.patterns,
            Kind::Shard => &self.shards,
        }
    }

    fn of_mut(&mut self, kind: Kind) -> &mut Names {
        match kind {
            Kind::Channel => &mut self.channels,
            Kind::Pattern => &mut self.patterns,
            Kind::Shard => &mut self.shards,
        }
    }

    fn remove(&mut self, kind: Kind, name: &Bytes, id: u64) {
        let names = self.of_mut(kind);
        if let Some(inboxes) = names.get_mut(name) {
            inboxes.remove(&id);
            if inboxes.is_empty() {
                names.remove(name);
            }
        }
    }
}

impl Hub {
    /// Tells `payload` to all who are subscribed to `channel`, itself or by a pattern; how many
    /// messages that were.
    pub fn publish(&self, channel: &Bytes, payload: &Bytes) -> usize {
        let directory = self.directory.read();
        let mut told = 0;
        let mut tell = |inbox: &Arc<Inbox>, message: Message| {
            inbox.put(message);
            told += 1;
        };
        for inbox in directory.channels.get(channel).into_iter().flat_map(HashMap::values) {
            tell(inbox, Message::Published { channel: channel.clone(), payload: payload.clone() });
        }
        for (pattern, inboxes) in &directory.patterns {
            if !glob_match(pattern, channel) {
                continue;
            }
            for inbox in inboxes.values() {
                tell(
                    inbox,
                    Message::Matched {
                        pattern: pattern.clone(),
                        channel: channel.clone(),
                        payload: payload.clone(),
                    },
                );
            }
        }
        told
    }

    /// Tells `payload` to all who are subscribed to the sharded `channel`; how many that were.
    pub fn publish_sharded(&self, channel: &Bytes, payload: &Bytes) -> usize {
        let directory = self.directory.read();
        let Some(inboxes) = directory.shards.get(channel) else { return 0 };
        for inbox in inboxes.values() {
            let (channel, payload) = (channel.clone(), payload.clone());
            inbox.put(Message::Sharded { channel, payload });
        }
        inboxes.len()
    }

    /// The names that somebody is subscribed to, those that `pattern` matches if there is one.
    pub fn names(&self, kind: Kind, pattern: Option<&[u8]>) -> Vec<Bytes> {
        let directory = self.directory.read();
        let wanted =
            |name: &&Bytes| pattern.is_none_or(|pattern| glob_match(pattern, name.as_ref()));
        directory.of(kind).keys().filter(wanted).cloned().collect()
    }

    /// How many names somebody is subscribed to.
    pub fn count(&self, kind: Kind) -> usize {
        self.directory.read().of(kind).len()
    }

    /// How many are subscribed to `name`.
    pub fn subscribers(&self, kind: Kind, name: &[u8]) -> usize {
        self.directory.read().of(kind).get(name).map_or(0, HashMap::len)
    }
}

/// One client's subscriptions, which end with it.
#[derive(Debug)]
pub struct Subscriber {
    hub: Arc<Hub>,
    inbox: Arc<Inbox>,
    channels: IndexSet<Bytes, RandomState>,
    patterns: IndexSet<Bytes, RandomState>,
    shards: IndexSet<Bytes, RandomState>,
}

impl Subscriber {
    /// One without subscriptions, whose messages go to `inbox`.
    pub fn new(hub: Arc<Hub>, inbox: Arc<Inbox>) -> Self {
        let [channels, patterns, shards] = std::array::from_fn(|_| IndexSet::default());
        Self { hub, inbox, channels, patterns, shards }
    }

    fn of_mut(&mut self, kind: Kind) -> &mut IndexSet<Bytes, RandomState> {
        match kind {
            Kind::Channel => &mut self.channels,
            Kind::Pattern => &mut self.patterns,
            Kind::Shard => &mut self.shards,
        }
    }

    /// The names that it is subscribed to.
    pub fn names(&self, kind: Kind) -> &IndexSet<Bytes, RandomState> {
        match kind {
            Kind::Channel => &self.channels,
            Kind::Pattern => &self.patterns,
            Kind::Shard => &self.shards,
        }
    }

    /// Whether it is subscribed to nothing.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.patterns.is_empty() && self.shards.is_empty()
    }

    /// Subscribes to `name`, if it isn't subscribed already.
    pub fn subscribe(&mut self, kind: Kind, name: Bytes) {
        if self.of_mut(kind).insert(name.clone()) {
            let mut directory = self.hub.directory.write();
            let inboxes = directory.of_mut(kind).entry(name).or_default();
            inboxes.insert(self.inbox.id(), Arc::clone(&self.inbox));
        }
    }

    /// Ends the subscription to `name`, if there is one.
    pub fn unsubscribe(&mut self, kind: Kind, name: &Bytes) {
        if self.of_mut(kind).swap_remove(name) {
            self.hub.directory.write().remove(kind, name, self.inbox.id());
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        if self.is_empty() {
            return;
        }
        let mut directory = self.hub.directory.write();
        for kind in [Kind::Channel, Kind::Pattern, Kind::Shard] {
            for name in self.names(kind) {
                directory.remove(kind, name, self.inbox.id());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 4] = ["news", "news.a", "news.b", "other"];
    const PATTERNS: [&str; 4] = ["news*", "*", "news.[ab]", "other"];

    fn member(hub: &Arc<Hub>, id: u64) -> (Subscriber, Arc<Inbox>) {
        let inbox = Arc::new(Inbox::new(id, 1 << 20, || {}));
        (Subscriber::new(Arc::clone(hub), Arc::clone(&inbox)), inbox)
    }

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn a_message_comes_once_for_the_channel_and_once_for_each_pattern() {
        let hub = Arc::new(Hub::default());
        let (mut subscriber, inbox) = member(&hub, 1);
        subscriber.subscribe(Kind::Channel, bytes("c"));
        subscriber.subscribe(Kind::Channel, bytes("c"));
        subscriber.subscribe(Kind::Pattern, bytes("?"));
        assert_eq!(hub.publish(&bytes("c"), &bytes("m")), 2);
        assert_eq!(hub.publish_sharded(&bytes("c"), &bytes("m")), 0);
        let [channel, payload] = [bytes("c"), bytes("m")];
        assert_eq!(
            inbox.take(1 << 20).unwrap(),
            [
                Message::Published { channel: channel.clone(), payload: payload.clone() },
                Message::Matched { pattern: bytes("?"), channel, payload },
            ],
        );
    }

    #[test]
    fn nothing_is_left_of_a_subscriber_that_is_gone() {
        let hub = Arc::new(Hub::default());
        let (mut subscriber, _inbox) = member(&hub, 1);
        for kind in [Kind::Channel, Kind::Pattern, Kind::Shard] {
            subscriber.subscribe(kind, bytes("c"));
            assert_eq!((hub.count(kind), hub.subscribers(kind, b"c")), (1, 1));
        }
        drop(subscriber);
        for kind in [Kind::Channel, Kind::Pattern, Kind::Shard] {
            assert_eq!((hub.count(kind), hub.subscribers(kind, b"c")), (0, 0));
        }
    }

    /// What three subscribers do by turns.
    #[derive(Clone, Debug)]
    enum Step {
        Subscribe(usize, bool, usize),
        Unsubscribe(usize, bool, usize),
        Leave(usize),
        Publish(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..3_usize, any::<bool>(), 0..4_usize)
                .prop_map(|(who, pattern, name)| Step::Subscribe(who, pattern, name)),
            3 => (0..3_usize, any::<bool>(), 0..4_usize)
                .prop_map(|(who, pattern, name)| Step::Unsubscribe(who, pattern, name)),
            1 => (0..3_usize).prop_map(Step::Leave),
            4 => (0..4_usize).prop_map(Step::Publish),
        ];
        vec(step, 0..60)
    }

    proptest! {
        #[test]
        fn exactly_those_are_told_who_are_subscribed(steps in steps()) {
            let hub = Arc::new(Hub::default());
            let mut members: Vec<_> = (0..3).map(|id| member(&hub, id)).collect();
            let mut model: [BTreeSet<(bool, usize)>; 3] = Default::default();
            let kind = |pattern| if pattern { Kind::Pattern } else { Kind::Channel };
            let name = |pattern, at: usize| bytes(if pattern { PATTERNS[at] } else { NAMES[at] });
            for step in steps {
                match step {
                    Step::Subscribe(who, pattern, at) => {
                        members[who].0.subscribe(kind(pattern), name(pattern, at));
                        model[who].insert((pattern, at));
                    }
                    Step::Unsubscribe(who, pattern, at) => {
                        members[who].0.unsubscribe(kind(pattern), &name(pattern, at));
                        model[who].remove(&(pattern, at));
                    }
                    Step::Leave(who) => {
                        members[who] = member(&hub, who as u64);
                        model[who].clear();
                    }
                    Step::Publish(at) => {
                        let expected = model.each_ref().map(|subscribed| {
                            subscribed.iter().filter(|(pattern, name)| if *pattern {
                                glob_match(PATTERNS[*name].as_bytes(), NAMES[at].as_bytes())
                            } else {
                                *name == at
                            }).count()
                        });
                        let told = hub.publish(&bytes(NAMES[at]), &bytes("m"));
                        prop_assert_eq!(told, expected.iter().sum::<usize>());
                        for ((_, inbox), expected) in members.iter().zip(expected) {
                            prop_assert_eq!(inbox.take(1 << 20).unwrap().len(), expected);
                        }
                    }
                }
                for (pattern, kind) in [(false, Kind::Channel), (true, Kind::Pattern)] {
                    let names: BTreeSet<_> =
                        model.iter().flatten().filter(|(is, _)| *is == pattern).collect();
                    prop_assert_eq!(hub.count(kind), names.len());
                }
            }
        }
    }
}
