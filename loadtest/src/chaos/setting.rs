//! A config of Waypost made up from a seed: always valid, and such that a request need not fail while one endpoint could
//! answer it.
//!
//! That takes as many attempts as there are endpoints, a budget for all of them, and a limit for the whole request that
//! leaves room for each.

use std::fmt::Write as _;
use std::time::Duration;

use fastrand::Rng;

/// Probes may be this much later than they are due, on a busy machine.
const LATE: Duration = Duration::from_millis(300);

/// A config in so many words.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The fleet.
    pub endpoints: Vec<Share>,
    /// How pins are kept.
    pub sticky: Sticky,
    balancer: &'static str,
    protocol: &'static str,
    workers: usize,
    probe: Probe,
    connect: Duration,
    response: Duration,
    backoff: Duration,
    max_idle: usize,
}

/// One endpoint.
#[derive(Debug, Clone)]
pub struct Share {
    /// Its name.
    pub name: String,
    weight: u32,
    drain: bool,
}

/// How pins are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sticky {
    /// Not at all.
    None,
    /// By cookie.
    Cookie,
    /// By the client's address.
    ClientIp,
}

#[derive(Debug, Clone, Copy)]
struct Probe {
    interval: Duration,
    timeout: Duration,
    rise: u32,
    fall: u32,
}

/// What only those know who start the proxy.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// `[server]` keys beside the workers, a line each.
    pub server: &'a str,
}

impl Setting {
    /// Any config; with quick probes for a trial of seconds.
    pub fn random(rng: &mut Rng, names: &[String], quick: bool) -> Setting {
        let millis = |rng: &mut Rng, from: u64, to: u64| Duration::from_millis(rng.u64(from..=to));
        let share = |rng: &mut Rng, name: &String| Share { name: name.clone(), weight: rng.u32(1..4), drain: false };
        let interval = if quick { millis(rng, 200, 300) } else { millis(rng, 200, 1000) };
        let probe = Probe {
            interval,
            timeout: millis(rng, 200, 500).min(interval),
            rise: if quick { 1 } else { rng.u32(1..=2) },
            // One late answer to a probe, on a busy machine, shall not take out the only sound endpoint.
            fall: rng.u32(2..=3),
        };
        Setting {
            endpoints: names.iter().map(|name| share(rng, name)).collect(),
            sticky: [Sticky::None, Sticky::Cookie, Sticky::ClientIp, Sticky::Cookie][rng.usize(..4)],
            balancer: ["round_robin", "least_request", "random", "hash"][rng.usize(..4)],
            protocol: ["auto", "http1", "h2c"][rng.usize(..3)],
            workers: rng.usize(1..=3),
            probe,
            connect: millis(rng, 300, 600),
            response: millis(rng, 400, 700),
            backoff: millis(rng, 1, 25),
            max_idle: [1, 4, 256][rng.usize(..3)],
        }
    }

    /// Other weights, other timeouts; and, if one can be spared, now and then an endpoint that drains.
    #[must_use]
    pub fn changed(&self, rng: &mut Rng, spare: Option<usize>) -> Setting {
        let mut changed = self.clone();
        for share in &mut changed.endpoints {
            (share.weight, share.drain) = (rng.u32(1..4), false);
        }
        if let Some(index) = spare.filter(|_| rng.bool()) {
            changed.endpoints[index].drain = true;
        }
        changed.response = Duration::from_millis(rng.u64(400..=700));
        changed.max_idle = [1, 4, 256][rng.usize(..3)];
        changed
    }

    /// How long after its recovery an endpoint is surely known to be well, and nothing of its fault goes on.
    pub fn settle(&self) -> Duration {
        self.probe.interval.mul_f64(1.1) * self.probe.rise + self.probe.timeout.mul_f64(1.2) + LATE
    }

    /// Whether clients are kept on their endpoint.
    pub fn pins(&self) -> bool {
        self.sticky != Sticky::None
    }

    /// The endpoint that takes no new clients.
    pub fn drained(&self) -> Option<&str> {
        self.endpoints.iter().find(|share| share.drain).map(|share| share.name.as_str())
    }

    /// The file. `address` gives an endpoint's `host:port`.
    pub fn toml(&self, address: impl Fn(&str) -> String, surroundings: Surroundings<'_>) -> String {
        let Setting { balancer, protocol, workers, probe, connect, response, backoff, max_idle, .. } = self;
        let attempts = self.endpoints.len();
        let sticky = match self.sticky {
            Sticky::None => "",
            Sticky::Cookie => "sticky = { cookie = \"lb\", secrets = [\"a secret of thirty-two characters\"] }\n",
            Sticky::ClientIp => "sticky = { client_ip = \"1h\" }\n",
        };
        let mut endpoints = String::new();
        for Share { name, weight, drain } in &self.endpoints {
            let drain = if *drain { ", drain = true" } else { "" };
            let url = address(name);
            // Writing to a string cannot fail.
            let _ = writeln!(endpoints, "  {{ name = \"{name}\", url = \"http://{url}\", weight = {weight}{drain} }},");
        }
        format!(
            r#"version = 1

[server]
workers = {workers}
{server}
[admin]
address = "127.0.0.1:0"

[telemetry]
access_log = {{ path = "access.log" }}

[listeners.web]
address = "127.0.0.1:0"

[routes.all]
service = "shop"
timeouts = {{ request = "30s" }}

[services.shop]
balancer = "{balancer}"
protocol = "{protocol}"
{sticky}timeouts = {{ connect = "{connect}", response = "{response}", idle = "2s" }}
pool = {{ max_idle = {max_idle}, idle_timeout = "1s" }}
endpoints = [
{endpoints}]

[services.shop.health_check]
path = "/health"
interval = "{interval}"
timeout = "{timeout}"
rise = {rise}
fall = {fall}

[services.shop.retry]
max_attempts = {attempts}
backoff = {{ base = "{backoff}", max = "100ms" }}
budget = {{ ratio = "100%", min_per_second = 10000 }}
"#,
            server = surroundings.server,
            connect = millis(*connect),
            response = millis(*response),
            backoff = millis(*backoff),
            interval = millis(probe.interval),
            timeout = millis(probe.timeout),
            rise = probe.rise,
            fall = probe.fall,
        )
    }
}

fn millis(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_makes_a_valid_config() {
        let names = ["web-1", "web-2", "web-3", "web-4"].map(str::to_owned);
        for seed in 0..100 {
            let mut rng = Rng::with_seed(seed);
            let mut setting = Setting::random(&mut rng, &names, seed % 2 == 0);
            for _ in 0..5 {
                let text = setting.toml(|_| "127.0.0.1:9001".to_owned(), Surroundings { server: "" });
                let folder = tempfile::tempdir().unwrap();
                let file = folder.path().join("waypost.toml");
                std::fs::write(&file, &text).unwrap();
                waypost_config::load(&file).unwrap_or_else(|problems| panic!("seed {seed}: {problems:?}\n{text}"));
                setting = setting.changed(&mut rng, Some(1));
            }
        }
    }
}
