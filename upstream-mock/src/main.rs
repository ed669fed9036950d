//! The binary: options, banner, signals. All else is the library's.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use upstream_mock::control::PAGES;
use upstream_mock::{Bare, Fleet, FleetOptions};

const AFTER_HELP: &str = "\
Pages of every container (x-upstream says which one answered):
  /  /health  /echo  /upload  /early  /bytes/N  /chunked/N?chunk=1024  /delay/250ms  /trailers
  /trickle?bytes=10&every=100ms  /status/503?retry_after=1  /headers?name=value
  /sse?every=100ms&count=10      /ws?close_after=3 (WebSocket, HTTP/1.1 and HTTP/2)
  POST /hub/negotiate, then /hub, /hub/sse, /hub/poll, /hub/send
  gRPC without TLS: mock.Echo (Say, Stream, Chat) and grpc.health.v1.Health

Failures of one request, by its header x-mock-fault (x-mock-on: web-2 fails it on that one only):
  reset_before_head  reset_after_execution  reset_in_body  truncated_chunked  wrong_length
  excess  hang  slow=500ms  slow_body=50ms  status=503  garbage  blackhole  freeze  refuse  crash
  flap=up:2s,down:2s  health=500  flap_health=up:2s,down:2s

Requests with Idempotency-Key or x-request-key are counted when executed: see /executions of the
control port.

Examples:
  upstream-mock                                    three on 9001 to 9003, control on 10000
  curl -i localhost:9001/echo                      the request as the container saw it
  curl -X POST localhost:10000/containers/web-2/crash
                                                   dies as by kill -9; /recover brings it back
  upstream-mock --count 1 --name web-1             one in a process of its own, to be killed
  upstream-mock --bare --count 3                   fixed answers at the least cost, for benchmarks";

/// Identical web containers that say who they are, fail on request and count what they executed.
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER_HELP)]
struct Options {
    /// How many containers to start
    #[arg(long, default_value_t = 3)]
    count: u16,
    /// Port of the first container; the others follow. 0 takes free ones
    #[arg(long, default_value_t = 9001)]
    base_port: u16,
    /// Address on which all of them listen
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// Containers are named PREFIX-1, PREFIX-2, …
    #[arg(long, value_name = "PREFIX", default_value = "web")]
    name_prefix: String,
    /// Number of the first container's name
    #[arg(long, value_name = "N", default_value_t = 1)]
    first_number: u32,
    /// Name of the only container
    #[arg(long, conflicts_with_all = ["name_prefix", "first_number"])]
    name: Option<String>,
    /// Port of the control API [default: base port + 999, or a free one if that is 0]
    #[arg(long, value_name = "PORT")]
    control_port: Option<u16>,
    /// How long requests in flight may take after SIGTERM, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    grace: u64,
    /// Threads that serve [default: one per core]
    #[arg(long)]
    workers: Option<usize>,
    /// Fixed bytes for any HTTP/1.1 request (GET /1m: 1 MiB), at the least cost; no faults, no control
    #[arg(long)]
    bare: bool,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    runtime(options.workers)?.block_on(run(options))
}

fn runtime(workers: Option<usize>) -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = match workers {
        Some(1) => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if let Some(workers @ 2..) = workers {
        builder.worker_threads(workers);
    }
    builder.enable_all().build().context("cannot start the runtime")
}

async fn run(options: Options) -> anyhow::Result<()> {
    if options.bare { run_bare(&options).await } else { run_fleet(&options).await }
}

async fn run_fleet(options: &Options) -> anyhow::Result<()> {
    let stop = stop_signal()?;
    let fleet = Fleet::start(FleetOptions {
        names: options.names()?,
        host: options.host,
        base_port: options.base_port,
        control_port: Some(options.control_port()?),
    })
    .await?;
    say(&banner(&fleet))?;
    stop.await;
    fleet.stop(Duration::from_secs(options.grace)).await;
    Ok(())
}

async fn run_bare(options: &Options) -> anyhow::Result<()> {
    let stop = stop_signal()?;
    let mut responders = Vec::new();
    let mut banner = String::new();
    for (name, port) in options.names()?.into_iter().zip(0..) {
        let port = if options.base_port == 0 { 0 } else { options.base_port + port };
        let bare = Bare::start(&name, SocketAddr::new(options.host, port)).await?;
        writeln!(banner, "{name:<10} http://{}  (bare)", bare.address())?;
        responders.push(bare);
    }
    say(&banner)?;
    stop.await;
    Ok(())
}

impl Options {
    fn names(&self) -> anyhow::Result<Vec<String>> {
        anyhow::ensure!(self.name.is_none() || self.count == 1, "--name needs --count 1");
        let ports = usize::from(u16::MAX - self.base_port) + 1;
        anyhow::ensure!(usize::from(self.count) <= ports, "there are only {ports} ports from the base port on");
        Ok(match &self.name {
            Some(name) => vec![name.clone()],
            None => {
                (self.first_number..).take(self.count.into()).map(|n| format!("{}-{n}", self.name_prefix)).collect()
            }
        })
    }

    fn control_port(&self) -> anyhow::Result<u16> {
        match (self.control_port, self.base_port) {
            (Some(port), _) => Ok(port),
            (None, 0) => Ok(0),
            (None, base) => base.checked_add(999).context("base port + 999 is no port; give --control-port"),
        }
    }
}

fn banner(fleet: &Fleet) -> String {
    let mut lines: Vec<_> = fleet
        .containers()
        .iter()
        .map(|container| format!("{:<10} http://{}", container.name(), container.address()))
        .collect();
    lines.extend(fleet.control_address().map(|address| format!("{:<10} http://{address}", "control")));
    format!("{}\n\nThe control port understands:\n{PAGES}", lines.join("\n"))
}

/// Prints, because the banner is the program's output.
fn say(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Resolves at the first SIGTERM or SIGINT; registered before anything listens, so that none is lost.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
