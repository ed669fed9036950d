//! Which certificate answers which name? The set of verified pairs behind a listener, swapped live.
//!
//! Decides by SNI: the exact name, then the wildcard one label up, then the first pair. A handshake sees one set from
//! start to end; open connections keep the certificate they began with. Never serves a pair that was not verified.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use waypost_config::listener::Certificate;

use super::TlsError;
use super::names::{Host, Name};
use super::pair::{CertificateInfo, Pair, Text};

/// The certificates of a listener, chosen by SNI.
#[derive(Debug)]
pub struct CertificateStore {
    pairs: ArcSwap<PairSet>,
    /// Two refreshes at once could put an older pair over a newer one.
    refreshing: Mutex<()>,
}

/// What [`CertificateStore::refresh`] did with one pair.
#[derive(Debug)]
pub struct PairOutcome {
    /// The certificate's file.
    pub cert: PathBuf,
    /// What became of the pair.
    pub change: PairChange,
}

/// What became of a pair whose files were read again.
#[derive(Debug)]
pub enum PairChange {
    /// The files hold what is in use.
    Unchanged,
    /// New handshakes see the new pair.
    Replaced,
    /// The files hold something that cannot be used (a half-renewed pair, say); the old pair stays.
    Kept(TlsError),
}

impl CertificateStore {
    /// Reads and verifies every pair; blocks on the file system.
    pub fn load(pairs: &[Certificate]) -> Result<Arc<CertificateStore>, TlsError> {
        let now = SystemTime::now();
        let pairs: Vec<_> = pairs.iter().map(|files| Pair::load(files, now).map(Arc::new)).collect::<Result<_, _>>()?;
        let set = PairSet::new(pairs)?;
        Ok(Arc::new(CertificateStore { pairs: ArcSwap::from_pointee(set), refreshing: Mutex::new(()) }))
    }

    /// Reads every pair again and replaces those that changed and are valid; blocks on the file system.
    ///
    /// The outcomes are in the order of the pairs. Contents are compared, not file times.
    pub fn refresh(&self) -> Vec<PairOutcome> {
        let _one_at_a_time = self.refreshing.lock();
        let now = SystemTime::now();
        let (pairs, outcomes) = self.pairs.load().all.iter().map(|pair| refreshed(pair, now)).unzip();
        let set = PairSet::new(pairs).expect("a refresh keeps the number of pairs, and there was one at least");
        self.pairs.store(Arc::new(set));
        outcomes
    }

    /// Whether a connection opened with this SNI may carry requests for `host` (RFC 9110 section 15.5.20).
    ///
    /// True if the certificate that the SNI chose covers the host, and also if the host is what the client connected
    /// to: the SNI itself, or an address when there was none (RFC 6066 section 3 forbids addresses in SNI). Whether
    /// that certificate will do was the client's decision in the handshake. `host` comes without port. After a swap the
    /// new certificate counts.
    pub fn covers(&self, sni: Option<&str>, host: &str) -> bool {
        // Nearly every request; the rest of the function allocates.
        if sni.is_some_and(|sni| sni.eq_ignore_ascii_case(host)) {
            return true;
        }
        let host = Host::new(host);
        let connected_to = sni.map_or_else(|| host.address().is_some(), |sni| Host::new(sni) == host);
        connected_to || self.pairs.load().choose(sni).names.cover(&host)
    }

    /// The certificate that a client is shown that asks for this name.
    pub fn shown(&self, sni: Option<&str>) -> CertificateInfo {
        self.pairs.load().choose(sni).info.clone()
    }

    /// Whether any certificate covers the host, whichever would be chosen.
    pub fn has_name_for(&self, host: &str) -> bool {
        let host = Host::new(host);
        self.pairs.load().all.iter().any(|pair| pair.names.cover(&host))
    }

    /// The certificates in use, in the order of the config.
    pub fn certificates(&self) -> Vec<CertificateInfo> {
        self.pairs.load().all.iter().map(|pair| pair.info.clone()).collect()
    }
}

impl ResolvesServerCert for CertificateStore {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.pairs.load().choose(hello.server_name()).key))
    }
}

/// One immutable generation of pairs; never empty.
#[derive(Debug)]
struct PairSet {
    all: Vec<Arc<Pair>>,
    by_name: HashMap<Name, Arc<Pair>>,
}

impl PairSet {
    fn new(all: Vec<Arc<Pair>>) -> Result<PairSet, TlsError> {
        if all.is_empty() {
            return Err(TlsError::NoPairs);
        }
        let mut by_name = HashMap::new();
        for pair in &all {
            for name in pair.names.iter() {
                by_name.entry(name.clone()).or_insert_with(|| Arc::clone(pair));
            }
        }
        Ok(PairSet { all, by_name })
    }

    fn choose(&self, sni: Option<&str>) -> &Pair {
        let named = sni.map(Host::new).and_then(|host| host.candidates().find_map(|name| self.by_name.get(&name)));
        named.unwrap_or(&self.all[0])
    }
}

fn refreshed(pair: &Arc<Pair>, now: SystemTime) -> (Arc<Pair>, PairOutcome) {
    let (pair_now, change) = match reread(pair, now) {
        Ok(None) => (Arc::clone(pair), PairChange::Unchanged),
        Ok(Some(new)) => (Arc::new(new), PairChange::Replaced),
        Err(error) => (Arc::clone(pair), PairChange::Kept(error)),
    };
    (pair_now, PairOutcome { cert: pair.files.cert.clone(), change })
}

fn reread(pair: &Pair, now: SystemTime) -> Result<Option<Pair>, TlsError> {
    let text = Text::read(&pair.files)?;
    if pair.differs(&text) { text.verify(now).map(Some) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use rcgen::{KeyPair, SignatureAlgorithm};

    use super::super::fixture::Fixture;
    use super::*;

    fn three_pairs(fixture: &Fixture) -> Arc<CertificateStore> {
        let pairs = [
            fixture.pair("first", &["first.test", "10.0.0.1"]),
            fixture.pair("wild", &["*.example.com", "first.test"]),
            fixture.pair("exact", &["www.example.com"]),
        ];
        CertificateStore::load(&pairs).unwrap()
    }

    #[test]
    fn sni_chooses_exact_then_wildcard_then_the_first() {
        let fixture = Fixture::new();
        let store = three_pairs(&fixture);
        for (sni, expected) in [
            (Some("first.test"), "first"),
            (Some("www.example.com"), "exact"),
            (Some("WWW.Example.Com"), "exact"),
            (Some("api.example.com"), "wild"),
            (Some("a.b.example.com"), "first"),
            (Some("example.com"), "first"),
            (Some("unknown.test"), "first"),
            (None, "first"),
        ] {
            let set = store.pairs.load();
            assert_eq!(set.choose(sni).info.subject, format!("CN={expected}"), "{sni:?}");
        }
    }

    #[test]
    fn connection_covers_the_hosts_of_its_own_certificate_only() {
        let fixture = Fixture::new();
        let store = three_pairs(&fixture);
        for (sni, host, covered) in [
            (Some("api.example.com"), "other.example.com", true),
            (Some("api.example.com"), "a.b.example.com", false),
            (Some("www.example.com"), "api.example.com", false),
            (Some("www.example.com"), "www.example.com", true),
            (Some("unknown.test"), "unknown.test", true),
            (Some("unknown.test"), "Unknown.Test.", true),
            (Some("unknown.test"), "first.test", true),
            (Some("unknown.test"), "www.example.com", false),
            (None, "10.0.0.1", true),
            (None, "[::1]", true),
            (None, "first.test", true),
            (None, "www.example.com", false),
        ] {
            assert_eq!(store.covers(sni, host), covered, "{sni:?} and {host}");
        }
    }

    #[test]
    fn certificates_are_described() {
        let fixture = Fixture::new();
        let all = three_pairs(&fixture).certificates();
        assert_eq!(all.len(), 3);
        assert_eq!(all[0].cert, fixture.path("first.pem"));
        assert_eq!(all[0].names, ["first.test", "10.0.0.1"]);
        assert_eq!(all[1].names, ["*.example.com", "first.test"]);
        assert!(all[0].not_before < SystemTime::now() && SystemTime::now() < all[0].not_after);
        assert_ne!(all[0].serial, all[1].serial);
    }

    #[test]
    fn common_name_stands_in_for_missing_alternative_names() {
        let fixture = Fixture::new();
        let pair = fixture.pair("old.test", &[]);
        assert_eq!(CertificateStore::load(&[pair]).unwrap().certificates()[0].names, ["old.test"]);
    }

    #[track_caller]
    fn check_key_form(algorithm: &'static SignatureAlgorithm, label: &str) {
        let fixture = Fixture::new();
        let key = KeyPair::generate_for(algorithm).unwrap();
        let pair = fixture.pair_of("a", &key);
        CertificateStore::load(std::slice::from_ref(&pair)).unwrap_or_else(|error| panic!("PKCS#8: {error}"));

        let pkcs8 = key.serialize_der();
        let (_, fields) = x509_parser::der_parser::parse_der(&pkcs8).unwrap();
        let inner = STANDARD.encode(fields.as_sequence().unwrap()[2].as_slice().unwrap());
        fixture.write("a.key", &format!("-----BEGIN {label}-----\n{inner}\n-----END {label}-----\n"));
        CertificateStore::load(&[pair]).unwrap_or_else(|error| panic!("{label}: {error}"));
    }

    /// PKCS#8 wraps the older forms (RFC 5208 section 5): what is inside is PKCS#1 for RSA, SEC1 for ECDSA.
    #[test]
    fn keys_are_read_in_every_pem_form() {
        check_key_form(&rcgen::PKCS_RSA_SHA256, "RSA PRIVATE KEY");
        check_key_form(&rcgen::PKCS_ECDSA_P256_SHA256, "EC PRIVATE KEY");
        check_key_form(&rcgen::PKCS_ECDSA_P384_SHA384, "EC PRIVATE KEY");
    }

    #[track_caller]
    fn check_refused(pair: &Certificate, reasons: &[&str]) {
        let error = CertificateStore::load(std::slice::from_ref(pair)).unwrap_err().to_string();
        for reason in reasons {
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn unusable_pairs_are_refused_with_their_files() {
        let fixture = Fixture::new();
        let (a, b) = (fixture.pair("a", &["a.test"]), fixture.pair("b", &["b.test"]));
        let garbage = fixture.write("garbage.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let locked = fixture
            .write("locked.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
        let cut = fixture.write("cut.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n");
        let pair = |cert: &PathBuf, key: &PathBuf| Certificate { cert: cert.clone(), key: key.clone() };

        check_refused(&pair(&a.cert, &b.key), &["a.pem", "b.key", "does not belong"]);
        check_refused(&fixture.pair_valid("old", &["a.test"], -3..-1), &["old.pem", "expired at 20"]);
        check_refused(&fixture.pair_valid("new", &["a.test"], 1..2), &["new.pem", "not valid before 20"]);
        check_refused(&pair(&a.cert, &fixture.path("no.key")), &["no.key", "cannot read"]);
        check_refused(&pair(&a.key, &a.key), &["a.key", "holds no certificate"]);
        check_refused(&pair(&a.cert, &a.cert), &["a.pem", "holds no private key"]);
        check_refused(&pair(&a.cert, &locked), &["locked.key", "holds no private key", "not encrypted"]);
        check_refused(&pair(&garbage, &a.key), &["garbage.pem", "cannot be used"]);
        check_refused(&pair(&cut, &a.key), &["cut.pem", "not valid PEM"]);
        assert!(matches!(CertificateStore::load(&[]), Err(TlsError::NoPairs)));
    }

    /// The outcomes in one letter each.
    fn refresh(store: &CertificateStore) -> String {
        let letter = |outcome: &PairOutcome| match outcome.change {
            PairChange::Unchanged => 'u',
            PairChange::Replaced => 'r',
            PairChange::Kept(_) => 'k',
        };
        store.refresh().iter().map(letter).collect()
    }

    #[test]
    fn half_renewed_pair_keeps_the_old_one_until_it_is_whole() {
        let fixture = Fixture::new();
        let (a, b) = (fixture.pair("a", &["a.test"]), fixture.pair("b", &["b.test"]));
        let store = CertificateStore::load(&[a.clone(), b]).unwrap();
        let before = store.certificates();
        assert_eq!(refresh(&store), "uu");

        let renewed = fixture.pair("renewed", &["a.test", "new.test"]);
        fs::copy(&renewed.cert, &a.cert).unwrap();
        assert_eq!(refresh(&store), "ku");
        assert_eq!(store.certificates(), before);

        fs::copy(&renewed.key, &a.key).unwrap();
        assert_eq!(refresh(&store), "ru");
        assert_eq!(store.certificates()[0].names, ["a.test", "new.test"]);
        assert_eq!(store.pairs.load().choose(Some("new.test")).info.subject, "CN=renewed");
        assert_eq!(refresh(&store), "uu");
    }

    #[test]
    fn vanished_or_expired_files_keep_the_old_pair() {
        let fixture = Fixture::new();
        let a = fixture.pair("a", &["a.test"]);
        let store = CertificateStore::load(std::slice::from_ref(&a)).unwrap();
        let before = store.certificates();
        fixture.pair_valid("a", &["a.test"], -3..-1);
        assert_eq!(refresh(&store), "k");
        fs::remove_file(&a.cert).unwrap();
        assert_eq!(refresh(&store), "k");
        assert_eq!(store.certificates(), before);
    }
}
