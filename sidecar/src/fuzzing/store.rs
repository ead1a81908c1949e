//! Histories of a store, each beside a plain map: see `cache/store/model`.

use super::Input;
use crate::cache::store::WhenFull;
use crate::cache::store::model::{KEYS, Put, Step, run, store};

pub(super) fn target(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let store = match input.below(3) {
        0 => store(1 << 30, WhenFull::Refuse),
        1 => store(60_000, WhenFull::Refuse),
        _ => store(usize::from(input.half()) * 3, WhenFull::Evict),
    };
    let mut steps = Vec::new();
    while !input.is_empty() {
        steps.push(step(&mut input));
    }
    run(store, &steps);
}

/// A few keys that meet often, or one of all.
fn key(input: &mut Input<'_>) -> u16 {
    match input.byte() {
        byte @ 0..128 => u16::from(byte % 8),
        byte => (u16::from(byte) << 8 | u16::from(input.byte())) % KEYS,
    }
}

fn end(input: &mut Input<'_>) -> Option<u8> {
    input.truth().then(|| input.byte())
}

fn put(input: &mut Input<'_>) -> Put {
    match input.below(4) {
        0 | 1 => Put::Text(input.half() % 400),
        2 => Put::Integer(input.word()),
        _ => Put::List(input.byte() % 39 + 1),
    }
}

fn step(input: &mut Input<'_>) -> Step {
    match input.below(18) {
        0..=2 => Step::Insert(key(input), put(input), end(input)),
        3 | 4 => Step::Get(key(input)),
        5 => Step::Remove(key(input)),
        6 => Step::Take(key(input)),
        7 => Step::SetExpiry(key(input), end(input)),
        8 | 9 => Step::Extend(key(input), input.byte() % 20),
        10 => Step::Shorten(key(input)),
        11 => Step::Rename(key(input), key(input)),
        // Few at a time, so that a history has many steps.
        12 => Step::Fill(key(input), u16::from(input.byte()) * 2),
        13 => Step::Drain(key(input), u16::from(input.byte()) * 2),
        14 => Step::Later(input.byte()),
        15 => Step::Expire(input.half() % 3000),
        16 if input.byte() < 32 => Step::Clear,
        _ => Step::Limit(u32::from(input.half()) * 6),
    }
}
