//! The promises, one module each.

mod round_robin;

mod grpc;
mod http2;
mod limits;
mod pool;
mod proxy_protocol;
mod streaming;
mod websocket;
