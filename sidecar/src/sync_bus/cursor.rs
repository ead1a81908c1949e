//! A subscriber's place in the order of a stream: what it has told, what it still misses, and what
//! it may claim. Pure: events go in by the methods, [`Action`]s come out of [`Cursor::next_action`]
//! and the positions to read out of [`Cursor::next_fetch`]; time, network and tasks are the
//! caller's.
//!
//! What always holds, whatever is dropped, repeated, delayed or swapped on the way:
//!
//! 1. Positions are told one after the other. One is left out only by an [`Action::Reset`] (or
//!    before the first [`Action::Proof`], which says where the subscriber joined).
//! 2. An [`Action::Proof`] comes when every position up to the proven one was told or reset, and
//!    the order that they were told from is still the stream's.
//!
//! The second half of 2 is about a stream that lost its end and was written anew (a server's
//! restart without its last writes, a volume brought back from a snapshot): positions are used
//! twice, and counting alone sees nothing. So after each interruption the stamp of the last told
//! message is compared with what the stream has at that position (the *anchor*).
//!
//! The caller asks and fetches one at a time, and hands over every live message that arrived
//! before an answer before that answer: the answer may name a new epoch, whose positions count
//! anew, and what came before it is of the old one.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

/// Live messages kept while an earlier one is fetched. What doesn't fit is fetched in its turn.
const MOST_HELD: usize = 256;
/// Positions in one fetch.
pub(super) const MOST_FETCHED: u64 = 256;
/// Missed positions beyond which forgetting everything is cheaper than reading them.
const MOST_REPLAYED: u64 = 100_000;
/// Answers after which positions that the stream says it has, but doesn't give, are given up.
const PATIENCE: u32 = 3;

/// A message with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed<M> {
    pub(super) position: u64,
    /// When the server stored it: tells a message from another one that has had the same position.
    /// Later ones are greater, as far as the servers' clocks agree.
    pub(super) stamp: String,
    pub(super) message: M,
}

/// What the stream said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Changes when positions count anew.
    pub(super) epoch: String,
    /// The first position that it still has; `last + 1` when it has none.
    pub(super) first: u64,
    /// The last position that was given.
    pub(super) last: u64,
    /// The stamp of the message at `last`.
    pub(super) last_stamp: String,
}

/// What the caller is to pass on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action<M> {
    /// The next position's message.
    Tell { position: u64, replayed: bool, message: M },
    /// `from..=to` were missed.
    Gap { from: u64, to: u64 },
    /// The stream has positions up to `end`, which are on their way.
    Behind { end: u64 },
    /// Everything up to `position` is told.
    Proof { as_of: Instant, position: u64, epoch: String },
    /// Positions up to `position` are given up.
    Reset { reason: String, epoch: String, position: u64 },
}

/// Positions to read from the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fetch {
    pub(super) from: u64,
    pub(super) to: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Cursor<M> {
    /// The last position that was told; `None` until the stream has answered once.
    place: Option<Place>,
    /// The place when the order may have been broken, until that is cleared. Nothing is told
    /// meanwhile: it could be of another order than what was told before.
    anchor: Option<(u64, String)>,
    /// Live messages beyond the place that can't be told yet.
    held: BTreeMap<u64, (String, M)>,
    /// The highest position heard of.
    seen: u64,
    /// Up to where gaps were announced.
    announced: u64,
    asked: Option<Asked>,
    awaited: Option<Awaited>,
    fetching: Option<Fetching>,
    /// A fetch gave nothing: the next waits for an answer.
    stalled: bool,
    /// Fetches in a row that gave nothing.
    fruitless: u32,
    actions: VecDeque<Action<M>>,
}

#[derive(Debug)]
struct Place {
    epoch: String,
    position: u64,
    stamp: String,
}

#[derive(Debug)]
struct Asked {
    as_of: Instant,
    /// The highest position heard of before: the stream can't have fewer, or it has lost some.
    seen: u64,
}

/// An answer that becomes a proof when its last position is told.
#[derive(Debug)]
struct Awaited {
    as_of: Instant,
    last: u64,
    last_stamp: String,
}

#[derive(Debug)]
struct Fetching {
    /// Whether the anchor is the first thing that must come.
    anchor: bool,
    /// Whether it gave anything new.
    gave: bool,
}

impl<M> Cursor<M> {
    pub(super) fn new() -> Self {
        Self {
            place: None,
            anchor: None,
            held: BTreeMap::new(),
            seen: 0,
            announced: 0,
            asked: None,
            awaited: None,
            fetching: None,
            stalled: false,
            fruitless: 0,
            actions: VecDeque::new(),
        }
    }

    /// A message came on the live path.
    pub(super) fn live(&mut self, message: Placed<M>) {
        self.seen = self.seen.max(message.position);
        self.accept(message, false);
    }

    /// The stream is about to be asked; `as_of` is taken before.
    pub(super) fn asking(&mut self, as_of: Instant) {
        self.asked = Some(Asked { as_of, seen: self.seen });
    }

    /// The stream answered.
    pub(super) fn answered(&mut self, answer: Answer) {
        let Some(asked) = self.asked.take() else { return };
        self.stalled = false;
        let Some(place) = &self.place else {
            // What was heard so far may be of an earlier epoch, so none of it is kept; that there
            // was something is enough to look for it.
            let seen = self.seen;
            self.restart(answer, asked.as_of);
            self.seen = self.seen.max(seen);
            return;
        };
        let (position, next) = (place.position, place.position + 1);
        let fault = if answer.epoch != place.epoch {
            Some(format!("the stream was made anew, as {}", answer.epoch))
        } else if answer.last < asked.seen {
            Some(format!("the stream went back from {} to {}", asked.seen, answer.last))
        } else if self.contradicts_anchor(&answer) {
            Some("the stream's end was written anew, or is too old to know".to_owned())
        } else if answer.first > next && answer.last >= next {
            Some(format!("positions {next} to {} are no longer kept", answer.first - 1))
        } else if answer.last.saturating_sub(position) > MOST_REPLAYED {
            Some(format!("{} positions were missed", answer.last - position))
        } else if self.fruitless >= PATIENCE {
            Some(format!("position {next} can't be read from the stream"))
        } else {
            None
        };
        if let Some(reason) = fault {
            let (epoch, position) = (answer.epoch.clone(), answer.last);
            self.actions.push_back(Action::Reset { reason, epoch, position });
            self.restart(answer, asked.as_of);
            return;
        }
        // An older answer that isn't told yet is nearer to a proof than this one.
        let Answer { last, last_stamp, .. } = answer;
        if last > position {
            self.actions.push_back(Action::Behind { end: last });
        }
        self.awaited.get_or_insert(Awaited { as_of: asked.as_of, last, last_stamp });
        if self.anchor.is_some() {
            // What was sent during the interruption won't come by itself.
            self.seen = self.seen.max(last);
        } else {
            self.tell_held();
            self.prove();
        }
    }

    /// What the last answer spoke of has had its time to come on the live path.
    pub(super) fn overdue(&mut self) {
        if let Some(awaited) = &self.awaited {
            self.seen = self.seen.max(awaited.last);
        }
    }

    /// A fetch gave a message.
    pub(super) fn fetched(&mut self, message: Placed<M>) {
        let Some(fetching) = &mut self.fetching else { return };
        let Some(place) = &self.place else { return };
        if std::mem::take(&mut fetching.anchor) {
            fetching.gave = true;
            let found = Some((message.position, message.stamp.clone()));
            if self.anchor.take() == found {
                self.tell_held();
                self.prove();
            } else {
                self.skip_to(message, "the stream's end was written anew");
            }
        } else if message.position > place.position + 1 {
            fetching.gave = true;
            // The stream gives what it has in order, so what lies between is gone for good.
            self.skip_to(message, "positions were deleted from the stream");
        } else {
            fetching.gave |= message.position > place.position;
            self.accept(message, true);
        }
    }

    /// The fetch has ended; `heard` is whether the stream said so itself, rather than fell silent.
    pub(super) fn fetch_ended(&mut self, heard: bool) {
        let Some(fetching) = self.fetching.take() else { return };
        let open = self.anchor.is_some() || self.missing().is_some();
        if fetching.gave || !open {
            self.fruitless = 0;
        } else if heard {
            // A replica may lag behind the leader, so this is no proof that there is nothing.
            self.fruitless += 1;
        }
        self.stalled = open && !(heard && fetching.gave);
    }

    /// The connection broke, or the stream didn't answer. What comes next may come from a server
    /// that has lost what an earlier one gave.
    pub(super) fn interrupted(&mut self) {
        self.asked = None;
        self.awaited = None;
        self.fetching = None;
        self.stalled = true;
        self.held.clear();
        if let (None, Some(place)) = (&self.anchor, &self.place) {
            // Before the first position there is nothing that could have been lost.
            self.anchor = (place.position > 0).then(|| (place.position, place.stamp.clone()));
        }
    }

    /// What to pass on, in order.
    pub(super) fn next_action(&mut self) -> Option<Action<M>> {
        self.actions.pop_front()
    }

    /// What to read from the stream now. [`Cursor::fetched`] and [`Cursor::fetch_ended`] follow.
    pub(super) fn next_fetch(&mut self) -> Option<Fetch> {
        let fetch = self.wanted()?;
        if let Some((from, to)) = self.missing()
            && to > self.announced
        {
            let from = from.max(self.announced + 1);
            self.announced = to;
            self.actions.push_back(Action::Gap { from, to });
        }
        let anchor = self.anchor.is_some();
        self.fetching = Some(Fetching { anchor, gave: false });
        Some(fetch)
    }

    /// Whether [`Cursor::next_fetch`] has something.
    pub(super) fn wants_fetch(&self) -> bool {
        self.wanted().is_some()
    }

    /// Whether an answer spoke of messages that are still on their way, or are lost.
    pub(super) fn awaits_tail(&self) -> bool {
        self.awaited.is_some() && !self.stalled && self.missing().is_none()
    }

    fn wanted(&self) -> Option<Fetch> {
        if self.stalled || self.fetching.is_some() {
            return None;
        }
        let position = self.place.as_ref()?.position;
        let missing = self.missing();
        let Some((anchor, _)) = self.anchor else {
            let (from, to) = missing?;
            return Some(Fetch { from, to: to.min(from + MOST_FETCHED - 1) });
        };
        // The stream must have answered since: its first and last position are needed too.
        self.awaited.as_ref()?;
        let to = match missing {
            // What is missing begins behind the anchor: one fetch for both.
            Some((_, to)) if anchor == position => to.min(anchor + MOST_FETCHED - 1),
            _ => anchor,
        };
        Some(Fetch { from: anchor, to })
    }

    /// The positions before the first held one, or before the highest that was heard of.
    fn missing(&self) -> Option<(u64, u64)> {
        let next = self.place.as_ref()?.position + 1;
        let to = match self.held.first_key_value() {
            Some((&held, _)) => held - 1,
            None => self.seen,
        };
        (to >= next).then_some((next, to))
    }

    fn accept(&mut self, message: Placed<M>, replayed: bool) {
        let Placed { position, stamp, message } = message;
        let Some(place) = &self.place else { return };
        if position <= place.position {
            return;
        }
        if position > place.position + 1 || self.anchor.is_some() {
            if self.held.len() < MOST_HELD {
                self.held.entry(position).or_insert((stamp, message));
            }
            return;
        }
        self.tell(position, stamp, replayed, message);
        self.tell_held();
    }

    fn tell_held(&mut self) {
        while let Some(entry) = self.held.first_entry() {
            let next = self.place.as_ref().map_or(0, |place| place.position + 1);
            if *entry.key() > next {
                return;
            }
            let (position, (stamp, message)) = entry.remove_entry();
            if position == next {
                self.tell(position, stamp, false, message);
            }
        }
    }

    fn tell(&mut self, position: u64, stamp: String, replayed: bool, message: M) {
        let Some(place) = &mut self.place else { return };
        debug_assert_eq!(position, place.position + 1, "positions are told one by one");
        // The stream may have been made anew since it answered, and already have come as far. What
        // the answer spoke of is no younger than its last.
        self.awaited.take_if(|awaited| match position.cmp(&awaited.last) {
            Ordering::Less => stamp > awaited.last_stamp,
            Ordering::Equal => stamp != awaited.last_stamp,
            Ordering::Greater => false,
        });
        place.position = position;
        place.stamp = stamp;
        self.actions.push_back(Action::Tell { position, replayed, message });
        self.prove();
    }

    /// Turns the awaited answer into a proof when it is true.
    fn prove(&mut self) {
        let Some(place) = &self.place else { return };
        let told = |awaited: &mut Awaited| place.position >= awaited.last;
        if self.anchor.is_none()
            && let Some(Awaited { as_of, last, .. }) = self.awaited.take_if(told)
        {
            let epoch = place.epoch.clone();
            self.actions.push_back(Action::Proof { as_of, position: last, epoch });
        }
    }

    /// Whether `answer` refutes the anchor, or clears it, or leaves it to a fetch.
    fn contradicts_anchor(&mut self, answer: &Answer) -> bool {
        let Some((position, stamp)) = &self.anchor else { return false };
        if answer.last == *position {
            let same = answer.last_stamp == *stamp;
            self.anchor = None;
            return !same;
        }
        answer.first > *position
    }

    /// Gives up what lies before `message`, and the message too: it is covered by the reset.
    fn skip_to(&mut self, message: Placed<M>, reason: &str) {
        let Some(place) = &mut self.place else { return };
        let Placed { position, stamp, .. } = message;
        let reason = format!("{reason}: {} to {position}", place.position + 1);
        place.position = position;
        place.stamp = stamp;
        let epoch = place.epoch.clone();
        self.anchor = None;
        self.announced = position;
        self.actions.push_back(Action::Reset { reason, epoch, position });
        self.tell_held();
        self.prove();
    }

    /// Takes the place that `answer` names, which proves it: nothing before it is owed.
    fn restart(&mut self, answer: Answer, as_of: Instant) {
        let Answer { epoch, last, last_stamp, .. } = answer;
        self.actions.push_back(Action::Proof { as_of, position: last, epoch: epoch.clone() });
        *self = Self {
            place: Some(Place { epoch, position: last, stamp: last_stamp }),
            seen: last,
            announced: last,
            actions: std::mem::take(&mut self.actions),
            ..Self::new()
        };
    }
}

#[cfg(test)]
mod tests;
