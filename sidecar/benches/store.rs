//! What the store costs and what it finds: time for each operation, bytes for each entry, hit ratios,
//! beside a plain map in the same run.
//!
//! `cargo bench -p warp-sidecar --bench store`, or with words that choose some of the parts: `bytes`,
//! `time`, `hits`. Keys of 16 bytes, values of 100, a million keys, zipf with an exponent of 0.99.
// Its numbers go to a terminal, and a benchmark that can't run may as well panic.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::panic,
    clippy::unwrap_used
)]

use std::collections::HashMap;
use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use warp_sidecar::adapter::Value;
use warp_sidecar::cache::store::{Hasher, Meta, NoObject, Payload, Store, View, WhenFull};
use warp_sidecar::cache::{Cache, Filling};

const KEYS: u32 = 1_000_000;
const VALUE: usize = 100;
const PAIR: usize = 16 + VALUE;
const OPERATIONS: usize = 4_000_000;
/// Commands that are prefetched together.
const BATCH: usize = 32;

fn main() {
    let parts: Vec<_> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    if let [first, kind, entries] = &parts[..]
        && first == "fill"
    {
        fill(kind, entries.parse().unwrap());
        return;
    }
    let chosen = |part: &str| parts.is_empty() || parts.iter().any(|word| word == part);
    if chosen("bytes") {
        bytes();
    }
    if chosen("time") {
        time();
    }
    if chosen("hits") {
        hits();
    }
}

fn key(number: u32) -> [u8; 16] {
    let mut key = *b"key:000000000000";
    let mut rest = number;
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

/// Keys by their popularity, which has nothing to do with the order of their names.
struct Zipf {
    sums: Vec<f64>,
    state: u64,
}

impl Zipf {
    fn new() -> Self {
        let mut sum = 0.0;
        let weight = |rank: u32| f64::from(rank).powf(-0.99);
        let sums = (1..=KEYS).map(|rank| {
            sum += weight(rank);
            sum
        });
        Self { sums: sums.collect(), state: 0x2545_F491_4F6C_DD1D }
    }

    fn next(&mut self) -> u32 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let at = (self.state >> 11) as f64 / (1u64 << 53) as f64 * self.sums[self.sums.len() - 1];
        let rank = self.sums.partition_point(|sum| *sum < at) as u32;
        (u64::from(rank) * 7_368_787 % u64::from(KEYS)) as u32
    }

    /// The share of requests that the `count` most popular keys get: what no cache can exceed.
    fn share(&self, count: usize) -> f64 {
        self.sums[count.min(self.sums.len()) - 1] / self.sums[self.sums.len() - 1]
    }
}

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn store(limit: usize, when_full: WhenFull) -> Store<NoObject> {
    Store::new(Hasher::of_process(), limit, when_full)
}

fn put(store: &mut Store<NoObject>, number: u32, value: &[u8]) {
    let key = key(number);
    let hash = store.hash(&key);
    store.insert(hash, &key, Payload::Bytes(value), Meta::default(), 0).unwrap();
}

fn copy(version: u64) -> Value {
    Value { data: Bytes::from(vec![b'v'; VALUE]), expires_at: None, version }
}

type Plain = Mutex<HashMap<Box<[u8]>, Box<[u8]>, foldhash::fast::RandomState>>;

/// What keeps entries, for the part `bytes`. Each is filled in a process of its own, so that no memory
/// of another is used again.
const KINDS: [&str; 4] = ["refusing", "evicting", "copies", "map"];

fn bytes() {
    println!(
        "bytes for each entry beyond key and value, by the resident set and by its own account"
    );
    let this = std::env::current_exe().unwrap();
    for kind in KINDS {
        for entries in [700_000, KEYS] {
            let words = ["fill".to_owned(), kind.to_owned(), entries.to_string()];
            assert!(std::process::Command::new(&this).args(words).status().unwrap().success());
        }
    }
}

fn fill(kind: &str, entries: u32) {
    let before = resident();
    let (held, own): (Box<dyn std::any::Any>, usize) = match kind {
        "refusing" | "evicting" => {
            let when_full = if kind == "evicting" { WhenFull::Evict } else { WhenFull::Refuse };
            let mut store = store(1 << 30, when_full);
            (0..entries).for_each(|i| put(&mut store, i, &[b'v'; VALUE]));
            let own = store.bytes();
            (Box::new(store), own)
        }
        "copies" => {
            let cache = Cache::new(1 << 30);
            for i in 0..entries {
                cache.fill(&key(i), cache.stamp(&key(i)), Filling::plain(&copy(0), 1000));
            }
            let own = cache.usage().bytes;
            (Box::new(cache), own)
        }
        _ => {
            let pair = |i| (Box::from(&key(i)[..]), Box::from(&[b'v'; VALUE][..]));
            let map: HashMap<Box<[u8]>, Box<[u8]>> = (0..entries).map(pair).collect();
            (Box::new(map), 0)
        }
    };
    let taken = resident() - before;
    drop(held);
    let beyond = |bytes: usize| bytes as f64 / f64::from(entries) - PAIR as f64;
    let account = if own == 0 { "-".to_owned() } else { format!("{:.1}", beyond(own)) };
    println!("  {:<34} {:>6.1} {account:>6}", format!("{kind}, {entries}"), beyond(taken));
}

/// Nanoseconds for each of the keys that `each` gets.
fn clocked(keys: &[u32], mut each: impl FnMut(&[u32])) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..3 {
        let start = Instant::now();
        keys.chunks(BATCH).for_each(&mut each);
        best = best.min(start.elapsed().as_nanos() as f64 / keys.len() as f64);
    }
    best
}

fn time() {
    println!("nanoseconds for an operation on {KEYS} entries, best of three: get, set");
    let mut zipf = Zipf::new();
    let keys: Vec<u32> = (0..OPERATIONS).map(|_| zipf.next()).collect();
    let value = [b'w'; VALUE];
    let mut out = Vec::with_capacity(BATCH * VALUE);

    let plain = Plain::default();
    for i in 0..KEYS {
        plain.lock().insert(key(i)[..].into(), [b'v'; VALUE][..].into());
    }
    let get = clocked(&keys, |batch| {
        out.clear();
        for number in batch {
            if let Some(value) = plain.lock().get(&key(*number)[..]) {
                out.extend_from_slice(value);
            }
        }
        black_box(&out);
    });
    let set = clocked(&keys, |batch| {
        for number in batch {
            plain.lock().insert(key(*number)[..].into(), value[..].into());
        }
    });
    println!("  {:<34} {get:>6.0} {set:>6.0}", "plain map under a lock");
    drop(plain);

    for when_full in [WhenFull::Refuse, WhenFull::Evict] {
        let mut store = store(1 << 30, when_full);
        let start = Instant::now();
        (0..KEYS).for_each(|i| put(&mut store, i, &[b'v'; VALUE]));
        let first = start.elapsed().as_nanos() / u128::from(KEYS);
        let mut read = |store: &mut Store<NoObject>, batch: &[u32], prefetch: bool| {
            out.clear();
            let mut hashed = [(None, [0; 16]); BATCH];
            for (slot, number) in hashed.iter_mut().zip(batch) {
                let key = key(*number);
                *slot = (Some(store.hash(&key)), key);
            }
            let hashed = &hashed[..batch.len()];
            if prefetch {
                hashed.iter().for_each(|(hash, _)| store.prefetch(hash.unwrap()));
                hashed.iter().for_each(|(hash, _)| store.prefetch_entry(hash.unwrap()));
            }
            for (hash, key) in hashed {
                let found = store.get(hash.unwrap(), key, 1).map(|found| found.payload);
                if let Some(View::Bytes(value)) = found {
                    out.extend_from_slice(value);
                }
            }
            black_box(&out);
        };
        let get = clocked(&keys, |batch| read(&mut store, batch, false));
        let get_batch = clocked(&keys, |batch| read(&mut store, batch, true));
        let set = clocked(&keys, |batch| batch.iter().for_each(|i| put(&mut store, *i, &value)));
        let set_batch = clocked(&keys, |batch| {
            for number in batch {
                store.prefetch(store.hash(&key(*number)));
            }
            for number in batch {
                store.prefetch_entry(store.hash(&key(*number)));
            }
            batch.iter().for_each(|i| put(&mut store, *i, &value));
        });
        println!(
            "  {:<34} {get:>6.0} {set:>6.0}   first insertions {first}",
            format!("store, {when_full:?}")
        );
        println!(
            "  {:<34} {get_batch:>6.0} {set_batch:>6.0}",
            format!("store, {when_full:?}, batches of {BATCH}")
        );
    }

    let cache = Cache::new(1 << 30);
    for i in 0..KEYS {
        cache.fill(&key(i), cache.stamp(&key(i)), Filling::plain(&copy(0), 1000));
    }
    let mut read = |batch: &[u32], prefetch: bool| {
        out.clear();
        let hashes: Vec<_> = batch.iter().map(|number| cache.hash(&key(*number))).collect();
        if prefetch {
            cache.prefetch(&hashes);
        }
        for (number, hash) in batch.iter().zip(hashes) {
            cache.with(hash, &key(*number), |found| {
                if let View::Bytes(value) = found.payload {
                    out.extend_from_slice(value);
                }
            });
        }
        black_box(&out);
    };
    let get = clocked(&keys, |batch| read(batch, false));
    let get_batch = clocked(&keys, |batch| read(batch, true));
    let new = copy(0);
    let set = clocked(&keys, |batch| {
        for number in batch {
            let key = key(*number);
            cache.replace(&key, cache.stamp(&key), Filling::plain(&new, 2000));
        }
    });
    println!("  {:<34} {get:>6.0} {set:>6.0}", "copies");
    println!("  {:<34} {get_batch:>6.0}", format!("copies, batches of {BATCH}"));
}

fn hits() {
    println!("hits in per cent, filled on a miss: store, copies, and the best that is possible");
    let mut zipf = Zipf::new();
    let keys: Vec<u32> = (0..2 * OPERATIONS).map(|_| zipf.next()).collect();
    let (warm, measured) = keys.split_at(OPERATIONS);
    let value = [b'v'; VALUE];
    let entry = 156;
    let rows = [
        ("1 % of the keys".to_owned(), KEYS as usize / 100 * entry),
        ("10 % of the keys".to_owned(), KEYS as usize / 10 * entry),
        ("20 MB".to_owned(), 20_000_000),
    ];
    for (name, limit) in rows {
        let mut store = store(limit, WhenFull::Evict);
        let mut run = |keys: &[u32]| {
            let mut hits = 0;
            for number in keys {
                let key = key(*number);
                let hash = store.hash(&key);
                if store.get(hash, &key, 0).is_some() {
                    hits += 1;
                } else {
                    store.insert(hash, &key, Payload::Bytes(&value), Meta::default(), 0).unwrap();
                }
            }
            assert!(store.bytes() <= limit, "above the limit");
            100.0 * f64::from(hits) / keys.len() as f64
        };
        run(warm);
        let own = run(measured);
        let held = store.len();

        let cache = Cache::new(limit);
        let copied = copy(0);
        let run = |keys: &[u32]| {
            let mut hits = 0;
            for number in keys {
                let key = key(*number);
                if cache.with(cache.hash(&key), &key, |_| ()).is_some() {
                    hits += 1;
                } else {
                    cache.fill(&key, cache.stamp(&key), Filling::plain(&copied, 1000));
                }
            }
            100.0 * f64::from(hits) / keys.len() as f64
        };
        run(warm);
        let copies = run(measured);
        println!(
            "  {name:<20} {own:>5.1} {copies:>5.1} {:>5.1}   {held} entries, {:.1} bytes beyond key and value",
            100.0 * zipf.share(held),
            limit as f64 / held as f64 - PAIR as f64,
        );
    }
}
