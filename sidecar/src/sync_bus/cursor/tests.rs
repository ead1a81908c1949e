//! Examples of each rule, and a model: a server with a log, a pipe that loses, repeats and swaps,
//! and everything that can happen to them in any order.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn placed(position: u64) -> Placed<u64> {
    Placed { position, stamp: format!("t{position:09}"), message: position }
}

fn answer(first: u64, last: u64) -> Answer {
    Answer { epoch: "e".to_owned(), first, last, last_stamp: format!("t{last:09}") }
}

/// A cursor that joined at `position`.
fn joined(position: u64) -> Cursor<u64> {
    let mut cursor = Cursor::new();
    ask(&mut cursor, answer(1, position));
    assert_eq!(said(&mut cursor), [format!("proof {position}")]);
    cursor
}

fn ask(cursor: &mut Cursor<u64>, answer: Answer) {
    cursor.asking(Instant::now());
    cursor.answered(answer);
}

fn fetch(cursor: &mut Cursor<u64>) -> Option<(u64, u64)> {
    cursor.next_fetch().map(|Fetch { from, to }| (from, to))
}

/// The actions so far, shortly.
fn said(cursor: &mut Cursor<u64>) -> Vec<String> {
    std::iter::from_fn(|| cursor.next_action())
        .map(|action| match action {
            Action::Tell { position, replayed: false, .. } => format!("{position}"),
            Action::Tell { position, replayed: true, .. } => format!("replayed {position}"),
            Action::Gap { from, to } => format!("gap {from}..={to}"),
            Action::Behind { end } => format!("behind {end}"),
            Action::Proof { position, .. } => format!("proof {position}"),
            Action::Reset { position, .. } => format!("reset {position}"),
        })
        .collect()
}

#[test]
fn live_messages_are_told_once_and_in_order() {
    let mut cursor = joined(5);
    for position in [6, 7, 7, 6, 8] {
        cursor.live(placed(position));
    }
    assert_eq!(said(&mut cursor), ["6", "7", "8"]);
    ask(&mut cursor, answer(1, 8));
    assert_eq!(said(&mut cursor), ["proof 8"]);
}

#[test]
fn a_gap_is_fetched_and_what_came_meanwhile_follows() {
    let mut cursor = joined(5);
    cursor.live(placed(9));
    assert_eq!(fetch(&mut cursor), Some((6, 8)));
    cursor.live(placed(10));
    assert_eq!(said(&mut cursor), ["gap 6..=8"]);
    for position in 6..=8 {
        cursor.fetched(placed(position));
    }
    cursor.fetch_ended(true);
    assert_eq!(said(&mut cursor), ["replayed 6", "replayed 7", "replayed 8", "9", "10"]);
    assert_eq!(fetch(&mut cursor), None);
}

#[test]
fn a_lost_tail_is_found_by_an_answer_after_it_had_its_time() {
    let mut cursor = joined(5);
    ask(&mut cursor, answer(1, 7));
    assert!(cursor.awaits_tail() && !cursor.wants_fetch());
    assert_eq!(said(&mut cursor), ["behind 7"], "nothing is proven yet");
    cursor.live(placed(6));
    cursor.overdue();
    assert_eq!(fetch(&mut cursor), Some((7, 7)));
    cursor.fetched(placed(7));
    cursor.fetch_ended(true);
    assert_eq!(said(&mut cursor), ["6", "gap 7..=7", "replayed 7", "proof 7"]);
}

#[test]
fn a_tail_that_comes_in_time_is_no_gap() {
    let mut cursor = joined(5);
    ask(&mut cursor, answer(1, 6));
    cursor.live(placed(6));
    cursor.overdue();
    assert_eq!(said(&mut cursor), ["behind 6", "6", "proof 6"]);
    assert_eq!(fetch(&mut cursor), None);
}

#[test]
fn what_was_heard_before_the_first_answer_is_fetched_behind_it() {
    let mut cursor = Cursor::new();
    cursor.live(placed(8));
    ask(&mut cursor, answer(1, 6));
    assert_eq!(fetch(&mut cursor), Some((7, 8)));
    assert_eq!(said(&mut cursor), ["proof 6", "gap 7..=8"]);
}

#[test]
fn another_epoch_resets_and_is_proven_at_once() {
    let mut cursor = joined(5);
    ask(&mut cursor, Answer { epoch: "f".to_owned(), ..answer(1, 2) });
    assert_eq!(said(&mut cursor), ["reset 2", "proof 2"]);
    cursor.live(placed(3));
    assert_eq!(said(&mut cursor), ["3"]);
}

#[test]
fn positions_that_went_back_reset() {
    let mut cursor = joined(5);
    ask(&mut cursor, answer(1, 4));
    assert_eq!(said(&mut cursor), ["reset 4", "proof 4"]);
}

#[test]
fn positions_that_are_no_longer_kept_reset() {
    let mut cursor = joined(5);
    ask(&mut cursor, answer(8, 9));
    assert_eq!(said(&mut cursor), ["reset 9", "proof 9"]);
    ask(&mut cursor, answer(10, 9));
    assert_eq!(said(&mut cursor), ["proof 9"], "an empty stream that lacks nothing is no loss");
}

#[test]
fn a_deleted_position_resets_and_what_follows_is_told() {
    let mut cursor = joined(5);
    cursor.live(placed(9));
    assert_eq!(fetch(&mut cursor), Some((6, 8)));
    cursor.fetched(placed(6));
    cursor.fetched(placed(8));
    cursor.fetch_ended(true);
    assert_eq!(said(&mut cursor), ["gap 6..=8", "replayed 6", "reset 8", "9"]);
}

#[test]
fn too_much_to_replay_resets() {
    let mut cursor = joined(5);
    ask(&mut cursor, answer(1, 6 + MOST_REPLAYED));
    assert_eq!(said(&mut cursor), ["reset 100006", "proof 100006"]);
}

#[test]
fn a_fetch_that_falls_silent_is_taken_up_after_the_next_answer() {
    let mut cursor = joined(5);
    cursor.live(placed(8));
    assert_eq!(fetch(&mut cursor), Some((6, 7)));
    cursor.fetched(placed(6));
    cursor.fetch_ended(false);
    assert_eq!(fetch(&mut cursor), None);
    ask(&mut cursor, answer(1, 8));
    assert_eq!(fetch(&mut cursor), Some((7, 7)));
    cursor.fetched(placed(7));
    cursor.fetch_ended(true);
    assert_eq!(
        said(&mut cursor),
        ["gap 6..=7", "replayed 6", "behind 8", "replayed 7", "8", "proof 8"]
    );
}

#[test]
fn a_position_that_the_stream_has_and_never_gives_resets() {
    let mut cursor = joined(5);
    cursor.live(placed(7));
    for _ in 0..PATIENCE {
        assert_eq!(fetch(&mut cursor), Some((6, 6)));
        cursor.fetch_ended(true);
        ask(&mut cursor, answer(1, 7));
    }
    let behind = ["behind 7"; PATIENCE as usize - 1];
    assert_eq!(said(&mut cursor), [&["gap 6..=6"], &behind[..], &["reset 7", "proof 7"]].concat());
}

#[test]
fn many_missed_positions_are_fetched_in_pieces() {
    let mut cursor = joined(0);
    cursor.live(placed(MOST_FETCHED + 3));
    assert_eq!(fetch(&mut cursor), Some((1, MOST_FETCHED)));
    for position in 1..=MOST_FETCHED {
        cursor.fetched(placed(position));
    }
    cursor.fetch_ended(true);
    assert_eq!(fetch(&mut cursor), Some((MOST_FETCHED + 1, MOST_FETCHED + 2)));
    let gaps = said(&mut cursor).into_iter().filter(|said| said.starts_with("gap")).count();
    assert_eq!(gaps, 1, "a gap is announced once");
}

#[test]
fn what_is_held_is_bounded_and_the_rest_is_fetched() {
    let mut cursor = joined(0);
    let most = 2 + MOST_HELD as u64 + 10;
    for position in 2..=most {
        cursor.live(placed(position));
    }
    assert_eq!(cursor.held.len(), MOST_HELD);
    assert_eq!(fetch(&mut cursor), Some((1, 1)));
    cursor.fetched(placed(1));
    cursor.fetch_ended(true);
    assert_eq!(fetch(&mut cursor), Some((2 + MOST_HELD as u64, most)));
}

#[test]
fn an_interruption_without_a_loss_is_cleared_by_the_next_answer() {
    let mut cursor = joined(5);
    cursor.interrupted();
    ask(&mut cursor, answer(1, 5));
    assert_eq!(said(&mut cursor), ["proof 5"]);
}

#[test]
fn what_was_missed_during_an_interruption_is_fetched_together_with_the_anchor() {
    let mut cursor = joined(5);
    cursor.interrupted();
    assert!(!cursor.wants_fetch(), "nothing is fetched before the stream has answered");
    ask(&mut cursor, answer(1, 7));
    assert_eq!(fetch(&mut cursor), Some((5, 7)));
    for position in 5..=7 {
        cursor.fetched(placed(position));
    }
    cursor.fetch_ended(true);
    assert_eq!(said(&mut cursor), ["behind 7", "gap 6..=7", "replayed 6", "replayed 7", "proof 7"]);
}

#[test]
fn an_end_that_was_written_anew_resets_although_no_position_is_missing() {
    let mut same_length = joined(5);
    same_length.interrupted();
    ask(&mut same_length, Answer { last_stamp: "other".to_owned(), ..answer(1, 5) });
    assert_eq!(said(&mut same_length), ["reset 5", "proof 5"]);

    let mut longer = joined(5);
    longer.interrupted();
    longer.live(placed(6));
    ask(&mut longer, answer(1, 6));
    assert_eq!(fetch(&mut longer), Some((5, 5)));
    longer.fetched(Placed { stamp: "other".to_owned(), ..placed(5) });
    longer.fetch_ended(true);
    assert_eq!(said(&mut longer), ["behind 6", "reset 5", "6", "proof 6"]);
}

/// One message as the model's server stored it. `id` is never used twice.
#[derive(Clone, Debug)]
struct Stored {
    id: u64,
    at_time: u64,
    deleted: bool,
}

#[derive(Debug)]
enum Arrival {
    Live(Placed<u64>),
    Answer(Answer),
}

/// The server, the pipe to the cursor, and what the subscriber has been told.
struct Model {
    cursor: Cursor<u64>,
    epoch: u64,
    /// Position 1 is at the front.
    log: Vec<Stored>,
    first: u64,
    ids: u64,
    pipe: VecDeque<Arrival>,
    asked: bool,
    origin: Instant,
    time: u64,
    /// Ids that the subscriber must have dropped from its cache, by when they were stored.
    owed: Vec<Stored>,
    told: BTreeSet<u64>,
    /// The position after the last told one; 0 before joining.
    expected: u64,
    proofs: u64,
}

#[derive(Clone, Debug)]
enum Event {
    Publish,
    Arrive,
    LoseOneInFlight(usize),
    RepeatOneInFlight(usize),
    SwapInFlight(usize),
    Ask,
    LoseAnswer,
    Overdue,
    /// How many messages come before the fetch ends, and whether it ends properly.
    Fetch(usize, bool),
    /// By a replica that has nothing yet.
    FetchFromLagging,
    Trim(u64),
    Delete(usize),
    Recreate,
    NewEpochId,
    Disconnect,
    /// A restart that lost the last messages.
    RestartWithLoss(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => Just(Event::Publish),
        14 => Just(Event::Arrive),
        3 => (0..8_usize).prop_map(Event::LoseOneInFlight),
        2 => (0..8_usize).prop_map(Event::RepeatOneInFlight),
        2 => (0..8_usize).prop_map(Event::SwapInFlight),
        6 => Just(Event::Ask),
        1 => Just(Event::LoseAnswer),
        4 => Just(Event::Overdue),
        8 => ((0..6_usize), any::<bool>()).prop_map(|(count, heard)| Event::Fetch(count, heard)),
        1 => Just(Event::FetchFromLagging),
        1 => (0..4_u64).prop_map(Event::Trim),
        1 => (0..6_usize).prop_map(Event::Delete),
        1 => Just(Event::Recreate),
        1 => Just(Event::NewEpochId),
        2 => Just(Event::Disconnect),
        2 => (0..4_usize).prop_map(Event::RestartWithLoss),
    ]
}

impl Model {
    fn new() -> Self {
        Self {
            cursor: Cursor::new(),
            epoch: 0,
            log: Vec::new(),
            first: 1,
            ids: 0,
            pipe: VecDeque::new(),
            asked: false,
            origin: Instant::now(),
            time: 0,
            owed: Vec::new(),
            told: BTreeSet::new(),
            expected: 0,
            proofs: 0,
        }
    }

    fn last(&self) -> u64 {
        self.log.len() as u64
    }

    fn stamp(stored: &Stored) -> String {
        format!("t{:04}", stored.at_time)
    }

    fn placed(&self, position: u64) -> Option<Placed<u64>> {
        let stored = self.log.get(usize::try_from(position).unwrap() - 1)?;
        (position >= self.first && !stored.deleted).then(|| Placed {
            position,
            stamp: Self::stamp(stored),
            message: stored.id,
        })
    }

    fn answer(&self) -> Answer {
        let last = self.last();
        let last_stamp = self.log.last().map(Self::stamp);
        let epoch = self.epoch.to_string();
        Answer { epoch, first: self.first, last, last_stamp: last_stamp.unwrap_or_default() }
    }

    /// A live message in flight.
    fn in_flight(&self, at: usize) -> Option<usize> {
        let live: Vec<usize> =
            (0..self.pipe.len()).filter(|&at| matches!(self.pipe[at], Arrival::Live(_))).collect();
        (!live.is_empty()).then(|| live[at % live.len()])
    }

    fn happen(&mut self, event: &Event) {
        self.time += 1;
        match *event {
            Event::Publish => {
                self.ids += 1;
                let stored = Stored { id: self.ids, at_time: self.time, deleted: false };
                self.owed.push(stored.clone());
                self.log.push(stored);
                let live = self.placed(self.last()).unwrap();
                self.pipe.push_back(Arrival::Live(live));
            }
            Event::Arrive => match self.pipe.pop_front() {
                Some(Arrival::Live(message)) => self.cursor.live(message),
                Some(Arrival::Answer(answer)) => {
                    self.asked = false;
                    self.cursor.answered(answer);
                }
                None => {}
            },
            Event::LoseOneInFlight(at) => {
                if let Some(at) = self.in_flight(at) {
                    self.pipe.remove(at);
                }
            }
            Event::RepeatOneInFlight(at) => {
                if let Some(at) = self.in_flight(at)
                    && let Arrival::Live(message) = &self.pipe[at]
                {
                    let again = Arrival::Live(message.clone());
                    self.pipe.insert(at, again);
                }
            }
            Event::SwapInFlight(at) => {
                // Only live messages overtake each other: an answer is read after what came
                // before it.
                if let Some(at) = self.in_flight(at)
                    && let Some(Arrival::Live(_)) = self.pipe.get(at + 1)
                {
                    self.pipe.swap(at, at + 1);
                }
            }
            Event::Ask if !self.asked => {
                self.asked = true;
                self.cursor.asking(self.origin + Duration::from_secs(self.time));
                self.pipe.push_back(Arrival::Answer(self.answer()));
            }
            Event::LoseAnswer if self.asked => {
                self.asked = false;
                self.pipe.retain(|arrival| matches!(arrival, Arrival::Live(_)));
                self.cursor.interrupted();
            }
            Event::Overdue => self.cursor.overdue(),
            Event::Fetch(count, heard) if !self.asked => {
                if let Some(Fetch { from, to }) = self.cursor.next_fetch() {
                    let most = usize::try_from(to - from).unwrap() + 1;
                    let given: Vec<_> = (from.max(1)..=self.last())
                        .filter_map(|position| self.placed(position))
                        .take(if heard { most } else { most.min(count) })
                        .collect();
                    for message in given {
                        self.cursor.fetched(message);
                    }
                    self.cursor.fetch_ended(heard);
                }
            }
            Event::FetchFromLagging if !self.asked => {
                if self.cursor.next_fetch().is_some() {
                    self.cursor.fetch_ended(true);
                }
            }
            Event::Ask | Event::LoseAnswer | Event::Fetch(..) | Event::FetchFromLagging => {}
            Event::Trim(count) => self.first = (self.first + count).min(self.last() + 1),
            Event::Delete(at) => {
                if at + 1 < self.log.len() {
                    self.log[at].deleted = true;
                }
            }
            Event::Recreate => {
                self.epoch += 1;
                self.log.clear();
                self.first = 1;
            }
            Event::NewEpochId => self.epoch += 1,
            Event::Disconnect => self.disconnect(),
            Event::RestartWithLoss(count) => {
                self.disconnect();
                for _ in 0..count.min(self.log.len()) {
                    // What the server itself has forgotten can't be asked of anyone.
                    if let Some(lost) = self.log.pop() {
                        self.owed.retain(|owed| owed.id != lost.id);
                    }
                }
                self.first = self.first.min(self.last() + 1);
            }
        }
        self.listen();
    }

    fn disconnect(&mut self) {
        self.asked = false;
        self.pipe.clear();
        self.cursor.interrupted();
    }

    /// The subscriber's side, where the promises are checked.
    fn listen(&mut self) {
        while let Some(action) = self.cursor.next_action() {
            match action {
                Action::Tell { position, message, .. } => {
                    assert_eq!(position, self.expected, "positions are told one after the other");
                    self.expected += 1;
                    self.told.insert(message);
                }
                Action::Gap { from, to } => assert!(from <= to && from >= self.expected),
                Action::Behind { end } => assert!(end >= self.expected),
                Action::Reset { position, .. } => {
                    self.expected = position + 1;
                    // Everything cached is forgotten, so all that was stored so far is covered.
                    self.owed.clear();
                }
                Action::Proof { as_of, position, .. } => {
                    let joined = self.expected == 0;
                    if joined {
                        self.expected = position + 1;
                        self.owed.clear();
                    }
                    assert!(self.expected > position, "a proof is for what was told");
                    let as_of = as_of.duration_since(self.origin).as_secs();
                    self.owed.retain(|owed| !self.told.contains(&owed.id));
                    let missed: Vec<_> =
                        self.owed.iter().filter(|owed| owed.at_time < as_of).collect();
                    assert!(missed.is_empty(), "proven as of {as_of} without {missed:?}");
                    self.proofs += 1;
                }
            }
        }
    }

    /// Everything works from now on.
    fn settle(&mut self) {
        for _ in 0..20 {
            for event in [Event::Ask, Event::Arrive, Event::Overdue] {
                while matches!(event, Event::Arrive) && !self.pipe.is_empty() {
                    self.happen(&Event::Arrive);
                }
                self.happen(&event);
            }
            while self.cursor.wants_fetch() {
                self.happen(&Event::Fetch(0, true));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_a_proof_is_true_and_comes_in_the_end(events in vec(event(), 0..120)) {
        let mut model = Model::new();
        for event in &events {
            model.happen(event);
        }
        let proofs = model.proofs;
        model.settle();
        prop_assert!(model.proofs > proofs);
        prop_assert_eq!(model.expected, model.last() + 1, "the end is reached");
        prop_assert!(!model.cursor.wants_fetch());
    }
}
