//! The harness of the end-to-end tests: Waypost in process, through its library, before a reference fleet.
//!
//! Owns [`Stack`], which is all that a test needs: a config with placeholders, a fleet, a client. Nothing sleeps to
//! wait: [`eventually!`] asks until the answer is right or ten seconds are over.

mod change;
pub mod client;
pub mod connection;
mod findings;
mod conversation;
pub mod frames;
pub mod origin;
pub mod raw;
mod shop;
mod stack;
mod tool;
pub mod tls;
pub mod websocket;

pub use connection::Connection;
pub use conversation::Conversation;
pub use findings::Findings;
pub use shop::{CHECKED, routed, shop, shop_of, trusting, with_workers};
pub use stack::Stack;
pub use tool::installed;
pub use upstream_mock::Container;

/// Asks again and again, for ten seconds at most, until the condition holds. Who waits for a program that takes its time
/// by design says how long: `within 30, …`.
#[macro_export]
macro_rules! eventually {
    (within $seconds:literal, $condition:expr) => {{
        let deadline = ::tokio::time::Instant::now() + ::std::time::Duration::from_secs($seconds);
        while !$condition {
            assert!(::tokio::time::Instant::now() < deadline, "never came true: {}", stringify!($condition));
            ::tokio::time::sleep(::std::time::Duration::from_millis(5)).await;
        }
    }};
    ($condition:expr) => {
        $crate::eventually!(within 10, $condition)
    };
}
