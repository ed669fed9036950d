//! `check`: everything that can be wrong with a config, found without touching anything.
//!
//! Owns the line that says what was found. What is wrong is decided where it is used: by the config's own rules, and
//! by compiling it as the server would.

use std::path::Path;

use waypost::snapshot::{self, Before, CompileError, Ground};
use waypost::telemetry::metrics::Metrics;
use waypost::upstream::sticky::ProcessKey;
use waypost_config::Config;

use super::{Verdict, counted, failed, print, refused};

/// Judges the file at `path` and says so.
pub(super) fn check(path: &Path) -> Verdict {
    let config = match waypost_config::load(path) {
        Ok(loaded) => loaded.config,
        Err(error) => return refused(&error),
    };
    let found = summary(&config);
    match compile(config) {
        Ok(()) => print(&format!("{}: {found}\n", path.display())),
        Err(error) => failed(&format!("{}: {error}", path.display())),
    }
}

fn compile(mut config: Config) -> Result<(), CompileError> {
    // Compiling opens it, and with it a file.
    config.telemetry.access_log = None;
    let workers = config.server.workers.count();
    let ground = Ground { metrics: Metrics::new(), process_key: ProcessKey::generate(), workers };
    snapshot::compile(config, Before::default(), &ground).map(drop)
}

/// `1 listener, 2 routes, 1 service, 3 endpoints`.
fn summary(config: &Config) -> String {
    let endpoints = config.services.values().map(|service| service.endpoints.len()).sum();
    let parts = [
        counted(config.listeners.len(), "listener"),
        counted(config.routes.len(), "route"),
        counted(config.services.len(), "service"),
        counted(endpoints, "endpoint"),
    ];
    parts.join(", ")
}
