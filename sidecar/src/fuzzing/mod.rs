//! What the fuzzers of `sidecar/fuzz` do with their bytes, and the replay of what they have found.
//!
//! A target takes any bytes and panics if something doesn't hold. It reads its decisions off the
//! front, so that a small change of the bytes is a small change of what is done. Libfuzzer searches
//! for bytes that reach new code (`make fuzz`); the tests here replay the seeds, which are kept in
//! the tree, so that what was found once is looked at in every build.
//!
//! None of it is in the program: it is compiled for tests and fuzzers alone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a target ends so")]

mod commands;
mod frames;
mod input;
mod replies;
mod requests;
mod store;

use input::Input;

/// A target: its name, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// All targets, by the names that they have in `sidecar/fuzz`.
pub const TARGETS: [Target; 6] = [
    ("requests", requests::target),
    ("replies", replies::target),
    ("frames", frames::target),
    ("commands", commands::target),
    ("any_command", commands::any::target),
    ("store", store::target),
];

/// Has the target of that name try `bytes`.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(of, _)| *of == name).expect("a target of that name");
    target(bytes);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::{TARGETS, run};

    fn folder(path: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(path)
    }

    fn names_in(path: &str) -> BTreeSet<String> {
        let entries = fs::read_dir(folder(path)).unwrap();
        let stem = |entry: fs::DirEntry| entry.path().file_stem()?.to_str().map(str::to_owned);
        entries.filter_map(|entry| stem(entry.unwrap())).collect()
    }

    #[test]
    fn every_target_has_its_program_and_its_seeds() {
        let targets: BTreeSet<String> =
            TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(names_in("fuzz_targets"), targets);
        assert_eq!(names_in("seeds"), targets);
    }

    /// What was found once, and what reaches most of the code.
    #[test]
    fn what_is_kept_of_the_fuzzers_is_passed() {
        for (name, target) in TARGETS {
            let mut seeds = 0;
            for seed in fs::read_dir(folder("seeds").join(name)).unwrap() {
                let path = seed.unwrap().path();
                eprintln!("{}", path.display());
                target(&fs::read(path).unwrap());
                seeds += 1;
            }
            assert!(seeds > 0, "{name} has no seed");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_bytes_are_passed(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            for (name, _) in TARGETS {
                run(name, &bytes);
            }
        }
    }
}
