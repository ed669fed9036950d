//! A fleet, a config file and a running Waypost before it.
//!
//! Owns the folder that the config lives in. Listeners have port 0 and are asked for by name.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use upstream_mock::{Container, Fleet, FleetOptions};
use waypost::server::{Options, Waypost};
use waypost::telemetry::logging::Logging;

use crate::client::{self, Reply, Request};

/// One Waypost before one fleet of web-1, web-2 and web-3.
pub struct Stack {
    /// The containers.
    pub fleet: Fleet,
    /// The proxy.
    pub waypost: Waypost,
    folder: TempDir,
}

impl Stack {
    /// Starts the fleet, writes the config and serves it. In the text, `{web-1}` stands for that container's
    /// `host:port`, and `{dir}` for the config's folder. Returns when no endpoint is being checked any more.
    pub async fn start(config: &str) -> Stack {
        Stack::with_files(config, &[]).await
    }

    /// The same with further files beside the config.
    pub async fn with_files(config: &str, files: &[(&str, &str)]) -> Stack {
        let fleet = Fleet::start(FleetOptions::default()).await.expect("a fleet on free ports starts");
        Stack::before(fleet, config, files, None).await
    }

    /// The same before another fleet, and with a log, whose events admin tells.
    pub async fn before(fleet: Fleet, config: &str, files: &[(&str, &str)], logging: Option<Logging>) -> Stack {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("a file can be written");
        }
        std::fs::write(path_in(&folder), fill(config, &fleet, folder.path())).expect("the config can be written");
        let options = Options { config: path_in(&folder), logging, ..Options::default() };
        let waypost = Waypost::start(options).await.unwrap_or_else(|error| panic!("{error}"));
        let stack = Stack { fleet, waypost, folder };
        stack.checked().await;
        stack
    }

    /// Returns when no endpoint is being checked any more.
    pub async fn checked(&self) {
        crate::eventually!(!self.metrics().lines().any(|line| {
            line.starts_with("waypost_endpoint_state{") && line.contains("checking") && line.ends_with(" 1")
        }));
    }

    /// A container by name.
    pub fn container(&self, name: &str) -> &Container {
        self.fleet.container(name).expect("the fleet has web-1, web-2 and web-3")
    }

    /// The folder with the config.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The config file.
    pub fn config(&self) -> PathBuf {
        path_in(&self.folder)
    }

    /// Writes another config, with the same placeholders. Nobody is told; the watcher will see it.
    pub fn write(&self, config: &str) {
        let next = self.folder.path().join("waypost.toml.next");
        std::fs::write(&next, fill(config, &self.fleet, self.folder.path())).expect("the config can be written");
        std::fs::rename(next, self.config()).expect("the config can be renamed into place");
    }

    /// Writes another config and has it read.
    pub async fn reload(&self, config: &str) {
        self.write(config);
        self.waypost.reload().await.unwrap_or_else(|refusal| panic!("{refusal}"));
    }

    /// Where a listener is open.
    pub fn address(&self, listener: &str) -> SocketAddr {
        self.waypost.address(listener).expect("the listener is open")
    }

    /// Sends a request to the listener `web` over a connection of its own.
    pub async fn send(&self, request: Request) -> Reply {
        client::send(self.address("web"), request).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// GET over a connection of its own.
    pub async fn get(&self, path: &str) -> Reply {
        self.send(client::get(path)).await
    }

    /// The names of the containers that answered so many GETs of `/`.
    pub async fn answers(&self, count: usize) -> Vec<String> {
        let mut names = Vec::with_capacity(count);
        for _ in 0..count {
            names.push(self.get("/").await.upstream());
        }
        names
    }

    /// Sends such requests all at once, each over a connection of its own.
    pub async fn send_all(&self, requests: impl IntoIterator<Item = Request>) -> Vec<Reply> {
        futures_util::future::join_all(requests.into_iter().map(|request| self.send(request))).await
    }

    /// The metrics page.
    pub fn metrics(&self) -> String {
        self.waypost.metrics().encode()
    }

    /// The value of the first series whose line begins so, 0 if there is none.
    pub fn metric(&self, beginning: &str) -> f64 {
        let page = self.metrics();
        let line = page.lines().find(|line| line.starts_with(beginning));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    }

    /// The sum of all series of this metric.
    pub fn total(&self, metric: &str) -> f64 {
        let page = self.metrics();
        let lines =
            page.lines().filter(|line| line.starts_with(metric) && line[metric.len()..].starts_with(['{', ' ']));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

fn path_in(folder: &TempDir) -> PathBuf {
    folder.path().join("waypost.toml")
}

fn fill(config: &str, fleet: &Fleet, folder: &Path) -> String {
    let dir = folder.display().to_string();
    let named = fleet.containers().iter().map(|container| (format!("{{{}}}", container.name()), container.address()));
    named.fold(config.replace("{dir}", &dir), |text, (name, address)| text.replace(&name, &address.to_string()))
}
