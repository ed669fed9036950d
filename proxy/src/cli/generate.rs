//! `generate`: what stands around a Waypost, for the config at hand: rules and a dashboard, a unit, a Compose service.
//!
//! Owns how the shipped files are fitted to a config, but for alerts and dashboard, which have a room of their own. What is
//! in them, and that it works, is the affair of `docs`.

use std::path::Path;

use clap::ValueEnum;
use waypost::around;
use waypost_config::Config;

use super::{Verdict, print, refused};

/// What is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum What {
    /// Prometheus's config, with the file's admin address as its target
    Prometheus,
    /// What the alerts and the dashboard have worked out in advance: rules/recording.yml
    Rules,
    /// Alerts for Prometheus: of rules/alerts.yml those that can fire, by the file's names and times
    Alerts,
    /// Routes for Alertmanager
    Alertmanager,
    /// A dashboard for Grafana: what the file has, a row for each service and listener, its limits as lines
    #[value(alias = "dashboards")]
    Dashboard,
    /// A service for Docker Compose, with the file's ports and times
    Compose,
    /// A unit for systemd, with the file's path and times
    Systemd,
}

const PROMETHEUS: &str = include_str!("../../../docs/observability/prometheus.yml");
const RULES: &str = include_str!("../../../docs/observability/rules/recording.yml");
const ALERTMANAGER: &str = include_str!("../../../docs/observability/alertmanager.yml");
const UNIT: &str = include_str!("../../../docs/examples/systemd/waypost.service");

/// Prints it. Only what depends on the config reads it.
pub(super) fn generate(what: What, path: &Path) -> Verdict {
    let fixed = match what {
        What::Rules => RULES,
        What::Alertmanager => ALERTMANAGER,
        _ => return fitted(what, path),
    };
    print(fixed)
}

fn fitted(what: What, path: &Path) -> Verdict {
    let config = match waypost_config::load(path) {
        Ok(loaded) => loaded.config,
        Err(error) => return refused(&error),
    };
    print(&match what {
        What::Prometheus => prometheus(&config),
        What::Alerts => around::alerts(&config),
        What::Dashboard => around::dashboard(&config, &path.file_stem().unwrap_or_default().to_string_lossy()),
        What::Systemd => unit(&config, path),
        _ => compose(&config, path),
    })
}

fn prometheus(config: &Config) -> String {
    let Some(admin) = &config.admin else {
        return format!("# The file has no [admin], so there is nothing to ask: add an address to it.\n{PROMETHEUS}");
    };
    let text = PROMETHEUS.replace("127.0.0.1:9900", &admin.address.to_string());
    if admin.token.is_some() { text.replace("# authorization:", "authorization:") } else { text }
}

fn unit(config: &Config, path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let stop = format!("TimeoutStopSec={}s", patience(config));
    UNIT.replace("/etc/waypost/waypost.toml", &absolute.display().to_string()).replace("TimeoutStopSec=30s", &stop)
}

/// Seconds after which nobody waits for a drain any more: longer than the drain may take.
fn patience(config: &Config) -> u64 {
    config.server.grace_period.as_secs() + 5
}

fn compose(config: &Config, path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let file = format!("/etc/waypost/{name}");
    let listeners =
        config.listeners.iter().map(|(name, listener)| (format!("listener {name}"), listener.address.port()));
    let published = |(whose, port): (String, u16)| format!("      - \"{port}:{port}\"  # {whose}");
    let mut ports: Vec<_> = listeners.map(published).collect();
    // Who may ask it is for the token to say; who can reach it, for the host.
    ports.extend(
        config
            .admin
            .as_ref()
            .map(|admin| admin.address.port())
            .map(|port| format!("      - \"127.0.0.1:{port}:{port}\"  # admin")),
    );
    let health = config.admin.as_ref().map(|_| {
        format!("    healthcheck:\n      test: [\"CMD\", \"/waypost\", \"healthcheck\", \"-c\", \"{file}\"]\n      interval: 10s\n")
    });
    format!(
        "services:\n  waypost:\n    image: waypost  # docs/examples/compose builds it\n    \
         command: [\"run\", \"-c\", \"{file}\"]\n    user: \"65534:65534\"\n    read_only: true\n    ipc: none\n    \
         cap_drop: [ALL]\n    security_opt: [\"no-new-privileges:true\"]\n    ports:\n{ports}\n    \
         # The folder, not the file: an editor that saves by renaming would leave a mounted file behind.\n    \
         volumes: [\"./:/etc/waypost:ro\"]\n    stop_grace_period: {patience}s\n{health}",
        ports = ports.join("\n"),
        patience = patience(config),
        health = health.unwrap_or_default(),
    )
}
