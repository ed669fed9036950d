//! A certificate made on the spot, for the demo and for tests. Nobody trusts it unless told to.

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use time::{Duration, OffsetDateTime};

/// A certificate that signs itself, and its key, both PEM.
#[derive(Clone)]
pub struct SelfSigned {
    /// The certificate.
    pub cert_pem: String,
    /// Its private key, PKCS#8.
    pub key_pem: String,
}

/// Makes a certificate (ECDSA P-256, 30 days) for `names`: DNS names, wildcards and IP addresses.
pub fn self_signed<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Result<SelfSigned, rcgen::Error> {
    let names: Vec<String> = names.into_iter().map(Into::into).collect();
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::new(names.clone())?;
    params.distinguished_name.push(DnType::CommonName, names.first().map_or("waypost", String::as_str));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // A client's clock may be a little behind.
    params.not_before = now - Duration::minutes(5);
    params.not_after = now + Duration::days(30);
    let key = KeyPair::generate()?;
    Ok(SelfSigned { cert_pem: params.self_signed(&key)?.pem(), key_pem: key.serialize_pem() })
}
