//! Who waits for a key to hold something: the blocking commands.
//!
//! *Who waits first for a key is served first*, and *is served before anybody else's command comes
//! to the keys*: when a command, a transaction or a script has written a key, whoever waits for it
//! gets his turn under the same lock (`exclusive`). What is done for one may serve another.
//!
//! *Who waits is served or told of the end once, and nothing after that.*

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::Keyspace;

/// Something for one who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn<'a> {
    /// This key was written.
    Key(&'a [u8]),
    /// The wait is over, with nothing for him.
    Over(End),
}

/// Why a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It took as long as it might, or somebody said that it is to end so.
    TimedOut,
    /// Somebody said that it is to fail.
    Unblocked,
}

/// Takes his turn; whether that ends his wait.
pub type Waiter = Box<dyn FnMut(&mut Keyspace, Turn<'_>) -> bool + Send>;

/// See the module.
#[derive(Default)]
pub(super) struct Waiting {
    by_id: HashMap<u64, (Vec<Bytes>, Waiter), RandomState>,
    /// Those who wait for a key, in their order.
    by_key: HashMap<Bytes, VecDeque<u64>, RandomState>,
    /// Keys that were written since, and somebody waits for.
    written: VecDeque<Bytes>,
    /// The keys are of no storage any more: nobody may wait for them.
    abandoned: bool,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Takes note that `key` was written.
    pub(super) fn wrote(&mut self, key: &[u8]) {
        if let Some((key, _)) = self.by_key.get_key_value(key)
            && !self.written.contains(key)
        {
            self.written.push_back(key.clone());
        }
    }

    fn remove(&mut self, id: u64) -> Option<(Vec<Bytes>, Waiter)> {
        let (keys, waiter) = self.by_id.remove(&id)?;
        for key in &keys {
            if let Some(ids) = self.by_key.get_mut(key) {
                // Who is served is the first, mostly.
                let at = ids.iter().position(|other| *other == id);
                at.and_then(|at| ids.remove(at));
                if ids.is_empty() {
                    self.by_key.remove(key);
                }
            }
        }
        Some((keys, waiter))
    }
}

impl Keyspace {
    /// Client `id`, who waits for nothing else, waits for one of `keys` from now on.
    pub fn wait(&mut self, id: u64, keys: &[&[u8]], waiter: Waiter) {
        if self.waiting.abandoned {
            return;
        }
        let mut own: Vec<Bytes> = Vec::with_capacity(keys.len());
        for key in keys {
            if own.iter().any(|known| known == key) {
                continue;
            }
            let key = Bytes::copy_from_slice(key);
            self.waiting.by_key.entry(key.clone()).or_default().push_back(id);
            own.push(key);
        }
        self.waiting.by_id.insert(id, (own, waiter));
    }

    /// Ends the wait of client `id`, who is told; whether he waited.
    pub fn end_wait(&mut self, id: u64, end: End) -> bool {
        let Some((_, mut waiter)) = self.waiting.remove(id) else { return false };
        waiter(self, Turn::Over(end));
        true
    }

    /// Drops all who wait, and who will want to.
    pub fn abandon_waits(&mut self) {
        self.waiting = Waiting { abandoned: true, ..Waiting::default() };
    }

    /// How many wait.
    pub fn waits(&self) -> usize {
        self.waiting.by_id.len()
    }

    /// Whether a key was written that somebody waits for.
    #[inline]
    pub(super) fn owes_turns(&self) -> bool {
        !self.waiting.written.is_empty()
    }

    /// Gives those who wait for what was written their turns. *It ends*: each turn that writes ends
    /// a wait.
    #[cold]
    pub(super) fn give_turns(&mut self) {
        while let Some(key) = self.waiting.written.pop_front() {
            let mut passed_over = 0;
            while self.contains(&key) {
                let ids = self.waiting.by_key.get(&key);
                let Some(id) = ids.and_then(|ids| ids.get(passed_over)).copied() else { break };
                let Some((_, waiter)) = self.waiting.by_id.get_mut(&id) else { break };
                // Taken out, so that his turn may write; put back where he was if it isn't over.
                let mut waiter = std::mem::replace(waiter, Box::new(|_, _| true));
                if waiter(self, Turn::Key(&key)) {
                    self.waiting.remove(id);
                } else {
                    passed_over += 1;
                    if let Some((_, place)) = self.waiting.by_id.get_mut(&id) {
                        *place = waiter;
                    }
                }
            }
        }
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("waits", &self.by_id.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::super::collection::{List, Side};
    use super::super::{MemoryAdapter, Refusal, WhenFull};
    use super::{End, Keyspace, Turn, Waiter};

    type Told = Arc<Mutex<Vec<String>>>;

    fn push(keyspace: &mut Keyspace, key: &str, elements: &[&str]) {
        let done: Result<(), Refusal> = keyspace.change(key.as_bytes(), |list: &mut List| {
            elements.iter().for_each(|element| list.push(Side::Right, element.as_bytes()));
            Ok(())
        });
        done.unwrap();
    }

    /// Takes an element, and pushes it to `to` if there is one.
    fn popper(name: &'static str, to: Option<&'static str>, told: &Told) -> Waiter {
        let told = Arc::clone(told);
        Box::new(move |keyspace, turn| match turn {
            Turn::Over(end) => {
                told.lock().push(format!("{name}: {end:?}"));
                true
            }
            Turn::Key(key) => {
                let popped = keyspace
                    .change_found(key, |list: &mut List| Ok::<_, Refusal>(list.pop(Side::Left)));
                let Ok(Some(Some(element))) = popped else { return false };
                let element = String::from_utf8(element.to_vec()).unwrap();
                if let Some(to) = to {
                    push(keyspace, to, &[&element]);
                }
                told.lock().push(format!("{name}: {element}"));
                true
            }
        })
    }

    fn memory() -> (MemoryAdapter, Told) {
        (MemoryAdapter::new(1 << 20, WhenFull::Refuse, || 1), Told::default())
    }

    #[test]
    fn the_first_who_waits_is_served_first_and_others_go_on_waiting() {
        let (memory, told) = memory();
        memory.with(|keyspace| {
            keyspace.wait(1, &[b"a", b"b", b"a"], popper("one", None, &told));
            keyspace.wait(2, &[b"b"], popper("two", None, &told));
            keyspace.wait(3, &[b"a", b"b"], popper("three", None, &told));
        });
        memory.with(|keyspace| push(keyspace, "b", &["x", "y"]));
        assert_eq!(*told.lock(), ["one: x", "two: y"]);
        memory.with(|keyspace| {
            assert_eq!((keyspace.waits(), keyspace.contains(b"b")), (1, false));
            assert!(!keyspace.end_wait(1, End::TimedOut), "it is over");
            assert!(keyspace.end_wait(3, End::Unblocked));
            assert!(keyspace.waiting.is_empty() && keyspace.waiting.by_key.is_empty());
        });
        assert_eq!(told.lock().last().unwrap(), "three: Unblocked");
    }

    #[test]
    fn what_is_not_for_one_is_offered_to_the_next() {
        let (memory, told) = memory();
        memory.with(|keyspace| {
            keyspace.wait(1, &[b"a"], Box::new(|_, _| false));
            keyspace.wait(2, &[b"a"], popper("two", None, &told));
        });
        memory.with(|keyspace| push(keyspace, "a", &["x"]));
        assert_eq!(*told.lock(), ["two: x"]);
        assert_eq!(memory.with(|keyspace| keyspace.waits()), 1);
    }

    #[test]
    fn turns_come_when_the_last_of_several_commands_is_done() {
        let (memory, told) = memory();
        memory.with(|keyspace| keyspace.wait(1, &[b"a"], popper("one", None, &told)));
        memory.exclusively(1, || {
            memory.with(|keyspace| push(keyspace, "a", &["gone"]));
            memory.with(|keyspace| keyspace.remove(b"a"));
            memory.with(|keyspace| push(keyspace, "a", &["left"]));
            assert!(told.lock().is_empty());
        });
        assert_eq!(*told.lock(), ["one: left"]);
    }

    #[test]
    fn what_one_moves_on_serves_another() {
        let (memory, told) = memory();
        memory.with(|keyspace| {
            keyspace.wait(1, &[b"c"], popper("last", None, &told));
            keyspace.wait(2, &[b"b"], popper("middle", Some("c"), &told));
            keyspace.wait(3, &[b"a"], popper("first", Some("b"), &told));
        });
        memory.with(|keyspace| push(keyspace, "a", &["x"]));
        assert_eq!(*told.lock(), ["first: x", "middle: x", "last: x"]);
    }
}
