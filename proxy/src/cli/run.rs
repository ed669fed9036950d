//! `run` and `upgrade`: from the file to a process that serves.
//!
//! Reads the config once for itself, to set up the log and to find the process before. Everything else is the server's.

use std::path::PathBuf;

use waypost::server::{self, Options, Succession};
use waypost::telemetry::logging::Logging;

use super::{Verdict, failed, refused};

/// Blocks until the process ends.
pub(super) fn run(config: PathBuf, succession: Succession) -> Verdict {
    let loaded = match waypost_config::load(&config) {
        Ok(loaded) => loaded,
        Err(error) => return refused(&error),
    };
    let logging = match Logging::init(&loaded.config.telemetry.log) {
        Ok(logging) => logging,
        Err(error) => return failed(&error),
    };
    let options = Options { config, logging: Some(logging), ..Options::default() };
    match server::run(options, succession) {
        Ok(()) => Verdict::Fine,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            Verdict::Failed
        }
    }
}
