//! What did a finished handshake agree on? For the access log, `X-Forwarded-*` and the choice of protocol.

use rustls::{CipherSuite, ProtocolVersion, ServerConnection};
use tokio_rustls::server::TlsStream;

/// What a finished handshake with a client agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsInfo {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite by its IANA name, for example `TLS_AES_256_GCM_SHA384`.
    pub cipher: &'static str,
    /// The name the client asked for, in lower case.
    pub sni: Option<String>,
    /// Whether ALPN chose HTTP/2.
    pub alpn_h2: bool,
    /// The distinguished name in the client's verified certificate, for example `CN=agent-7`.
    pub client_subject: Option<String>,
}

impl TlsInfo {
    /// Reads what the handshake behind `stream` agreed on.
    pub fn of<IO>(stream: &TlsStream<IO>) -> TlsInfo {
        let connection = stream.get_ref().1;
        TlsInfo {
            version: version(connection.protocol_version()),
            cipher: connection.negotiated_cipher_suite().map_or("", |suite| cipher(suite.suite())),
            sni: connection.server_name().map(str::to_ascii_lowercase),
            alpn_h2: connection.alpn_protocol() == Some(b"h2"),
            client_subject: client_subject(connection),
        }
    }
}

fn version(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "TLSv1.2",
    }
}

/// rustls writes `TLS13_` where IANA writes `TLS_`.
fn cipher(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.as_str().unwrap_or(""),
    }
}

fn client_subject(connection: &ServerConnection) -> Option<String> {
    let leaf = connection.peer_certificates()?.first()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(leaf).ok()?;
    Some(certificate.subject().to_string())
}
