//! `just fuzz`: bytes from libFuzzer for the target `http1`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| waypost_fuzz::http1::run(data));
