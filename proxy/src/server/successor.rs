//! The next process, started by the one that runs: within its service, as its user, behind its walls.
//!
//! A service manager counts as the service what its main process has started, and nothing from outside. Owns nothing:
//! the successor takes over through the upgrade socket as any other does, or says in the log why it cannot.

use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, io, thread};

/// Runs `waypost upgrade` from the file that is now where this process was started from.
pub(super) fn start(config: &Path) {
    match upgrade(config) {
        Ok(pid) => tracing::info!(pid, "upgrade begun"),
        Err(error) => tracing::error!(%error, "upgrade cannot begin, this process goes on"),
    }
}

fn upgrade(config: &Path) -> io::Result<u32> {
    // Not the running file itself: that is the old binary, whatever has been put in its place.
    let binary = env::args_os().next().ok_or(io::ErrorKind::NotFound)?;
    let mut command = Command::new(binary);
    command.arg("upgrade").arg("--config").arg(config).stdin(Stdio::null());
    // It names this process, and who follows has to give signs of life, too.
    command.env_remove("WATCHDOG_PID");
    let mut child = command.spawn()?;
    let pid = child.id();
    // If it fails, somebody has to take note of its end. How it ends is in the log already.
    thread::Builder::new().name("successor".to_owned()).spawn(move || drop(child.wait()))?;
    Ok(pid)
}
