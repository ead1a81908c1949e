//! WARP.SESSION: a token for what this pod has written, and the wait for it in another one.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;

use crate::core::session::Token;
use crate::resp::command::arguments::not_negative;
use crate::resp::command::{Call, Command, NO_KEYS, Outcome};
use crate::resp::reply::Reply;

#[rustfmt::skip]
pub(in crate::resp::command) const FAMILY: &[Command] = &[
    Command::new("warp.session", -1, &["noscript"], NO_KEYS, "0.1.0", "Returns a token for what was written here, or waits until what another pod's token covers can be read here.", session),
];

/// How long is waited where the client says nothing: twice what the bus takes for a proof.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest time that a client may say, in milliseconds.
const LONGEST: u64 = 60_000;

/// WARP.SESSION [token [milliseconds]]
fn session(call: &mut Call<'_>) -> Result<Outcome, Reply> {
    let engine = Arc::clone(call.engine);
    let behind = |error| Reply::Error(format!("SESSIONBEHIND {error}; try again").into());
    let work = match &call.arguments[1..] {
        [] => async move {
            match engine.token(PATIENCE).await {
                Ok(token) => Reply::bulk(token.to_string().as_bytes()),
                Err(error) => behind(error),
            }
        }
        .boxed(),
        [token, rest @ ..] => {
            let token: Token = std::str::from_utf8(token)
                .ok()
                .and_then(|token| token.parse().ok())
                .ok_or_else(|| Reply::err("that is no token of WARP.SESSION"))?;
            let patience = match rest {
                [] => PATIENCE,
                [millis] => {
                    let words = "ERR the time is a whole number of milliseconds, 60000 at most";
                    let millis = not_negative(millis, words)?;
                    let millis = u64::try_from(millis).unwrap_or(u64::MAX);
                    if millis > LONGEST {
                        return Err(Reply::Error(words.into()));
                    }
                    Duration::from_millis(millis)
                }
                _ => return Err(crate::resp::command::arguments::SYNTAX_ERROR),
            };
            async move {
                match engine.reach(&token, patience).await {
                    Ok(()) => Reply::OK,
                    Err(error) => behind(error),
                }
            }
            .boxed()
        }
    };
    // It sees the writes that came before it, and the reads that come after it see what it waits for.
    Ok(Outcome::Write(work))
}
