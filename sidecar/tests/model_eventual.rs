//! The protocol of EventualDistributed, checked over every interleaving.
//!
//! Two pods, one key, readers and writers in every mix of a few. A step is what is atomic in the
//! code: taking the stamp, one storage call, one publish, one visit to the cache under its lock,
//! one message applied. Whatever the order: *when all is done and delivered, a cached value is the
//! storage's.* Each rule is needed: without it some order ends in a stale copy. That writers of a pod
//! take turns is no such rule, and isn't in the model: it saves them work.

use std::collections::HashSet;

const PODS: usize = 2;

/// The rules of `core` and `cache`, each of which can be left out.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rules {
    /// A fill enters only if the counter is its stamp.
    fill_is_guarded: bool,
    /// So does a writer's value.
    replace_is_guarded: bool,
    /// A writer's value moves the counter when it enters.
    replace_forgets: bool,
    /// A peer's message moves the counter.
    message_moves_counter: bool,
    /// The storage is written before the message is published.
    storage_first: bool,
}

const ALL: Rules = Rules {
    fill_is_guarded: true,
    replace_is_guarded: true,
    replace_forgets: true,
    message_moves_counter: true,
    storage_first: true,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Read,
    Write,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Operation {
    kind: Kind,
    pod: usize,
    step: u8,
    stamp: u8,
    value: u8,
}

impl Operation {
    const fn is_done(&self) -> bool {
        self.step == if matches!(self.kind, Kind::Read) { 3 } else { 4 }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Pod {
    cached: Option<u8>,
    counter: u8,
    applied: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    stored: u8,
    /// The origins of the messages, in the bus's order.
    bus: Vec<usize>,
    pods: [Pod; PODS],
    operations: Vec<Operation>,
}

impl World {
    fn new(mix: &[(Kind, usize)]) -> Self {
        let operation =
            |&(kind, pod): &(Kind, usize)| Operation { kind, pod, step: 0, stamp: 0, value: 0 };
        Self {
            stored: 0,
            bus: Vec::new(),
            // A copy from before, so that a write has something to make stale.
            pods: std::array::from_fn(|_| Pod { cached: Some(0), ..Pod::default() }),
            operations: mix.iter().map(operation).collect(),
        }
    }

    fn next(&self, rules: Rules) -> Vec<Self> {
        let advanced = (0..self.operations.len()).filter_map(|at| self.advance(at, rules));
        advanced.chain((0..PODS).filter_map(|pod| self.deliver(pod, rules))).collect()
    }

    fn deliver(&self, pod: usize, rules: Rules) -> Option<Self> {
        let origin = *self.bus.get(self.pods[pod].applied)?;
        let mut world = self.clone();
        let pod_after = &mut world.pods[pod];
        pod_after.applied += 1;
        if origin != pod {
            pod_after.cached = None;
            pod_after.counter += u8::from(rules.message_moves_counter);
        }
        Some(world)
    }

    fn advance(&self, at: usize, rules: Rules) -> Option<Self> {
        let now = &self.operations[at];
        if now.is_done() {
            return None;
        }
        let mut world = self.clone();
        let World { stored, bus, pods, operations } = &mut world;
        let operation = &mut operations[at];
        let pod = &mut pods[operation.pod];
        operation.step += 1;
        match (operation.kind, now.step) {
            (_, 0) => operation.stamp = pod.counter,
            (Kind::Read, 1) => operation.value = *stored,
            (Kind::Read, _) => {
                if !rules.fill_is_guarded || pod.counter == operation.stamp {
                    pod.cached = Some(operation.value);
                }
            }
            (Kind::Write, step @ (1 | 2)) => {
                if (step == 1) == rules.storage_first {
                    *stored += 1;
                    operation.value = *stored;
                } else {
                    bus.push(operation.pod);
                }
            }
            (Kind::Write, _) => {
                let unchanged = pod.counter == operation.stamp;
                pod.counter += u8::from(rules.replace_forgets);
                pod.cached = (!rules.replace_is_guarded || unchanged).then_some(operation.value);
            }
        }
        Some(world)
    }

    fn is_stale_at_rest(&self) -> bool {
        let at_rest = self.operations.iter().all(Operation::is_done)
            && self.pods.iter().all(|pod| pod.applied == self.bus.len());
        at_rest && self.pods.iter().any(|pod| pod.cached.is_some_and(|value| value != self.stored))
    }
}

/// Every world that can be reached from the mix: how many, and one that breaks the invariant.
fn explore(mix: &[(Kind, usize)], rules: Rules) -> (usize, Option<World>) {
    let start = World::new(mix);
    let mut seen = HashSet::from([start.clone()]);
    let mut open = vec![start];
    while let Some(world) = open.pop() {
        if world.is_stale_at_rest() {
            return (seen.len(), Some(world));
        }
        open.extend(world.next(rules).into_iter().filter(|next| seen.insert(next.clone())));
    }
    (seen.len(), None)
}

fn mixes() -> Vec<Vec<(Kind, usize)>> {
    use Kind::{Read, Write};
    vec![
        vec![(Read, 0), (Write, 0), (Write, 0)],
        vec![(Read, 0), (Write, 0), (Write, 1)],
        vec![(Read, 0), (Read, 1), (Write, 0), (Write, 1)],
        vec![(Read, 0), (Write, 0), (Write, 0), (Write, 1)],
    ]
}

#[test]
fn no_order_leaves_a_stale_copy() {
    let mut explored = 0;
    for mix in mixes() {
        let (worlds, stale) = explore(&mix, ALL);
        assert_eq!(stale, None, "{mix:?}");
        explored += worlds;
    }
    assert!(explored > 10_000, "only {explored} worlds were explored");
}

#[test]
fn every_rule_is_needed() {
    for (name, rules) in [
        ("fill_is_guarded", Rules { fill_is_guarded: false, ..ALL }),
        ("replace_is_guarded", Rules { replace_is_guarded: false, ..ALL }),
        ("replace_forgets", Rules { replace_forgets: false, ..ALL }),
        ("message_moves_counter", Rules { message_moves_counter: false, ..ALL }),
        ("storage_first", Rules { storage_first: false, ..ALL }),
    ] {
        let found = mixes().iter().any(|mix| explore(mix, rules).1.is_some());
        assert!(found, "without {name} nothing goes wrong: the model doesn't need it");
    }
}
