//! Requests over one inbox: a subscription for all replies, sorted by the last token of their
//! subject. Unlike the client's own way it forgets a request that timed out, takes several replies
//! to one (Direct Get), and fails at once what the server refuses: a refusal is an error on the
//! connection that only names the subject, and the reply never comes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// Why a request has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RequestError {
    #[error("{0}")]
    Refused(String),
    #[error("nothing answers at {0}")]
    NoResponders(String),
    #[error("no answer from {subject} within {} ms", waited.as_millis())]
    Silent { subject: String, waited: Duration },
    #[error("{0}")]
    Lost(String),
}

/// The requests of one connection.
#[derive(Debug)]
pub(super) struct Requests {
    client: Client,
    inbox: String,
    waiting: Arc<Mutex<Waiting>>,
    _sorter: AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    requests: HashMap<u64, Request>,
    /// Why there can be no more replies.
    lost: Option<String>,
}

#[derive(Debug)]
struct Request {
    subject: String,
    replies: mpsc::Sender<Result<Message, RequestError>>,
}

/// The replies to one request, until it is dropped.
#[derive(Debug)]
pub(super) struct Replies {
    token: u64,
    subject: String,
    receiver: mpsc::Receiver<Result<Message, RequestError>>,
    waiting: Arc<Mutex<Waiting>>,
}

/// What the connection's event handler tells the requests.
#[derive(Clone, Debug)]
pub(super) struct Refusals(Arc<Mutex<Waiting>>);

impl Requests {
    pub(super) async fn open(client: Client) -> Result<Self, async_nats::SubscribeError> {
        let inbox = client.new_inbox();
        let replies = client.subscribe(format!("{inbox}.*")).await?;
        let waiting = Arc::default();
        let sorter = tokio::spawn(sort(replies, Arc::clone(&waiting)));
        Ok(Self { client, inbox, waiting, _sorter: AbortOnDropHandle::new(sorter) })
    }

    pub(super) fn refusals(&self) -> Refusals {
        Refusals(Arc::clone(&self.waiting))
    }

    /// The reply to a request.
    pub(super) async fn ask(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: Bytes,
        patience: Duration,
    ) -> Result<Message, RequestError> {
        let asking = async {
            let mut replies = self.send(subject, headers, payload, 1).await?;
            replies.next().await
        };
        let silent = |_| RequestError::Silent { subject: subject.to_owned(), waited: patience };
        tokio::time::timeout(patience, asking).await.map_err(silent)?
    }

    /// Sends a request that gets at most `most` replies.
    pub(super) async fn send(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: Bytes,
        most: usize,
    ) -> Result<Replies, RequestError> {
        let (sender, receiver) = mpsc::channel(most);
        let subject = subject.to_owned();
        let token = {
            let mut waiting = self.waiting.lock();
            if let Some(lost) = &waiting.lost {
                return Err(RequestError::Lost(lost.clone()));
            }
            waiting.last += 1;
            let token = waiting.last;
            let request = Request { subject: subject.clone(), replies: sender };
            waiting.requests.insert(token, request);
            token
        };
        let waiting = Arc::clone(&self.waiting);
        let replies = Replies { token, subject, receiver, waiting };
        let inbox = format!("{}.{token}", self.inbox);
        self.client
            .publish_with_reply_and_headers(replies.subject.clone(), inbox, headers, payload)
            .await
            .map_err(|error| RequestError::Lost(error.to_string()))?;
        Ok(replies)
    }
}

impl Replies {
    pub(super) async fn next(&mut self) -> Result<Message, RequestError> {
        match self.receiver.recv().await {
            Some(Ok(message)) if message.status == Some(StatusCode::NO_RESPONDERS) => {
                Err(RequestError::NoResponders(self.subject.clone()))
            }
            Some(reply) => reply,
            None => {
                let lost = self.waiting.lock().lost.clone();
                Err(RequestError::Lost(lost.unwrap_or_else(|| "too many replies".to_owned())))
            }
        }
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        self.waiting.lock().requests.remove(&self.token);
    }
}

impl Refusals {
    /// The server said `error`, which may be the refusal of some requests.
    pub(super) fn refused(&self, error: &str) {
        let mut waiting = self.0.lock();
        waiting.requests.retain(|_, request| {
            let meant = error.contains(&format!("\"{}\"", request.subject));
            if meant {
                // A full queue has replies, and so wasn't refused.
                let _ = request.replies.try_send(Err(RequestError::Refused(error.to_owned())));
            }
            !meant
        });
    }

    /// No reply can come any more.
    pub(super) fn lost(&self, reason: &str) {
        let mut waiting = self.0.lock();
        waiting.lost = Some(reason.to_owned());
        waiting.requests.clear();
    }
}

async fn sort(mut replies: Subscriber, waiting: Arc<Mutex<Waiting>>) {
    while let Some(message) = replies.next().await {
        let token = message.subject.rsplit('.').next().and_then(|token| token.parse().ok());
        let request = token.and_then(|token: u64| {
            waiting.lock().requests.get(&token).map(|request| request.replies.clone())
        });
        if let Some(replies) = request {
            // More replies than were asked for are nobody's.
            let _ = replies.try_send(Ok(message));
        }
    }
}
