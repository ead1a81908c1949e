//! The protocol of locks, checked over every interleaving, with the code's own rules.
//!
//! Sidecars that ask for one lock, hold it, renew it and release it. Every write is a message: the
//! bus applies it at any time, also when its sender has long given up; its answer comes at any
//! later time, or never. Time passes between any two steps, on clocks that are as slow and as fast
//! as they may be; a step that doesn't come for long is a pause, a message that doesn't is a partition,
//! and a sidecar that is killed forgets everything. Whatever the order: *at no time do two count on
//! the lock, and every grant has a greater token than all before it.* Each rule is needed: without
//! it some order breaks that.

use std::collections::HashSet;
use std::time::Duration;

use super::record::{Record, Sign};
use super::rules::{Asker, Step, renew, step, without};
use crate::sync_bus::observed::Record as _;
use crate::sync_bus::tenure::{Boot, others_end, own_end};

const TTL: Duration = Duration::from_secs(1);
/// A TTL is two ticks on the slowest clock for who holds and on the fastest for who watches.
const TICK: u64 = 500;
/// Ticks after which nothing more is looked at.
const HORIZON: u64 = 3;

/// What can be left out.
#[derive(Clone, Copy, Debug)]
struct Rules {
    /// The time of a holder counts from before he sent.
    from_sending: bool,
    /// Both sides leave a tenth for clocks that are wrong.
    with_margin: bool,
    /// A new sign of life begins the time anew.
    signs_count: bool,
    /// A write names the revision that it is meant for.
    compare_and_swap: bool,
    /// A shorter TTL holds from when it is sent.
    shorter_at_once: bool,
    /// Who learns of his grant when its time is over has nothing.
    late_is_lost: bool,
}

const ALL: Rules = Rules {
    from_sending: true,
    with_margin: true,
    signs_count: true,
    compare_and_swap: true,
    shorter_at_once: true,
    late_is_lost: true,
};

impl Rules {
    fn own_end(self, sent: Boot, ttl: Duration) -> Boot {
        if self.with_margin { own_end(sent, ttl) } else { sent.after(ttl) }
    }

    /// The rules of the code have the margin in them: without it, he looks as if he had seen the
    /// sign so much earlier.
    fn seen_at(self, since: Boot, ttl: Duration) -> Boot {
        let early = if self.with_margin { Duration::ZERO } else { ttl / 10 };
        Boot::at(Boot::at(Duration::ZERO).until(since).saturating_sub(early))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Wish {
    Take,
    Change,
    Renew(Duration),
    Release,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Answer {
    /// It is on its way to the bus.
    NotYet,
    Written(u64),
    Crossed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Message {
    from: usize,
    wish: Wish,
    sent: Boot,
    expected: u64,
    record: Record,
    answer: Answer,
    /// Somebody waits for the answer.
    awaited: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Held {
    id: u64,
    end: Boot,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Sidecar {
    /// Tenths of the true rate.
    rate: u64,
    lives: u64,
    gives_up: u64,
    asks: u64,
    renewals: u64,
    id: u64,
    asking: bool,
    seen: Option<(u64, Record)>,
    sighting: Option<(Sign, Boot)>,
    unanswered: Option<Boot>,
    held: Option<Held>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    time: u64,
    revision: u64,
    record: Record,
    messages: Vec<Message>,
    sidecars: Vec<Sidecar>,
    last_grant: u64,
    broken: Option<&'static str>,
}

/// What is explored: clocks, and how often the first asks again, renews and for how long, doesn't
/// wait for an answer, and is killed.
#[derive(Clone, Copy, Debug)]
struct Mix {
    rates: &'static [u64],
    more_asks: u64,
    renewals: u64,
    renewed_for: Duration,
    given_up: u64,
    kills: u64,
    waits: bool,
}

impl World {
    fn new(mix: &Mix) -> Self {
        // Faults befall the first.
        let of_first = |at: usize, count: u64| if at == 0 { count } else { 0 };
        let sidecar = |(at, &rate): (usize, &u64)| Sidecar {
            rate,
            lives: of_first(at, mix.kills),
            gives_up: of_first(at, mix.given_up),
            asks: 1 + of_first(at, mix.more_asks),
            renewals: of_first(at, mix.renewals),
            id: 10 * (at as u64 + 1),
            asking: false,
            seen: None,
            sighting: None,
            unanswered: None,
            held: None,
        };
        Self {
            time: 0,
            revision: 0,
            record: Record::default(),
            messages: Vec::new(),
            sidecars: mix.rates.iter().enumerate().map(sidecar).collect(),
            last_grant: 0,
            broken: None,
        }
    }

    fn clock(&self, at: usize) -> Boot {
        Boot::at(Duration::from_millis(self.time * TICK * self.sidecars[at].rate / 10))
    }

    fn next(&self, mix: &Mix, rules: Rules) -> Vec<Self> {
        let mut worlds = Vec::new();
        if self.time < HORIZON {
            worlds.push(Self { time: self.time + 1, ..self.clone() });
        }
        for at in 0..self.messages.len() {
            worlds.extend(self.apply(at, rules));
            worlds.extend(self.answer(at, rules));
            worlds.extend(self.give_up(at));
        }
        for at in 0..self.sidecars.len() {
            worlds.extend(self.ask(at));
            worlds.extend(self.look(at, rules));
            worlds.extend(self.act(at, mix, rules));
            worlds.extend(self.renew(at, mix, rules));
            worlds.extend(self.release(at));
            worlds.extend(self.kill(at));
        }
        for world in &mut worlds {
            world.tidy_up(rules);
            world.check();
        }
        worlds
    }

    /// What can have no effect any more makes no difference.
    fn tidy_up(&mut self, rules: Rules) {
        let revision = self.revision;
        self.messages.retain(|message| {
            let may_be_written = message.answer == Answer::NotYet
                && (message.expected == revision || !rules.compare_and_swap);
            message.awaited || may_be_written
        });
        self.messages.sort_by_key(|message| (message.from, message.sent, message.expected));
        for sidecar in &mut self.sidecars {
            if sidecar.asks == 0 && !sidecar.asking {
                sidecar.sighting = None;
            }
        }
    }

    fn check(&mut self) {
        let counting = |at: &usize| {
            self.sidecars[*at].held.as_ref().is_some_and(|held| self.clock(*at) < held.end)
        };
        if (0..self.sidecars.len()).filter(counting).count() > 1 {
            self.broken = Some("two count on the lock");
        }
    }

    /// The bus applies a write.
    fn apply(&self, at: usize, rules: Rules) -> Option<Self> {
        let message = self.messages.get(at).filter(|message| message.answer == Answer::NotYet)?;
        let mut world = self.clone();
        let is_last = message.expected == self.revision || !rules.compare_and_swap;
        world.messages[at].answer = if is_last {
            world.revision += 1;
            world.record = message.record.clone().at(world.revision);
            Answer::Written(world.revision)
        } else {
            Answer::Crossed
        };
        Some(world)
    }

    /// An answer comes.
    fn answer(&self, at: usize, rules: Rules) -> Option<Self> {
        let mut world = self.clone();
        let Message { from, wish, sent, record, answer, .. } =
            Some(world.messages.get(at)?.clone()).filter(|message| message.awaited)?;
        if answer == Answer::NotYet {
            return None;
        }
        world.messages.remove(at);
        let now = world.clock(from);
        let sidecar = &mut world.sidecars[from];
        let sent = if rules.from_sending { sent } else { now };
        match (wish, answer) {
            (Wish::Take, Answer::Written(revision)) => {
                sidecar.seen = Some((revision, record.at(revision)));
                world.granted(from, revision, rules.own_end(sent, TTL), rules);
            }
            (Wish::Renew(ttl), Answer::Written(revision)) => {
                if let Some(held) = sidecar.held.as_mut().filter(|held| now < held.end) {
                    held.end = rules.own_end(sent, ttl);
                    sidecar.seen = Some((revision, record.at(revision)));
                }
            }
            _ => sidecar.seen = None,
        }
        Some(world)
    }

    fn granted(&mut self, at: usize, grant: u64, end: Boot, rules: Rules) {
        let now = self.clock(at);
        let sidecar = &mut self.sidecars[at];
        sidecar.asking = false;
        if now >= end && rules.late_is_lost {
            return;
        }
        sidecar.held = Some(Held { id: sidecar.id, end });
        if grant <= self.last_grant {
            self.broken = Some("a token isn't greater than one before it");
        }
        self.last_grant = self.last_grant.max(grant);
    }

    /// Its sender doesn't wait for the answer any more.
    fn give_up(&self, at: usize) -> Option<Self> {
        let message = self.messages.get(at).filter(|message| message.awaited)?;
        let mut world = self.clone();
        world.messages[at].awaited = false;
        let sidecar = &mut world.sidecars[message.from];
        sidecar.gives_up = sidecar.gives_up.checked_sub(1)?;
        sidecar.seen = None;
        if message.wish == Wish::Take {
            sidecar.unanswered.get_or_insert(message.sent);
        }
        Some(world)
    }

    fn is_busy(&self, at: usize) -> bool {
        self.messages.iter().any(|message| message.from == at && message.awaited)
    }

    fn ask(&self, at: usize) -> Option<Self> {
        let sidecar = &self.sidecars[at];
        if sidecar.asking || sidecar.held.is_some() || sidecar.asks == 0 || self.is_busy(at) {
            return None;
        }
        let mut world = self.clone();
        let sidecar = &mut world.sidecars[at];
        sidecar.asks -= 1;
        sidecar.id += 1;
        (sidecar.asking, sidecar.seen, sidecar.unanswered) = (true, None, None);
        Some(world)
    }

    /// The sidecar reads the record.
    fn look(&self, at: usize, rules: Rules) -> Option<Self> {
        let mut world = self.clone();
        let now = world.clock(at);
        let (revision, record) = (world.revision, world.record.clone());
        let sidecar = &mut world.sidecars[at];
        let news = sidecar.seen.as_ref().is_none_or(|(seen, _)| *seen != revision);
        if self.is_busy(at) || !news || !(sidecar.asking || sidecar.held.is_some()) {
            return None;
        }
        sidecar.sighting = record.sign().map(|(sign, _)| match sidecar.sighting {
            Some((before, since)) if before == sign || !rules.signs_count => (sign, since),
            _ => (sign, now),
        });
        if sidecar.asking && record.holds(sidecar.id).is_some() {
            let sent = sidecar.unanswered.unwrap_or(Boot::at(Duration::ZERO));
            let grant = record.grant();
            sidecar.seen = Some((revision, record));
            world.granted(at, grant, rules.own_end(sent, TTL), rules);
        } else {
            sidecar.seen = Some((revision, record));
        }
        Some(world)
    }

    /// Who asks does what the rules say.
    fn act(&self, at: usize, mix: &Mix, rules: Rules) -> Option<Self> {
        let sidecar = &self.sidecars[at];
        let (revision, record) = sidecar.seen.as_ref()?;
        if !sidecar.asking || self.is_busy(at) {
            return None;
        }
        let now = self.clock(at);
        let since = sidecar.sighting.map_or(now, |(_, since)| since);
        let patience = record.sign().map_or(Duration::ZERO, |(_, patience)| patience);
        let asker = Asker { id: sidecar.id, pod: at as u64, ttl: TTL, waits: mix.waits };
        match step(record, &asker, rules.seen_at(since, patience), now) {
            Step::Take(new) => Some(self.send(at, Wish::Take, *revision, new)),
            Step::Change(new) => Some(self.send(at, Wish::Change, *revision, new)),
            Step::Wait(end) => {
                assert!(now < end && (rules.with_margin == (end == others_end(since, patience))));
                None
            }
            Step::Refused | Step::Full => None,
        }
    }

    fn send(&self, at: usize, wish: Wish, expected: u64, record: Record) -> Self {
        let mut world = self.clone();
        let sent = self.clock(at);
        let answer = Answer::NotYet;
        world.messages.push(Message {
            from: at,
            wish,
            sent,
            expected,
            record,
            answer,
            awaited: true,
        });
        world
    }

    fn renew(&self, at: usize, mix: &Mix, rules: Rules) -> Option<Self> {
        let sidecar = &self.sidecars[at];
        let held = sidecar.held.as_ref().filter(|held| self.clock(at) < held.end)?;
        let (revision, record) = sidecar.seen.as_ref()?;
        if sidecar.renewals == 0 || self.is_busy(at) {
            return None;
        }
        let ttl = mix.renewed_for;
        let new = renew(record, held.id, ttl)?;
        let mut world = self.send(at, Wish::Renew(ttl), *revision, new);
        let now = world.clock(at);
        let sidecar = &mut world.sidecars[at];
        sidecar.renewals -= 1;
        if rules.shorter_at_once
            && let Some(held) = &mut sidecar.held
        {
            held.end = held.end.min(rules.own_end(now, ttl));
        }
        Some(world)
    }

    /// He counts on it no more from when he releases it.
    fn release(&self, at: usize) -> Option<Self> {
        let sidecar = &self.sidecars[at];
        let held = sidecar.held.as_ref()?;
        let (revision, record) = sidecar.seen.as_ref()?;
        if self.is_busy(at) {
            return None;
        }
        let mut world = match without(record, held.id) {
            Some(new) => self.send(at, Wish::Release, *revision, new),
            None => self.clone(),
        };
        world.sidecars[at].held = None;
        Some(world)
    }

    /// `kill -9`: what it has sent stays on its way.
    fn kill(&self, at: usize) -> Option<Self> {
        let mut world = self.clone();
        let sidecar = &mut world.sidecars[at];
        sidecar.lives = sidecar.lives.checked_sub(1)?;
        (sidecar.asking, sidecar.seen, sidecar.sighting) = (false, None, None);
        (sidecar.held, sidecar.unanswered) = (None, None);
        for message in world.messages.iter_mut().filter(|message| message.from == at) {
            message.awaited = false;
        }
        Some(world)
    }
}

/// Every world that can be reached: how many, and the first that breaks the invariant.
fn explore(mix: &Mix, rules: Rules) -> (usize, Option<World>) {
    let start = World::new(mix);
    let mut seen = HashSet::from([start.clone()]);
    let mut open = vec![start];
    while let Some(world) = open.pop() {
        if world.broken.is_some() {
            return (seen.len(), Some(world));
        }
        open.extend(world.next(mix, rules).into_iter().filter(|next| seen.insert(next.clone())));
    }
    (seen.len(), None)
}

/// The first on the slowest clock, the other on the fastest.
const BOTH: Mix = Mix {
    rates: &[9, 11],
    more_asks: 0,
    renewals: 0,
    renewed_for: TTL,
    given_up: 1,
    kills: 0,
    waits: false,
};

const MIXES: [Mix; 6] = [
    Mix { renewals: 1, ..BOTH },
    Mix { renewals: 1, rates: &[11, 9], ..BOTH },
    Mix { renewals: 1, renewed_for: Duration::from_millis(500), ..BOTH },
    Mix { more_asks: 1, kills: 1, given_up: 0, ..BOTH },
    Mix { waits: true, kills: 1, given_up: 0, ..BOTH },
    Mix { rates: &[9, 11, 10], given_up: 0, ..BOTH },
];

#[test]
fn no_order_lets_two_count_on_a_lock() {
    let mut explored = 0;
    for mix in &MIXES {
        let (worlds, broken) = explore(mix, ALL);
        assert_eq!(broken, None, "{mix:?}");
        println!("{worlds} worlds of {mix:?}");
        explored += worlds;
    }
    assert!(explored > 10_000, "only {explored} worlds were explored");
}

#[test]
fn every_rule_is_needed() {
    for (name, rules) in [
        ("from_sending", Rules { from_sending: false, ..ALL }),
        ("with_margin", Rules { with_margin: false, ..ALL }),
        ("signs_count", Rules { signs_count: false, ..ALL }),
        ("compare_and_swap", Rules { compare_and_swap: false, ..ALL }),
        ("shorter_at_once", Rules { shorter_at_once: false, ..ALL }),
        ("late_is_lost", Rules { late_is_lost: false, ..ALL }),
    ] {
        let found = MIXES.iter().any(|mix| explore(mix, rules).1.is_some());
        assert!(found, "without {name} nothing goes wrong: the model doesn't need it");
    }
}
