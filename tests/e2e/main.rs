//! The promises, one module each.

#![allow(clippy::unwrap_used)]
#![allow(clippy::float_cmp, reason = "the metrics compared are whole numbers")]

mod balancing;
mod crash;
mod endpoint_drain;
mod forwarding;
mod health;
mod middlewares;
mod retry;
mod round_robin;
mod routing;
mod sticky_client_ip;
mod sticky_cookie;

mod grpc;
mod http2;
mod limits;
mod pool;
mod proxy_protocol;
mod streaming;
mod websocket;
