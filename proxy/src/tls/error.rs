//! What can be wrong with certificates and TLS settings. Each error names the file.

use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use rustls::pki_types::pem;

/// Why certificates or TLS settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is not PEM.
    #[error("{} is not valid PEM: {source}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: pem::Error,
    },
    /// A PEM file without a certificate.
    #[error("{} holds no certificate", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A PEM file without a private key.
    #[error("{} holds no private key (PKCS#8, SEC1 or PKCS#1, not encrypted)", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// A certificate that cannot be used.
    #[error("the certificate in {} cannot be used: {reason}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A private key of a kind or size that cannot be used.
    #[error("the private key in {} cannot be used: {source}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// The key belongs to another certificate.
    #[error("the private key in {} does not belong to the certificate in {}", key.display(), cert.display())]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// A certificate whose time is over.
    #[error("the certificate in {} expired at {}", path.display(), humantime::format_rfc3339_seconds(*at))]
    Expired {
        /// The file.
        path: PathBuf,
        /// The end of its validity.
        at: SystemTime,
    },
    /// A certificate whose time has not come.
    #[error("the certificate in {} is not valid before {}", path.display(), humantime::format_rfc3339_seconds(*at))]
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// The start of its validity.
        at: SystemTime,
    },
    /// TLS without any certificate.
    #[error("no certificate is configured")]
    NoPairs,
    /// `client_cert` without `client_key`, or the other way round.
    #[error("client_cert and client_key must be given together")]
    HalfClientPair,
    /// No `ca` is configured and the system has no authorities either.
    #[error("the system has no certificate authorities; name a file in `ca`{reason}")]
    NoSystemAuthorities {
        /// What went wrong while looking, with its own separator; empty when nothing did.
        reason: String,
    },
    /// Neither a DNS name nor an IP address.
    #[error("{name:?} is neither a DNS name nor an IP address")]
    ServerName {
        /// The name as given.
        name: String,
    },
    /// rustls refuses the settings.
    #[error("the TLS settings cannot be used: {0}")]
    Settings(#[from] rustls::Error),
}
