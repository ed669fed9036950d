//! Whole handshakes in memory: what clients and endpoints see of certificates and settings.

use std::fs;
use std::io;
use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use waypost_config::listener::{Certificate, ClientAuth, ClientAuthMode, Tls, TlsVersion};
use waypost_config::service::{Protocol, UpstreamTls};

use super::fixture::Fixture;
use super::{CertificateStore, TlsError, TlsInfo, client_config, self_signed, server_config, server_name};

type Connection = (client::TlsStream<DuplexStream>, server::TlsStream<DuplexStream>);

fn tls(certificates: Vec<Certificate>) -> Tls {
    Tls { min_version: TlsVersion::V1_2, certificates, client_auth: None }
}

fn listener(tls: &Tls) -> Arc<ServerConfig> {
    server_config(tls, CertificateStore::load(&tls.certificates).unwrap()).unwrap()
}

fn oldest(fixture: &Fixture) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(super::provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(super::settings::authorities(&fixture.path("ca.pem")).unwrap())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Shakes hands and sends a byte each way: in TLS 1.3 a refused client certificate shows with the first read only.
async fn connect(listener: &Arc<ServerConfig>, client: &Arc<ClientConfig>, host: &str) -> io::Result<Connection> {
    let (near, far) = duplex(64 * 1024);
    let name = server_name(&UpstreamTls::default(), host).unwrap();
    let connecting = async {
        let mut stream = TlsConnector::from(Arc::clone(client)).connect(name, near).await?;
        echo(&mut stream).await.map(|()| stream)
    };
    let accepting = async {
        let mut stream = TlsAcceptor::from(Arc::clone(listener)).accept(far).await?;
        echo(&mut stream).await.map(|()| stream)
    };
    let (connected, accepted) = tokio::join!(connecting, accepting);
    // The side that refuses knows why; the other one sees an alert or an end.
    accepted.and_then(|accepted| connected.map(|connected| (connected, accepted)))
}

async fn echo(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) -> io::Result<()> {
    stream.write_all(b"x").await?;
    stream.flush().await?;
    stream.read_u8().await.map(|_| ())
}

fn leaf(connection: &Connection) -> Vec<u8> {
    connection.0.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn clients_see_the_certificate_of_the_name_they_ask_for() {
    let fixture = Fixture::new();
    let pairs =
        vec![fixture.pair("first", &["first.test", "127.0.0.1", "::1"]), fixture.pair("wild", &["*.example.com"])];
    let listener = listener(&tls(pairs));
    let client = client_config(&fixture.trust(), Protocol::Auto).unwrap();
    for host in ["first.test", "www.example.com", "127.0.0.1", "[::1]"] {
        connect(&listener, &client, host).await.unwrap_or_else(|error| panic!("{host}: {error}"));
    }
    for host in ["a.b.example.com", "example.com", "127.0.0.2"] {
        let error = connect(&listener, &client, host).await.unwrap_err().to_string();
        assert!(error.contains("Certificate"), "{host}: {error}");
    }
}

#[tokio::test]
async fn info_tells_what_was_agreed_on() {
    let fixture = Fixture::new();
    let listener = listener(&tls(vec![fixture.pair("a", &["a.test", "127.0.0.1"])]));
    let client = client_config(&fixture.trust(), Protocol::Auto).unwrap();
    let http1 = client_config(&fixture.trust(), Protocol::Http1).unwrap();

    let newest = TlsInfo::of(&connect(&listener, &client, "A.test").await.unwrap().1);
    assert_eq!(newest.version, "TLSv1.3");
    assert!(newest.cipher.starts_with("TLS_"), "{}", newest.cipher);
    assert_eq!((newest.sni.as_deref(), newest.alpn_h2, newest.client_subject), (Some("a.test"), true, None));

    let old = TlsInfo::of(&connect(&listener, &oldest(&fixture), "a.test").await.unwrap().1);
    assert_eq!((old.version, old.alpn_h2), ("TLSv1.2", false));
    assert!(old.cipher.starts_with("TLS_ECDHE_ECDSA_"), "{}", old.cipher);

    let by_address = TlsInfo::of(&connect(&listener, &http1, "127.0.0.1").await.unwrap().1);
    assert_eq!((by_address.sni, by_address.alpn_h2), (None, false));
}

#[tokio::test]
async fn newest_version_only_refuses_older_clients() {
    let fixture = Fixture::new();
    let strict = Tls { min_version: TlsVersion::V1_3, ..tls(vec![fixture.pair("a", &["a.test"])]) };
    let listener = listener(&strict);
    let error = connect(&listener, &oldest(&fixture), "a.test").await.unwrap_err().to_string();
    assert!(error.contains("Tls12NotOfferedOrEnabled"), "{error}");
    connect(&listener, &client_config(&fixture.trust(), Protocol::Auto).unwrap(), "a.test").await.unwrap();
}

#[tokio::test]
async fn post_quantum_key_exchange_is_what_both_sides_choose() {
    let fixture = Fixture::new();
    let listener = listener(&tls(vec![fixture.pair("a", &["a.test"])]));
    let client = client_config(&fixture.trust(), Protocol::Auto).unwrap();
    let (_, server) = connect(&listener, &client, "a.test").await.unwrap();
    let group = server.get_ref().1.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
}

#[tokio::test]
async fn returning_client_resumes_its_session() {
    let fixture = Fixture::new();
    let listener = listener(&tls(vec![fixture.pair("a", &["a.test"])]));
    for client in [client_config(&fixture.trust(), Protocol::Auto).unwrap(), oldest(&fixture)] {
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let (_, server) = connect(&listener, &client, "a.test").await.unwrap();
            kinds.push(server.get_ref().1.handshake_kind().unwrap());
        }
        assert_eq!(kinds, [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed]);
    }
}

/// Whether each kind of client gets in: with no certificate, with a good one, with one of another authority.
async fn admitted(mode: ClientAuthMode) -> [Result<Option<String>, String>; 3] {
    let (fixture, stranger) = (Fixture::new(), Fixture::new());
    let auth = ClientAuth { ca: fixture.path("ca.pem"), mode };
    let listener = listener(&Tls { client_auth: Some(auth), ..tls(vec![fixture.pair("a", &["a.test"])]) });
    let with =
        |pair: Certificate| UpstreamTls { client_cert: Some(pair.cert), client_key: Some(pair.key), ..fixture.trust() };
    let clients = [fixture.trust(), with(fixture.pair("agent-7", &[])), with(stranger.pair("agent-7", &[]))];
    let mut outcomes = [const { Ok(None) }; 3];
    for (outcome, client) in outcomes.iter_mut().zip(clients) {
        let client = client_config(&client, Protocol::Auto).unwrap();
        let connected = connect(&listener, &client, "a.test").await;
        *outcome = connected.map(|(_, server)| TlsInfo::of(&server).client_subject).map_err(|error| error.to_string());
    }
    outcomes
}

#[tokio::test]
async fn client_certificate_is_required_or_only_asked_for() {
    let [none, good, foreign] = admitted(ClientAuthMode::Require).await;
    assert!(none.unwrap_err().contains("no certificates"));
    assert_eq!(good.unwrap().as_deref(), Some("CN=agent-7"));
    assert!(foreign.unwrap_err().contains("invalid peer certificate"));

    let [none, good, foreign] = admitted(ClientAuthMode::Request).await;
    assert_eq!(none.unwrap(), None);
    assert_eq!(good.unwrap().as_deref(), Some("CN=agent-7"));
    assert!(foreign.unwrap_err().contains("invalid peer certificate"));
}

#[tokio::test]
async fn swapped_pair_is_seen_by_new_handshakes_while_old_connections_go_on() {
    let fixture = Fixture::new();
    let pairs = [fixture.pair("a", &["a.test"])];
    let store = CertificateStore::load(&pairs).unwrap();
    let listener = server_config(&tls(pairs.to_vec()), Arc::clone(&store)).unwrap();
    let client = || client_config(&fixture.trust(), Protocol::Auto).unwrap();
    let mut before = connect(&listener, &client(), "a.test").await.unwrap();

    let renewed = fixture.pair("renewed", &["a.test"]);
    fs::copy(&renewed.cert, &pairs[0].cert).unwrap();
    fs::copy(&renewed.key, &pairs[0].key).unwrap();
    store.refresh();

    let after = connect(&listener, &client(), "a.test").await.unwrap();
    assert_ne!(leaf(&before), leaf(&after));
    assert_eq!(leaf(&after), certificate_of(&renewed));
    let (here, there) = tokio::join!(echo(&mut before.0), echo(&mut before.1));
    here.and(there).unwrap();
}

fn certificate_of(pair: &Certificate) -> Vec<u8> {
    super::pair::certificates(&pair.cert, &fs::read(&pair.cert).unwrap()).unwrap()[0].to_vec()
}

#[tokio::test]
async fn self_signed_certificate_serves_those_who_trust_it() {
    let fixture = Fixture::new();
    let made = self_signed(["localhost", "*.demo.test", "127.0.0.1"]).unwrap();
    let cert = fixture.write("made.pem", &made.cert_pem);
    let pair = Certificate { cert: cert.clone(), key: fixture.write("made.key", &made.key_pem) };
    let trust = UpstreamTls { ca: Some(cert), ..UpstreamTls::default() };
    let client = client_config(&trust, Protocol::Auto).unwrap();
    let listener = listener(&tls(vec![pair]));
    for host in ["localhost", "web.demo.test", "127.0.0.1"] {
        connect(&listener, &client, host).await.unwrap_or_else(|error| panic!("{host}: {error}"));
    }
}

#[test]
fn unusable_upstream_settings_are_refused() {
    let fixture = Fixture::new();
    let half = UpstreamTls { client_cert: Some(fixture.path("ca.pem")), ..fixture.trust() };
    assert!(matches!(client_config(&half, Protocol::Auto), Err(TlsError::HalfClientPair)));
    let lost = UpstreamTls { ca: Some(fixture.path("lost.pem")), ..UpstreamTls::default() };
    assert!(matches!(client_config(&lost, Protocol::Auto), Err(TlsError::Read { .. })));
    assert!(matches!(server_name(&UpstreamTls::default(), "not a name"), Err(TlsError::ServerName { .. })));
}

#[test]
fn configured_server_name_wins_over_the_host() {
    let named = UpstreamTls { server_name: Some("web.internal".to_owned()), ..UpstreamTls::default() };
    assert_eq!(server_name(&named, "10.0.0.1").unwrap().to_str(), "web.internal");
    assert_eq!(server_name(&UpstreamTls::default(), "10.0.0.1").unwrap().to_str(), "10.0.0.1");
}
