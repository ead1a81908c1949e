//! Parts of a sorted set: by place, by score, by bytes; read, counted, stored and removed.

use super::bounds::Part;
use super::{members, read};
use crate::adapter::memory::collection::{Score, SortedSet};
use crate::resp::command::arguments::{SYNTAX_ERROR, integer, is};
use crate::resp::command::{Call, Outcome};
use crate::resp::reply::Reply;

/// How a part is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Place,
    Score,
    Name,
}

impl By {
    fn part(self, min: &[u8], max: &[u8]) -> Result<Part, Reply> {
        match self {
            Self::Place => Part::by_place(min, max),
            Self::Score => Part::by_score(min, max),
            Self::Name => Part::by_name(min, max),
        }
    }
}

/// What a command's name says already of what else ZRANGE's options say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Form {
    by: Option<By>,
    backward: Option<bool>,
    may_show_scores: bool,
}

impl Form {
    const ANY: Self = Self { by: None, backward: None, may_show_scores: true };

    const fn of(by: By, backward: bool) -> Self {
        Self { by: Some(by), backward: Some(backward), may_show_scores: true }
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
struct Query {
    part: Part,
    backward: bool,
    scores: bool,
    offset: usize,
    most: usize,
}

impl Query {
    /// `arguments` begin with both ends.
    fn parse<A: AsRef<[u8]>>(arguments: &[A], form: Form) -> Result<Self, Reply> {
        let [first, second, options @ ..] = arguments else {
            return Err(SYNTAX_ERROR);
        };
        let (mut by, mut backward) = (form.by, form.backward);
        let (mut scores, mut offset, mut limit) = (false, 0, -1);
        let mut rest = options.iter().map(AsRef::as_ref);
        while let Some(option) = rest.next() {
            if form.may_show_scores && is(option, "WITHSCORES") {
                scores = true;
            } else if is(option, "LIMIT") {
                let (Some(from), Some(count)) = (rest.next(), rest.next()) else {
                    return Err(SYNTAX_ERROR);
                };
                (offset, limit) = (integer(from)?, integer(count)?);
            } else if form.backward.is_none() && is(option, "REV") {
                backward = Some(true);
            } else if form.by.is_none() && is(option, "BYLEX") {
                by = Some(By::Name);
            } else if form.by.is_none() && is(option, "BYSCORE") {
                by = Some(By::Score);
            } else {
                return Err(SYNTAX_ERROR);
            }
        }
        let by = by.unwrap_or(By::Place);
        let backward = backward.unwrap_or(false);
        if limit != -1 && by == By::Place {
            return Err(Reply::err(
                "syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if scores && by == By::Name {
            return Err(Reply::err(
                "syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        // The greater end comes first when it goes backward.
        let (first, second) = (first.as_ref(), second.as_ref());
        let part = if backward && by != By::Place {
            by.part(second, first)?
        } else {
            by.part(first, second)?
        };
        Ok(Self {
            part,
            backward,
            scores,
            // An offset below zero never comes to an end.
            offset: usize::try_from(offset).unwrap_or(usize::MAX),
            most: usize::try_from(limit).unwrap_or(usize::MAX),
        })
    }

    fn members<'a>(&self, set: &'a SortedSet) -> Box<dyn Iterator<Item = (&'a [u8], Score)> + 'a> {
        let ranks = self.part.ranks(set, self.backward);
        let length = ranks.len();
        let passed_over = self.offset.min(length);
        let count = self.most.min(length - passed_over);
        let (start, end) = (ranks.start, ranks.end);
        if self.backward {
            Box::new(set.range(end - passed_over - count..end - passed_over).rev())
        } else {
            Box::new(set.range(start + passed_over..start + passed_over + count))
        }
    }
}

fn range(call: &Call<'_>, form: Form) -> Result<Outcome, Reply> {
    let query = Query::parse(&call.arguments[2..], form)?;
    let protocol = call.session.protocol;
    read(call, |set| members(query.members(set), query.scores, protocol))
}

pub(super) fn zrange(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    range(call, Form::ANY)
}

pub(super) fn zrevrange(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    range(call, Form::of(By::Place, true))
}

pub(super) fn zrangebyscore(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    range(call, Form::of(By::Score, false))
}

pub(super) fn zrevrangebyscore(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    range(call, Form::of(By::Score, true))
}

pub(super) fn zrangebylex(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    range(call, Form::of(By::Name, false))
}

pub(super) fn zrevrangebylex(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    range(call, Form::of(By::Name, true))
}

pub(super) fn zrangestore(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (to, from) = (call.arguments[1], call.arguments[2]);
    let form = Form { may_show_scores: false, ..Form::ANY };
    let query = Query::parse(&call.arguments[3..], form)?;
    call.on_keyspace(|keyspace| {
        let mut stored = SortedSet::default();
        if let Some(set) = keyspace.collection::<SortedSet>(from)? {
            for (member, score) in query.members(set) {
                stored.insert(member, score);
            }
        }
        let count = stored.len();
        keyspace.put_collection(to, stored)?;
        Ok(Reply::count(count as u64))
    })
}

fn count(call: &Call<'_>, by: By) -> Result<Outcome, Reply> {
    let part = by.part(call.arguments[2], call.arguments[3])?;
    read(call, |set| Reply::count(part.ranks(set, false).len() as u64))
}

pub(super) fn zcount(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    count(call, By::Score)
}

pub(super) fn zlexcount(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    count(call, By::Name)
}

fn remove(call: &Call<'_>, by: By) -> Result<Outcome, Reply> {
    let key = call.arguments[1];
    let part = by.part(call.arguments[2], call.arguments[3])?;
    call.on_keyspace(|keyspace| {
        let removed = keyspace.change_found(key, |set: &mut SortedSet| {
            let ranks = part.ranks(set, false);
            let gone: Vec<Vec<u8>> = set.range(ranks).map(|(member, _)| member.to_vec()).collect();
            for member in &gone {
                set.remove(member);
            }
            Ok::<_, Reply>(gone.len())
        })?;
        Ok(Reply::count(removed.unwrap_or_default() as u64))
    })
}

pub(super) fn zremrangebyrank(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    remove(call, By::Place)
}

pub(super) fn zremrangebyscore(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    remove(call, By::Score)
}

pub(super) fn zremrangebylex(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    remove(call, By::Name)
}
