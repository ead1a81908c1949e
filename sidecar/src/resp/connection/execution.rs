//! What a connection does with the commands that it has read, in their order.

use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt as _, future};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Connection, Done, ForRedis, Form, Held, LONGEST_LINE, Parsed};
use crate::resp::command::{self, Call, Outcome};
use crate::resp::relay::{self, Link, Relayed};
use crate::resp::reply::{Protocol, Reply};
use crate::resp::session::Replies;
use crate::resp::subscription::{self, Subscription, is_subscribing};
use crate::resp::transaction::{Route, Step};

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Executes what has been read, as far as it need not wait.
    pub(super) fn execute(&mut self) {
        let mut executed = 0;
        loop {
            if self.extend_batch() {
                executed += 1;
                continue;
            }
            if self.is_blocked() {
                break;
            }
            if let Some(held) = self.held.take() {
                self.start(held);
                continue;
            }
            match self.parse() {
                Parsed::Nothing => break,
                Parsed::Command => {
                    executed += 1;
                    self.parsed = Parsed::Nothing;
                    let arguments = std::mem::take(&mut self.arguments);
                    self.execute_one(&arguments);
                    self.arguments = arguments;
                }
                Parsed::Error(error) => {
                    self.common.metrics.protocol_errors.inc();
                    self.answer(Reply::err(&error.to_string()), self.form(false));
                    self.closing = true;
                }
            }
        }
        if executed > 0 {
            if self.parsed == Parsed::Nothing {
                // They would hold on to the input's memory.
                self.arguments.clear();
            }
            self.common.host.clients.count_commands(executed);
            self.session.publish_last_command();
        }
    }

    /// Looks at what comes next.
    fn parse(&mut self) -> Parsed {
        if self.parsed == Parsed::Nothing {
            self.parsed = match self.parser.next(&mut self.input, &mut self.arguments) {
                Ok(true) => Parsed::Command,
                Ok(false) => Parsed::Nothing,
                Err(error) => Parsed::Error(error),
            };
        }
        self.parsed
    }

    /// Adds the next command to those that wait to go to Redis, if it is sure to go there too.
    fn extend_batch(&mut self) -> bool {
        let Some(Held::Relay(batch)) = &self.held else {
            return false;
        };
        let may_go_on = batch.len() < LONGEST_LINE
            && batch.last().is_some_and(|last| {
                let name = &last.arguments[0];
                Step::of(name) == Step::Other && !relay::may_wait(name)
            });
        if !may_go_on || self.parse() != Parsed::Command {
            return false;
        }
        let name = &self.arguments[0];
        let transaction = &self.link.transaction;
        let goes_there = if transaction.is_open() {
            transaction.takes(name)
        } else {
            Step::of(name) == Step::Other && command::is_unknown_to_warp(name)
        };
        if !goes_there || relay::may_wait(name) || is_subscribing(name) || is_monitor(name) {
            return false;
        }
        self.common.metrics.count(command::find(name));
        let skipped = self.session.take_skip();
        let form = self.form(skipped);
        self.parsed = Parsed::Nothing;
        let arguments = std::mem::take(&mut self.arguments);
        if let Some(Held::Relay(batch)) = &mut self.held {
            batch.push(ForRedis { arguments, form, instead: None });
        }
        true
    }

    /// Whether the next command has to wait.
    pub(super) fn is_blocked(&self) -> bool {
        self.closing
            || self.alone
            || (self.held.is_some() && !self.line.is_empty())
            || self.line.len() >= LONGEST_LINE
            || self.output.len() >= self.common.settings.output_soft
            || self.subscription.as_ref().is_some_and(|subscription| subscription.is_waiting())
    }

    fn execute_one(&mut self, arguments: &[Bytes]) {
        let name = &arguments[0];
        let entry = command::find(name);
        self.common.metrics.count(entry);
        let skipped = self.session.take_skip();
        if command::is_http(name) {
            self.closing = true;
            return;
        }
        if let Some(subscription) = &self.subscription {
            match subscription.route(name, self.session.protocol) {
                subscription::Route::Elsewhere => {}
                subscription::Route::Here => {
                    self.held = Some(Held::Subscribe(arguments.to_vec(), self.form(skipped)));
                    return;
                }
                subscription::Route::Refused(reply) => {
                    return self.answer(reply, self.form(skipped));
                }
            }
        }
        match self.link.transaction.route(name) {
            Route::Warp => {}
            Route::Redis => {
                return self.hold_for_redis(arguments.to_vec(), self.form(skipped), None);
            }
            Route::Discard(reply) => {
                let discard = vec![Bytes::from_static(b"DISCARD")];
                return self.hold_for_redis(discard, self.form(skipped), Some(reply));
            }
            Route::Refused(reply) => return self.answer(reply, self.form(skipped)),
        }
        let before = self.session.protocol;
        let outcome = command::execute(
            entry,
            &mut Call {
                arguments,
                engine: &self.common.engine,
                session: &mut self.session,
                host: &self.common.host,
            },
        );
        let form = self.form(skipped);
        match outcome {
            Outcome::Reply(reply) => self.answer(reply, form),
            Outcome::Read(work) => {
                self.line.push_back(work.map(move |reply| Done::Reply(reply, form)).boxed());
            }
            Outcome::Write(work) => self.held = Some(Held::Write(work, form)),
            Outcome::Relay if is_subscribing(name) || is_monitor(name) => {
                self.held = Some(Held::Subscribe(arguments.to_vec(), form));
            }
            Outcome::Relay => self.hold_for_redis(arguments.to_vec(), form, None),
        }
        self.closing |= self.session.closing;
        if std::mem::take(&mut self.session.reset) {
            self.link = Link::default();
            self.subscription = None;
            self.publish_state();
        } else if before != self.session.protocol
            && let Some(subscription) = self.subscription.take()
        {
            // Its messages have the form of the protocol that it was opened with.
            self.closing |= subscription.is_subscribed();
        }
    }

    fn hold_for_redis(&mut self, arguments: Vec<Bytes>, form: Form, instead: Option<Reply>) {
        self.held = Some(Held::Relay(vec![ForRedis { arguments, form, instead }]));
    }

    /// How replies are sent from now on.
    fn form(&self, skipped: bool) -> Form {
        let hidden = skipped || self.session.replies != Replies::On;
        Form { protocol: self.session.protocol, hidden }
    }

    /// Sends a reply, behind those that are still to come.
    fn answer(&mut self, reply: Reply, form: Form) {
        if self.line.is_empty() {
            self.send(&reply, form);
        } else {
            self.line.push_back(future::ready(Done::Reply(reply, form)).boxed());
        }
    }

    fn send(&mut self, reply: &Reply, form: Form) {
        if !form.hidden {
            reply.encode(form.protocol, &mut self.output);
        }
    }

    /// Puts a command into the empty line.
    fn start(&mut self, held: Held) {
        let engine = Arc::clone(&self.common.engine);
        let work = match held {
            Held::Write(work, form) => work.map(move |reply| Done::Reply(reply, form)).boxed(),
            Held::Relay(batch) => {
                let protocol = batch.first().map_or_else(Protocol::default, |c| c.form.protocol);
                let (commands, forms) = batch
                    .into_iter()
                    .map(|command| (command.arguments, (command.form, command.instead)))
                    .unzip();
                let link = std::mem::take(&mut self.link);
                // In a task of its own, so that it is carried through when the client leaves.
                let task = tokio::spawn(link.call(engine, commands, protocol, self.gone.clone()));
                async move {
                    let relayed = task.await.unwrap_or_else(|error| Relayed {
                        link: Link::default(),
                        replies: vec![Reply::err(&format!("the command failed in Warp: {error}"))],
                        broken: true,
                    });
                    Done::Relayed(Box::new(relayed), forms)
                }
                .boxed()
            }
            Held::Subscribe(arguments, form) => {
                if let Some(subscription) = &mut self.subscription {
                    subscription.send(&arguments);
                    return;
                }
                async move {
                    let stream = relay::open_stream(&engine, form.protocol).await;
                    Done::Opened(stream, arguments, form)
                }
                .boxed()
            }
        };
        self.line.push_back(work);
        self.alone = true;
    }

    /// Takes in what came out of the line.
    pub(super) fn finish(&mut self, done: Done) {
        self.restart_idle();
        if self.line.is_empty() {
            self.alone = false;
        }
        match done {
            Done::Reply(reply, form) => self.send(&reply, form),
            Done::Relayed(relayed, forms) => {
                self.link = relayed.link;
                self.closing |= relayed.broken;
                for (reply, (form, instead)) in relayed.replies.into_iter().zip(forms) {
                    self.send(&instead.unwrap_or(reply), form);
                }
                self.publish_state();
            }
            Done::Opened(Err(error), _, form) => self.send(&command::failure(&error), form),
            Done::Opened(Ok(stream), arguments, _) => {
                let mut subscription = Subscription::new(stream, is_monitor(&arguments[0]));
                subscription.send(&arguments);
                self.subscription = Some(Box::new(subscription));
            }
        }
    }

    /// Lets CLIENT LIST show transactions and subscriptions.
    pub(super) fn publish_state(&self) {
        let queued = self.link.transaction.queued();
        let subscribed = self.subscription.as_ref().is_some_and(|line| line.is_subscribed());
        self.session.admission.client.with_state(|state| {
            state.queued = queued;
            state.subscribed = subscribed;
        });
    }
}

fn is_monitor(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"MONITOR")
}
