//! How does Waypost introduce itself to endpoints, and whom does it believe there?

use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::ResolvesClientCert;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};
use waypost_config::listener::Certificate;
use waypost_config::service::{Protocol, UpstreamTls};

use super::pair::Pair;
use super::settings::authorities;
use super::{TlsError, provider};

/// The settings for connections to the endpoints of a service.
///
/// `protocol` decides what ALPN offers: `h2` and `http/1.1`, or one of them. Ask once more with [`Protocol::Http1`]
/// for exchanges that need HTTP/1.1 whatever the endpoint could do. The system's authorities are read only if `tls.ca`
/// is absent. Blocks on the file system.
pub fn client_config(tls: &UpstreamTls, protocol: Protocol) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = tls.ca.as_deref().map_or_else(system_authorities, authorities)?;
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = builder.with_root_certificates(roots);
    let mut config = match identity(tls)? {
        None => builder.with_no_client_auth(),
        Some(identity) => builder.with_client_cert_resolver(identity),
    };
    config.alpn_protocols = alpn(protocol).iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}

/// The name sent as SNI and checked in the endpoint's certificate: `tls.server_name`, or the URL's host.
///
/// `host` comes without port; addresses are allowed, IPv6 with or without brackets.
pub fn server_name(tls: &UpstreamTls, host: &str) -> Result<ServerName<'static>, TlsError> {
    let name = tls.server_name.as_deref().unwrap_or(host);
    let unbracketed = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    ServerName::try_from(unbracketed.to_owned()).map_err(|_| TlsError::ServerName { name: name.to_owned() })
}

fn alpn(protocol: Protocol) -> &'static [&'static [u8]] {
    match protocol {
        Protocol::Auto => &[b"h2", b"http/1.1"],
        Protocol::Http1 => &[b"http/1.1"],
        Protocol::H2c => &[b"h2"],
    }
}

fn identity(tls: &UpstreamTls) -> Result<Option<Arc<dyn ResolvesClientCert>>, TlsError> {
    let (cert, key) = match (&tls.client_cert, &tls.client_key) {
        (None, None) => return Ok(None),
        (Some(cert), Some(key)) => (cert.clone(), key.clone()),
        _ => return Err(TlsError::HalfClientPair),
    };
    let pair = Pair::load(&Certificate { cert, key }, SystemTime::now())?;
    Ok(Some(Arc::new(SingleCertAndKey::from(pair.key))))
}

/// A system may carry authorities that webpki cannot read; those are left out, none at all is an error.
fn system_authorities() -> Result<Arc<RootCertStore>, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let reason = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(TlsError::NoSystemAuthorities { reason });
    }
    Ok(Arc::new(roots))
}
