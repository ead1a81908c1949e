//! Members get scores.

use std::cmp::Ordering;

use crate::adapter::memory::collection::{Score, SortedSet};
use crate::resp::command::arguments::{SYNTAX_ERROR, float, is};
use crate::resp::command::{Call, Outcome};
use crate::resp::reply::Reply;

/// ZADD's options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Options {
    condition: Condition,
    /// GT takes a score that is greater than the present one, LT one that is less.
    only_if: Option<Ordering>,
    changed: bool,
    increment: bool,
}

/// Which members ZADD is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Condition {
    #[default]
    All,
    /// NX.
    New,
    /// XX.
    Present,
}

/// What became of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Added {
    New(Score),
    Changed(Score),
    Same(Score),
    Nothing,
}

impl Options {
    /// The options at the start of `arguments`, and how many they are.
    fn parse<A: AsRef<[u8]>>(arguments: &[A]) -> Result<(Self, usize), Reply> {
        let (mut options, mut count) = (Self::default(), 0);
        let [mut new, mut present, mut greater, mut less] = [false; 4];
        for argument in arguments.iter().map(AsRef::as_ref) {
            if is(argument, "NX") {
                new = true;
            } else if is(argument, "XX") {
                present = true;
            } else if is(argument, "GT") {
                greater = true;
            } else if is(argument, "LT") {
                less = true;
            } else if is(argument, "CH") {
                options.changed = true;
            } else if is(argument, "INCR") {
                options.increment = true;
            } else {
                break;
            }
            count += 1;
        }
        let rest = arguments.len() - count;
        if rest == 0 || rest % 2 == 1 {
            return Err(SYNTAX_ERROR);
        }
        options.condition = match (new, present) {
            (true, true) => {
                return Err(Reply::err("XX and NX options at the same time are not compatible"));
            }
            (true, false) => Condition::New,
            (false, true) => Condition::Present,
            (false, false) => Condition::All,
        };
        options.only_if = match (greater, less) {
            (false, false) => None,
            (true, false) if !new => Some(Ordering::Greater),
            (false, true) if !new => Some(Ordering::Less),
            _ => {
                return Err(Reply::err(
                    "GT, LT, and/or NX options at the same time are not compatible",
                ));
            }
        };
        if options.increment && rest > 2 {
            return Err(Reply::err("INCR option supports a single increment-element pair"));
        }
        Ok((options, count))
    }

    /// Gives `member` the score `number`, or adds it to the present one.
    fn add(self, set: &mut SortedSet, member: &[u8], number: f64) -> Result<Added, Reply> {
        let not_a_number = || Reply::err("resulting score is not a number (NaN)");
        let Some(present) = set.score(member) else {
            if self.condition == Condition::Present {
                return Ok(Added::Nothing);
            }
            let score = Score::new(number).ok_or_else(not_a_number)?;
            set.insert(member, score);
            return Ok(Added::New(score));
        };
        if self.condition == Condition::New {
            return Ok(Added::Nothing);
        }
        let number = if self.increment { present.get() + number } else { number };
        let score = Score::new(number).ok_or_else(not_a_number)?;
        if self.only_if.is_some_and(|wanted| score.cmp(&present) != wanted) {
            return Ok(Added::Nothing);
        }
        if score == present {
            return Ok(Added::Same(score));
        }
        set.insert(member, score);
        Ok(Added::Changed(score))
    }
}

pub(super) fn zadd(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (options, count) = Options::parse(&call.arguments[2..])?;
    add(call, options, 2 + count)
}

pub(super) fn zincrby(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    add(call, Options { increment: true, ..Options::default() }, 2)
}

/// Adds the pairs of scores and members that begin at the place `from` of the arguments.
fn add(call: &Call<'_>, options: Options, from: usize) -> Result<Outcome, Reply> {
    let key = call.arguments[1];
    let (pairs, _) = call.arguments[from..].as_chunks::<2>();
    let numbers: Vec<f64> =
        pairs.iter().map(|[score, _]| float(score)).collect::<Result<_, _>>()?;
    call.on_keyspace(|keyspace| {
        keyspace.change(key, |set: &mut SortedSet| {
            let (mut count, mut last) = (0, Added::Nothing);
            for ([_, member], number) in pairs.iter().zip(numbers) {
                last = options.add(set, member, number)?;
                count += match last {
                    Added::New(_) => 1,
                    Added::Changed(_) => u64::from(options.changed),
                    Added::Same(_) | Added::Nothing => 0,
                };
            }
            if !options.increment {
                return Ok(Reply::count(count));
            }
            Ok(match last {
                Added::New(score) | Added::Changed(score) | Added::Same(score) => {
                    Reply::Double(score.get())
                }
                Added::Nothing => Reply::Null,
            })
        })
    })
}
