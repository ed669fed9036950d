//! The main job on an embedded fleet: no file, no container, nothing to install.
//!
//! Owns what is started (a fleet, a config in a temporary folder, Waypost before it), where, and the commands to try.
//! The tour shows the promises; everything is real, only small.

mod client;
mod folder;
mod tour;

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::signal::unix::{SignalKind, signal};
use upstream_mock::{Fleet, FleetOptions};

use crate::server::{Options, StartError, Waypost};
use crate::telemetry::logging::Logging;
use crate::tls::self_signed;
use folder::Folder;

/// What is shown before the commands to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tour {
    /// Nothing.
    Skip,
    /// The tour, then the commands.
    Show,
    /// The tour and nothing else: it ends after that.
    Only,
}

/// Starts everything, shows it, and waits for a signal. Blocks. An error is a promise that was broken on the tour, or
/// something that could not be started.
pub fn run(tour: Tour) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(until_signal(tour));
    runtime.shutdown_background();
    result
}

async fn until_signal(tour: Tour) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // Whoever comes first ends it, and the folder goes with the future that owns it.
    tokio::select! {
        result = show(tour) => result,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

async fn show(tour: Tour) -> anyhow::Result<()> {
    let demo = Demo::start().await?;
    if tour != Tour::Skip {
        tour::guide(&demo, &mut io::stdout()).await?;
    }
    if tour == Tour::Only {
        return Ok(());
    }
    io::stdout().write_all(demo.invitation().as_bytes())?;
    // From here on the log shows what the commands do.
    let _log = Logging::init(&waypost_config::telemetry::Log::default())?;
    std::future::pending().await
}

/// Everything that runs.
struct Demo {
    fleet: Fleet,
    waypost: Waypost,
    folder: Folder,
    web: SocketAddr,
    secure: SocketAddr,
    admin: SocketAddr,
    control: SocketAddr,
}

impl Demo {
    async fn start() -> anyhow::Result<Demo> {
        let fleet = Fleet::start(FleetOptions { control_port: Some(0), ..FleetOptions::default() }).await?;
        let control = fleet.control_address().context("the fleet has no control port")?;
        let folder = Folder::make().context("no temporary folder can be made")?;
        let certificate = self_signed(["localhost", "127.0.0.1"])?;
        folder.write("cert.pem", &certificate.cert_pem)?;
        folder.write("cert.key", &certificate.key_pem)?;
        let (waypost, [web, secure, admin]) = serve(&fleet, &folder).await?;
        all_checked(&waypost).await?;
        Ok(Demo { fleet, waypost, folder, web, secure, admin, control })
    }

    fn config(&self) -> PathBuf {
        self.folder.path(CONFIG)
    }

    fn invitation(&self) -> String {
        let Demo { web, secure, admin, control, .. } = self;
        let (config, folder) = (self.config(), self.folder.path(""));
        let (config, folder) = (config.display(), folder.display());
        format!(
            "
What is where
  http://{web}/         round robin over web-1, web-2 and web-3
  http://{web}/sticky   the same three, but a client stays
  https://{secure}/        the same over TLS (certificate: {folder}/cert.pem)
  http://{admin}/         admin: the dashboard, /ready, /metrics, /api/services
  http://{control}/        the fleet's control port: crash and recover containers
  {config}

Five things to try, in another terminal
  1 round robin    for i in 1 2 3 4 5 6; do curl -s http://{web}/; done
  2 sticky         for i in 1 2 3 4; do curl -s -b {folder}/jar -c {folder}/jar http://{web}/sticky; done
  3 kill one       while curl -sf http://{web}/; do sleep 0.1; done       and meanwhile, in a third:
                   curl -X POST http://{control}/containers/web-2/crash     (then: /recover)
  4 reload         sed -i 's/weight = [0-9]*/weight = 5/' {config}
  5 metrics        curl -s http://{admin}/metrics | grep waypost_endpoint_state

Ctrl-C ends it. The log follows.
"
        )
    }
}

/// Starts Waypost on ports that are free, and says which.
async fn serve(fleet: &Fleet, folder: &Folder) -> anyhow::Result<(Waypost, [SocketAddr; 3])> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let addresses = ports([8080, 8443, 9900])?;
        folder.write(CONFIG, &config(fleet, addresses))?;
        match Waypost::start(Options { config: folder.path(CONFIG), ..Options::default() }).await {
            Ok(waypost) => return Ok((waypost, addresses)),
            // Somebody else took a port since we looked.
            Err(StartError::Bind(_) | StartError::Admin(..)) if attempts < ATTEMPTS => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// More than one is rare; without an end it would hide an address that can never be opened.
const ATTEMPTS: usize = 5;

/// Returns when no endpoint waits for its first probe any more: only then are shares even.
async fn all_checked(waypost: &Waypost) -> anyhow::Result<()> {
    let checking = |line: &str| line.starts_with("waypost_endpoint_state{") && line.contains("\"checking\"");
    let begun = Instant::now();
    while waypost.metrics().encode().lines().any(|line| checking(line) && line.ends_with(" 1")) {
        ensure!(begun.elapsed() < PATIENCE, "the fleet does not answer its health checks");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Longer than anything here takes; after that something is broken.
const PATIENCE: Duration = Duration::from_secs(8);

const CONFIG: &str = "waypost.toml";

/// Loopback addresses with these ports, or free ones where they are taken.
fn ports<const N: usize>(wanted: [u16; N]) -> io::Result<[SocketAddr; N]> {
    // All are held until the last is found, so that none is found twice.
    let mut held = Vec::with_capacity(N);
    let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); N];
    for (address, port) in addresses.iter_mut().zip(wanted) {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        *address = listener.local_addr()?;
        held.push(listener);
    }
    Ok(addresses)
}

/// The file that is served, written to be read and edited.
fn config(fleet: &Fleet, [web, secure, admin]: [SocketAddr; 3]) -> String {
    let container = |number: usize| fleet.containers()[number].address();
    let (first, second, third) = (container(0), container(1), container(2));
    format!(
        r#"# The config of `waypost demo`. Change it and save: it is taken up at once, or refused with the reason in the log.
version = 1

[admin]
address = "{admin}"

[listeners.web]
address = "{web}"

[listeners.websecure]
address = "{secure}"
tls = {{ certificates = [{{ cert = "cert.pem", key = "cert.key" }}] }}

[routes.all]
service = "web"

[routes.sticky]
path_prefix = "/sticky"
middlewares = ["bare"]
service = "shop"

[middlewares]
bare = {{ strip_prefix = ["/sticky"] }}

[services.web]
endpoints = [
  {{ name = "web-1", url = "http://{first}", weight = 1 }},
  {{ name = "web-2", url = "http://{second}" }},
  {{ name = "web-3", url = "http://{third}" }},
]
health_check = {{ path = "/health", interval = "500ms", timeout = "250ms" }}

[services.shop]
sticky = {{ cookie = "lb" }}
endpoints = [
  {{ name = "web-1", url = "http://{first}" }},
  {{ name = "web-2", url = "http://{second}" }},
  {{ name = "web-3", url = "http://{third}" }},
]
health_check = {{ path = "/health", interval = "500ms", timeout = "250ms" }}
"#
    )
}
