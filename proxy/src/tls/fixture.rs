//! Certificates for tests: an authority that signs, and pairs as files in a folder that goes away.

use std::fs;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};
use waypost_config::listener::Certificate;
use waypost_config::service::UpstreamTls;

/// An authority with a folder for the pairs it signs.
pub(super) struct Fixture {
    folder: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Fixture {
    pub(super) fn new() -> Fixture {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let fixture = Fixture { folder: TempDir::new().unwrap(), authority };
        fixture.write("ca.pem", &fixture.authority.pem());
        fixture
    }

    /// Writes `NAME.pem` and `NAME.key`, valid today.
    pub(super) fn pair(&self, name: &str, names: &[&str]) -> Certificate {
        self.pair_valid(name, names, -1..1)
    }

    /// The same, valid within these days from now.
    pub(super) fn pair_valid(&self, name: &str, names: &[&str], days: std::ops::Range<i64>) -> Certificate {
        let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = OffsetDateTime::now_utc() + Duration::days(days.start);
        params.not_after = OffsetDateTime::now_utc() + Duration::days(days.end);
        self.signed(name, &params, &KeyPair::generate().unwrap())
    }

    /// A pair with this key.
    pub(super) fn pair_of(&self, name: &str, key: &KeyPair) -> Certificate {
        self.signed(name, &CertificateParams::new(vec![format!("{name}.test")]).unwrap(), key)
    }

    fn signed(&self, name: &str, params: &CertificateParams, key: &KeyPair) -> Certificate {
        let signed = params.signed_by(key, &self.authority).unwrap();
        let cert = self.write(&format!("{name}.pem"), &signed.pem());
        Certificate { cert, key: self.write(&format!("{name}.key"), &key.serialize_pem()) }
    }

    /// Writes a file of the folder, or replaces it.
    pub(super) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An upstream's settings that believe the authority.
    pub(super) fn trust(&self) -> UpstreamTls {
        UpstreamTls { ca: Some(self.path("ca.pem")), ..UpstreamTls::default() }
    }
}
