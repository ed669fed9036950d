//! Where clients knock: address, trust, limits, timeouts and TLS of a listener.
//!
//! Owns `[listeners.*]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::{ByteSize, Cidr, Duration};

/// An address to accept connections on, and what is allowed there.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Address and port, for example `0.0.0.0:8080` or `[::]:8443`.
    pub address: SocketAddr,
    /// Answer every request with 308 to the same URL over https, on the first TLS listener's port.
    #[serde(default)]
    pub redirect_https: bool,
    /// Peers whose forwarded headers are believed. Everybody else's are dropped and rebuilt.
    #[serde(default)]
    pub trusted_proxies: Vec<Cidr>,
    /// Whether each connection begins with a PROXY protocol header (v1 or v2); one without it is closed.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// Connections open at once; one more is closed at once.
    #[serde(default = "default_max_connections")]
    pub max_connections: usize,
    /// How long a client may take.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// How much a client may send.
    #[serde(default)]
    pub limits: Limits,
    /// Terminates TLS here; absent means plain text.
    #[serde(default)]
    pub tls: Option<Tls>,
}

fn default_max_connections() -> usize {
    100_000
}

/// How long a client may take.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// PROXY protocol header and TLS handshake together.
    pub handshake: Duration,
    /// From the first byte of a request head to its last.
    pub header: Duration,
    /// A connection with no request in flight, or whose client takes no byte of its response.
    pub idle: Duration,
    /// Between two bytes of a request body.
    pub body_idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            handshake: Duration::seconds(5),
            header: Duration::seconds(10),
            idle: Duration::seconds(60),
            body_idle: Duration::seconds(30),
        }
    }
}

/// How much a client may send.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The whole request head; more is answered with 431. At least 8 KiB.
    pub header_bytes: ByteSize,
    /// Header fields of a request; more is answered with 431.
    pub headers: usize,
    /// The request target; more is answered with 414.
    pub uri_bytes: ByteSize,
    /// HTTP/2 streams open at once on a connection.
    pub concurrent_streams: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            header_bytes: ByteSize(32 * 1024),
            headers: 100,
            uri_bytes: ByteSize(8 * 1024),
            concurrent_streams: 200,
        }
    }
}

/// TLS towards clients. HTTP/2 and HTTP/1.1 are offered by ALPN.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The oldest version spoken.
    #[serde(default)]
    pub min_version: TlsVersion,
    /// Pairs of files; chosen by SNI from the certificates' own names, the first one otherwise.
    pub certificates: Vec<Certificate>,
    /// Asks clients for a certificate.
    #[serde(default)]
    pub client_auth: Option<ClientAuth>,
}

/// A TLS protocol version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2, RFC 5246.
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3, RFC 8446.
    #[serde(rename = "1.3")]
    V1_3,
}

/// A certificate chain and its private key, both PEM, watched and swapped as a pair.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The chain, leaf first.
    pub cert: PathBuf,
    /// The leaf's private key.
    pub key: PathBuf,
}

/// Client certificates (mutual TLS).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientAuth {
    /// PEM file of the authorities that sign clients.
    pub ca: PathBuf,
    /// Whether a client without one is turned away.
    #[serde(default)]
    pub mode: ClientAuthMode,
}

/// What a missing client certificate means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthMode {
    /// The handshake fails.
    #[default]
    Require,
    /// The client may go on; a certificate that is sent must be valid.
    Request,
}
