//! Commands that wait until one of their keys holds something, over the memory storage.
//!
//! Each is an [`Attempt`] at one key. It is made at once for each key; where all fail the client
//! waits, and the attempt is made again when a key was written, under the lock of who wrote it and in
//! the order in which clients began to wait (see `adapter::memory`'s `waiting`). *Between the attempt
//! that fails and the wait nobody comes to the keys*, so nothing is missed.
//!
//! In a transaction and in a script nobody waits: there the command answers as if its time were over.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use futures::future::OptionFuture;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::arguments::{SYNTAX_ERROR, float, keys_to_pop_from, pop_count};
use super::list::{self, side};
use super::sorted_set::{self, Extreme};
use super::{Call, Command, Keys, NO_KEYS, Origin, Outcome, TWO_KEYS, kept};
use crate::adapter::memory::collection::{Kind, Side};
use crate::adapter::memory::{End, Keyspace, Turn};
use crate::adapter::{Key, Storage};
use crate::resp::reply::Reply;

const POP: &[&str] = &["write", "noscript", "blocking"];
const FAST_POP: &[&str] = &["write", "noscript", "blocking", "fast"];
const MOVE: &[&str] = &["write", "denyoom", "noscript", "blocking"];
const MOVABLE_POP: &[&str] = &["write", "blocking", "movablekeys"];

/// All arguments but the last are keys.
const KEYS_BEFORE_LAST: Keys = Keys { first: 1, last: -2, step: 1, numbered: 0 };
/// The second argument says how many keys follow.
const NUMBERED_BEHIND_TIME: Keys = Keys { numbered: 2, ..NO_KEYS };

#[rustfmt::skip]
pub(super) const LISTS: &[Command] = &[
    Command::new("blpop", -3, POP, KEYS_BEFORE_LAST, "2.0.0", "Removes and returns the first element in a list. Blocks until an element is available otherwise. Deletes the list if the last element was popped.", blpop).in_memory(),
    Command::new("brpop", -3, POP, KEYS_BEFORE_LAST, "2.0.0", "Removes and returns the last element in a list. Blocks until an element is available otherwise. Deletes the list if the last element was popped.", brpop).in_memory(),
    Command::new("blmpop", -5, MOVABLE_POP, NUMBERED_BEHIND_TIME, "7.0.0", "Pops the first element from one of multiple lists. Blocks until an element is available otherwise. Deletes the list if the last element was popped.", blmpop).in_memory(),
    Command::new("blmove", 6, MOVE, TWO_KEYS, "6.2.0", "Pops an element from a list, pushes it to another list and returns it. Blocks until an element is available otherwise. Deletes the list if the last element was moved.", blmove).in_memory(),
    Command::new("brpoplpush", 4, MOVE, TWO_KEYS, "2.2.0", "Pops an element from a list, pushes it to another list and returns it. Block until an element is available otherwise. Deletes the list if the last element was popped.", brpoplpush).in_memory(),
];

#[rustfmt::skip]
pub(super) const SORTED_SETS: &[Command] = &[
    Command::new("bzpopmin", -3, FAST_POP, KEYS_BEFORE_LAST, "5.0.0", "Removes and returns the member with the lowest score from one or more sorted sets. Blocks until a member is available otherwise. Deletes the sorted set if the last element was popped.", bzpopmin).in_memory(),
    Command::new("bzpopmax", -3, FAST_POP, KEYS_BEFORE_LAST, "5.0.0", "Removes and returns the member with the highest score from one or more sorted sets. Blocks until a member available otherwise.  Deletes the sorted set if the last element was popped.", bzpopmax).in_memory(),
    Command::new("bzmpop", -5, MOVABLE_POP, NUMBERED_BEHIND_TIME, "7.0.0", "Removes and returns a member by score from one or more sorted sets. Blocks until a member is available otherwise. Deletes the sorted set if the last element was popped.", bzmpop).in_memory(),
];

const UNBLOCKED: Reply =
    Reply::Error(Cow::Borrowed("UNBLOCKED client unblocked via CLIENT UNBLOCK"));

/// The storage was exchanged.
const ABANDONED: Reply = Reply::Error(Cow::Borrowed(
    "UNBLOCKED force unblock from blocking operation, instance state changed (the storage was \
     exchanged)",
));

/// What is done to the first key that holds something.
#[derive(Clone, Debug)]
enum Attempt {
    /// An element is taken: BLPOP, BRPOP.
    Pop(Side),
    /// Up to so many elements are: BLMPOP.
    PopSome(Side, usize),
    /// An element is moved to a list: BLMOVE.
    Move { from: Side, to: Key, to_side: Side },
    /// A member is taken: BZPOPMIN, BZPOPMAX.
    Take(Extreme),
    /// Up to so many members are: BZMPOP.
    TakeSome(Extreme, usize),
}

impl Attempt {
    /// The type that the key must hold.
    fn kind(&self) -> Kind {
        match self {
            Self::Pop(_) | Self::PopSome(..) | Self::Move { .. } => Kind::List,
            Self::Take(_) | Self::TakeSome(..) => Kind::SortedSet,
        }
    }

    /// The reply, unless there is no such key.
    fn make(&self, keyspace: &mut Keyspace, key: &[u8]) -> Result<Option<Reply>, Reply> {
        let named = |popped: Reply| Reply::Array(vec![Reply::bulk(key), popped]);
        Ok(match self {
            Self::Pop(side) => {
                let popped = list::pop_some(keyspace, key, *side, 1)?;
                popped.and_then(|popped| popped.into_iter().next()).map(named)
            }
            Self::PopSome(side, count) => {
                list::pop_some(keyspace, key, *side, *count)?.map(|all| named(Reply::Array(all)))
            }
            Self::Move { from, to, to_side } => {
                list::move_one(keyspace, (key, *from), (to, *to_side))?
            }
            Self::Take(end) => {
                let popped = sorted_set::pop_some(keyspace, key, *end, 1)?;
                popped
                    .and_then(|popped| popped.into_iter().next())
                    .map(|(member, score)| Reply::Array(vec![Reply::bulk(key), member, score]))
            }
            Self::TakeSome(end, count) => {
                let popped = sorted_set::pop_some(keyspace, key, *end, *count)?;
                popped.map(|all| named(sorted_set::as_lists_of_two(all)))
            }
        })
    }

    /// The reply of a command that may not wait. One that has waited in vain gives
    /// [`Reply::NullArray`], whichever it is.
    fn nothing(&self) -> Reply {
        match self {
            Self::Move { .. } => Reply::Null,
            _ => Reply::NullArray,
        }
    }
}

/// A client that waits for a key.
#[derive(Debug)]
pub struct Wait {
    id: u64,
    storage: Arc<dyn Storage>,
    timeout: Option<Duration>,
    answered: oneshot::Receiver<Reply>,
}

impl Wait {
    /// Waits for the reply; `None` if `gone` is cancelled, since nobody waits any more.
    pub(in crate::resp) async fn reply(mut self, gone: CancellationToken) -> Option<Reply> {
        let timeout = OptionFuture::from(self.timeout.map(tokio::time::sleep));
        let is_gone = tokio::select! {
            biased;
            reply = &mut self.answered => return Some(reply.unwrap_or(ABANDONED)),
            () = gone.cancelled() => true,
            Some(()) = timeout => false,
        };
        // A script may have the keys for long, and this thread has other things to do.
        while let Some(memory) = self.storage.as_memory()
            && memory.with_if_free(|keyspace| keyspace.end_wait(self.id, End::TimedOut)).is_none()
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Whoever ended the wait has answered.
        let reply = self.answered.await.unwrap_or(ABANDONED);
        (!is_gone).then_some(reply)
    }
}

/// Makes the attempt at `keys`, and waits for them if it comes to nothing.
fn wait_for(
    call: &Call<'_>,
    keys: &[&[u8]],
    timeout: Option<Duration>,
    attempt: Attempt,
) -> Result<Outcome, Reply> {
    let id = call.session.admission.client.id;
    let may_wait = call.origin == Origin::Client;
    let waits = call.view.on_keyspace(|keyspace| {
        for key in keys {
            if let Some(reply) = attempt.make(keyspace, key)? {
                return Ok(Err(reply));
            }
        }
        if !may_wait {
            return Ok(Err(attempt.nothing()));
        }
        let (answer, answered) = oneshot::channel();
        let mut answer = Some(answer);
        let waiter = move |keyspace: &mut Keyspace, turn: Turn<'_>| {
            let reply = match turn {
                Turn::Over(End::TimedOut) => Reply::NullArray,
                Turn::Over(End::Unblocked) => UNBLOCKED,
                Turn::Key(key) if keyspace.kind(key) != Some(attempt.kind()) => return false,
                Turn::Key(key) => match attempt.make(keyspace, key) {
                    Ok(None) => return false,
                    Ok(Some(reply)) | Err(reply) => reply,
                },
            };
            if let Some(answer) = answer.take() {
                // One that left meanwhile has lost what it waited for.
                let _ = answer.send(reply);
            }
            true
        };
        keyspace.wait(id, keys, Box::new(waiter));
        Ok::<_, Reply>(Ok(answered))
    });
    Ok(match waits.transpose()? {
        None => Outcome::Relay,
        Some(Err(reply)) => Outcome::Reply(reply),
        Some(Ok(answered)) => {
            let storage = Arc::clone(call.view.storage());
            Outcome::Wait(Wait { id, storage, timeout, answered })
        }
    })
}

/// Seconds, with a fraction, up to the next millisecond; 0 is for ever.
fn timeout(argument: &[u8]) -> Result<Option<Duration>, Reply> {
    let seconds =
        float(argument).map_err(|_| Reply::err("timeout is not a float or out of range"))?;
    if seconds < 0.0 {
        return Err(Reply::err("timeout is negative"));
    }
    let millis = (seconds * 1000.0).ceil();
    #[expect(clippy::cast_precision_loss, reason = "so long is for ever, however long exactly")]
    let is_too_long = millis >= i64::MAX as f64;
    if is_too_long {
        return Err(Reply::err("timeout is out of range"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
    let millis = millis as u64;
    Ok((millis > 0).then(|| Duration::from_millis(millis)))
}

/// `… key [key …] timeout`.
fn first_of(call: &Call<'_>, attempt: Attempt) -> Result<Outcome, Reply> {
    let [_, keys @ .., time] = call.arguments else {
        return Err(SYNTAX_ERROR);
    };
    wait_for(call, keys, timeout(time)?, attempt)
}

fn blpop(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    first_of(call, Attempt::Pop(Side::Left))
}

fn brpop(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    first_of(call, Attempt::Pop(Side::Right))
}

fn bzpopmin(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    first_of(call, Attempt::Take(Extreme::Least))
}

fn bzpopmax(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    first_of(call, Attempt::Take(Extreme::Greatest))
}

/// `… timeout numkeys key [key …] which [COUNT count]`. The time is looked at last.
fn blmpop(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (keys, which, options) = keys_to_pop_from(call.arguments, 2)?;
    let attempt = Attempt::PopSome(side(which)?, pop_count(options)?);
    wait_for(call, keys, timeout(call.arguments[1])?, attempt)
}

fn bzmpop(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let (keys, which, options) = keys_to_pop_from(call.arguments, 2)?;
    let attempt = Attempt::TakeSome(Extreme::parse(which)?, pop_count(options)?);
    wait_for(call, keys, timeout(call.arguments[1])?, attempt)
}

fn blmove(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let [_, from, to, from_side, to_side, time] = call.arguments else {
        return Err(SYNTAX_ERROR);
    };
    let (from_side, to_side) = (side(from_side)?, side(to_side)?);
    move_from(call, (from, from_side), (to, to_side), time)
}

fn brpoplpush(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let [_, from, to, time] = call.arguments else {
        return Err(SYNTAX_ERROR);
    };
    move_from(call, (from, Side::Right), (to, Side::Left), time)
}

fn move_from(
    call: &Call<'_>,
    (from, from_side): (&[u8], Side),
    (to, to_side): (&[u8], Side),
    time: &[u8],
) -> Result<Outcome, Reply> {
    let attempt = Attempt::Move { from: from_side, to: kept(to), to_side };
    wait_for(call, &[from], timeout(time)?, attempt)
}
