//! What a connection does with the commands that it has read, in their order.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use smallvec::SmallVec;

use super::{Connection, Done, ForRedis, Form, Held, LONGEST_LINE, Prepared, Slot, Turn};
use crate::adapter::Key;
use crate::cache::store::Hash;
use crate::core::Begun;
use crate::resp::command::{self, Call, Locked, Origin, Outcome};
use crate::resp::queue::Queue;
use crate::resp::relay::{self, Link, Relayed};
use crate::resp::reply::{Protocol, Reply};
use crate::resp::request::{Batch, MOST, ProtocolError};
use crate::resp::session::Replies;
use crate::resp::subscription::{self, Subscription, is_subscribing};
use crate::resp::transaction::{Route, Step};

/// Arguments of a command, as many as most have without an allocation.
type Arguments<'a> = SmallVec<[&'a [u8]; 8]>;

impl Connection {
    /// Executes what `input` holds from `from` on, as far as it need not wait; how far that was.
    pub(super) fn execute(&mut self, input: &[u8], from: usize, turn: &mut Turn) -> usize {
        let mut at = from;
        let mut executed = 0;
        let mut batch = std::mem::take(&mut turn.batch);
        let mut prepared = std::mem::take(&mut turn.prepared);
        while at < input.len() && !self.is_stuck(turn) {
            let result = self.parser.read(input, at, &mut batch);
            let on_keys = self.prepare(&batch, input, turn, &mut prepared);
            // Commands on keys wait for nothing, so they take the keys once for all.
            let storage = on_keys.then(|| Arc::clone(turn.view.storage()));
            let now = turn.now.unix;
            let mut execute_all = || {
                for (command, found) in prepared.iter().enumerate() {
                    let arguments: Arguments<'_> = batch.arguments(command, input).collect();
                    if !self.extend_batch(*found, &arguments, turn) {
                        self.start_held();
                        if self.is_blocked(turn.waiting()) {
                            return false;
                        }
                        self.execute_one(*found, &arguments, turn);
                    }
                    executed += 1;
                    at = batch.end_of(command);
                }
                true
            };
            let goes_on = match storage.as_ref().and_then(|storage| storage.as_memory()) {
                Some(memory) => memory.exclusively(now, execute_all),
                None => execute_all(),
            };
            if !goes_on {
                self.parser.rewind();
                break;
            }
            if let Err(error) = result {
                self.parser.rewind();
                self.start_held();
                if !self.is_blocked(turn.waiting()) {
                    self.refuse(error, turn);
                }
                break;
            }
            at = batch.end();
            if batch.len() < MOST && !batch.ends_inline() {
                break;
            }
        }
        turn.batch = batch;
        turn.prepared = prepared;
        self.start_held();
        self.waits_for_output |=
            at < input.len() && turn.waiting() >= self.common.settings.output_soft;
        if executed > 0 {
            self.common.host.clients.count_commands(executed);
            self.session.publish_last_command();
        }
        if self.closing { input.len() } else { at }
    }

    /// Finds the commands of a batch, and has the processor fetch what their keys need together,
    /// so that it waits for memory once and not for each. Whether they are several, all on keys.
    fn prepare(
        &self,
        batch: &Batch,
        input: &[u8],
        turn: &Turn,
        prepared: &mut Vec<Prepared>,
    ) -> bool {
        let engine = &self.common.engine;
        prepared.clear();
        let mut hashes: SmallVec<[Hash; MOST]> = SmallVec::new();
        for command in 0..batch.len() {
            let mut arguments = batch.arguments(command, input);
            let entry = arguments.next().and_then(command::find);
            let is_key = entry.is_some_and(|entry| entry.command.first_argument_is_key());
            let hash = arguments.next().filter(|_| is_key).map(|key| engine.hash(key));
            hashes.extend(hash);
            prepared.push(Prepared { entry, hash });
        }
        let several = hashes.len() > 1;
        if several {
            engine.prefetch(&turn.view, &hashes, turn.now);
        }
        several && hashes.len() == batch.len()
    }

    /// Whether no command can be taken, not even one that goes to Redis with those before it.
    fn is_stuck(&self, turn: &Turn) -> bool {
        self.is_blocked(turn.waiting()) && !matches!(self.held, Some(Held::Relay(_)))
    }

    /// Starts the command that waits for the line to be empty, if it is.
    #[inline]
    fn start_held(&mut self) {
        if self.held.is_some() && self.line.is_empty() {
            self.start();
        }
    }

    fn refuse(&mut self, error: ProtocolError, turn: &mut Turn) {
        self.common.metrics.protocol_errors.inc();
        self.answer(Reply::err(&error.to_string()), self.form(false), turn);
        self.closing = true;
    }

    /// Adds the next command to those that wait to go to Redis, if it is sure to go there too.
    fn extend_batch(&mut self, prepared: Prepared, arguments: &[&[u8]], turn: &mut Turn) -> bool {
        let Some(Held::Relay(batch)) = &self.held else {
            return false;
        };
        let may_go_on = batch.len() < LONGEST_LINE
            && batch.last().is_some_and(|last| {
                let name = &last.arguments[0];
                Step::of(name) == Step::Other && !relay::may_wait(name)
            });
        if !may_go_on {
            return false;
        }
        let name = arguments[0];
        let transaction = &self.link.transaction;
        let goes_there = if transaction.is_open() {
            transaction.takes(name)
        } else {
            Step::of(name) == Step::Other && command::is_for_redis(name)
        };
        if !goes_there || relay::may_wait(name) || is_subscribing(name) || is_monitor(name) {
            return false;
        }
        turn.tally.count(prepared.entry);
        if self.session.tracker.is_some() {
            command::note_relayed(&mut self.session, arguments);
        }
        let skipped = self.session.take_skip();
        let form = self.form(skipped);
        if let Some(Held::Relay(batch)) = &mut self.held {
            batch.push(ForRedis { arguments: command::kept_all(arguments), form, instead: None });
        }
        true
    }

    /// Whether the next command has to wait, given how many bytes of replies do.
    pub(super) fn is_blocked(&self, waiting: usize) -> bool {
        self.closing
            || self.alone
            || (self.held.is_some() && !self.line.is_empty())
            || self.line.len() >= LONGEST_LINE
            || waiting >= self.common.settings.output_soft
            || self.subscription.as_ref().is_some_and(|subscription| subscription.is_waiting())
    }

    fn execute_one(&mut self, prepared: Prepared, arguments: &[&[u8]], turn: &mut Turn) {
        let name = arguments[0];
        let Prepared { entry, hash } = prepared;
        turn.tally.count(entry);
        let skipped = self.session.take_skip();
        if entry.is_none() && command::is_http(name) {
            self.closing = true;
            return;
        }
        if let Some(subscription) = &self.subscription {
            match subscription.route(name, self.session.protocol) {
                subscription::Route::Elsewhere => {}
                subscription::Route::Here => {
                    self.held =
                        Some(Held::Subscribe(command::kept_all(arguments), self.form(skipped)));
                    return;
                }
                subscription::Route::Refused(reply) => {
                    return self.answer(reply, self.form(skipped), turn);
                }
            }
        }
        if self.session.queue.is_open()
            && let Some(reply) =
                command::queue(entry, arguments, &turn.view, &mut self.session.queue)
        {
            self.publish_state();
            return self.answer(reply, self.form(skipped), turn);
        }
        match self.link.transaction.route(name) {
            Route::Warp => {}
            Route::Redis => {
                if self.session.tracker.is_some() {
                    command::note_relayed(&mut self.session, arguments);
                }
                return self.hold_for_redis(command::kept_all(arguments), self.form(skipped), None);
            }
            Route::Discard(reply) => {
                let discard = vec![Bytes::from_static(b"DISCARD")];
                return self.hold_for_redis(discard, self.form(skipped), Some(reply));
            }
            Route::Refused(reply) => return self.answer(reply, self.form(skipped), turn),
        }
        let before = self.session.protocol;
        let was_queueing = self.session.queue.is_open();
        let mark = turn.out.len();
        let outcome = command::execute(
            entry,
            &mut Call {
                arguments,
                engine: &self.common.engine,
                session: &mut self.session,
                host: &self.common.host,
                view: &turn.view,
                hash,
                now: turn.now,
                out: &mut turn.out,
                origin: Origin::Client,
            },
        );
        let mut form = self.form(skipped);
        // What subscribes is confirmed with messages, which are sent whatever CLIENT REPLY says.
        form.hidden &= !(matches!(outcome, Outcome::Written) && is_subscribing(name));
        match outcome {
            Outcome::Written if self.line.is_empty() && !form.hidden => {}
            Outcome::Written => {
                let reply = Reply::Raw(Bytes::copy_from_slice(&turn.out[mark..]));
                turn.out.truncate(mark);
                self.answer(reply, form, turn);
            }
            Outcome::Reply(reply) => self.answer(reply, form, turn),
            Outcome::Wait(wait) => {
                self.session.admission.client.with_state(|state| state.is_blocked = true);
                self.held = Some(Held::Wait(wait, form));
            }
            Outcome::Read(work) => self.wait_for(work.map(move |reply| Done::Reply(reply, form))),
            Outcome::Write(work) => self.held = Some(Held::Write(work, form)),
            Outcome::Relay if is_subscribing(name) || is_monitor(name) => {
                self.held = Some(Held::Subscribe(command::kept_all(arguments), form));
            }
            Outcome::Relay => self.hold_for_redis(command::kept_all(arguments), form, None),
            Outcome::Watch(keys) => self.held = Some(Held::Watch(keys, form)),
            Outcome::Lock(locked) => self.held = Some(Held::Lock(locked, form)),
        }
        self.closing |= self.session.closing;
        if was_queueing != self.session.queue.is_open() {
            self.publish_state();
        }
        if std::mem::take(&mut self.session.reset) {
            self.link = Link::default();
            self.subscription = None;
            self.session.queue = Queue::default();
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
    fn answer(&mut self, reply: Reply, form: Form, turn: &mut Turn) {
        if self.line.is_empty() {
            send(&reply, form, turn);
        } else {
            self.line.push_back(Slot::Ready(Done::Reply(reply, form)));
        }
    }

    /// Puts a slot into the line that waits for `work`.
    fn wait_for(&mut self, work: impl Future<Output = Done> + Send + 'static) {
        let promise = self.address.promise(self.first + self.line.len() as u64, self.form(false));
        self.line.push_back(Slot::Waiting);
        self.common.runtime.spawn(async move { promise.keep(work.await) });
    }

    /// Puts the held command into the empty line.
    #[inline(never)]
    fn start(&mut self) {
        let Some(held) = self.held.take() else { return };
        let engine = Arc::clone(&self.common.engine);
        match held {
            Held::Write(work, form) => {
                self.wait_for(work.map(move |reply| Done::Reply(reply, form)));
            }
            Held::Wait(wait, form) => {
                let reply = wait.reply(self.gone.clone());
                self.wait_for(reply.map(move |reply| Done::Waited(reply, form)));
            }
            Held::Relay(batch) => {
                let protocol = batch.first().map_or_else(Protocol::default, |c| c.form.protocol);
                let (commands, forms) = batch
                    .into_iter()
                    .map(|command| (command.arguments, (command.form, command.instead)))
                    .unzip();
                let link = std::mem::take(&mut self.link);
                let call = link.call(engine, commands, protocol, self.gone.clone());
                self.wait_for(call.map(|relayed| Done::Relayed(Box::new(relayed), forms)));
            }
            Held::Subscribe(arguments, _) if self.subscription.is_some() => {
                if let Some(subscription) = &mut self.subscription {
                    subscription.send(&arguments);
                }
                return;
            }
            Held::Watch(keys, form) => self.wait_for(async move {
                let versions = engine.versions(&keys).await;
                Done::Watched(
                    versions.map(|versions| keys.into_iter().zip(versions).collect()),
                    form,
                )
            }),
            Held::Lock(locked, form) => {
                let mut keys = command::keys_of_all(&locked.commands);
                keys.extend(locked.watched.iter().map(|(key, _)| key.clone()));
                self.wait_for(async move {
                    Done::Begun(engine.begin(keys).await.map(Box::new), locked, form)
                });
            }
            Held::Subscribe(arguments, form) => self.wait_for(async move {
                let stream = relay::open_stream(&engine, form.protocol).await;
                Done::Opened(stream, arguments, form)
            }),
        }
        self.alone = true;
    }

    /// Takes in what came out of the line.
    pub(super) fn finish(&mut self, done: Done, turn: &mut Turn) {
        if self.line.is_empty() {
            self.alone = false;
        }
        match done {
            Done::Reply(reply, form) => send(&reply, form, turn),
            Done::Waited(reply, form) => {
                self.session.admission.client.with_state(|state| state.is_blocked = false);
                match reply {
                    Some(reply) => send(&reply, form, turn),
                    // What it sent behind the command goes with it.
                    None => self.closing = true,
                }
            }
            Done::Relayed(relayed, forms) => {
                let Relayed { link, replies, broken } = *relayed;
                self.link = link;
                self.closing |= broken;
                for (reply, (form, instead)) in replies.into_iter().zip(forms) {
                    send(&instead.unwrap_or(reply), form, turn);
                }
                self.publish_state();
            }
            Done::Watched(Err(error), form) | Done::Begun(Err(error), _, form) => {
                send(&command::failure(&error), form, turn);
            }
            Done::Watched(Ok(versions), form) => {
                self.session.queue.watch().add_versions(versions);
                send(&Reply::OK, form, turn);
            }
            Done::Begun(Ok(begun), locked, form) => {
                self.execute_locked(*begun, *locked, form, turn);
            }
            Done::Opened(Err(error), _, form) => send(&command::failure(&error), form, turn),
            Done::Opened(Ok(stream), arguments, _) => {
                let runtime = &self.common.runtime;
                let address = self.address.clone();
                let notify = move || address.messages();
                let mut subscription =
                    Subscription::open(stream, is_monitor(&arguments[0]), runtime, notify);
                subscription.send(&arguments);
                self.subscription = Some(Box::new(subscription));
            }
        }
    }

    /// Executes commands on the keys that are locked for them, and has what they change stored; or
    /// nothing, if a watched key has another version.
    fn execute_locked(&mut self, begun: Begun, locked: Locked, form: Form, turn: &mut Turn) {
        let Locked { commands, watched, is_list, pending } = locked;
        self.alone = true;
        let has_changed = |(key, version): &(Key, u64)| {
            begun.versions().any(|(locked, now)| locked == key && now != *version)
        };
        if watched.iter().any(has_changed) {
            return self.wait_for(async move {
                begun.rollback().await;
                Done::Reply(Reply::NullArray, form)
            });
        }
        let (view, mut replies) = (begun.view(&turn.view), Vec::new());
        let mut call = Call {
            arguments: &[],
            engine: &self.common.engine,
            session: &mut self.session,
            host: &self.common.host,
            view: &view,
            hash: None,
            now: turn.now,
            out: &mut replies,
            origin: Origin::Queued,
        };
        if is_list {
            call.run_all(&commands);
        } else {
            call.run_each(&commands);
        }
        let engine = Arc::clone(&self.common.engine);
        self.wait_for(async move {
            let committed = engine.commit(begun).await;
            if let Some(pending) = pending {
                pending.end();
            }
            let replies = committed.map(|()| Reply::Raw(replies.into()));
            Done::Reply(replies.unwrap_or_else(|error| command::failure(&error)), form)
        });
    }

    /// Lets CLIENT LIST show transactions and subscriptions.
    pub(super) fn publish_state(&self) {
        let queued = self.link.transaction.queued().or(self.session.queue.queued());
        let subscriptions = match &self.subscription {
            Some(line) => line.subscriptions(),
            None => self.session.subscriptions(),
        };
        self.session.admission.client.with_state(|state| {
            state.queued = queued;
            state.subscriptions = subscriptions;
        });
    }
}

fn send(reply: &Reply, form: Form, turn: &mut Turn) {
    if !form.hidden {
        reply.encode(form.protocol, &mut turn.out);
    }
}

fn is_monitor(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"MONITOR")
}
