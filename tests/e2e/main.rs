//! The promises, one module each.

mod round_robin;

mod grpc;
mod http2;
mod pool;
mod streaming;
mod websocket;
