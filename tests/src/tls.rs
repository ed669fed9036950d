//! Certificates made on the spot, and a client that can be told what to offer.
//!
//! Owns an authority for each test; nothing is trusted beyond it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CrlDistributionPoint, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Signs certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, both PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate.
    pub cert: String,
    /// The key.
    pub key: String,
}

impl Authority {
    /// A new one.
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are good names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key can be made");
        Authority { issuer: CertifiedIssuer::self_signed(params, key).expect("a certificate can sign itself") }
    }

    /// Its certificate, PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A pair whose subject is `CN=common_name`, for these names.
    pub fn pair(&self, common_name: &str, names: &[&str]) -> Pair {
        self.sign(&params(common_name, names))
    }

    /// A pair as public authorities make them: for ninety days, for a server and nothing else, and revocable.
    pub fn site(&self, name: &str) -> Pair {
        let mut params = params(name, &[name]);
        let now = SystemTime::now();
        // An hour ago: clocks differ.
        params.not_before = (now - Duration::from_hours(1)).into();
        params.not_after = (now + Duration::from_hours(90 * 24)).into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let uris = vec!["http://authority.example/revoked.crl".to_owned()];
        params.crl_distribution_points = vec![CrlDistributionPoint { uris }];
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Pair {
        let key = KeyPair::generate().expect("a key can be made");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate can be signed");
        Pair { cert: cert.pem(), key: key.serialize_pem() }
    }
}

fn params(common_name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).expect("the names are good");
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

static BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
static OLD: &[&SupportedProtocolVersion] = &[&version::TLS12];

/// A TLS client that believes one authority.
#[derive(Debug, Clone)]
pub struct Client<'a> {
    authority: &'a Authority,
    alpn: Vec<Vec<u8>>,
    versions: &'static [&'static SupportedProtocolVersion],
    identity: Option<&'a Pair>,
}

impl<'a> Client<'a> {
    /// Offers HTTP/1.1 over TLS 1.2 and 1.3 and has no certificate.
    pub fn new(authority: &'a Authority) -> Client<'a> {
        Client { authority, alpn: vec![b"http/1.1".to_vec()], versions: BOTH, identity: None }
    }

    /// Offers HTTP/2 only.
    #[must_use]
    pub fn http2(self) -> Client<'a> {
        Client { alpn: vec![b"h2".to_vec()], ..self }
    }

    /// Offers TLS 1.2 only.
    #[must_use]
    pub fn tls12(self) -> Client<'a> {
        Client { versions: OLD, ..self }
    }

    /// Has this certificate.
    #[must_use]
    pub fn identity(self, pair: &'a Pair) -> Client<'a> {
        Client { identity: Some(pair), ..self }
    }

    /// Connects and asks for `name`. With TLS 1.3, a server that does not like the client's certificate says so only
    /// after this has returned.
    pub async fn connect(&self, address: SocketAddr, name: &str) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        self.over(stream, name).await
    }

    /// The same over a connection that is open already.
    pub async fn over(&self, stream: TcpStream, name: &str) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned()).expect("the name is a host");
        TlsConnector::from(Arc::new(self.config())).connect(name, stream).await
    }

    fn config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(certificates(&self.authority.pem()));
        assert_eq!(added, 1, "the authority can be believed");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(self.versions);
        let builder = builder.expect("the provider has all versions").with_root_certificates(roots);
        let mut config = match self.identity {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("the key is PEM");
                builder.with_client_auth_cert(certificates(&pair.cert), key).expect("the pair fits")
            }
        };
        config.alpn_protocols.clone_from(&self.alpn);
        config
    }
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().expect("the certificate is PEM")
}

/// The first certificate that the server showed, DER.
pub fn shown(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    let chain = stream.get_ref().1.peer_certificates().expect("a server shows a certificate");
    chain[0].to_vec()
}

/// The first certificate of a pair, DER.
pub fn der(pair: &Pair) -> Vec<u8> {
    certificates(&pair.cert)[0].to_vec()
}
