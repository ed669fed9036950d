//! `loadtest flood`.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Result, bail};
use clap::Args;
use loadtest::{
    compare::children,
    flood::{self, Kind},
    plan::Trust,
};

use crate::{display, write_json};

/// Sets hostile clients beside ordinary users, on this machine only
///
/// The users are watched alone, then with the flood, each for as long as `--duration` says. All their connections are
/// open before the flood begins. Hostile clients that are closed come again, up to 5 000 connections a second in all. The
/// exit code is 0 if it could be run, however it went.
#[derive(Args)]
#[command(after_help = "\
Kinds:
  slow_headers      a field a second, and the head never ends
  slow_body         an upload that stops after its first byte
  slow_reader       a download that nobody reads: give it a large --path
  connections       connections on which nothing is said
  header_bomb       heads of 1 MiB
  h2_rapid_reset    requests taken back at once, a hundred together or one by one
  h2_continuation   a head in ever more frames
  h2_settings h2_ping
                    frames that must be answered, by clients that never read
  h2_empty_frames   an upload of nothing
  h2_zero_window    a hundred downloads for which no room is made: give it a large --path
  tls_handshakes    handshakes that are left, at the beginning or the end, or not gone on with
  tls_renegotiation another handshake on a TLS 1.2 connection

Examples:
  loadtest flood --kind slow_headers --pid $(pidof waypost) http://127.0.0.1:8080/
  loadtest flood --kind slow_reader --path /1m --clients 1000 http://127.0.0.1:8080/
  loadtest flood --kind tls_handshakes --insecure https://127.0.0.1:8443/")]
pub(crate) struct Flood {
    /// What users request; the flood, too, unless it has a --path
    url: String,
    /// What hostile clients do
    #[arg(long)]
    kind: Kind,
    /// How many there are [default: 5000 of those that are slow, 50 of those that are busy]
    #[arg(long)]
    clients: Option<usize>,
    /// The path that hostile clients request
    #[arg(long)]
    path: Option<String>,
    /// How long users are watched, alone and again with the flood
    #[arg(long, short, default_value = "10s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Requests of users a second
    #[arg(long, short, default_value_t = 500.0)]
    rate: f64,
    /// Believe any certificate
    #[arg(long)]
    insecure: bool,
    /// Believe the certificates of this PEM file only
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// The name to ask for (SNI) instead of the URL's host
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// Look at this process's memory and descriptors
    #[arg(long)]
    pid: Option<u32>,
    /// Write the outcome as JSON to a file, or to standard output with `-` (the text then goes nowhere)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Flood {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        // Each client is one.
        children::descriptors();
        let outcome = tokio::select! {
            done = flood::run(self.settings(), |line| drop(writeln!(io::stderr(), "{line}"))) => done?,
            signal = display::told_to_stop() => bail!("stopped by {signal}"),
        };
        if self.json.as_deref() != Some(Path::new("-")) {
            write!(io::stdout(), "{outcome}")?;
        }
        if let Some(file) = &self.json {
            write_json(file, &outcome)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn settings(&self) -> flood::Settings {
        flood::Settings {
            url: self.url.clone(),
            path: self.path.clone(),
            kind: self.kind,
            clients: self.clients.unwrap_or(self.kind.clients()),
            duration: self.duration,
            rate: self.rate,
            trust: Trust { insecure: self.insecure, ca: self.ca.clone(), server_name: self.server_name.clone() },
            pid: self.pid,
        }
    }
}
