//! Several sets, sorted or not, become one: their union, intersection or difference.

use super::members;
use crate::adapter::memory::Keyspace;
use crate::adapter::memory::Refusal;
use crate::adapter::memory::collection::{Collection, Score, SortedSet};
use crate::resp::command::arguments::{NumberOfKeys, SYNTAX_ERROR, is, numbered_keys};
use crate::resp::command::set::cardinality_limit;
use crate::resp::command::{Call, Outcome};
use crate::resp::number::parse_f64;
use crate::resp::reply::Reply;

/// How.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

/// What becomes of the scores of a member that several have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Aggregate {
    #[default]
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn of(self, one: f64, other: f64) -> f64 {
        match self {
            Self::Sum => number(one + other),
            Self::Min => one.min(other),
            Self::Max => one.max(other),
        }
    }
}

/// Infinities that cancel out are zero.
fn number(number: f64) -> f64 {
    if number.is_nan() { 0.0 } else { number }
}

/// What is asked for.
#[derive(Debug)]
struct Query<'a> {
    operation: Operation,
    keys: &'a [&'a [u8]],
    options: &'a [&'a [u8]],
}

/// What the options say.
#[derive(Debug, Default)]
struct Options {
    /// None is 1 for each key.
    weights: Vec<f64>,
    aggregate: Aggregate,
    scores: bool,
}

impl<'a> Query<'a> {
    /// The number of keys stands at the place `at` of the arguments.
    fn parse(call: &Call<'a>, at: usize, name: &str, operation: Operation) -> Result<Self, Reply> {
        let (keys, options) = numbered_keys(call.arguments, at).map_err(|wrong| match wrong {
            NumberOfKeys::NotANumber => Reply::err("value is not an integer or out of range"),
            NumberOfKeys::NotPositive => {
                Reply::err(&format!("at least 1 input key is needed for '{name}' command"))
            }
            NumberOfKeys::TooMany => SYNTAX_ERROR,
        })?;
        Ok(Self { operation, keys, options })
    }

    fn options(&self, stores: bool) -> Result<Options, Reply> {
        let mut options = Options::default();
        let mut rest = self.options;
        while let [option, more @ ..] = rest {
            rest = if self.operation != Operation::Difference && is(option, "WEIGHTS") {
                let (weights, more) = more.split_at_checked(self.keys.len()).ok_or(SYNTAX_ERROR)?;
                let weights = weights.iter().map(|weight| parse_f64(weight));
                options.weights = weights
                    .collect::<Option<_>>()
                    .ok_or_else(|| Reply::err("weight value is not a float"))?;
                more
            } else if self.operation != Operation::Difference && is(option, "AGGREGATE") {
                let (how, more) = more.split_first().ok_or(SYNTAX_ERROR)?;
                options.aggregate = if is(how, "SUM") {
                    Aggregate::Sum
                } else if is(how, "MIN") {
                    Aggregate::Min
                } else if is(how, "MAX") {
                    Aggregate::Max
                } else {
                    return Err(SYNTAX_ERROR);
                };
                more
            } else if !stores && is(option, "WITHSCORES") {
                options.scores = true;
                more
            } else {
                return Err(SYNTAX_ERROR);
            };
        }
        Ok(options)
    }

    fn sources<'k>(&self, keyspace: &'k Keyspace) -> Result<Vec<Source<'k>>, Refusal> {
        self.keys.iter().map(|key| Source::find(keyspace, key)).collect()
    }

    fn combine(&self, sources: &[Source<'_>], options: &Options) -> SortedSet {
        let mut result = SortedSet::default();
        let weight = |at: usize| options.weights.get(at).copied().unwrap_or(1.0);
        let weighted = |at: usize, score: f64| number(weight(at) * score);
        let mut put = |member: &[u8], score: f64| {
            if let Some(score) = Score::new(score) {
                result.insert(member, score);
            }
        };
        match self.operation {
            Operation::Union => {
                for (at, source) in sources.iter().enumerate() {
                    source.for_each(|member, score| {
                        let score = weighted(at, score);
                        let score = Score::new(match result.score(member) {
                            Some(before) => options.aggregate.of(before.get(), score),
                            None => score,
                        });
                        if let Some(score) = score {
                            result.insert(member, score);
                        }
                    });
                }
            }
            Operation::Intersection => {
                let smallest = sources.iter().enumerate().min_by_key(|(_, source)| source.len());
                let Some((first, smallest)) = smallest else {
                    return result;
                };
                smallest.for_each(|member, score| {
                    let mut sum = weighted(first, score);
                    for (at, other) in sources.iter().enumerate().filter(|(at, _)| *at != first) {
                        let Some(score) = other.score(member) else {
                            return;
                        };
                        sum = options.aggregate.of(sum, weighted(at, score));
                    }
                    put(member, sum);
                });
            }
            Operation::Difference => {
                let Some((first, others)) = sources.split_first() else {
                    return result;
                };
                first.for_each(|member, score| {
                    if others.iter().all(|other| other.score(member).is_none()) {
                        put(member, score);
                    }
                });
            }
        }
        result
    }
}

/// A set whose members all have the score 1, a sorted set, or none.
#[derive(Clone, Copy, Debug)]
struct Source<'a>(Option<&'a Collection>);

impl<'a> Source<'a> {
    fn find(keyspace: &'a Keyspace, key: &[u8]) -> Result<Self, Refusal> {
        match keyspace.any_collection(key) {
            found @ Some(Collection::Set(_) | Collection::SortedSet(_)) => Ok(Self(found)),
            None if keyspace.kind(key).is_none() => Ok(Self(None)),
            _ => Err(Refusal::WrongType),
        }
    }

    fn len(self) -> usize {
        self.0.map_or(0, Collection::len)
    }

    fn score(self, member: &[u8]) -> Option<f64> {
        match self.0? {
            Collection::SortedSet(set) => set.score(member).map(Score::get),
            Collection::Set(set) => set.contains(member).then_some(1.0),
            Collection::Hash(_) | Collection::List(_) => None,
        }
    }

    fn for_each(self, mut show: impl FnMut(&[u8], f64)) {
        match self.0 {
            Some(Collection::SortedSet(set)) => {
                set.iter().for_each(|(member, score)| show(member, score.get()));
            }
            Some(Collection::Set(set)) => set.iter().for_each(|member| show(member, 1.0)),
            _ => {}
        }
    }
}

fn combine(call: &Call<'_>, name: &str, operation: Operation) -> Result<Outcome, Reply> {
    let query = Query::parse(call, 1, name, operation)?;
    let protocol = call.session.protocol;
    call.on_keyspace(|keyspace| {
        let sources = query.sources(keyspace)?;
        let options = query.options(false)?;
        let result = query.combine(&sources, &options);
        Ok(members(result.iter(), options.scores, protocol))
    })
}

fn combine_and_store(call: &Call<'_>, name: &str, operation: Operation) -> Result<Outcome, Reply> {
    let query = Query::parse(call, 2, name, operation)?;
    let to = call.arguments[1];
    call.on_keyspace(|keyspace| {
        let sources = query.sources(keyspace)?;
        let options = query.options(true)?;
        let result = query.combine(&sources, &options);
        let count = result.len();
        keyspace.put_collection(to, result)?;
        Ok(Reply::count(count as u64))
    })
}

pub(super) fn zunion(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    combine(call, "zunion", Operation::Union)
}

pub(super) fn zunionstore(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    combine_and_store(call, "zunionstore", Operation::Union)
}

pub(super) fn zinter(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    combine(call, "zinter", Operation::Intersection)
}

pub(super) fn zinterstore(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    combine_and_store(call, "zinterstore", Operation::Intersection)
}

pub(super) fn zdiff(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    combine(call, "zdiff", Operation::Difference)
}

pub(super) fn zdiffstore(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    combine_and_store(call, "zdiffstore", Operation::Difference)
}

pub(super) fn zintercard(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let query = Query::parse(call, 1, "zintercard", Operation::Intersection)?;
    call.on_keyspace(|keyspace| {
        let sources = query.sources(keyspace)?;
        let limit = cardinality_limit(query.options)?;
        let count = query.combine(&sources, &Options::default()).len();
        Ok(Reply::count(count.min(limit) as u64))
    })
}
