//! `just fuzz`: bytes from libFuzzer for the target `config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| waypost_fuzz::config::run(data));
