//! `top`: what a running Waypost does, now and every moment, in a terminal.
//!
//! Owns the page: what is counted between two looks at the metrics, and how it is drawn. Asks the admin API and nobody else.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::time::{Duration, Instant};

use clap::Args;
use http::Method;
use serde_json::Value;

use super::client::Remote;
use super::{Verdict, failed};

#[derive(Debug, Args)]
pub(super) struct Top {
    /// How long each page counts
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    interval: Duration,
    /// End after the first page
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    remote: Remote,
}

/// What the page is made of.
const REQUESTS: &str = "waypost_requests_total";
const IN_FLIGHT: &str = "waypost_requests_in_flight";
const DURATION: &str = "waypost_request_duration_seconds";
const CONNECTIONS: &str = "waypost_connections_open";
const ATTEMPTS: &str = "waypost_attempts_total";

/// Draws page after page until it is interrupted, or nobody answers any more.
pub(super) fn top(arguments: &Top) -> Verdict {
    let Top { interval, once, remote } = arguments;
    let mut before = match look(remote) {
        Ok(look) => look,
        Err(error) => return failed(&error),
    };
    loop {
        pause(*interval);
        let now = match look(remote) {
            Ok(look) => look,
            Err(error) => return failed(&error),
        };
        if show(&page(&before, &now), *once).is_err() || *once {
            return Verdict::Fine;
        }
        before = now;
    }
}

#[expect(clippy::disallowed_methods, reason = "a command of its own, which has nothing else to do meanwhile")]
fn pause(length: Duration) {
    std::thread::sleep(length);
}

/// In place of the page before, if a person looks.
fn show(page: &str, once: bool) -> io::Result<()> {
    let mut out = io::stdout();
    let clear = if out.is_terminal() && !once { "\x1b[H\x1b[2J" } else { "" };
    out.write_all(format!("{clear}{page}").as_bytes())?;
    out.flush()
}

/// What is known at one moment.
struct Look {
    at: Instant,
    generation: Value,
    services: Value,
    series: Vec<Series>,
}

/// One line of the metrics.
struct Series {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

fn look(remote: &Remote) -> Result<Look, String> {
    let ask = |path: &str| match remote.ask(&Method::GET, path, "") {
        None => Err("which process? Name its admin address with --admin http://HOST:PORT".to_owned()),
        Some(Err(error)) => Err(error.to_string()),
        Some(Ok(reply)) if reply.is_good() => Ok(reply.body),
        Some(Ok(reply)) => Err(format!("{path} answered {}: {}", reply.status, reply.body.trim())),
    };
    let json = |path: &str| serde_json::from_str(&ask(path)?).map_err(|error| format!("{path}: {error}"));
    let series = ask("/metrics")?.lines().filter_map(Series::read).collect();
    let generations: Value = json("/api/generations")?;
    Ok(Look { at: Instant::now(), generation: generations[0].clone(), services: json("/api/services")?, series })
}

impl Series {
    /// A line of the text format; `None` for comments.
    fn read(line: &str) -> Option<Series> {
        let (head, value) = line.rsplit_once(' ').filter(|_| !line.starts_with('#'))?;
        let (name, labels) = head.split_once('{').unwrap_or((head, "}"));
        // No name in a config has a quote or a comma in it.
        let labels = labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('='));
        let labels = labels.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect();
        Some(Series { name: name.to_owned(), labels, value: value.parse().ok()? })
    }

    fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

impl Look {
    /// The sum of a metric over the series that fit.
    fn sum(&self, name: &str, fits: impl Fn(&Series) -> bool) -> f64 {
        self.series.iter().filter(|series| series.name == name && fits(series)).map(|series| series.value).sum()
    }

    fn routes(&self) -> Vec<&str> {
        let requests = self.series.iter().filter(|series| series.name == IN_FLIGHT);
        let mut routes: Vec<_> =
            requests.map(|series| series.label("route")).filter(|route| !route.is_empty()).collect();
        routes.sort_unstable();
        routes.dedup();
        routes
    }
}

/// Two looks, and the time between them.
struct Between<'a>(&'a Look, &'a Look);

impl Between<'_> {
    fn per_second(&self, name: &str, fits: impl Fn(&Series) -> bool + Copy) -> f64 {
        let Between(before, now) = self;
        // What began anew has counted from nothing.
        let grown = (now.sum(name, fits) - before.sum(name, fits)).max(0.0);
        grown / now.at.duration_since(before.at).as_secs_f64()
    }

    /// In milliseconds, within the bucket in which it lies as if its requests were spread evenly; as Prometheus has it.
    fn quantile(&self, route: &str, quantile: f64) -> Option<f64> {
        let of_route =
            |series: &&Series| series.name.strip_suffix("_bucket") == Some(DURATION) && series.label("route") == route;
        let mut bounds: Vec<f64> =
            self.1.series.iter().filter(of_route).filter_map(|one| one.label("le").parse().ok()).collect();
        bounds.sort_by(f64::total_cmp);
        bounds.dedup();
        let upto = |bound: f64| {
            self.per_second(&format!("{DURATION}_bucket"), |one: &Series| {
                one.label("route") == route && one.label("le").parse() == Ok(bound)
            })
        };
        let wanted = quantile * upto(f64::INFINITY);
        let (mut lower, mut below) = (0.0, 0.0);
        for bound in bounds {
            let count = upto(bound);
            if count >= wanted && count > 0.0 {
                // Of the last one, which has no end, the beginning.
                let end = if bound.is_finite() { bound } else { lower };
                let share = if count > below { (wanted - below) / (count - below) } else { 1.0 };
                return Some(1000.0 * (lower + (end - lower) * share));
            }
            (lower, below) = (bound, count);
        }
        None
    }
}

fn page(before: &Look, now: &Look) -> String {
    let between = Between(before, now);
    let mut page = String::new();
    // To a string; it cannot fail.
    let _ = write_page(&mut page, &between);
    page
}

fn write_page(page: &mut String, between: &Between<'_>) -> std::fmt::Result {
    let now = between.1;
    let all = |_: &Series| true;
    let generation = &now.generation;
    writeln!(
        page,
        "generation {} since {} ({})   {:.0} requests/s   {:.0} in flight   {:.0} connections",
        generation["generation"],
        generation["published"].as_str().unwrap_or_default(),
        generation["origin"].as_str().unwrap_or_default(),
        between.per_second(REQUESTS, all),
        now.sum(IN_FLIGHT, all),
        now.sum(CONNECTIONS, all),
    )?;
    writeln!(page, "\n{:24} {:>9} {:>7} {:>9} {:>9} {:>9}", "ROUTE", "REQ/S", "5XX", "IN FLIGHT", "P50 MS", "P99 MS")?;
    for route in now.routes() {
        write_route(page, between, route)?;
    }
    writeln!(page, "\n{:24} {:>9} {:>7} {:>9}  {:9} WHY", "ENDPOINT", "REQ/S", "SHARE", "IN FLIGHT", "STATE")?;
    for service in now.services.as_array().into_iter().flatten() {
        write_service(page, between, service)?;
    }
    Ok(())
}

fn write_route(page: &mut String, between: &Between<'_>, route: &str) -> std::fmt::Result {
    let own = |series: &Series| series.label("route") == route;
    let requests = between.per_second(REQUESTS, own);
    let failed = |series: &Series| own(series) && series.label("status").starts_with('5');
    let failed = percent(between.per_second(REQUESTS, failed), requests);
    let quantile = |quantile| between.quantile(route, quantile).map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"));
    let in_flight = between.1.sum(IN_FLIGHT, own);
    writeln!(page, "{route:24} {requests:>9.0} {failed:>7} {in_flight:>9.0} {:>9} {:>9}", quantile(0.5), quantile(0.99))
}

fn write_service(page: &mut String, between: &Between<'_>, service: &Value) -> std::fmt::Result {
    let name = service["name"].as_str().unwrap_or_default();
    let all = between.per_second(ATTEMPTS, |series: &Series| series.label("service") == name);
    writeln!(page, "{name}, {}, {} available", service["balancer"].as_str().unwrap_or_default(), service["available"])?;
    for endpoint in service["endpoints"].as_array().into_iter().flatten() {
        let called = endpoint["name"].as_str().unwrap_or_default();
        let own = |series: &Series| series.label("service") == name && series.label("endpoint") == called;
        let attempts = between.per_second(ATTEMPTS, own);
        // A `Value` takes no note of a width.
        let (share, in_flight) = (percent(attempts, all), endpoint["in_flight"].as_u64().unwrap_or_default());
        let why = endpoint["why"].as_str().unwrap_or_default();
        writeln!(page, "  {called:22} {attempts:>9.0} {share:>7} {in_flight:>9}  {:9} {why}", state(endpoint))?;
    }
    Ok(())
}

/// The first of what keeps requests from it, or its health.
fn state(endpoint: &Value) -> &str {
    let is = |key: &str| endpoint[key] == true;
    if is("draining") {
        "draining"
    } else if is("ejected") {
        "ejected"
    } else if endpoint["circuit"] != "closed" {
        "cut off"
    } else {
        endpoint["state"].as_str().unwrap_or_default()
    }
}

fn percent(part: f64, whole: f64) -> String {
    if whole > 0.0 { format!("{:.0} %", 100.0 * part / whole) } else { "-".to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const BEFORE: &str = "# HELP waypost_requests_total x\n\
        waypost_requests_total{listener=\"web\",route=\"shop\",service=\"shop\",method=\"GET\",status=\"200\"} 100\n\
        waypost_requests_in_flight{listener=\"web\",route=\"shop\",service=\"shop\"} 1\n\
        waypost_attempts_total{service=\"shop\",endpoint=\"web-1\",outcome=\"response\"} 100\n";
    const NOW: &str = "waypost_requests_total{listener=\"web\",route=\"shop\",service=\"shop\",method=\"GET\",status=\"200\"} 175\n\
        waypost_requests_total{listener=\"web\",route=\"shop\",service=\"shop\",method=\"GET\",status=\"503\"} 25\n\
        waypost_requests_in_flight{listener=\"web\",route=\"shop\",service=\"shop\"} 3\n\
        waypost_connections_open{listener=\"web\"} 7\n\
        waypost_request_duration_seconds_bucket{listener=\"web\",route=\"shop\",service=\"shop\",le=\"0.01\"} 50\n\
        waypost_request_duration_seconds_bucket{listener=\"web\",route=\"shop\",service=\"shop\",le=\"0.02\"} 100\n\
        waypost_request_duration_seconds_bucket{listener=\"web\",route=\"shop\",service=\"shop\",le=\"+Inf\"} 100\n\
        waypost_attempts_total{service=\"shop\",endpoint=\"web-1\",outcome=\"response\"} 175\n\
        waypost_attempts_total{service=\"shop\",endpoint=\"web-2\",outcome=\"connect_failed\"} 25\n";

    fn look(metrics: &str, at: Instant) -> Look {
        let endpoint = |name: &str, state: &str, why: &str| json!({ "name": name, "state": state, "why": why, "in_flight": 1, "circuit": "closed" });
        let endpoints = [endpoint("web-1", "up", "status 200"), endpoint("web-2", "down", "refused")];
        let services = json!([{ "name": "shop", "balancer": "round_robin", "available": 1, "endpoints": endpoints }]);
        let generation = json!({ "generation": 4, "published": "2026-01-01T00:00:00Z", "origin": "reload" });
        Look { at, generation, services, series: metrics.lines().filter_map(Series::read).collect() }
    }

    #[test]
    fn page_tells_rates_failures_latencies_and_who_gets_what() {
        let at = Instant::now();
        let page = page(&look(BEFORE, at), &look(NOW, at + Duration::from_secs(1)));
        let lines: Vec<_> = page.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let expected = [
            "generation 4 since 2026-01-01T00:00:00Z (reload) 100 requests/s 3 in flight 7 connections",
            "",
            "ROUTE REQ/S 5XX IN FLIGHT P50 MS P99 MS",
            "shop 100 25 % 3 10.0 19.8",
            "",
            "ENDPOINT REQ/S SHARE IN FLIGHT STATE WHY",
            "shop, round_robin, 1 available",
            "web-1 75 75 % 1 up status 200",
            "web-2 25 25 % 1 down refused",
        ];
        assert_eq!(lines, expected, "{page}");
        let [heading, first] = [5, 7].map(|line| page.lines().nth(line).unwrap());
        assert_eq!(heading.find("  STATE"), first.find("  up"), "{page}");
    }

    #[test]
    fn metrics_that_are_read_exist() {
        for name in [REQUESTS, IN_FLIGHT, DURATION, CONNECTIONS, ATTEMPTS] {
            assert!(waypost::telemetry::metrics::definitions().any(|one| one.name == name), "{name}");
        }
    }

    #[test]
    fn nothing_that_has_happened_is_shown_as_nothing() {
        let at = Instant::now();
        let page = page(&look(NOW, at), &look(NOW, at + Duration::from_secs(1)));
        assert!(page.contains("shop                             0       -         3         -         -"), "{page}");
    }
}
