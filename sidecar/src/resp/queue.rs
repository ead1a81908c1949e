//! MULTI and WATCH where Warp itself executes what is queued. Over a Redis they are its own business:
//! see `transaction`.

use std::sync::Arc;

use bytes::Bytes;

use crate::adapter::memory::Keyspace;
use crate::adapter::{Key, Storage};
use crate::core::View;
use crate::resp::command::kept_all;

/// The most bytes that a client may queue, arguments and their places.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// What a client has queued, and the keys that it watches.
#[derive(Debug, Default)]
pub struct Queue {
    queued: Option<Queued>,
    watch: Watch,
}

/// What is between MULTI and EXEC.
#[derive(Debug, Default)]
struct Queued {
    commands: Vec<Vec<Bytes>>,
    bytes: usize,
    /// A command was refused; EXEC must fail.
    spoiled: bool,
}

/// What EXEC finds.
#[derive(Debug)]
pub enum Taken {
    /// There was no MULTI.
    Nothing,
    /// A command was refused since MULTI.
    Spoiled,
    /// These, to be executed if nothing that was watched has changed.
    Commands(Vec<Vec<Bytes>>, Watch),
}

impl Queue {
    /// Whether commands are queued and not executed.
    pub fn is_open(&self) -> bool {
        self.queued.is_some()
    }

    /// How many are queued; `None` is outside MULTI.
    pub fn queued(&self) -> Option<usize> {
        self.queued.as_ref().map(|queued| queued.commands.len())
    }

    /// MULTI; whether none was going on.
    pub fn open(&mut self) -> bool {
        let was_open = self.is_open();
        self.queued.get_or_insert_default();
        !was_open
    }

    /// A command was refused.
    pub fn spoil(&mut self) {
        if let Some(queued) = &mut self.queued {
            *queued = Queued { spoiled: true, ..Queued::default() };
        }
    }

    /// Queues a command; whether there was room for it.
    pub fn push(&mut self, arguments: &[&[u8]]) -> bool {
        let Some(queued) = &mut self.queued else { return false };
        if queued.spoiled {
            return true;
        }
        let size = |argument: &&[u8]| argument.len() + size_of::<Bytes>();
        queued.bytes += arguments.iter().map(size).sum::<usize>();
        let fits = queued.bytes <= MOST_BYTES;
        if fits {
            queued.commands.push(kept_all(arguments));
        } else {
            self.spoil();
        }
        fits
    }

    /// EXEC takes all of it.
    pub fn take(&mut self) -> Taken {
        match self.queued.take() {
            None => Taken::Nothing,
            Some(Queued { spoiled: true, .. }) => {
                self.watch = Watch::default();
                Taken::Spoiled
            }
            Some(Queued { commands, .. }) => {
                Taken::Commands(commands, std::mem::take(&mut self.watch))
            }
        }
    }

    /// DISCARD; whether there was anything to discard.
    pub fn discard(&mut self) -> bool {
        let was_open = self.is_open();
        if was_open {
            *self = Self::default();
        }
        was_open
    }

    /// The keys that are watched.
    pub fn watch(&mut self) -> &mut Watch {
        &mut self.watch
    }
}

/// Keys whose writes a client wants to know of. Those in the sidecar's memory are let go with this.
#[derive(Debug, Default)]
pub struct Watch {
    storage: Option<Arc<dyn Storage>>,
    keys: Vec<(Key, Seen)>,
    /// What a storage elsewhere had as the keys' versions.
    versions: Vec<(Key, u64)>,
}

/// What a key was when its watch began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    version: u64,
    existed: bool,
}

impl Watch {
    /// Watches `keys` too, in the storage of `view`.
    pub fn add(&mut self, view: &View, keys: &[&[u8]]) {
        let Some(memory) = view.storage().as_memory() else { return };
        if self.storage.as_ref().is_some_and(|storage| !Arc::ptr_eq(storage, view.storage())) {
            // What it watches is gone, which is a change.
            return;
        }
        self.storage = Some(Arc::clone(view.storage()));
        memory.with(|keyspace| {
            for key in keys {
                if !self.keys.iter().any(|(watched, _)| watched == key) {
                    let (version, existed) = (keyspace.watch(key), keyspace.contains(key));
                    self.keys.push((Bytes::copy_from_slice(key), Seen { version, existed }));
                }
            }
        });
    }

    /// Watches keys of a storage elsewhere, which have these versions. The first counts.
    pub fn add_versions(&mut self, versions: Vec<(Key, u64)>) {
        for (key, version) in versions {
            if !self.versions.iter().any(|(watched, _)| *watched == key) {
                self.versions.push((key, version));
            }
        }
    }

    /// The keys of a storage elsewhere, and their versions when their watch began.
    pub fn into_versions(mut self) -> Vec<(Key, u64)> {
        std::mem::take(&mut self.versions)
    }

    /// Whether a key was written since its watch began, or has ended, or the storage is another.
    pub fn has_changed(&self, view: &View) -> bool {
        let Some(storage) = &self.storage else { return false };
        if !Arc::ptr_eq(storage, view.storage()) {
            return true;
        }
        let changed = |keyspace: &mut Keyspace| {
            self.keys.iter().any(|(key, seen)| {
                keyspace.version(key) != Some(seen.version)
                    || keyspace.contains(key) != seen.existed
            })
        };
        storage.as_memory().is_some_and(|memory| memory.with(changed))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(memory) = self.storage.as_deref().and_then(Storage::as_memory) {
            memory.with(|keyspace| self.keys.iter().for_each(|(key, _)| keyspace.unwatch(key)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Queue, Taken};

    #[test]
    fn what_is_queued_is_taken_once() {
        let mut queue = Queue::default();
        assert!(matches!(queue.take(), Taken::Nothing));
        assert!(queue.open() && !queue.open());
        assert!(queue.push(&[b"SET", b"k", b"v"]) && queue.push(&[b"GET", b"k"]));
        assert_eq!(queue.queued(), Some(2));
        let Taken::Commands(commands, _) = queue.take() else { panic!("nothing was queued") };
        assert_eq!(commands, [vec!["SET", "k", "v"], vec!["GET", "k"]]);
        assert!(!queue.is_open());
    }

    #[test]
    fn a_refused_command_spoils_what_comes_before_and_after_it() {
        let mut queue = Queue::default();
        queue.open();
        queue.push(&[b"SET", b"k", b"v"]);
        queue.spoil();
        assert!(queue.push(&[b"GET", b"k"]));
        assert_eq!(queue.queued(), Some(0));
        assert!(matches!(queue.take(), Taken::Spoiled));
        assert!(!queue.discard());
    }

    #[test]
    fn a_queue_has_its_bound() {
        let mut queue = Queue::default();
        queue.open();
        let long = vec![0; super::MOST_BYTES / 2];
        assert!(queue.push(&[&long]));
        assert!(!queue.push(&[&long]));
        assert!(matches!(queue.take(), Taken::Spoiled));
    }
}
