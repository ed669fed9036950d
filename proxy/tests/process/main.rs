//! The binary as its operator sees it: what it can be told by arguments and signals, and what it promises then.
//!
//! Everything that can be shown in process is in the end-to-end tests; here is what needs a process.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod client;
mod commands;
mod demo;
mod descriptors;
mod drain;
mod events;
mod guests;
mod http2;
mod package;
mod process;
mod questions;
mod reloads;
mod signals;
mod systemd;
mod upgrade;
mod upgrade_chain;
mod upgrade_failed;

/// Asks again and again, for ten seconds at most, until the condition holds.
macro_rules! eventually {
    ($condition:expr) => {{
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        while !$condition {
            assert!(tokio::time::Instant::now() < deadline, "never came true: {}", stringify!($condition));
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }};
}
pub(crate) use eventually;
