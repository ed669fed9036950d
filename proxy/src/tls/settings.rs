//! What may a client agree on with a listener? Versions, ALPN, client certificates, resumption.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use waypost_config::listener::{ClientAuth, ClientAuthMode, Tls, TlsVersion};

use super::pair::{certificates, read};
use super::{CertificateStore, TlsError, provider};

/// Sessions kept for clients that resume by id (TLS 1.2 without tickets); everybody else brings a ticket.
const SESSIONS: usize = 4096;

/// The settings of a listener; the certificates stay live in `store`.
///
/// ALPN offers `h2` and `http/1.1`. Tickets are sealed with keys that rotate every six hours and end with this value:
/// build it anew only when `tls` has changed, or every client has to shake hands in full. No early data (0-RTT): it
/// can be replayed.
pub fn server_config(tls: &Tls, store: Arc<CertificateStore>) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&versions(tls.min_version))?;
    let builder = match &tls.client_auth {
        None => builder.with_no_client_auth(),
        Some(auth) => builder.with_client_cert_verifier(verifier(auth)?),
    };
    let mut config = builder.with_cert_resolver(store);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = Ticketer::new()?;
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    // All suites are strong; but who audits listeners wants the order to be theirs.
    config.ignore_client_order = true;
    config.max_early_data_size = 0;
    config.send_half_rtt_data = false;
    Ok(Arc::new(config))
}

/// The authorities in a PEM file.
pub(super) fn authorities(path: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, &read(path)?)? {
        roots.add(certificate).map_err(|error| unusable(path, &error))?;
    }
    Ok(Arc::new(roots))
}

fn versions(oldest: TlsVersion) -> Vec<&'static SupportedProtocolVersion> {
    match oldest {
        TlsVersion::V1_2 => vec![&version::TLS13, &version::TLS12],
        TlsVersion::V1_3 => vec![&version::TLS13],
    }
}

fn verifier(auth: &ClientAuth) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let builder = WebPkiClientVerifier::builder_with_provider(authorities(&auth.ca)?, provider());
    let builder = match auth.mode {
        ClientAuthMode::Require => builder,
        ClientAuthMode::Request => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|error| unusable(&auth.ca, &error))
}

fn unusable(path: &Path, error: &dyn std::error::Error) -> TlsError {
    TlsError::Certificate { path: path.to_owned(), reason: error.to_string() }
}
