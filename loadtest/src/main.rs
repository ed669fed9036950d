//! The command line of the load tester: words to plans, reports to text, verdicts to exit codes. Nothing else.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod cli;
mod display;

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::{Args, Parser, Subcommand, builder::ArgPredicate};
use cli::{Chaos, Compare, Flood};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use loadtest::{
    Plan, Report, Scenario,
    plan::{Handshakes, Opening, Pace, Protocol, Request, Reuse, Trust},
    relay, responder,
};

/// Puts an HTTP server under load and says how it stood it.
#[derive(Parser)]
#[command(
    version,
    after_help = "\
Examples:
  loadtest run http://127.0.0.1:8080/
      as fast as 10 connections go, for 10 s
  loadtest run --rate 2000 --users 200 http://127.0.0.1:8080/
      2 000/s on a fixed schedule, by 200 users with cookies
  loadtest run --http2 --streams 10 --insecure https://127.0.0.1:8443/
      10 requests at once on each connection
  loadtest scenario loadtest/scenarios/kill-one.toml
      load, faults and a verdict from a file
  loadtest compare --waypost target/release/waypost
      CPU time per request beside nginx and HAProxy
  loadtest chaos --waypost target/release/waypost --minutes 10
      faults, reloads and upgrades at random, and an audit
  loadtest flood --kind slow_headers http://127.0.0.1:8080/
      what users notice of 5 000 hostile clients"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(Box<Run>),
    Scenario(RunScenario),
    Compare(Compare),
    Chaos(Chaos),
    Flood(Flood),
    /// Answers any request with a small fixed response, as cheaply as possible: the upstream of `compare`
    ///
    /// `/1m` gets a body of 1 MiB, everything else 13 bytes; request bodies are read and dropped; a WebSocket gets its
    /// messages back.
    Responder {
        /// Addresses to listen on
        #[arg(required = true, value_name = "ADDRESS")]
        listen: Vec<SocketAddr>,
    },
    /// Hands bytes on between each client and an upstream, with no HTTP at all: the floor of `compare`
    Relay {
        /// Address to listen on
        listen: SocketAddr,
        /// Addresses to connect to, in turn
        #[arg(required = true)]
        upstream: Vec<SocketAddr>,
    },
}

/// Sends requests at a rate, or as fast as they are answered
///
/// With `--rate` the loop is open: request n is due at n/rate seconds, whatever the server does, and its latency runs
/// from then, so that a stall of the server shows in full. Without it the loop is closed: every connection sends
/// its next request as soon as the last one is answered. The exit code is 0 if the load could be run, however it
/// went, and 2 if not; for a verdict write a scenario.
#[derive(Args)]
#[command(after_help = "\
Examples:
  loadtest run --requests 10000 --connections 64 http://127.0.0.1:8080/
  loadtest run --rate 500 --duration 1m --method POST --body '{\"n\":1}' --header 'content-type: application/json' \\
      --unique-key idempotency-key http://127.0.0.1:8080/orders
  loadtest run --rate 100 --no-keepalive --ca ca.pem --server-name shop.example https://127.0.0.1:8443/
  loadtest run --rate 2000 http://127.0.0.1:8080/a http://127.0.0.1:8080/b     both paths, half and half
  loadtest run --rate 2000 --json - http://127.0.0.1:8080/ | jq .latency.p99_us")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
struct Run {
    /// What to request; several URLs of one origin are requested equally often
    #[arg(required = true, value_name = "URL")]
    urls: Vec<String>,
    /// Open loop: so many requests per second (default: closed loop)
    #[arg(long, short)]
    rate: Option<f64>,
    /// Begin requests for so long
    #[arg(long, short, default_value = "10s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Record no latency of requests that are due within this time
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    warm_up: Duration,
    /// End after so many requests
    #[arg(long, short = 'n')]
    requests: Option<u64>,
    /// At most so many connections [default: 10, with --rate 1000]
    #[arg(long, short)]
    connections: Option<usize>,
    /// Requests at once on one connection (HTTP/2)
    #[arg(long, default_value_t = 1)]
    streams: usize,
    /// Open all connections at the beginning and use them in turn, instead of as many as are needed
    #[arg(long)]
    open_all: bool,
    /// HTTP/2 over TLS
    #[arg(long)]
    http2: bool,
    /// HTTP/2 without TLS
    #[arg(long, conflicts_with = "http2")]
    h2c: bool,
    /// WebSocket: the body is a message, and the next message from the server its answer
    #[arg(long, conflicts_with_all = ["http2", "h2c", "no_keepalive"])]
    websocket: bool,
    /// A connection for every request
    #[arg(long)]
    no_keepalive: bool,
    /// Take up no TLS session again: every handshake is a full one
    #[arg(long)]
    full_handshakes: bool,
    /// Believe any certificate
    #[arg(long)]
    insecure: bool,
    /// Believe the certificates of this PEM file only
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// The name to ask for (SNI) instead of the URL's host
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// Request method
    #[arg(long, short = 'X', default_value = "GET")]
    #[arg(default_value_if("body", ArgPredicate::IsPresent, "POST"))]
    #[arg(default_value_if("body_size", ArgPredicate::IsPresent, "POST"))]
    method: Method,
    /// Path with query, instead of that of the URL
    #[arg(long)]
    path: Option<String>,
    /// A request header; may be repeated
    #[arg(long, short = 'H', value_name = "NAME: VALUE", value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// Request body; `@FILE` reads it from a file
    #[arg(long)]
    body: Option<String>,
    /// Request body of so many bytes, like 64KiB
    #[arg(long, value_name = "SIZE", conflicts_with = "body")]
    body_size: Option<bytesize::ByteSize>,
    /// Give every request a value of its own in this header
    #[arg(long, value_name = "HEADER")]
    unique_key: Option<HeaderName>,
    /// Virtual users: each keeps its cookies and has one request in flight at most
    #[arg(long, default_value_t = 0)]
    users: usize,
    /// Time for a request, from when it was due
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Threads that send
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// The response header that names the endpoint
    #[arg(long, default_value = "x-upstream", value_name = "HEADER")]
    upstream_header: HeaderName,
    /// A status of 400 and above that is no error; may be repeated
    #[arg(long, value_name = "STATUS")]
    accept: Vec<StatusCode>,
    #[command(flatten)]
    output: Output,
}

/// Runs a scenario: load, faults and a verdict from a TOML file
///
/// The exit code is the verdict: 0 all objectives met, 1 at least one missed, 2 it could not be run.
#[derive(Args)]
#[command(after_help = "\
A scenario:
  target = \"http://127.0.0.1:8080/\"
  control = \"http://127.0.0.1:10000\"        # the reference fleet's control port
  rate = 2000                               # or [[phases]] with rate and duration; neither: closed loop
  duration = \"10s\"
  users = 200

  [[mix]]
  path = \"/\"
  weight = 9
  [[mix]]
  method = \"POST\"
  path = \"/orders\"
  body_size = \"1KiB\"
  unique_key = \"idempotency-key\"            # so that double executions are found

  [[events]]
  at = \"3s\"
  do = \"crash web-2\"                        # recover, refuse, drain, fault NAME KIND, clear, health NAME STATUS, post URL

  [slo]
  p99 = \"< 50ms\"                            # p50 p90 p95 p99 p99_9 max mean
  errors = 0                                # or \"< 0.1%\"
  sticky = \"100%\"
  skew = \"< 1%\"
  double_executions = 0
  rate = \">= 1900/s\"")]
struct RunScenario {
    /// The file
    file: PathBuf,
    /// Another target than the file's
    #[arg(long, value_name = "URL")]
    target: Option<String>,
    /// Another control port than the file's
    #[arg(long, value_name = "URL")]
    control: Option<String>,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
struct Output {
    /// Write the report as JSON to a file, or to standard output with `-` (the text then goes nowhere)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// No progress on standard error
    #[arg(long, short)]
    quiet: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.context("cannot start the event loop").and_then(|runtime| runtime.block_on(obey(cli.command))) {
        Ok(code) => code,
        Err(error) => {
            // Standard error is all there is left to say it to.
            let _ = writeln!(io::stderr(), "loadtest: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn obey(command: Command) -> Result<ExitCode> {
    match command {
        Command::Run(run) => {
            let load = loadtest::start(run.plan()?).await?;
            let report = display::during(run.output.quiet, |show| {
                show(load.watch());
                load.wait()
            });
            run.output.write(&report.await?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Scenario(command) => command.run().await,
        Command::Compare(command) => command.run().await,
        Command::Chaos(command) => command.run().await,
        Command::Flood(command) => command.run().await,
        Command::Responder { listen } => {
            responder::serve(&listen).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Relay { listen, upstream } => {
            relay::serve(listen, &upstream).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

impl Run {
    fn plan(&self) -> Result<Plan> {
        let plan = Plan::new(&self.urls[0])?;
        let mix = self.urls.iter().map(|url| self.request(url)).collect::<Result<_>>()?;
        let room = if self.rate.is_some() { 1_000 } else { plan.connections };
        Ok(Plan {
            pace: self.rate.map_or(Pace::Full, Pace::Rate),
            duration: self.duration,
            warm_up: self.warm_up,
            requests: self.requests,
            connections: self.connections.unwrap_or(room),
            streams: self.streams,
            opening: if self.open_all { Opening::AllAtOnce } else { Opening::AsNeeded },
            protocol: self.protocol(),
            reuse: if self.no_keepalive { Reuse::Close } else { Reuse::KeepAlive },
            handshakes: if self.full_handshakes { Handshakes::Full } else { Handshakes::Resumed },
            trust: Trust { insecure: self.insecure, ca: self.ca.clone(), server_name: self.server_name.clone() },
            mix,
            users: self.users,
            timeout: self.timeout,
            threads: self.threads,
            upstream_header: self.upstream_header.clone(),
            accept: self.accept.clone(),
            ..plan
        })
    }

    fn protocol(&self) -> Protocol {
        if self.http2 {
            Protocol::Http2
        } else if self.h2c {
            Protocol::H2c
        } else if self.websocket {
            Protocol::WebSocket
        } else {
            Protocol::Http1
        }
    }

    fn request(&self, url: &str) -> Result<Request> {
        let (first, given) = (Plan::new(&self.urls[0])?, Plan::new(url)?);
        if first.target != given.target {
            bail!("{} and {} are different origins; one load has one", first.target, given.target);
        }
        let path = self.path.clone().unwrap_or_else(|| given.mix[0].path.clone());
        let mut request = Request { method: self.method.clone(), body: self.body()?, ..Request::get(&path) };
        request.key_header.clone_from(&self.unique_key);
        request.headers.extend(self.header.iter().cloned());
        Ok(request)
    }

    fn body(&self) -> Result<Bytes> {
        match (&self.body, self.body_size) {
            (Some(body), _) => match body.strip_prefix('@') {
                Some(file) => Ok(std::fs::read(file).with_context(|| file.to_owned())?.into()),
                None => Ok(body.clone().into()),
            },
            (None, Some(size)) => Ok(vec![b'x'; usize::try_from(size.as_u64())?].into()),
            (None, None) => Ok(Bytes::new()),
        }
    }
}

impl RunScenario {
    async fn run(&self) -> Result<ExitCode> {
        let mut scenario = Scenario::load(&self.file)?;
        if let Some(url) = &self.target {
            scenario.retarget(url)?;
        }
        scenario.control = self.control.clone().or(scenario.control);
        let report = display::during(self.output.quiet, |show| scenario.run(show)).await?;
        self.output.write(&report)?;
        let missed = report.slo.iter().any(|verdict| !verdict.met);
        Ok(if missed { ExitCode::from(1) } else { ExitCode::SUCCESS })
    }
}

impl Output {
    fn write(&self, report: &Report) -> Result<()> {
        let to_stdout = self.json.as_deref() == Some(Path::new("-"));
        if !to_stdout {
            write!(io::stdout(), "{report}")?;
        }
        match &self.json {
            None => Ok(()),
            Some(file) => write_json(file, report),
        }
    }
}

fn write_json(file: &Path, what: &impl serde::Serialize) -> Result<()> {
    let json = serde_json::to_string_pretty(what)? + "\n";
    if file == Path::new("-") {
        return Ok(io::stdout().write_all(json.as_bytes())?);
    }
    std::fs::write(file, json).with_context(|| file.display().to_string())
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':').context("write NAME: VALUE")?;
    Ok((name.trim().parse()?, value.trim().parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[track_caller]
    fn plan(line: &str) -> Plan {
        let Command::Run(run) = Cli::try_parse_from(line.split(' ')).unwrap().command else { panic!("not a run") };
        run.plan().unwrap()
    }

    #[test]
    fn a_body_makes_a_post_unless_a_method_is_given() {
        assert_eq!(plan("loadtest run http://a/").mix[0].method, Method::GET);
        assert_eq!(plan("loadtest run --body x http://a/").mix[0].method, Method::POST);
        assert_eq!(plan("loadtest run --body-size 1KiB http://a/").mix[0].body.len(), 1024);
        assert_eq!(plan("loadtest run --body x --method PUT http://a/").mix[0].method, Method::PUT);
    }

    #[test]
    fn a_rate_opens_the_loop() {
        assert_eq!(plan("loadtest run http://a/").pace, Pace::Full);
        let open = plan("loadtest run --rate 100 --header x-a:b http://a/1 http://a/2");
        assert_eq!((open.pace.clone(), open.connections, open.mix.len()), (Pace::Rate(100.0), 1_000, 2));
        assert_eq!(open.mix[1].headers["x-a"], "b");
    }
}
