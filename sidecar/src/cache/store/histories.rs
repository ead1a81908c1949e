//! Random histories of a store, each beside a plain map.

use std::collections::HashSet;

use proptest::prelude::*;

use super::WhenFull;
use super::model::{KEYS, Model, Put, Step, apply, name, run, store};

fn step() -> impl Strategy<Value = Step> {
    let key = || prop_oneof![0..8u16, 0..KEYS];
    let put = prop_oneof![
        (0..400u16).prop_map(Put::Text),
        any::<i64>().prop_map(Put::Integer),
        (1..40u8).prop_map(Put::List),
    ];
    let end = || prop::option::of(any::<u8>());
    prop_oneof![
        8 => (key(), put, end()).prop_map(|(k, p, e)| Step::Insert(k, p, e)),
        6 => key().prop_map(Step::Get),
        4 => key().prop_map(Step::Remove),
        2 => key().prop_map(Step::Take),
        4 => (key(), end()).prop_map(|(k, e)| Step::SetExpiry(k, e)),
        4 => (key(), 1..20u8).prop_map(|(k, n)| Step::Extend(k, n)),
        2 => key().prop_map(Step::Shorten),
        3 => (key(), key()).prop_map(|(a, b)| Step::Rename(a, b)),
        2 => (key(), 1..KEYS).prop_map(|(k, n)| Step::Fill(k, n)),
        2 => (key(), 1..KEYS).prop_map(|(k, n)| Step::Drain(k, n)),
        3 => any::<u8>().prop_map(Step::Later),
        2 => (1..3000u16).prop_map(Step::Expire),
        1 => Just(Step::Clear),
        1 => (0..400_000u32).prop_map(Step::Limit),
    ]
}

const CASES: u32 = if cfg!(miri) { 1 } else { 32 };
/// The longest history.
const STEPS: usize = if cfg!(miri) { 30 } else { 120 };

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) })]

    #[test]
    fn a_large_store_is_a_map(steps in prop::collection::vec(step(), 1..STEPS)) {
        run(store(1 << 30, WhenFull::Refuse), &steps);
    }

    #[test]
    fn a_store_that_refuses_is_a_map_of_what_it_took(steps in prop::collection::vec(step(), 1..STEPS)) {
        run(store(60_000, WhenFull::Refuse), &steps);
    }

    #[test]
    fn a_store_that_evicts_is_a_map_of_what_is_left(
        limit in 0..200_000usize,
        steps in prop::collection::vec(step(), 1..STEPS),
    ) {
        run(store(limit, WhenFull::Evict), &steps);
    }

    /// The first keys stay; others come and go between the pages.
    #[test]
    fn a_scan_shows_what_stays(
        stay in 1..KEYS / 5,
        page in 1..200usize,
        churn in prop::collection::vec((KEYS / 5..KEYS, 1..KEYS, any::<bool>()), 1..30),
    ) {
        let (mut store, mut model) = (store(1 << 30, WhenFull::Refuse), Model::new());
        apply(&mut store, &mut model, &Step::Fill(0, stay));
        let (mut seen, mut cursor) = (HashSet::new(), 0);
        for turn in 0.. {
            cursor = store.scan(cursor, page, 0, |key, _| { seen.insert(key.to_vec()); });
            if cursor == 0 {
                break;
            }
            let (from, count, fills) = churn[turn % churn.len()];
            let step = if fills { Step::Fill(from, count) } else { Step::Drain(from, count) };
            apply(&mut store, &mut model, &step);
        }
        prop_assert!((0..stay).all(|key| seen.contains(&name(key))));
    }
}
