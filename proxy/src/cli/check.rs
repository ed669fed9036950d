//! `check`: everything that can be wrong with a config, found without touching anything.
//!
//! Owns the line that says what was found. What is wrong is decided where it is used: by the config's own rules, and
//! by compiling it as the server would.

use std::path::Path;

use waypost::explain::expect;
use waypost::snapshot::{self, Before, CompileError, Ground, Snapshot};
use waypost::telemetry::metrics::Metrics;
use waypost::upstream::sticky::ProcessKey;
use waypost_config::{Config, LoadError, Loaded};

use super::{Verdict, counted, failed, print, refused};

/// Judges the file at `path` and says so.
pub(super) fn check(path: &Path) -> Verdict {
    let Loaded { config, text, .. } = match waypost_config::load(path) {
        Ok(loaded) => loaded,
        Err(error) => return refused(&error),
    };
    let found = summary(&config);
    let snapshot = match compile(config) {
        Ok(snapshot) => snapshot,
        Err(error) => return failed(&format!("{}: {error}", path.display())),
    };
    match waypost_config::test::problems(&text, path, expect::broken(&snapshot)) {
        Some(problems) => refused(&LoadError::Refused(problems)),
        None => print(&format!("{}: {found}\n", path.display())),
    }
}

/// What the server would make of a config.
pub(super) fn compile(mut config: Config) -> Result<Snapshot, CompileError> {
    // Compiling opens it, and with it a file.
    config.telemetry.access_log = None;
    let workers = config.server.workers.count();
    let ground = Ground { metrics: Metrics::new(), process_key: ProcessKey::generate(), workers };
    snapshot::compile(config, Before::default(), &ground)
}

/// `1 listener, 2 routes, 1 service, 3 endpoints`.
fn summary(config: &Config) -> String {
    let endpoints = config.services.values().map(|service| service.endpoints.len()).sum();
    let mut parts = vec![
        counted(config.listeners.len(), "listener"),
        counted(config.routes.len(), "route"),
        counted(config.services.len(), "service"),
        counted(endpoints, "endpoint"),
    ];
    if !config.tests.is_empty() {
        parts.push(format!("{} passed", counted(config.tests.len(), "test")));
    }
    parts.join(", ")
}
