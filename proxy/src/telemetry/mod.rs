//! What Waypost says of itself.
//!
//! A leaf: it knows no other room, only `waypost_config::telemetry`. Others hold its handles.

pub mod access_log;
pub mod events;
pub mod history;
pub mod logging;
pub mod metrics;
pub mod shards;
pub mod timestamp;

mod family;
mod histogram;
mod live;
mod routes;
