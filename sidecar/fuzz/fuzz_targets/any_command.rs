#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| warp_sidecar::fuzzing::run("any_command", bytes));
