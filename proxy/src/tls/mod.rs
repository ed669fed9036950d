//! Whom do clients see, and whom do endpoints see? Certificates and TLS settings, in both directions.
//!
//! Decides which certificate answers which name, what a handshake may agree on and what is told about it afterwards.
//! Owns the certificate pairs in memory. Never accepts, connects or watches files: `edge`, `upstream` and `reload` do.

mod certificate_store;
mod client;
mod error;
mod names;
mod pair;
mod peer;
mod self_signed;
mod settings;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod handshakes;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

pub use self::certificate_store::{CertificateStore, PairChange, PairOutcome};
pub use self::client::{client_config, server_name};
pub use self::error::TlsError;
pub use self::pair::CertificateInfo;
pub use self::peer::TlsInfo;
pub use self::self_signed::{SelfSigned, self_signed};
pub use self::settings::server_config;

/// The cryptography behind every handshake, passed explicitly: no process-wide default is installed or needed.
///
/// X25519MLKEM768 (post-quantum) is offered first, by rustls' feature `prefer-post-quantum`.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
