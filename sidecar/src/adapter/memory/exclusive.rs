//! The lock around the keys, which a script or a transaction holds for all its commands.
//!
//! Each of their commands takes the lock as it does when it comes alone, so *who has the lock may
//! take it again*. The keys themselves are lent for the work of one command, which takes no other;
//! and all commands of one holder see the time at which it began. *Who waits for a key that was
//! written gets his turn before the lock is free*; of several commands, when the last is done.

use std::cell::{Cell, RefCell};

use parking_lot::ReentrantMutex;

use super::Keyspace;
use crate::adapter::UnixMillis;

/// See the module.
#[derive(Debug)]
pub(super) struct Exclusive {
    lock: ReentrantMutex<Locked>,
}

#[derive(Debug)]
struct Locked {
    keyspace: RefCell<Keyspace>,
    /// Since when somebody holds it for several commands.
    held_since: Cell<Option<UnixMillis>>,
}

impl Exclusive {
    pub(super) fn new(keyspace: Keyspace) -> Self {
        let keyspace = RefCell::new(keyspace);
        Self { lock: ReentrantMutex::new(Locked { keyspace, held_since: Cell::new(None) }) }
    }

    /// Lends the keys for one command, at the time `now` unless somebody's commands began earlier.
    #[inline]
    pub(super) fn lend<T>(
        &self,
        now: impl FnOnce() -> UnixMillis,
        work: impl FnOnce(&mut Keyspace) -> T,
    ) -> T {
        let locked = self.lock.lock();
        let mut keyspace = locked.keyspace.borrow_mut();
        let held_since = locked.held_since.get();
        keyspace.set_now(held_since.unwrap_or_else(now));
        let result = work(&mut keyspace);
        if held_since.is_none() && keyspace.owes_turns() {
            keyspace.give_turns();
        }
        result
    }

    /// The same, unless somebody else has them.
    pub(super) fn lend_if_free<T>(
        &self,
        now: impl FnOnce() -> UnixMillis,
        work: impl FnOnce(&mut Keyspace) -> T,
    ) -> Option<T> {
        let _mine = self.lock.try_lock()?;
        Some(self.lend(now, work))
    }

    /// Nobody else is lent the keys while `work` goes on, which began at `now`.
    pub(super) fn hold<T>(&self, now: UnixMillis, work: impl FnOnce() -> T) -> T {
        /// Gives back what was, even if `work` panics.
        struct Held<'a>(&'a Cell<Option<UnixMillis>>, Option<UnixMillis>);

        impl Drop for Held<'_> {
            fn drop(&mut self) {
                self.0.set(self.1);
            }
        }

        let locked = self.lock.lock();
        let before = locked.held_since.get();
        let _held = Held(&locked.held_since, before);
        locked.held_since.set(before.or(Some(now)));
        let result = work();
        if before.is_none() {
            let mut keyspace = locked.keyspace.borrow_mut();
            if keyspace.owes_turns() {
                keyspace.give_turns();
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::super::WhenFull;
    use super::{Exclusive, Keyspace};

    fn exclusive() -> Exclusive {
        Exclusive::new(Keyspace::new(1 << 20, WhenFull::Refuse))
    }

    #[test]
    fn the_holder_is_lent_the_keys_at_the_time_at_which_it_began() {
        let exclusive = exclusive();
        let now = |time| exclusive.lend(move || time, |keyspace| keyspace.now());
        assert_eq!(now(5), 5);
        exclusive.hold(10, || {
            assert_eq!(now(20), 10);
            exclusive.hold(30, || assert_eq!(now(40), 10));
            assert_eq!(now(50), 10);
        });
        assert_eq!(now(60), 60);
    }

    #[test]
    fn others_wait_for_the_holder() {
        let exclusive = exclusive();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let other = exclusive.hold(1, || {
                let other = scope.spawn(|| {
                    exclusive
                        .lend(|| 2, |_| assert!(done.load(Ordering::SeqCst), "it came between"));
                });
                for _ in 0..100 {
                    exclusive
                        .lend(|| 1, |keyspace| keyspace.put_string(b"key", b"text", None))
                        .unwrap();
                    thread::yield_now();
                }
                done.store(true, Ordering::SeqCst);
                other
            });
            other.join().unwrap();
        });
    }

    #[test]
    fn a_panic_ends_the_holding() {
        let exclusive = exclusive();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            exclusive.hold(1, || panic!("on purpose"));
        }));
        assert!(panicked.is_err());
        assert_eq!(exclusive.lend(|| 2, |keyspace| keyspace.now()), 2);
    }
}
