//! `just fuzz`: bytes from libFuzzer for the target `forwarded`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| waypost_fuzz::forwarded::run(data));
