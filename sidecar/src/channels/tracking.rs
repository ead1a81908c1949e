//! Which clients keep copies of which keys, so that they are told when a copy is old: Redis' CLIENT
//! TRACKING.
//!
//! A client is remembered for each key that it reads, and is told once that the key changed; in
//! broadcasting mode it is told of every key with one of its prefixes. *A read is remembered before
//! it is done, and a change is told after the old value can't be read any more*, so that no change
//! falls in between. What is remembered is bounded: beyond it some key is told to be old that
//! isn't.
//!
//! Warp doesn't answer a copy of its own for ever, and its clients mustn't either: who judges how
//! long a copy is good asks for those that nobody has judged, see [`Tracking::unjudged`].

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use indexmap::IndexMap;
use parking_lot::Mutex;
use prometheus::IntCounter;
use smallvec::SmallVec;
use tokio::sync::Notify;

use super::inbox::{Inbox, Message};

/// How many pairs of a key and a client are remembered.
const MOST: usize = 100_000;

/// How a client is told.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Of what.
    pub mode: Mode,
    /// Who is told in its place.
    pub redirection: Option<Redirection>,
    /// It isn't told of what it writes itself.
    pub no_loop: bool,
}

/// Of what a client is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Of the keys that it has read.
    #[default]
    Read,
    /// Of the keys that it has read with the command behind a CLIENT CACHING YES.
    OptIn,
    /// Of the keys that it has read, unless with the command behind a CLIENT CACHING NO.
    OptOut,
    /// Of all keys with these prefixes. The empty one is every key's.
    Broadcast(Vec<Bytes>),
}

/// Another client's inbox.
#[derive(Clone, Debug)]
pub struct Redirection {
    /// Whose.
    pub to: u64,
    /// It is gone when that client is.
    pub inbox: Weak<Inbox>,
}

/// See the module.
#[derive(Debug)]
pub struct Tracking {
    /// How many clients there are in the table. *It is read without the lock*, so that a change
    /// costs nothing while there are none.
    clients: AtomicUsize,
    table: Mutex<Table>,
    begun: Notify,
    told: IntCounter,
}

#[derive(Debug, Default)]
struct Table {
    clients: HashMap<u64, Client, RandomState>,
    keys: IndexMap<Bytes, Key, RandomState>,
    remembered: usize,
    last_generation: u64,
}

#[derive(Debug)]
struct Client {
    inbox: Arc<Inbox>,
    options: Options,
    keys: HashSet<Bytes, RandomState>,
    /// Keys that it is writing, and how often.
    muted: HashMap<Bytes, usize, RandomState>,
    broken: bool,
}

/// A key of which somebody keeps a copy.
#[derive(Debug)]
struct Key {
    by: SmallVec<[u64; 2]>,
    generation: u64,
    /// Until when the copies are good; `None` is not judged.
    until: Option<u64>,
}

/// A key whose copies nobody has judged yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unjudged {
    /// The key.
    pub key: Bytes,
    /// Tells this reading of it from later ones.
    generation: u64,
}

impl Client {
    fn broadcasts(&self, key: &[u8]) -> bool {
        match &self.options.mode {
            Mode::Broadcast(prefixes) => prefixes.iter().any(|prefix| key.starts_with(prefix)),
            Mode::Read | Mode::OptIn | Mode::OptOut => false,
        }
    }

    fn is_broadcast(&self) -> bool {
        matches!(self.options.mode, Mode::Broadcast(_))
    }

    fn tell(&mut self, keys: Option<Arc<[Bytes]>>) {
        let Some(Redirection { to, inbox }) = &self.options.redirection else {
            return self.inbox.put(Message::Invalidated { keys, redirected: false });
        };
        if let Some(inbox) = inbox.upgrade() {
            inbox.put(Message::Invalidated { keys, redirected: true });
        } else {
            self.broken = true;
            self.inbox.put(Message::RedirectionBroken { to: *to });
        }
    }
}

impl Table {
    /// Forgets who has a copy of the key at `at`; who that was.
    fn forget(&mut self, at: usize) -> Option<(Bytes, Key)> {
        let (name, key) = self.keys.swap_remove_index(at)?;
        self.remembered -= key.by.len();
        for id in &key.by {
            if let Some(client) = self.clients.get_mut(id) {
                client.keys.remove(&name);
            }
        }
        Some((name, key))
    }

    /// Tells all who have a copy of the key at `at` that it is old; how many that were.
    fn end(&mut self, at: usize) -> u64 {
        let Some((name, key)) = self.forget(at) else { return 0 };
        let keys: Arc<[Bytes]> = [name].into();
        let mut told = 0;
        for id in &key.by {
            if let Some(client) = self.clients.get_mut(id) {
                client.tell(Some(Arc::clone(&keys)));
                told += 1;
            }
        }
        told
    }

    fn changed(&mut self, changed: &[&[u8]]) -> u64 {
        let mut told = 0;
        for key in changed {
            let Some((name, key)) = self.keys.get_index_of(*key).and_then(|at| self.forget(at))
            else {
                continue;
            };
            let keys: Arc<[Bytes]> = [name.clone()].into();
            for id in &key.by {
                if let Some(client) = self.clients.get_mut(id)
                    && !client.is_broadcast()
                    && !client.muted.contains_key(&name)
                {
                    client.tell(Some(Arc::clone(&keys)));
                    told += 1;
                }
            }
        }
        for client in self.clients.values_mut().filter(|client| client.is_broadcast()) {
            let theirs: Arc<[Bytes]> = changed
                .iter()
                .filter(|key| client.broadcasts(key) && !client.muted.contains_key(**key))
                .map(|key| Bytes::copy_from_slice(key))
                .collect();
            if !theirs.is_empty() {
                told += theirs.len() as u64;
                client.tell(Some(theirs));
            }
        }
        told
    }
}

impl Tracking {
    /// Nobody tracks yet. `told` counts the keys that clients are told of.
    pub fn new(told: IntCounter) -> Self {
        let clients = AtomicUsize::new(0);
        Self { clients, table: Mutex::default(), begun: Notify::new(), told }
    }

    /// How many clients track.
    pub fn clients(&self) -> usize {
        self.clients.load(Ordering::Acquire)
    }

    /// How many keys are remembered.
    pub fn keys(&self) -> usize {
        self.table.lock().keys.len()
    }

    /// `keys` have changed, and their old values can't be read any more.
    #[inline]
    pub fn changed<'a>(&self, keys: impl IntoIterator<Item = &'a [u8]>) {
        if self.clients() > 0 {
            let keys: SmallVec<[&[u8]; 4]> = keys.into_iter().collect();
            self.told.inc_by(self.table.lock().changed(&keys));
        }
    }

    /// Any key may have changed.
    pub fn everything_changed(&self) {
        if self.clients() == 0 {
            return;
        }
        let mut table = self.table.lock();
        let Table { clients, keys, remembered, .. } = &mut *table;
        keys.clear();
        *remembered = 0;
        for client in clients.values_mut() {
            client.keys.clear();
            client.tell(None);
        }
        self.told.inc_by(clients.len() as u64);
    }

    /// Waits until somebody tracks.
    pub async fn begins(&self) {
        while self.clients() == 0 {
            self.begun.notified().await;
        }
    }

    /// Tells clients that copies are old that were good until `now`, and gives those keys whose
    /// copies have no end yet; with `again` those that have one too.
    pub fn unjudged(&self, now: u64, again: bool) -> Vec<Unjudged> {
        let mut table = self.table.lock();
        let mut told = 0;
        let mut at = 0;
        let mut unjudged = Vec::new();
        while let Some((name, key)) = table.keys.get_index(at) {
            match key.until {
                // Another one takes its place.
                Some(until) if until <= now => {
                    told += table.end(at);
                    continue;
                }
                Some(_) if !again => {}
                _ => unjudged.push(Unjudged { key: name.clone(), generation: key.generation }),
            }
            at += 1;
        }
        self.told.inc_by(told);
        unjudged
    }

    /// The copies of the key are good until then. Nothing happens if it has changed since.
    pub fn judge(&self, Unjudged { key, generation }: Unjudged, until: u64) {
        let mut table = self.table.lock();
        if let Some(found) = table.keys.get_mut(&key)
            && found.generation == generation
        {
            found.until = Some(found.until.map_or(until, |before| before.min(until)));
        }
    }

    fn remember<'a>(&self, id: u64, keys: impl Iterator<Item = &'a [u8]>) {
        let mut table = self.table.lock();
        let mut told = 0;
        for name in keys {
            let table = &mut *table;
            let Some(client) = table.clients.get_mut(&id) else { return };
            if client.is_broadcast() && !client.broadcasts(name) {
                continue;
            }
            if !client.keys.contains(name) {
                let name = Bytes::copy_from_slice(name);
                client.keys.insert(name.clone());
                table.last_generation += 1;
                let generation = table.last_generation;
                let new = || Key { by: SmallVec::new(), generation, until: None };
                table.keys.entry(name).or_insert_with(new).by.push(id);
                table.remembered += 1;
            }
            while table.remembered > MOST {
                told += table.end(rand::random_range(0..table.keys.len()));
            }
        }
        self.told.inc_by(told);
    }
}

/// One client that tracks, until it is dropped.
#[derive(Debug)]
pub struct Tracker {
    tracking: Arc<Tracking>,
    id: u64,
    options: Options,
    /// CLIENT CACHING was given, for the next command.
    pub caching: bool,
}

impl Tracker {
    /// The client that `inbox` belongs to, with no copies yet.
    pub fn new(tracking: Arc<Tracking>, inbox: Arc<Inbox>, options: Options) -> Self {
        let id = inbox.id();
        let client = Client {
            inbox,
            options: options.clone(),
            keys: HashSet::default(),
            muted: HashMap::default(),
            broken: false,
        };
        let mut table = tracking.table.lock();
        table.clients.insert(id, client);
        tracking.clients.store(table.clients.len(), Ordering::Release);
        drop(table);
        tracking.begun.notify_one();
        Self { tracking, id, options, caching: false }
    }

    /// How it is told.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Has it told in another way from now on.
    pub fn change(&mut self, options: Options) {
        if let Some(client) = self.tracking.table.lock().clients.get_mut(&self.id) {
            client.options = options.clone();
            client.broken = false;
        }
        self.options = options;
    }

    /// Whether the client is gone that was to be told in its place.
    pub fn is_broken(&self) -> bool {
        self.tracking.table.lock().clients.get(&self.id).is_some_and(|client| client.broken)
    }

    /// It is about to read `keys`.
    pub fn reads<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) {
        let wanted = match self.options.mode {
            Mode::Read | Mode::Broadcast(_) => true,
            Mode::OptIn => self.caching,
            Mode::OptOut => !self.caching,
        };
        if wanted {
            self.tracking.remember(self.id, keys);
        }
    }

    /// It is about to write `keys`, of which it isn't told, if it wants so, as long as what is
    /// returned lives. What others write to them meanwhile it isn't told either: its own write
    /// comes after it, or it is as if it did.
    pub fn writes<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Option<Muted> {
        if !self.options.no_loop {
            return None;
        }
        let keys: Vec<Bytes> = keys.map(Bytes::copy_from_slice).collect();
        if let Some(client) = self.tracking.table.lock().clients.get_mut(&self.id) {
            for key in &keys {
                *client.muted.entry(key.clone()).or_default() += 1;
            }
        }
        Some(Muted { tracking: Arc::clone(&self.tracking), id: self.id, keys })
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        let mut table = self.tracking.table.lock();
        let Table { clients, keys, remembered, .. } = &mut *table;
        if let Some(client) = clients.remove(&self.id) {
            for name in client.keys {
                if let Some(key) = keys.get_mut(&name) {
                    key.by.retain(|id| *id != self.id);
                    *remembered -= 1;
                    if key.by.is_empty() {
                        keys.swap_remove(&name);
                    }
                }
            }
        }
        self.tracking.clients.store(clients.len(), Ordering::Release);
    }
}

/// See [`Tracker::writes`].
#[derive(Debug)]
pub struct Muted {
    tracking: Arc<Tracking>,
    id: u64,
    keys: Vec<Bytes>,
}

impl Drop for Muted {
    fn drop(&mut self) {
        let mut table = self.tracking.table.lock();
        let Some(client) = table.clients.get_mut(&self.id) else { return };
        for key in &self.keys {
            if let Some(times) = client.muted.get_mut(key) {
                *times -= 1;
                if *times == 0 {
                    client.muted.remove(key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracking() -> Arc<Tracking> {
        Arc::new(Tracking::new(IntCounter::new("told", "told").unwrap()))
    }

    fn inbox(id: u64) -> Arc<Inbox> {
        Arc::new(Inbox::new(id, 1 << 30, || {}))
    }

    fn client(tracking: &Arc<Tracking>, id: u64, options: Options) -> (Tracker, Arc<Inbox>) {
        let inbox = inbox(id);
        (Tracker::new(Arc::clone(tracking), Arc::clone(&inbox), options), inbox)
    }

    fn reads(tracker: &Tracker, keys: &[&str]) {
        tracker.reads(keys.iter().map(|key| key.as_bytes()));
    }

    fn changed(tracking: &Tracking, keys: &[&str]) {
        tracking.changed(keys.iter().map(|key| key.as_bytes()));
    }

    /// The keys that it was told of, by message.
    fn told(inbox: &Inbox) -> Vec<String> {
        let told = |message| match message {
            Message::Invalidated { keys: Some(keys), .. } => {
                keys.iter().map(|key| String::from_utf8_lossy(key)).collect::<Vec<_>>().join(",")
            }
            Message::Invalidated { keys: None, .. } => "everything".to_owned(),
            other => format!("{other:?}"),
        };
        inbox.take(usize::MAX).unwrap().into_iter().map(told).collect()
    }

    #[test]
    fn who_has_read_a_key_is_told_once() {
        let tracking = tracking();
        let (a, in_a) = client(&tracking, 1, Options::default());
        let (b, in_b) = client(&tracking, 2, Options::default());
        reads(&a, &["k", "l", "k"]);
        reads(&b, &["l"]);
        changed(&tracking, &["k", "l", "m"]);
        changed(&tracking, &["k", "l"]);
        assert_eq!(told(&in_a), ["k", "l"]);
        assert_eq!(told(&in_b), ["l"]);
        assert_eq!(tracking.keys(), 0);
    }

    #[test]
    fn nothing_is_left_of_who_is_gone() {
        let tracking = tracking();
        let (a, in_a) = client(&tracking, 1, Options::default());
        let (b, in_b) = client(&tracking, 2, Options::default());
        reads(&a, &["k", "l"]);
        reads(&b, &["l"]);
        drop(a);
        assert_eq!((tracking.clients(), tracking.keys()), (1, 1));
        changed(&tracking, &["k", "l"]);
        assert_eq!((told(&in_a), told(&in_b)), (vec![], vec!["l".to_owned()]));
        assert_eq!(tracking.table.lock().remembered, 0);
    }

    #[test]
    fn who_broadcasts_is_told_of_its_prefixes() {
        let tracking = tracking();
        let prefixes = vec![Bytes::from_static(b"user:"), Bytes::from_static(b"x")];
        let options = Options { mode: Mode::Broadcast(prefixes), ..Options::default() };
        let (a, inbox) = client(&tracking, 1, options);
        reads(&a, &["user:1"]);
        changed(&tracking, &["user:1", "other", "x"]);
        changed(&tracking, &["user:1"]);
        tracking.everything_changed();
        assert_eq!(told(&inbox), ["user:1,x", "user:1", "everything"]);
    }

    #[test]
    fn who_opts_is_told_as_it_says() {
        let tracking = tracking();
        for (mode, with_caching) in [(Mode::OptIn, true), (Mode::OptOut, false)] {
            let (mut a, inbox) = client(&tracking, 1, Options { mode, ..Options::default() });
            reads(&a, &["without"]);
            a.caching = true;
            reads(&a, &["with"]);
            changed(&tracking, &["without", "with"]);
            assert_eq!(told(&inbox), [if with_caching { "with" } else { "without" }]);
        }
    }

    #[test]
    fn who_wants_no_loop_is_not_told_of_its_own_writes() {
        let tracking = tracking();
        for mode in [Mode::Read, Mode::Broadcast(vec![Bytes::new()])] {
            let (a, inbox) =
                client(&tracking, 1, Options { mode, no_loop: true, redirection: None });
            reads(&a, &["k", "l"]);
            let muted = a.writes([&b"k"[..]].into_iter()).unwrap();
            changed(&tracking, &["k"]);
            changed(&tracking, &["l"]);
            drop(muted);
            assert_eq!(told(&inbox), ["l"]);
            reads(&a, &["k"]);
            changed(&tracking, &["k"]);
            assert_eq!(told(&inbox), ["k"]);
        }
    }

    #[test]
    fn another_is_told_in_its_place_while_it_is_there() {
        let tracking = tracking();
        let other = inbox(2);
        let redirection = Some(Redirection { to: 2, inbox: Arc::downgrade(&other) });
        let (a, own) = client(&tracking, 1, Options { redirection, ..Options::default() });
        reads(&a, &["k", "l"]);
        changed(&tracking, &["k"]);
        assert_eq!((told(&other), told(&own)), (vec!["k".to_owned()], vec![]));
        assert!(!a.is_broken());
        drop(other);
        changed(&tracking, &["l"]);
        assert_eq!(own.take(1).unwrap(), [Message::RedirectionBroken { to: 2 }]);
        assert!(a.is_broken());
    }

    #[test]
    fn copies_end_when_they_are_judged_to() {
        let tracking = tracking();
        let (a, inbox) = client(&tracking, 1, Options::default());
        reads(&a, &["short", "long", "changed"]);
        let unjudged = tracking.unjudged(0, false);
        assert_eq!(unjudged.len(), 3);
        changed(&tracking, &["changed"]);
        reads(&a, &["changed"]);
        for one in unjudged {
            let until = if one.key == "long" { 100 } else { 10 };
            tracking.judge(one, until);
        }
        assert_eq!(told(&inbox), ["changed"]);
        // What was read again after it had changed is judged again.
        let again = tracking.unjudged(10, false);
        assert_eq!(again.iter().map(|one| &one.key[..]).collect::<Vec<_>>(), [b"changed"]);
        assert_eq!(told(&inbox), ["short"]);
        assert_eq!(tracking.unjudged(10, true).len(), 2);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_what_is_not_is_told() {
        let tracking = tracking();
        let (a, inbox) = client(&tracking, 1, Options::default());
        let names: Vec<String> = (0..MOST + 10).map(|n| n.to_string()).collect();
        a.reads(names.iter().map(String::as_bytes));
        assert_eq!((tracking.keys(), told(&inbox).len()), (MOST, 10));
    }
}
