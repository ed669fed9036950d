//! The promises, one module each.

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
