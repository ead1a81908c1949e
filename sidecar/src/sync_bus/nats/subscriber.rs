//! Carries out what the cursor decides: keeps a connection, asks, fetches, and passes events on.
//!
//! One thing is done at a time (ask, fetch, wait), while live messages are taken all along. Every
//! event is sent before the next thing is done, so a slow engine slows this task, then fills the
//! connection's queue, and then loses live messages, which are found missing: it never loses one
//! unnoticed, and its proofs get as old as it is slow.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::Subscriber;
use futures::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::sleep;
use warp_crds::stream;

use super::super::cursor::{Action, Answer, Cursor, Fetch, Placed};
use super::super::{BusEvent, Invalidation};
use super::api::{self, Fetched, StreamFault};
use super::requests::{Replies, RequestError};
use super::session::Session;
use super::{Connection, Shared, registers};

/// The shortest pause after a failure.
const SHORTEST_BACKOFF: Duration = Duration::from_millis(50);
/// The stream is made for one server; whoever wants more makes or changes it himself.
const REPLICAS: u8 = 1;

/// The engine no longer listens.
struct Unheard;

/// What is under way beside the live messages.
type Step = Pin<Box<dyn Future<Output = Done> + Send>>;

enum Done {
    Asked(Result<Answer, String>),
    Fetched(Vec<Placed<Invalidation>>, Result<(), RequestError>),
    Settled,
    Rested,
}

/// Runs until the engine listens no more.
pub(super) async fn run(shared: Arc<Shared>, events: mpsc::Sender<BusEvent>) {
    let cursor = Cursor::new();
    let mut feed = Feed { shared, events, cursor, down: None, proven: false };
    // Ends with `Unheard` only.
    let _ = feed.keep_connected().await;
}

struct Feed {
    shared: Arc<Shared>,
    events: mpsc::Sender<BusEvent>,
    cursor: Cursor<Invalidation>,
    /// What was last said to be wrong, while it is.
    down: Option<String>,
    /// Whether there was a proof in this session.
    proven: bool,
}

impl Feed {
    async fn keep_connected(&mut self) -> Result<(), Unheard> {
        let longest = self.shared.settings.timings.longest_backoff;
        let mut backoff = SHORTEST_BACKOFF;
        loop {
            let reason = match Session::open(&self.shared).await {
                Ok((session, live)) => {
                    *self.shared.connection.lock() = Connection::Open(Arc::clone(&session));
                    registers::joined(&self.shared.watchers);
                    self.proven = false;
                    let reason = self.follow(&session, live).await?;
                    if self.proven {
                        backoff = SHORTEST_BACKOFF;
                    }
                    reason
                }
                Err(reason) => reason,
            };
            *self.shared.connection.lock() = Connection::Away(reason.clone());
            self.cursor.interrupted();
            self.say_down(reason).await?;
            sleep(backoff.mul_f64(rand::random_range(0.5..1.0))).await;
            backoff = (backoff * 2).min(longest);
        }
    }

    /// Follows the stream until the session ends; its reason.
    async fn follow(
        &mut self,
        session: &Arc<Session>,
        mut live: Subscriber,
    ) -> Result<String, Unheard> {
        let mut due = Instant::now();
        let mut step = self.ask(session, &mut due);
        let mut waiting = false;
        loop {
            tokio::select! {
                reason = session.ended() => return Ok(reason),
                message = live.next() => match message {
                    Some(message) => {
                        self.take_live(&message);
                        self.pass_on().await?;
                        if !(waiting && self.cursor.wants_fetch()) {
                            continue;
                        }
                    }
                    None => return Ok("the subscription ended".to_owned()),
                },
                done = &mut step => {
                    if session.is_mended() {
                        return Ok("the connection was lost".to_owned());
                    }
                    self.finish(done, &mut live).await?;
                }
            }
            // A step is done, or a wait was cut short by a gap.
            (step, waiting) = self.next_step(session, &mut due);
            self.pass_on().await?;
        }
    }

    fn next_step(&mut self, session: &Arc<Session>, due: &mut Instant) -> (Step, bool) {
        let now = Instant::now();
        if now >= *due {
            return (self.ask(session, due), false);
        }
        if let Some(fetch) = self.cursor.next_fetch() {
            return (
                Box::pin(fetch_from(Arc::clone(&self.shared), Arc::clone(session), fetch)),
                false,
            );
        }
        let step: Step = if self.cursor.awaits_tail() {
            Box::pin(sleep(self.shared.settings.timings.settle).map(|()| Done::Settled))
        } else {
            Box::pin(sleep(*due - now).map(|()| Done::Rested))
        };
        (step, true)
    }

    fn ask(&mut self, session: &Arc<Session>, due: &mut Instant) -> Step {
        let as_of = Instant::now();
        // Spread, so that the sidecars of a cluster don't ask all at once.
        *due =
            as_of + self.shared.settings.timings.proof_period.mul_f64(rand::random_range(0.9..1.0));
        self.cursor.asking(as_of);
        let asking = ask(Arc::clone(&self.shared), Arc::clone(session));
        Box::pin(asking.map(Done::Asked))
    }

    async fn finish(&mut self, done: Done, live: &mut Subscriber) -> Result<(), Unheard> {
        match done {
            Done::Asked(Ok(answer)) => {
                // What arrived before the answer goes before it; see the cursor. Without the
                // runtime's budget, which would feign an empty queue.
                while let Some(Some(message)) =
                    tokio::task::unconstrained(live.next()).now_or_never()
                {
                    self.take_live(&message);
                    self.pass_on().await?;
                }
                self.cursor.answered(answer);
            }
            Done::Asked(Err(error)) => {
                self.cursor.interrupted();
                self.say_down(error).await?;
            }
            Done::Fetched(messages, ended) => {
                for message in messages {
                    self.cursor.fetched(message);
                }
                self.cursor.fetch_ended(ended.is_ok());
                if let Err(error) = ended {
                    self.say_down(format!("missed invalidations can't be read: {error}")).await?;
                }
            }
            Done::Settled => self.cursor.overdue(),
            Done::Rested => {}
        }
        self.pass_on().await
    }

    fn take_live(&mut self, message: &async_nats::Message) {
        // One without the stream's headers was sent past the stream, by whoever may.
        if let Some(message) = api::read_stored(message) {
            self.cursor.live(message);
        }
    }

    async fn pass_on(&mut self) -> Result<(), Unheard> {
        while let Some(action) = self.cursor.next_action() {
            let event = match action {
                Action::Tell { position, replayed, message: invalidation } => {
                    BusEvent::Message { position, replayed, invalidation }
                }
                Action::Gap { from, to } => BusEvent::Gap { from, to },
                Action::Behind { end } => BusEvent::Behind { end },
                Action::Proof { as_of, position, epoch } => {
                    self.down = None;
                    self.proven = true;
                    BusEvent::Proof { as_of, position, epoch }
                }
                Action::Reset { reason, epoch, position } => {
                    BusEvent::Reset { reason, epoch, position }
                }
            };
            self.events.send(event).await.map_err(|_| Unheard)?;
        }
        Ok(())
    }

    async fn say_down(&mut self, error: String) -> Result<(), Unheard> {
        if self.down.as_ref() == Some(&error) {
            return Ok(());
        }
        self.down = Some(error.clone());
        self.events.send(BusEvent::Down { error }).await.map_err(|_| Unheard)
    }
}

/// The stream's answer; makes the stream when it is missing and may be made.
async fn ask(shared: Arc<Shared>, session: Arc<Session>) -> Result<Answer, String> {
    match ask_once(&shared, &session).await? {
        Ok(answer) => return Ok(answer),
        Err(missing @ StreamFault::Missing(_)) if !shared.settings.create_stream => {
            return Err(format!("{missing}: the operator makes it"));
        }
        Err(StreamFault::Missing(_)) => {}
        Err(fault) => return Err(fault.to_string()),
    }
    let names = &shared.names;
    let config =
        stream::config(&names.tenant, REPLICAS, &format!("{:016x}", rand::random::<u64>()));
    let failed =
        |error: String| format!("stream {} is missing and can't be made: {error}", names.stream);
    let patience = shared.settings.timings.request_timeout;
    let reply = session
        .requests
        .ask(&names.create, Default::default(), config.to_string().into(), patience)
        .await
        .map_err(|error| failed(error.to_string()))?;
    api::read_created(&reply.payload).map_err(failed)?;
    ask_once(&shared, &session).await?.map_err(|fault| fault.to_string())
}

async fn ask_once(
    shared: &Shared,
    session: &Session,
) -> Result<Result<Answer, StreamFault>, String> {
    let Shared { settings, names, .. } = shared;
    let reply = session
        .requests
        .ask(&names.info, Default::default(), Default::default(), settings.timings.request_timeout)
        .await;
    match reply {
        Ok(reply) => Ok(api::read_info(names, &reply.payload)),
        Err(RequestError::NoResponders(_)) => {
            Err("JetStream isn't enabled on the NATS servers or for this user".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Reads `fetch` from the stream, as far as it gives it.
async fn fetch_from(shared: Arc<Shared>, session: Arc<Session>, fetch: Fetch) -> Done {
    let mut messages = Vec::new();
    let ended = collect(&shared, &session, fetch, &mut messages).await;
    Done::Fetched(messages, ended)
}

async fn collect(
    shared: &Shared,
    session: &Session,
    fetch: Fetch,
    messages: &mut Vec<Placed<Invalidation>>,
) -> Result<(), RequestError> {
    let Shared { settings, names, .. } = shared;
    let patience = settings.timings.request_timeout;
    let body = api::direct_get(names, fetch).into();
    // All that was asked for, and the word that it was all.
    let most = usize::try_from(fetch.to - fetch.from).unwrap_or_default() + 2;
    let silent = |_| RequestError::Silent { subject: names.direct_get.clone(), waited: patience };
    let mut replies: Replies =
        session.requests.send(&names.direct_get, Default::default(), body, most).await?;
    loop {
        let reply = tokio::time::timeout(patience, replies.next()).await.map_err(silent)??;
        match api::read_fetched(&reply) {
            Fetched::Message(message) => messages.push(message),
            Fetched::End => return Ok(()),
            Fetched::Unreadable => {
                let reply = reply.description.unwrap_or_default();
                return Err(RequestError::Refused(format!("unexpected reply {reply:?}")));
            }
        }
    }
}
