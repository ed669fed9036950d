//! `check`: everything that can be wrong with a config or doubtful in it, found without touching anything.
//!
//! Owns the line that says what was found. What is wrong is decided where it is used: by the config's own rules, and
//! by compiling it as the server would. What is doubtful is the affair of the lints.

use std::path::Path;
use std::time::SystemTime;

use waypost::explain::expect;
use waypost::lint;
use waypost::snapshot::{self, Before, CompileError, Ground, Snapshot};
use waypost::telemetry::metrics::Metrics;
use waypost::upstream::sticky::ProcessKey;
use waypost_config::{Config, LoadError, Problems};

use super::{Verdict, counted, drawn, failed, print, refused};

/// What is made of warnings, which keep no config from serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Warnings {
    /// They are told.
    Pass,
    /// They count as mistakes do.
    Fail,
}

/// Judges the file at `path` and says so.
pub(super) fn check(path: &Path, treatment: Warnings) -> Verdict {
    let loaded = match waypost_config::load(path) {
        Ok(loaded) => loaded,
        Err(error) => return refused(&error),
    };
    let found = summary(&loaded.config);
    let snapshot = match compile(loaded.config) {
        Ok(snapshot) => snapshot,
        Err(error) => return failed(&format!("{}: {error}", path.display())),
    };
    if let Some(problems) = waypost_config::test::problems(&loaded.text, path, expect::broken(&snapshot)) {
        return refused(&LoadError::Refused(problems));
    }
    let warnings = loaded.warnings.and(lint::remarks(&snapshot, SystemTime::now()));
    said(&format!("{}: {found}", path.display()), &warnings, treatment)
}

fn said(found: &str, warnings: &Problems, treatment: Warnings) -> Verdict {
    if warnings.is_empty() {
        return print(&format!("{found}\n"));
    }
    eprintln!("{}\n", drawn(warnings));
    let told = print(&format!("{found}; {}\n", counted(warnings.len(), "warning")));
    if treatment == Warnings::Fail { Verdict::Failed } else { told }
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
