//! `just fuzz`: bytes from libFuzzer for the target `proxy_protocol`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| waypost_fuzz::proxy_protocol::run(data));
