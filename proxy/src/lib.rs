//! Waypost: a Layer-7 load balancer and reverse proxy.
//!
//! The straight line of a request: `edge` accepts a connection, speaks TLS and hands hyper's request to
//! [`pipeline`], which asks [`router`] for the route, lets the route's [`middleware`] chain look at it, has
//! [`upstream`] pick an endpoint and carry the exchange, and lets the chain look at the answer. [`snapshot`] is what
//! all of them read; [`reload`] is the one way to change it.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod admin;
pub mod context;
pub mod demo;
pub mod drain;
pub mod edge;
pub mod forwarding;
pub mod middleware;
pub mod pipeline;
pub mod reload;
pub mod reply;
pub mod router;
pub mod server;
pub mod snapshot;
pub mod telemetry;
pub mod tls;
pub mod upstream;
