//! The command line of the load tester: words to plans, reports to text, verdicts to exit codes. Nothing else.

#![cfg_attr(test, allow(clippy::unwrap_used))]

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
use http::{HeaderName, HeaderValue, Method, StatusCode};
use loadtest::{
    Plan, Report, Scenario,
    chaos::command as chaos,
    compare::{self, Comparison, children},
    flood::{self, Kind},
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

/// Measures what a request costs Waypost, beside its peers
///
/// The peers are those of nginx, haproxy, envoy, caddy and traefik that are on PATH, and `floor`, a relay without HTTP
/// that does nothing but the four system calls of a request. Each is configured by this command as a competent operator
/// would, with one worker pinned to one core; load and upstreams are on another. One proxy runs at a time, in
/// interleaved rounds. Ratios are taken within a round and always shown with their spread.
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
Families: conns, routes, endpoints, churn_tls, saturation, scaling.

All of them take about 2.5 minutes for each proxy and round: 5 rounds of three proxies some 38 minutes. With --quick
and three proxies: under three minutes.

Examples:
  loadtest compare --waypost target/release/waypost --json compare.json --svg compare.svg --markdown compare.md
  loadtest compare --waypost target/release/waypost --quick --peers nginx,haproxy
  loadtest compare --scenarios h1_small,churn_tls --peers nginx,haproxy      the peers alone")]
struct Compare {
    /// The waypost binary; without it the first of the peers is compared with the others
    #[arg(long, value_name = "FILE")]
    waypost: Option<PathBuf>,
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

/// Sets Waypost amid a failing fleet and audits what comes of it
///
/// Each trial, of a minute, has a seed: from it come a valid config, a script of faults for each container (crashes,
/// freezes, resets, broken and lying answers, lying health), reloads, SIGHUPs and upgrades. One endpoint is always
/// well. Meanwhile clients ask some hundred times a second and check every byte of the answers; at the end all is held
/// against the invariants. The exit code is 0 if all hold, 1 if one does not, 2 if no trial could be held.
#[derive(Args)]
#[command(after_help = "\
Examples:
  loadtest chaos --waypost target/release/waypost --seed 1 --minutes 30
      thirty trials, with the seeds 1 to 30
  loadtest chaos --waypost target/release/waypost --seed 17
      the trial of seed 17 again
  loadtest chaos --seed 17 --script chaos/seed-17/script.toml
      the same config and load with another script

A script:
  [[steps]]
  at = \"1.5s\"
  endpoint = \"web-2\"
  fault = { kind = \"slow\", value = \"500ms\" }
  [[steps]]
  at = \"3s\"
  endpoint = \"web-2\"
  recover = true")]
struct Chaos {
    /// The waypost binary [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    waypost: Option<PathBuf>,
    /// The first trial's seed; the next one has the next
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long faults come
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// One trial with this script instead of made-up ones
    #[arg(long, value_name = "FILE", conflicts_with = "minutes")]
    script: Option<PathBuf>,
    /// Where config, script and logs of a violation go
    #[arg(long, value_name = "DIR", default_value = "chaos")]
    write: PathBuf,
}

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
struct Flood {
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

/// What one word of `--scenarios` stands for.
#[derive(Debug, Clone)]
struct Kinds(Vec<compare::Kind>);

fn kinds(word: &str) -> Result<Kinds, String> {
    compare::Kind::selected_by(word).map(Kinds)
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
            target: plan.target,
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

impl Compare {
    async fn run(self) -> Result<ExitCode> {
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

impl Chaos {
    async fn run(self) -> Result<ExitCode> {
        let order = self.order()?;
        // Dropping the trial ends its processes.
        let violated = tokio::select! {
            done = chaos::run(&order, |line| drop(writeln!(io::stdout(), "{line}"))) => done?,
            signal = display::told_to_stop() => bail!("stopped by {signal}"),
        };
        Ok(if violated.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }

    fn order(self) -> Result<chaos::Order> {
        let beside = || -> Result<PathBuf> { Ok(std::env::current_exe()?.with_file_name("waypost")) };
        let read = |file: PathBuf| -> Result<_> {
            let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            text.parse().with_context(|| file.display().to_string())
        };
        Ok(chaos::Order {
            waypost: self.waypost.map_or_else(beside, Ok)?,
            seed: self.seed,
            length: Duration::try_from_secs_f64(self.minutes * 60.0).context("--minutes")?,
            script: self.script.map(read).transpose()?,
            write: self.write,
        })
    }
}

impl Flood {
    async fn run(self) -> Result<ExitCode> {
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
