//! Waypost: a Layer-7 load balancer and reverse proxy.
//!
//! The straight line of a request: [`edge`] accepts a connection, speaks TLS and has [`http1`] (or hyper, for HTTP/2)
//! read a request for [`pipeline`], which asks [`router`] for the route, lets the route's [`middleware`] chain look at it, has
//! [`failover`] try one endpoint of the [`upstream`] service after another, and lets the chain look at the answer.
//! [`snapshot`] is what all of them read; [`reload`] is the one way to change it.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod server;
pub mod edge;
pub mod http1;
pub mod scratch;
pub mod shard;
pub mod shortage;
pub mod aside;
pub mod downstream;
pub mod pipeline;
pub mod context;
pub mod framing;
pub mod path;
pub mod router;
pub mod middleware;
pub mod failover;
pub mod upstream;
pub mod forwarding;
pub mod reply;
pub mod receipt;
pub mod exchange;
pub mod body;
pub mod tunnel;
pub mod snapshot;
pub mod reload;
pub mod lint;
pub mod drain;
pub mod handover;
pub mod tls;
pub mod cookies;
pub mod telemetry;
pub mod around;
pub mod explain;
pub mod admin;
pub mod demo;
