//! Load against an HTTP server, and a verdict on how it stood it.
//!
//! In reading order: a [`Plan`] says what to send, the [`schedule`] says when, a worker thread sends it over its
//! connections on behalf of its users, and what was seen becomes a [`Report`]; an [`slo`] judges the report, a
//! [`scenario`] is all of that as a file, with [`events`] that hurt the fleet meanwhile; [`compare`] sets the CPU
//! cost of several proxies side by side; [`chaos`] sets a proxy amid a failing fleet and audits what comes of it;
//! [`flood`] sets hostile clients beside ordinary ones.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! let plan = loadtest::Plan::new("http://127.0.0.1:8080/")?.rate(2_000.0).duration(Duration::from_secs(5)).users(200);
//! let load = loadtest::start(plan).await?;
//! load.reached(500).await; // now kill an endpoint
//! let report = load.finish().await;
//! assert_eq!(report.failed, 0, "{report}");
//! # Ok(()) }
//! ```
//!
//! Never does: decide what a proxy should do. It only measures and judges by the numbers it was given.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod plan;
pub mod schedule;

mod connection;
mod recorder;
mod ticker;
mod user;
mod websocket;
mod worker;

pub mod load;
pub mod report;
pub mod slo;

pub mod events;
pub mod scenario;

pub mod chaos;
pub mod compare;
pub mod flood;
pub mod hold;
pub mod relay;
pub mod responder;

pub use load::{Load, RunError, run, start};
pub use plan::Plan;
pub use report::Report;
pub use scenario::Scenario;
