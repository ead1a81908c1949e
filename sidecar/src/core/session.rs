//! Reading one's own writes in another pod: tokens that say how far a session has got.
//!
//! A token is a position on the bus. It is given when everything that this pod has written is
//! announced, and covers all that and what the pod has applied of others. A pod that is shown a token
//! answers when it has applied that position: *no copy that it answers from then on is older than
//! what the token covers*. It holds for distributed classes; nothing is told of the others' writes.
//!
//! Positions count within an epoch, and epochs have no order. Yet when the bus has another epoch than
//! a token's *after* the token was shown, the token's is over; and whoever is in the present one has
//! forgotten everything since it began, and reads from the storage what was written before.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::Engine;
use super::coherence::Reached;
use crate::cache::Millis;

/// Between two looks at what is published.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    epoch: String,
    position: u64,
}

/// A text that is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no token of WARP.SESSION")]
pub struct NoToken;

/// It was not so within the time that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Behind {
    /// The bus hasn't acknowledged this pod's writes.
    #[error("the bus has not got all writes of this pod yet")]
    NotAnnounced,
    /// The bus isn't joined.
    #[error("the bus is not joined")]
    NotJoined,
    /// What the token covers isn't applied here.
    #[error("this pod has not applied what the token covers yet")]
    NotApplied,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.position, self.epoch)
    }
}

impl FromStr for Token {
    type Err = NoToken;

    fn from_str(text: &str) -> Result<Self, NoToken> {
        let (position, epoch) = text.split_once('@').ok_or(NoToken)?;
        let position = position.parse().map_err(|_| NoToken)?;
        if epoch.is_empty() || position > u64::MAX / 2 {
            return Err(NoToken);
        }
        Ok(Self { epoch: epoch.to_owned(), position })
    }
}

impl Token {
    /// Whether a pod that has got so far has applied what the token covers; the token was shown to it
    /// at `shown`.
    fn is_reached(&self, reached: &Reached, shown: Millis) -> bool {
        match &reached.epoch {
            None => false,
            Some(epoch) if *epoch == self.epoch => reached.position >= self.position,
            // The proof was asked for after the token was shown.
            Some(_) => reached.proven.is_some_and(|proven| proven >= shown),
        }
    }
}

impl Engine {
    /// A token for what this pod has written and applied so far; waits at most for `patience` until
    /// the bus has it.
    pub async fn token(&self, patience: Duration) -> Result<Token, Behind> {
        let deadline = Instant::now() + patience;
        while self.outbox.pending() > 0 {
            if Instant::now() >= deadline {
                return Err(Behind::NotAnnounced);
            }
            sleep(LOOK_EVERY).await;
        }
        // What was acknowledged before positions began to count anew is covered by a proof of
        // after that, what was acknowledged later is noted.
        loop {
            let moved = self.coherence.moved();
            let announced = self.outbox.acknowledged();
            let Reached { epoch, position, proven, since } = self.coherence.reached();
            match epoch {
                Some(epoch) if proven >= Some(since) => {
                    return Ok(Token { epoch, position: position.max(announced) });
                }
                _ => timeout_at(deadline, moved).await.map_err(|_| Behind::NotJoined)?,
            }
        }
    }

    /// Waits until this pod has applied what `token` covers, at most for `patience`.
    pub async fn reach(&self, token: &Token, patience: Duration) -> Result<(), Behind> {
        let shown = self.clock.millis();
        let deadline = Instant::now() + patience;
        loop {
            let moved = self.coherence.moved();
            if token.is_reached(&self.coherence.reached(), shown) {
                return Ok(());
            }
            timeout_at(deadline, moved).await.map_err(|_| Behind::NotApplied)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reached(epoch: &str, position: u64, proven: Millis) -> Reached {
        Reached { epoch: Some(epoch.to_owned()), position, proven: Some(proven), since: 0 }
    }

    #[test]
    fn a_token_is_reached_by_its_position_or_by_a_later_epoch() {
        let token: Token = "7@e".parse().unwrap();
        assert!(!token.is_reached(&reached("e", 6, 100), 50));
        assert!(token.is_reached(&reached("e", 7, 0), 50));
        assert!(!token.is_reached(&reached("f", 9, 49), 50), "e may be yet to come");
        assert!(token.is_reached(&reached("f", 0, 50), 50));
        assert!(!token.is_reached(&Reached::default(), 0));
    }

    proptest! {
        #[test]
        fn a_token_is_read_as_it_was_written(position in 0..u64::MAX / 2, epoch in "[ -~]{1,20}") {
            let token = Token { epoch, position };
            prop_assert_eq!(token.to_string().parse(), Ok(token));
        }

        #[test]
        fn any_text_is_answered(text in ".{0,20}") {
            let _ = text.parse::<Token>();
        }
    }
}
