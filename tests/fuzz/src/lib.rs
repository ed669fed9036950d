//! What the fuzz targets do with bytes: a module a target, whose `run` panics when a promise is broken.
//!
//! Built twice: with instrumentation, for libFuzzer (`targets/`), and into the workspace's tests, which feed it the seeds
//! and mutations of them (`replay/`). Nothing here opens a socket or reads a file.

pub mod config;
pub mod cookies;
pub mod forwarded;
pub mod http1;
pub mod proxy_protocol;
pub mod router;

/// A target by its name, which is also that of its folder of seeds.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 6] = [
    ("config", config::run),
    ("cookies", cookies::run),
    ("forwarded", forwarded::run),
    ("http1", http1::run),
    ("proxy_protocol", proxy_protocol::run),
    ("router", router::run),
];
