//! What Waypost says of itself.
//!
//! A leaf: it knows no other room, only `waypost_config`. Others hold its handles.

pub mod access_log;
pub mod events;
pub mod history;
pub mod logging;
pub mod metrics;
pub mod shards;
pub mod timestamp;
pub mod traefik;
pub mod traces;

mod family;
mod histogram;
mod live;
mod routes;
