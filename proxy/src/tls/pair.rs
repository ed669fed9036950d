//! One certificate chain and its private key: read, parsed, matched and checked for expiry before anything uses it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{self, SHA256};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use waypost_config::listener::Certificate;
use x509_parser::certificate::X509Certificate;
use x509_parser::time::ASN1Time;

use super::TlsError;
use super::names::Names;

/// What metrics and admin tell about a certificate in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInfo {
    /// The file it was read from.
    pub cert: PathBuf,
    /// The subject's distinguished name, for example `CN=example.com`.
    pub subject: String,
    /// The subject's common name, empty if it has none.
    pub common_name: String,
    /// The names it covers, for example `example.com`, `*.example.com`, `10.0.0.1`.
    pub names: Vec<String>,
    /// The serial number, bytes in hex with colons between.
    pub serial: String,
    /// The same, decimal.
    pub serial_number: String,
    /// The start of its validity.
    pub not_before: SystemTime,
    /// The end of its validity.
    pub not_after: SystemTime,
}

/// A pair that was valid when it was read.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) files: Certificate,
    pub(super) key: Arc<CertifiedKey>,
    pub(super) names: Names,
    pub(super) info: CertificateInfo,
    fingerprint: Fingerprint,
}

/// The text of both files, before anything is believed about it.
pub(super) struct Text<'a> {
    files: &'a Certificate,
    cert: Vec<u8>,
    key: Vec<u8>,
}

/// Tells contents apart without keeping the key's text in memory.
type Fingerprint = [u8; 32];

impl Pair {
    /// Reads and verifies both files.
    pub(super) fn load(files: &Certificate, now: SystemTime) -> Result<Pair, TlsError> {
        Text::read(files)?.verify(now)
    }

    /// Whether the files hold something else than this pair.
    pub(super) fn differs(&self, text: &Text<'_>) -> bool {
        self.fingerprint != text.fingerprint()
    }
}

impl<'a> Text<'a> {
    pub(super) fn read(files: &'a Certificate) -> Result<Text<'a>, TlsError> {
        Ok(Text { files, cert: read(&files.cert)?, key: read(&files.key)? })
    }

    /// Parses, matches and checks for expiry.
    pub(super) fn verify(&self, now: SystemTime) -> Result<Pair, TlsError> {
        let chain = certificates(&self.files.cert, &self.cert)?;
        let leaf = chain.first().ok_or_else(|| TlsError::NoCertificate { path: self.files.cert.clone() })?.clone();
        let leaf = x509_parser::parse_x509_certificate(&leaf).map_err(|error| self.unusable(error))?.1;
        let names = Names::of(&leaf);
        let info = describe(&self.files.cert, &leaf, &names);
        in_time(&info, now)?;
        let key = Arc::new(self.matched(chain.clone())?);
        Ok(Pair { files: self.files.clone(), key, names, info, fingerprint: self.fingerprint() })
    }

    fn matched(&self, chain: Vec<CertificateDer<'static>>) -> Result<CertifiedKey, TlsError> {
        let certified = CertifiedKey::new(chain, self.private_key()?);
        match certified.keys_match() {
            Ok(()) => Ok(certified),
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                Err(TlsError::Mismatch { cert: self.files.cert.clone(), key: self.files.key.clone() })
            }
            Err(error) => Err(self.unusable(error)),
        }
    }

    fn private_key(&self) -> Result<Arc<dyn rustls::sign::SigningKey>, TlsError> {
        let path = || self.files.key.clone();
        let der = PrivateKeyDer::from_pem_slice(&self.key).map_err(|source| match source {
            pem::Error::NoItemsFound => TlsError::NoKey { path: path() },
            source => TlsError::Pem { path: path(), source },
        })?;
        let load = super::provider().key_provider.load_private_key(der);
        load.map_err(|source| TlsError::Key { path: path(), source })
    }

    fn unusable(&self, reason: impl std::fmt::Display) -> TlsError {
        TlsError::Certificate { path: self.files.cert.clone(), reason: reason.to_string() }
    }

    fn fingerprint(&self) -> Fingerprint {
        let mut context = digest::Context::new(&SHA256);
        // The length keeps a text that moved from one file to the other from looking the same.
        context.update(&self.cert.len().to_be_bytes());
        context.update(&self.cert);
        context.update(&self.key);
        context.finish().as_ref().try_into().expect("a SHA-256 has 32 bytes")
    }
}

/// Every certificate of a PEM text; at least one.
pub(super) fn certificates(path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|source| TlsError::Pem { path: path.to_owned(), source })?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate { path: path.to_owned() });
    }
    Ok(chain)
}

/// The whole file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

fn describe(cert: &Path, leaf: &X509Certificate<'_>, names: &Names) -> CertificateInfo {
    CertificateInfo {
        cert: cert.to_owned(),
        subject: leaf.subject().to_string(),
        common_name: leaf
            .subject()
            .iter_common_name()
            .find_map(|name| name.as_str().ok())
            .unwrap_or_default()
            .to_owned(),
        names: names.iter().map(ToString::to_string).collect(),
        serial: leaf.raw_serial_as_string(),
        serial_number: leaf.serial.to_string(),
        not_before: system_time(leaf.validity().not_before),
        not_after: system_time(leaf.validity().not_after),
    }
}

fn in_time(info: &CertificateInfo, now: SystemTime) -> Result<(), TlsError> {
    if now > info.not_after {
        return Err(TlsError::Expired { path: info.cert.clone(), at: info.not_after });
    }
    if now < info.not_before {
        return Err(TlsError::NotYetValid { path: info.cert.clone(), at: info.not_before });
    }
    Ok(())
}

/// Years before 1970 count as 1970: no certificate in use is that old.
fn system_time(time: ASN1Time) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
}
