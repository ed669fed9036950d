//! A real Prometheus that a test has to itself.
//!
//! Given the files that are shipped, with what must differ in a test put in their place: the address, a shorter time
//! between two looks, and alerts that wait for a second only. Ends, with all that it has stored, when it is dropped.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tempfile::TempDir;
use waypost_tests::{client, eventually};

use super::shipped;

/// A running one.
pub(super) struct Prometheus {
    address: SocketAddr,
    _process: Process,
    /// Config, rules, token and data; goes after the process.
    _folder: TempDir,
}

/// Ends with whoever owns it.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing that it should keep.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Prometheus {
    /// Starts one that watches this admin address, to which it shows this token. Returns when it answers.
    pub(super) async fn start(program: &Path, admin: SocketAddr, token: &str) -> Prometheus {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path(), admin, token);
        let log = folder.path().join("log");
        let mut process = Process(command(program, folder.path(), &log).spawn().unwrap());
        let said = || std::fs::read_to_string(&log).unwrap();
        eventually!(within 30, listening(&said()).is_some() || process.0.try_wait().unwrap().is_some());
        let address = listening(&said()).unwrap_or_else(|| panic!("it has ended: {}", said()));
        let prometheus = Prometheus { address, _process: process, _folder: folder };
        eventually!(within 30, prometheus.get("/-/ready").await.0 == 200);
        prometheus
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let reply = client::send(self.address, client::get(path)).await;
        reply.map(|reply| (reply.status.as_u16(), reply.text().to_owned())).unwrap_or_default()
    }

    /// The series that an expression gives now.
    pub(super) async fn ask(&self, expression: &str) -> Vec<Value> {
        let query = utf8_percent_encode(expression, NON_ALPHANUMERIC);
        self.data(&format!("/api/v1/query?query={query}"), "result").await
    }

    async fn data(&self, path: &str, name: &str) -> Vec<Value> {
        let (status, answer) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {answer}");
        serde_json::from_str::<Value>(&answer).unwrap()["data"][name].as_array().unwrap().clone()
    }

    /// The value of the only series that an expression gives, NaN if there is none.
    pub(super) async fn value(&self, expression: &str) -> f64 {
        let answer = self.ask(expression).await;
        let value = answer.first().and_then(|series| series["value"][1].as_str()?.parse().ok());
        value.unwrap_or(f64::NAN)
    }

    /// What every firing alert tells, in order.
    pub(super) async fn told(&self) -> Vec<String> {
        let alerts = self.data("/api/v1/alerts", "alerts").await;
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        let text = |alert: &Value| alert["annotations"]["summary"].as_str().unwrap_or_default().to_owned();
        let mut told: Vec<_> = firing.map(text).collect();
        told.sort();
        told
    }
}

fn command(program: &Path, folder: &Path, log: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--storage.tsdb.retention.time=10m"])
        // Port 0: which one it was given is in its log.
        .arg("--web.listen-address=127.0.0.1:0")
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(log).unwrap());
    command
}

/// Where it listens, once its log says so.
fn listening(log: &str) -> Option<SocketAddr> {
    let line = log.lines().find(|line| line.contains("Listening on"))?;
    line.split("address=").nth(1)?.split_whitespace().next()?.parse().ok()
}

/// Puts the files that are shipped into the folder.
fn prepare(folder: &Path, admin: SocketAddr, token: &str) {
    let config = shipped::text("prometheus.yml");
    let config = replaced(&config, "127.0.0.1:9900", &admin.to_string());
    let config = replaced(&config, "# authorization:", "authorization:");
    let config = replaced(&config, "_interval: 15s", "_interval: 200ms");
    // Nobody is to be told: port 9 is closed.
    let config = replaced(&config, "127.0.0.1:9093", "127.0.0.1:9");
    std::fs::write(folder.join("prometheus.yml"), config).unwrap();
    std::fs::write(folder.join("waypost.token"), token).unwrap();
    std::fs::create_dir(folder.join("rules")).unwrap();
    for file in shipped::files("rules", ".yml") {
        let rules = std::fs::read_to_string(&file).unwrap();
        std::fs::write(folder.join("rules").join(file.file_name().unwrap()), hasty(&rules)).unwrap();
    }
}

#[track_caller]
fn replaced(text: &str, what: &str, with: &str) -> String {
    assert!(text.contains(what), "the file has no {what}");
    text.replace(what, with)
}

/// The rules with alerts that wait for a second before they fire.
fn hasty(rules: &str) -> String {
    let wait = regex::Regex::new("(?m)^        for: .*$").unwrap();
    wait.replace_all(rules, "        for: 1s").into_owned()
}
