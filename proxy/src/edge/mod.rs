//! Who is knocking? Accepting connections, TLS handshakes, limits, the hyper server.
pub mod proxy_protocol;
