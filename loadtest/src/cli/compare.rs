//! `loadtest compare`.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use loadtest::compare::{self, Comparison};

use crate::{display, write_json};

/// Measures what a request costs Waypost, beside its peers
///
/// The peers are those of nginx, haproxy, envoy, caddy and traefik that are on PATH, and `floor`, a relay without HTTP
/// that does nothing but the four system calls of a request. Each is configured by this command as a competent operator
/// would, with one worker pinned to one core; load and upstreams are on another. In each round the
/// proxies get the load in turns of a tenth of a second. Ratios are taken within a round and always shown with their spread.
///
/// Measured are CPU time per answered request (nanoseconds on a core, of all living threads of the proxy's processes;
/// a thread that ends while it is measured takes its time with it) and latency at equal offered rates, answers per
/// second at saturation, and memory per idle connection, 7 s after the last request. With envoy, caddy or traefik all
/// rates are 0.4 of the usual ones, which those would not bear.
#[derive(Args)]
#[command(after_help = "\
Scenarios, in the order they run; all are the default:
  h1_small          HTTP/1.1, 13 bytes, 64 keep-alive connections
  conns64 conns10k  the same over 64 and over 10 000 connections, or as many as descriptors allow, at a lower rate
  shipped           access log to a file, metrics, sticky cookies of 200 users, health checks
  telemetry_off telemetry_on
                    of Waypost alone: nothing told that need not be; JSON access log to a file, metrics scraped and
                    everything that `waypost top` shows asked once a second, an open stream of events, health checks,
                    traces of one request in ten, a receipt for one in a hundred
  routes1 routes1000 routes10k
                    requests spread over so many routes: ten paths a host
  endpoints3 endpoints100 endpoints1000
                    so many endpoints in turn
  h1_tls h2_tls     TLS 1.3; HTTP/2 with 10 streams on each of 64 connections
  download1m post64k
                    large bodies
  websocket         64-byte messages there and back over 64 WebSockets
  churn churn_tls_full churn_tls_resumed
                    a connection for each request; full and resumed handshakes
  saturation_h1 saturation_tls
                    64 connections that ask as fast as they are answered
  workers1 workers2 the same of Waypost alone, with one and with two workers on both cores. The load shares them, so
                    throughput cannot show how well a second worker does; what a request costs in CPU time with two
                    workers, beside with one, can: 2 x one / two is the speed-up on two cores that are the proxy's own
  idle idle_tls     10 000 and 2 000 connections that have sent one request and do nothing
Families: conns, telemetry, routes, endpoints, churn_tls, saturation, scaling.

All of them take about 2.5 minutes for each proxy and round: 5 rounds of three proxies some 38 minutes. With --quick
and three proxies: under three minutes.

Examples:
  loadtest compare --waypost target/release/waypost --json compare.json --svg compare.svg --markdown compare.md
  loadtest compare --waypost target/release/waypost --quick --peers nginx,haproxy
  loadtest compare --waypost new/waypost --baseline old/waypost --peers nginx --scenarios shipped
  loadtest compare --scenarios h1_small,churn_tls --peers nginx,haproxy      the peers alone")]
pub(crate) struct Compare {
    /// The waypost binary; without it the first of the peers is compared with the others
    #[arg(long, value_name = "FILE")]
    waypost: Option<PathBuf>,
    /// Another build of it, shown as `baseline`: what has a change brought?
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Only these of nginx, haproxy, envoy, caddy, traefik and floor
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    peers: Vec<String>,
    /// Only these scenarios or families
    #[arg(long, alias = "only", value_name = "NAMES", value_delimiter = ',', value_parser = kinds)]
    scenarios: Vec<Kinds>,
    /// Rounds of each scenario, at least 2: one has no spread [default: 5, with --quick 2]
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..))]
    rounds: Option<u32>,
    /// Short rounds and fewer idle connections: to see that it works, not to quote from
    #[arg(long)]
    quick: bool,
    /// Seconds measured in a round [default: 5, with --quick 0.5]
    #[arg(long)]
    seconds: Option<f64>,
    /// Multiply all rates, for a slower or a faster machine
    #[arg(long, default_value_t = 1.0)]
    pace: f64,
    /// The core of the proxy
    #[arg(long, default_value_t = 0)]
    proxy_core: usize,
    /// The core of load and upstreams
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// Write the figures as JSON to a file, or to standard output with `-` (the tables then go nowhere)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the tables, which go to standard output, to a file too
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Draw the ratios
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// What one word of `--scenarios` stands for.
#[derive(Debug, Clone)]
struct Kinds(Vec<compare::Kind>);

fn kinds(word: &str) -> std::result::Result<Kinds, String> {
    compare::Kind::selected_by(word).map(Kinds)
}

impl Compare {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let settings = self.settings()?;
        // Dropping the comparison ends its children.
        let comparison: Comparison = tokio::select! {
            done = compare::run(settings, |line| drop(writeln!(io::stderr(), "{line}"))) => done?,
            signal = display::told_to_stop() => bail!("stopped by {signal}"),
        };
        self.write(&comparison)?;
        Ok(ExitCode::SUCCESS)
    }

    fn settings(&self) -> Result<compare::Settings> {
        let tempo = if self.quick { compare::Tempo::QUICK } else { compare::Tempo::FULL };
        let measured = self.seconds.map(Duration::try_from_secs_f64).transpose().context("--seconds")?;
        let chosen: Vec<_> = self.scenarios.iter().flat_map(|kinds| &kinds.0).collect();
        let is_chosen = |kind: &compare::Kind| chosen.is_empty() || chosen.contains(&kind);
        Ok(compare::Settings {
            waypost: self.waypost.clone(),
            baseline: self.baseline.clone(),
            peers: self.peers.clone(),
            kinds: compare::Kind::ALL.into_iter().filter(is_chosen).collect(),
            rounds: self.rounds.map_or(if self.quick { 2 } else { 5 }, |rounds| rounds as usize),
            tempo: compare::Tempo { measured: measured.unwrap_or(tempo.measured), ..tempo },
            pace: self.pace,
            proxy_core: self.proxy_core,
            load_core: self.load_core,
        })
    }

    fn write(&self, comparison: &Comparison) -> Result<()> {
        if self.json.as_deref() != Some(Path::new("-")) {
            write!(io::stdout(), "{comparison}")?;
        }
        if let Some(file) = &self.json {
            write_json(file, comparison)?;
        }
        for (file, text) in [(&self.markdown, comparison.to_string()), (&self.svg, comparison.picture())] {
            if let Some(file) = file {
                std::fs::write(file, text).with_context(|| file.display().to_string())?;
            }
        }
        Ok(())
    }
}
