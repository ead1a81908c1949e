//! What may be written over a lock's record, and when. Pure: `model` runs these very functions in
//! every order, on clocks that are as wrong as they may be.
//!
//! *A lock has one holder at a time* because every change is a compare-and-swap, and because a
//! holder is taken for gone only by `tenure`'s rule. Who waits stands in the record in the order
//! in which he came: a lock that becomes free is offered to the first, who has [`CLAIM`] to take
//! it, and whoever is asked to wait for a dead pod's waiters does so once and not for each.
//!
//! [`CLAIM`]: super::record::CLAIM

use std::time::Duration;

use super::record::{Holder, Record, Waiter};
use crate::sync_bus::observed::Record as _;
use crate::sync_bus::tenure::{Boot, others_end};

/// The most that may wait for one lock.
pub(super) const MOST_WAITING: usize = 256;

/// Who asks for a lock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    /// Names this one question.
    pub(super) id: u64,
    /// The run of the sidecar.
    pub(super) pod: u64,
    pub(super) ttl: Duration,
    pub(super) waits: bool,
}

/// How he goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Writes this, and holds the lock if it is written.
    Take(Record),
    /// Writes this, and asks again.
    Change(Record),
    /// Waits for a change, at most until then.
    Wait(Boot),
    /// Somebody else has it, or comes before him.
    Refused,
    /// Too many wait.
    Full,
}

/// The next step of `asker`, who sees at `now` a record that shows the same sign of life since
/// `since`.
pub(super) fn step(record: &Record, asker: &Asker, since: Boot, now: Boot) -> Step {
    let mut new = record.clone();
    let gone = is_gone(record, since, now);
    if gone && record.holder.is_some() {
        new.holder = None;
    } else if gone {
        evict(&mut new, asker);
    }
    if new.holder.is_none() && new.queue.front().is_none_or(|first| first.id == asker.id) {
        new.queue.pop_front();
        new.holder = Some(Holder { id: asker.id, grant: 0, beat: 0, ttl: millis(asker.ttl) });
        return Step::Take(new);
    }
    if asker.waits && !new.awaits(asker.id) {
        if new.queue.len() >= MOST_WAITING {
            return Step::Full;
        }
        new.queue.push_back(Waiter { id: asker.id, pod: asker.pod });
    }
    if new != *record {
        return Step::Change(new);
    }
    match record.sign() {
        Some((_, patience)) if asker.waits => Step::Wait(others_end(since, patience)),
        _ => Step::Refused,
    }
}

/// The record without who has shown no sign of life for too long, if there is such a one.
pub(super) fn tidy(record: &Record, since: Boot, now: Boot) -> Option<Record> {
    if !is_gone(record, since, now) {
        return None;
    }
    let mut new = record.clone();
    if new.holder.take().is_none() {
        let pod = new.queue.front()?.pod;
        new.queue.retain(|waiter| waiter.pod != pod);
    }
    Some(new)
}

fn is_gone(record: &Record, since: Boot, now: Boot) -> bool {
    record.sign().is_some_and(|(_, patience)| now >= others_end(since, patience))
}

/// The first who waits hasn't taken what he was offered. What he waits at is taken for gone, with
/// all who wait there; but not by one who waits there himself.
fn evict(record: &mut Record, asker: &Asker) {
    let Some(first) = record.queue.front().copied() else { return };
    if first.id == asker.id {
        return;
    }
    if first.pod == asker.pod {
        record.queue.pop_front();
    } else {
        record.queue.retain(|waiter| waiter.pod != first.pod);
    }
}

/// The record with another sign of life of its holder, if that is `id`.
pub(super) fn renew(record: &Record, id: u64, ttl: Duration) -> Option<Record> {
    let mut holder = *record.holds(id)?;
    holder.beat += 1;
    holder.ttl = millis(ttl);
    Some(Record { holder: Some(holder), queue: record.queue.clone() })
}

/// The record without `id`, who holds it or waits.
pub(super) fn without(record: &Record, id: u64) -> Option<Record> {
    let mut new = record.clone();
    new.holder.take_if(|holder| holder.id == id);
    new.queue.retain(|waiter| waiter.id != id);
    (new != *record).then_some(new)
}

fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::record::CLAIM;
    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Boot {
        Boot::at(Duration::from_secs(seconds))
    }

    fn asker(id: u64, pod: u64) -> Asker {
        Asker { id, pod, ttl: TTL, waits: true }
    }

    /// Asks at once; what is written is read at `revision`.
    fn written(step: Step, revision: u64) -> Record {
        match step {
            Step::Take(record) | Step::Change(record) => record.at(revision),
            other => panic!("nothing is written: {other:?}"),
        }
    }

    fn ids(record: &Record) -> Vec<u64> {
        record.queue.iter().map(|waiter| waiter.id).collect()
    }

    #[test]
    fn a_free_lock_is_taken_and_the_others_stand_in_line() {
        let free = Record::default();
        let first = step(&free, &asker(1, 1), at(0), at(0));
        assert!(matches!(first, Step::Take(_)));
        let held = written(first, 7);
        let second = written(step(&held, &asker(2, 2), at(0), at(1)), 8);
        let third = written(step(&second, &asker(3, 1), at(0), at(2)), 9);
        assert_eq!(ids(&third), [2, 3]);
        assert_eq!(step(&third, &asker(2, 2), at(0), at(3)), Step::Wait(at(11)));
        let impatient = Asker { waits: false, ..asker(4, 2) };
        assert_eq!(step(&third, &impatient, at(0), at(3)), Step::Refused);

        let released = without(&third, 1).unwrap();
        assert_eq!(step(&released, &impatient, at(3), at(3)), Step::Refused, "2 comes before");
        assert!(matches!(step(&released, &asker(3, 1), at(3), at(3)), Step::Wait(_)));
        let taken = step(&released, &asker(2, 2), at(3), at(3));
        assert!(matches!(&taken, Step::Take(record) if ids(record) == [3]));
        assert_eq!(written(taken, 12).holds(2).unwrap().grant, 12);
    }

    #[test]
    fn a_holder_who_is_silent_for_too_long_is_gone_and_the_first_in_line_comes() {
        let held = written(step(&Record::default(), &asker(1, 1), at(0), at(0)), 7);
        let record = written(step(&held, &asker(2, 2), at(0), at(0)), 8);
        let record = written(step(&record, &asker(3, 3), at(0), at(0)), 9);
        assert!(matches!(step(&record, &asker(2, 2), at(0), at(10)), Step::Wait(_)));
        assert!(matches!(step(&record, &asker(2, 2), at(0), at(11)), Step::Take(_)));
        // Another one only frees it.
        let freed = step(&record, &asker(3, 3), at(0), at(11));
        assert!(
            matches!(&freed, Step::Change(free) if free.holder.is_none() && ids(free) == [2, 3])
        );
        assert_eq!(tidy(&record, at(0), at(10)), None);
        assert_eq!(tidy(&record, at(0), at(11)), Some(written(freed, 0)));
    }

    #[test]
    fn who_does_not_take_what_he_is_offered_loses_his_place_with_his_pod() {
        let queue = [(2, 2), (3, 2), (4, 3), (5, 2)].map(|(id, pod)| Waiter { id, pod });
        let offered = Record { holder: None, queue: queue.into() };
        let claimed = others_end(at(0), CLAIM);
        assert!(matches!(step(&offered, &asker(4, 3), at(0), at(2)), Step::Wait(_)));
        let taken = step(&offered, &asker(4, 3), at(0), claimed);
        assert!(matches!(&taken, Step::Take(record) if ids(record).is_empty()));
        // One of the same pod knows that it lives.
        let own = step(&offered, &asker(5, 2), at(0), claimed);
        assert!(matches!(&own, Step::Change(record) if ids(record) == [3, 4, 5]));
        assert_eq!(ids(&tidy(&offered, at(0), claimed).unwrap()), [4]);
    }

    #[test]
    fn only_the_holder_renews_and_only_he_or_a_waiter_leaves() {
        let held = written(step(&Record::default(), &asker(1, 1), at(0), at(0)), 7);
        let renewed = renew(&held, 1, TTL).unwrap();
        assert_eq!(renewed.holds(1).unwrap().beat, 1);
        assert_eq!(renewed.holds(1).unwrap().grant, 7);
        assert_eq!(renew(&held, 2, TTL), None);
        assert_eq!(without(&held, 2), None);
        assert_eq!(without(&held, 1), Some(Record::default()));
    }

    #[test]
    fn a_queue_has_an_end() {
        let waiters = (2..).map(|id| Waiter { id, pod: id }).take(MOST_WAITING);
        let held = written(step(&Record::default(), &asker(1, 1), at(0), at(0)), 7);
        let record = Record { queue: waiters.collect(), ..held };
        assert_eq!(step(&record, &asker(1000, 1), at(0), at(0)), Step::Full);
        assert!(matches!(step(&record, &asker(3, 3), at(0), at(0)), Step::Wait(_)));
    }
}
