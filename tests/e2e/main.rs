//! The promises, one module each.

// A test that unwraps has failed; counters are whole numbers.
#![allow(clippy::unwrap_used, clippy::float_cmp)]

mod round_robin;

mod access_log;
mod admin;
mod grpc;
mod http2;
mod limits;
mod pool;
mod proxy_protocol;
mod streaming;
mod tls;
mod websocket;
