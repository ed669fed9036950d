//! `just fuzz`: bytes from libFuzzer for the target `router`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| waypost_fuzz::router::run(data));
