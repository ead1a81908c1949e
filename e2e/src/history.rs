//! What was written and read, and whether any read was too old.
//!
//! Each key has one writer, which counts up, so that a value says which write it is of. A read may
//! return a value only as long as the next acknowledged write of its key is not older than the
//! bound. Times are since the start of the test, by the test's own clock; each is taken on the side
//! that lets the checker accuse no one wrongly: a write is over when its acknowledgement has
//! arrived, a read has begun before its request was sent.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

/// A write whose request was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The pod that it was made in.
    pub pod: String,
    /// The key.
    pub key: String,
    /// The value; each write of a key has a higher one than the write before.
    pub value: u64,
    /// When the request was sent.
    pub sent: Duration,
    /// When the acknowledgement arrived; a write without one may have been made or not.
    pub acknowledged: Option<Duration>,
}

/// A read that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The pod that it was made in.
    pub pod: String,
    /// The key.
    pub key: String,
    /// The value, if there was one.
    pub value: Option<u64>,
    /// When the request was sent.
    pub began: Duration,
    /// When the answer arrived.
    pub ended: Duration,
}

/// A time in which pods were cut off from the bus: what they wrote counts for the other pods as
/// written when it was over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The pods.
    pub pods: Vec<String>,
    /// From then.
    pub from: Duration,
    /// Until they had published what they wrote.
    pub until: Duration,
    /// A time in which the readers were cut off too, for longer than the bound already: they had
    /// nothing but the storage to read from, and nothing late excuses them.
    pub bypassed: Option<Range<Duration>>,
}

/// All that happened.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The writes.
    pub writes: Vec<Write>,
    /// The reads.
    pub reads: Vec<Read>,
    /// Requests that failed, as text.
    pub failures: Vec<String>,
}

impl History {
    /// Every read that returned a value that was overwritten more than `bound` before it began, or
    /// a value that nobody had written, as text.
    pub fn violations(&self, bound: Duration, cuts: &[Cut]) -> Vec<String> {
        let writes = self.writes_by_key();
        let fault = |read: &Read| {
            let writes = writes.get(read.key.as_str()).map_or(&[][..], Vec::as_slice);
            made_up(read, writes).or_else(|| too_old(read, writes, bound, cuts))
        };
        self.reads.iter().filter_map(fault).collect()
    }

    /// The longest time between a write's acknowledgement and the begin of a read that didn't see
    /// it; `cuts` as for [`Self::violations`].
    pub fn greatest_age(&self, cuts: &[Cut]) -> Duration {
        let writes = self.writes_by_key();
        let age = |read: &Read| Some(overwritten(read, writes.get(read.key.as_str())?, cuts)?.0);
        self.reads.iter().filter_map(age).max().unwrap_or_default()
    }

    fn writes_by_key(&self) -> BTreeMap<&str, Vec<&Write>> {
        let mut by_key: BTreeMap<&str, Vec<&Write>> = BTreeMap::new();
        for write in &self.writes {
            by_key.entry(&write.key).or_default().push(write);
        }
        by_key
    }
}

fn made_up(read: &Read, writes: &[&Write]) -> Option<String> {
    let value = read.value?;
    let written = writes.iter().any(|w| w.value == value && w.sent <= read.ended);
    (!written).then(|| format!("{} read {}={value}, which nobody had written", read.pod, read.key))
}

fn too_old(read: &Read, writes: &[&Write], bound: Duration, cuts: &[Cut]) -> Option<String> {
    let (age, by) = overwritten(read, writes, cuts)?;
    (age > bound).then(|| {
        format!(
            "at {:.3} s {} read {}={:?}, {:.3} s after {} had overwritten it with {}",
            read.began.as_secs_f64(),
            read.pod,
            read.key,
            read.value,
            age.as_secs_f64(),
            by.pod,
            by.value,
        )
    })
}

/// How long before the read began its value was overwritten, and by which write.
fn overwritten<'a>(
    read: &Read,
    writes: &[&'a Write],
    cuts: &[Cut],
) -> Option<(Duration, &'a Write)> {
    writes
        .iter()
        .filter(|write| Some(write.value) > read.value)
        .filter_map(|write| Some((read.began.checked_sub(visible(write, read, cuts)?)?, *write)))
        .max_by_key(|(age, _)| *age)
}

/// When the write counts as made for the reader.
fn visible(write: &Write, read: &Read, cuts: &[Cut]) -> Option<Duration> {
    let acknowledged = write.acknowledged?;
    if write.pod == read.pod {
        return Some(acknowledged);
    }
    let during = |cut: &&Cut| {
        cut.pods.contains(&write.pod)
            && cut.from <= acknowledged
            && acknowledged < cut.until
            && !cut.bypassed.as_ref().is_some_and(|times| times.contains(&read.began))
    };
    Some(cuts.iter().find(during).map_or(acknowledged, |cut| cut.until))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(3);

    fn write(pod: &str, value: u64, second: u64) -> Write {
        let at = Duration::from_secs(second);
        Write { pod: pod.into(), key: "k".into(), value, sent: at, acknowledged: Some(at) }
    }

    fn read(pod: &str, value: u64, second: u64) -> Read {
        let at = Duration::from_secs(second);
        Read { pod: pod.into(), key: "k".into(), value: Some(value), began: at, ended: at }
    }

    fn violations(writes: Vec<Write>, reads: Vec<Read>, cuts: &[Cut]) -> usize {
        History { writes, reads, failures: Vec::new() }.violations(BOUND, cuts).len()
    }

    #[test]
    fn an_old_value_is_right_until_the_bound_and_wrong_after_it() {
        let writes = vec![write("a", 1, 0), write("a", 2, 10)];
        assert_eq!(violations(writes.clone(), vec![read("b", 1, 13), read("b", 2, 10)], &[]), 0);
        assert_eq!(violations(writes, vec![read("b", 1, 14)], &[]), 1);
    }

    #[test]
    fn age_counts_from_the_first_write_that_was_missed() {
        let writes = vec![write("a", 1, 0), write("a", 2, 10), write("a", 3, 12)];
        assert_eq!(violations(writes, vec![read("b", 1, 14)], &[]), 1);
    }

    #[test]
    fn a_write_without_acknowledgement_may_be_read_or_not() {
        let lost = Write { acknowledged: None, ..write("a", 2, 10) };
        let writes = vec![write("a", 1, 0), lost];
        assert_eq!(violations(writes, vec![read("b", 1, 60), read("b", 2, 60)], &[]), 0);
    }

    #[test]
    fn nothing_is_read_that_nobody_wrote() {
        assert_eq!(violations(vec![write("a", 1, 5)], vec![read("b", 1, 4)], &[]), 1);
        let absent = Read { value: None, ..read("b", 0, 9) };
        assert_eq!(violations(vec![write("a", 1, 5)], vec![absent], &[]), 1);
    }

    #[test]
    fn what_a_cut_off_pod_wrote_is_late_for_the_others_and_not_for_itself() {
        let (from, until) = (Duration::from_secs(9), Duration::from_secs(30));
        let cut = [Cut { pods: vec!["a".into()], from, until, bypassed: None }];
        let writes = vec![write("a", 1, 0), write("a", 2, 10)];
        assert_eq!(violations(writes.clone(), vec![read("b", 1, 33)], &cut), 0);
        assert_eq!(violations(writes.clone(), vec![read("b", 1, 34)], &cut), 1);
        assert_eq!(violations(writes, vec![read("a", 1, 14)], &cut), 1);
    }

    #[test]
    fn a_reader_that_must_ask_the_storage_is_excused_by_nothing() {
        let second = Duration::from_secs;
        let cut = [Cut {
            pods: vec!["a".into(), "b".into()],
            from: second(9),
            until: second(30),
            bypassed: Some(second(13)..second(25)),
        }];
        let writes = vec![write("a", 1, 0), write("a", 2, 10)];
        assert_eq!(violations(writes.clone(), vec![read("b", 1, 12), read("b", 1, 26)], &cut), 0);
        assert_eq!(violations(writes, vec![read("b", 1, 20)], &cut), 1);
    }
}
