//! The thread that writes.
//!
//! Owns the file and the lines that could not be written yet. A failed write is said once in the log, counted, and
//! tried again until it succeeds; meanwhile the queue fills and drops.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use waypost_config::telemetry::AccessLogPath;

use super::queue::{BATCH, Queue, Turn, Want};
use crate::telemetry::metrics::{Counter, Metrics};

/// Where lines go.
pub(super) struct Target {
    pub(super) out: Box<dyn Write + Send>,
    /// Name of the file, if it is one.
    pub(super) path: Option<PathBuf>,
}

impl Target {
    pub(super) fn open(path: &AccessLogPath) -> io::Result<Target> {
        Ok(match path {
            AccessLogPath::Stdout => Target { out: Box::new(io::stdout()), path: None },
            AccessLogPath::Stderr => Target { out: Box::new(io::stderr()), path: None },
            AccessLogPath::File(path) => Target { out: Box::new(open(path)?), path: Some(path.clone()) },
        })
    }
}

/// Appending, so that a file cut to nothing by `copytruncate` goes on at its beginning.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Room that is kept for the next batch.
const KEPT: usize = 2 * BATCH;

pub(super) struct Writer {
    queue: Arc<Queue>,
    target: Target,
    /// Bytes of lines not yet written; the first may be the rest of a line.
    pending: Vec<u8>,
    /// Lines that end in `pending`.
    lines: u64,
    failing: bool,
    written: Counter,
    dropped: Counter,
    errors: Counter,
}

impl Writer {
    pub(super) fn new(queue: Arc<Queue>, target: Target, metrics: &Metrics) -> Writer {
        Writer {
            queue,
            target,
            pending: Vec::new(),
            lines: 0,
            failing: false,
            written: metrics.access_log_lines.clone(),
            dropped: metrics.access_log_dropped.clone(),
            errors: metrics.access_log_errors.clone(),
        }
    }

    pub(super) fn spawn(self) -> io::Result<()> {
        let builder = thread::Builder::new().name("access-log".to_owned());
        // Not joined: the queue tells when the writer has ended, with a limit to the patience.
        builder.spawn(|| self.run()).map(drop)
    }

    fn run(mut self) {
        loop {
            let want = if self.failing { Want::Pause } else { Want::Lines };
            let (lines, turn) = self.queue.take(want, &mut self.pending);
            self.lines += lines;
            self.flush();
            match turn {
                Turn::Write => {}
                Turn::Reopen => self.reopen(),
                Turn::Close => break,
            }
        }
        self.dropped.inc_by(self.lines);
        self.queue.finish();
    }

    fn flush(&mut self) {
        let (written, result) = write_out(&mut *self.target.out, &self.pending);
        self.pending.drain(..written);
        // After a full disk there may have been megabytes.
        self.pending.shrink_to(KEPT);
        let lines = line_ends(&self.pending);
        self.written.inc_by(self.lines - lines);
        self.lines = lines;
        self.note(result);
    }

    fn note(&mut self, result: io::Result<()>) {
        match result {
            Ok(()) if self.failing => {
                self.failing = false;
                tracing::info!("access log is written again");
            }
            Ok(()) => {}
            Err(error) => {
                self.errors.inc();
                if !self.failing {
                    self.failing = true;
                    tracing::error!(%error, "access log cannot be written, trying again");
                }
            }
        }
    }

    fn reopen(&mut self) {
        let Some(path) = &self.target.path else { return };
        match open(path) {
            Ok(file) => {
                self.target.out = Box::new(file);
                self.flush();
            }
            Err(error) => {
                self.errors.inc();
                tracing::error!(%error, path = %path.display(), "access log cannot be reopened, keeping the old file");
            }
        }
    }
}

/// Writes as much as goes; like `write_all`, but says how much that was.
fn write_out(out: &mut dyn Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match out.write(&bytes[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, out.flush())
}

/// Lines that end in `bytes`: a line's own text never contains the byte.
#[expect(clippy::naive_bytecount, reason = "there is nothing to count unless a write has failed")]
fn line_ends(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}
