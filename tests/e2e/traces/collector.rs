//! A collector that a test has to itself: OpenTelemetry's own protocol files, Google's gRPC, and a few lines of Python that
//! write down what came. `tests/run` installs what they need.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

/// A running one. Ends when it is dropped.
pub(super) struct Collector {
    /// Where it takes gRPC.
    pub(super) grpc: u16,
    /// Where it takes HTTP.
    pub(super) http: u16,
    process: Child,
    folder: TempDir,
}

/// Where it listens, in its own words.
#[derive(Deserialize)]
struct Listening {
    grpc: u16,
    http: u16,
}

/// What a test says that could not have one.
pub(super) const MISSING: &str = "skipped: there is no collector, tests/run installs it";

/// The Python that it runs under, if it is installed.
pub(super) fn installed() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the folder lies in the target directory");
    Some(target.join("collector/bin/python")).filter(|python| python.exists())
}

impl Collector {
    /// Starts one; returns when it listens.
    pub(super) fn start(python: &Path, options: &[&str]) -> Collector {
        let folder = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("collector/collector.py");
        let mut command = Command::new(python);
        // What a handshake failed of is the test's affair.
        command.arg(script).arg(folder.path().join("exports")).args(options).env("GRPC_VERBOSITY", "NONE");
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let said = process.stdout.take().expect("its standard output is a pipe");
        BufReader::new(said).read_line(&mut line).unwrap();
        let Listening { grpc, http } = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        Collector { grpc, http, process, folder }
    }

    /// Every export so far.
    pub(super) fn exports(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("exports")).unwrap_or_default();
        // The last line may be half written.
        text.split_inclusive('\n').filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Every span so far.
    pub(super) fn spans(&self) -> Vec<Span> {
        let exports = self.exports().into_iter();
        exports.flat_map(|export| serde_json::from_value::<Vec<Span>>(export["spans"].clone()).unwrap()).collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing that it should keep.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// As the collector has understood it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Span {
    pub(super) trace: String,
    pub(super) id: String,
    pub(super) parent: String,
    pub(super) state: String,
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) attributes: Value,
    pub(super) status: String,
    pub(super) message: String,
}

impl Span {
    /// Whether it is of a request.
    pub(super) fn is_request(&self) -> bool {
        self.kind == "SPAN_KIND_SERVER"
    }

    /// An attribute; null if there is none.
    pub(super) fn get(&self, attribute: &str) -> &Value {
        &self.attributes[attribute]
    }
}
