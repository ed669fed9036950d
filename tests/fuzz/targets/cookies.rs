//! `just fuzz`: bytes from libFuzzer for the target `cookies`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| waypost_fuzz::cookies::run(data));
