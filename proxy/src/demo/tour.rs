//! The tour: each promise of the main job, done and measured.
//!
//! Nothing is made up: a promise that does not hold ends the tour with an error.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use upstream_mock::Container;

use super::client::{ask, get};
use super::{CONFIG, Demo, PATIENCE};

/// Takes the reader through all of it.
pub(super) async fn guide(demo: &Demo, out: &mut impl Write) -> anyhow::Result<()> {
    writeln!(out, "Three containers, one Waypost before them. What it promises, shown on {}:\n", demo.web)?;
    say(out, "round robin", round_robin(demo).await?)?;
    say(out, "sticky", sticky(demo).await?)?;
    say(out, "TLS", encrypted(demo).await?)?;
    say(out, "crash", crash(demo).await?)?;
    say(out, "recovery", recovery(demo).await?)?;
    say(out, "reload", reload(demo).await?)
}

fn say(out: &mut impl Write, step: &str, result: impl Display) -> anyhow::Result<()> {
    writeln!(out, "  {step:<12} {result}")?;
    Ok(out.flush()?)
}

/// How many answers each endpoint gave.
#[derive(Default)]
struct Shares(BTreeMap<String, usize>);

impl Shares {
    async fn of(address: SocketAddr, count: usize) -> anyhow::Result<Shares> {
        let mut shares = Shares::default();
        for _ in 0..count {
            shares.count(get(address, "/", None).await?.endpoint);
        }
        Ok(shares)
    }

    fn count(&mut self, endpoint: String) {
        *self.0.entry(endpoint).or_default() += 1;
    }

    fn sorted(&self) -> Vec<usize> {
        self.0.values().copied().collect()
    }
}

impl Display for Shares {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shares: Vec<_> = self.0.iter().map(|(name, count)| format!("{name} {count}")).collect();
        formatter.write_str(&shares.join(", "))
    }
}

async fn round_robin(demo: &Demo) -> anyhow::Result<String> {
    let begun = Instant::now();
    let shares = Shares::of(demo.web, 300).await?;
    ensure!(shares.sorted() == [100, 100, 100], "shares are not even: {shares}");
    Ok(format!("300 requests in {} ms: {shares}", begun.elapsed().as_millis()))
}

async fn sticky(demo: &Demo) -> anyhow::Result<String> {
    let first = get(demo.web, "/sticky", None).await?;
    let cookie = first.cookie.context("no cookie was set")?;
    for _ in 0..50 {
        let answer = get(demo.web, "/sticky", Some(&cookie)).await?;
        ensure!(answer.endpoint == first.endpoint, "a pinned client came to {}", answer.endpoint);
    }
    Ok(format!("one client with its cookie: 50 of 50 requests on {}", first.endpoint))
}

async fn encrypted(demo: &Demo) -> anyhow::Result<String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(demo.folder.path("cert.pem"))?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(demo.secure).await?;
    let stream = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost")?, tcp).await?;
    let version = stream.get_ref().1.protocol_version().context("the handshake is not over")?;
    let answer = ask(stream, "/", None).await?;
    Ok(format!("{version:?} with a certificate made just now: answered by {}", answer.endpoint))
}

/// Eight clients ask as fast as they can; amid that, web-2 dies as by kill -9.
async fn crash(demo: &Demo) -> anyhow::Result<String> {
    let end = CancellationToken::new();
    let clients: Vec<_> = (0..8).map(|_| tokio::spawn(hammer(demo.web, end.clone()))).collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    web_2(demo)?.crash().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    end.cancel();
    let (mut answered, mut failed) = (0, Vec::new());
    for client in clients {
        let (count, error) = client.await?;
        answered += count;
        failed.extend(error);
    }
    if let Some(error) = failed.first() {
        return Err(anyhow::anyhow!("a request failed when web-2 crashed: {error}"));
    }
    Ok(format!("web-2 killed amid {answered} requests of 8 clients: 0 failed"))
}

/// The requests answered up to the end, or up to the first that failed.
async fn hammer(address: SocketAddr, end: CancellationToken) -> (usize, Option<anyhow::Error>) {
    let mut answered = 0;
    while !end.is_cancelled() {
        match get(address, "/", None).await {
            Ok(_) => answered += 1,
            Err(error) => return (answered, Some(error)),
        }
    }
    (answered, None)
}

async fn recovery(demo: &Demo) -> anyhow::Result<String> {
    let begun = Instant::now();
    web_2(demo)?.recover().await?;
    while get(demo.web, "/", None).await?.endpoint != "web-2" {
        ensure!(begun.elapsed() < PATIENCE, "web-2 was not taken back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(format!("web-2 is started again, and serves {} ms later", begun.elapsed().as_millis()))
}

async fn reload(demo: &Demo) -> anyhow::Result<String> {
    let before = generation(demo);
    let text = std::fs::read_to_string(demo.config())?;
    let begun = Instant::now();
    demo.folder.write(CONFIG, &text.replace("weight = 1", "weight = 2"))?;
    while generation(demo) == before {
        ensure!(begun.elapsed() < PATIENCE, "the edited file was not taken up");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let taken = begun.elapsed().as_millis();
    let shares = Shares::of(demo.web, 300).await?;
    ensure!(shares.sorted() == [150, 75, 75], "shares do not follow the new weights: {shares}");
    let generation = generation(demo);
    Ok(format!("`weight = 2` for web-1 saved: generation {generation} after {taken} ms, 300 requests: {shares}"))
}

fn generation(demo: &Demo) -> i64 {
    demo.waypost.metrics().config_generation.get()
}

fn web_2(demo: &Demo) -> anyhow::Result<&Container> {
    demo.fleet.container("web-2").context("the fleet has no web-2")
}
