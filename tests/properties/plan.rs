//! What a history's config is: drawn from the seed, changed by reloads, told to both the code and the model.

use std::time::Duration;

use fastrand::Rng;
use waypost_config::service::{
    Backoff, Balancer, Budget, CircuitBreaker, Endpoint, HealthCheck, OnAllDown, Outlier, Retry, ServiceTimeouts,
    Sticky, StickyClientIp, StickyCookie,
};
use waypost_config::value::{Percent, RetryOn};
use waypost_config::{Config, value};

/// The time of a route that has a limit.
const WHOLE: Duration = Duration::from_millis(900);

const ALL_BALANCERS: [Balancer; 4] = [Balancer::RoundRobin, Balancer::LeastRequest, Balancer::Random, Balancer::Hash];

const ALL_REASONS: [RetryOn; 6] = [
    RetryOn::ConnectFailure,
    RetryOn::Reset,
    RetryOn::Timeout,
    RetryOn::Status(500),
    RetryOn::Status(502),
    RetryOn::Status(503),
];

/// A config of one listener, one route and one service, `shop`.
pub(crate) fn draw(rng: &mut Rng) -> Config {
    let text = "version = 1\nlisteners.web.address = '127.0.0.1:8080'\nroutes.all.service = 'shop'\n\
                services.shop.endpoints = [{ name = 'a', url = 'http://127.0.0.1:1' }]\n";
    let mut config = waypost_config::parse(text, "waypost.toml".as_ref(), &|_| None).expect("it is valid").config;
    let service = &mut config.services["shop"];
    service.balancer = *rng.choice(&ALL_BALANCERS).expect("not empty");
    // Round robin promises most.
    if rng.bool() {
        service.balancer = Balancer::RoundRobin;
    }
    service.sticky = sticky(rng);
    service.endpoints = (0..rng.usize(1..6)).map(|index| endpoint(rng, index)).collect();
    service.timeouts = ServiceTimeouts { response: value::Duration::millis(300), ..ServiceTimeouts::default() };
    let (rise, fall) = (rng.u32(1..3), rng.u32(1..3));
    service.health_check = Some(HealthCheck { rise, fall, ..HealthCheck::default() });
    vary(&mut config, rng);
    config
}

fn sticky(rng: &mut Rng) -> Option<Sticky> {
    match rng.u8(..6) {
        0 => Some(Sticky::ClientIp(StickyClientIp { client_ip: value::Duration::seconds(20) })),
        1 => Some(Sticky::Cookie(StickyCookie {
            cookie: "lb".to_owned(),
            secrets: Vec::new(),
            max_idle: value::Duration::seconds(3600),
            max_age: value::Duration::seconds(7200),
            same_site: waypost_config::service::SameSite::Lax,
            path: "/".to_owned(),
            domain: None,
        })),
        _ => None,
    }
}

fn endpoint(rng: &mut Rng, index: usize) -> Endpoint {
    let name = format!("web-{index}");
    let url = format!("http://127.0.0.1:{}", 9000 + index).parse().expect("a URL");
    let mut endpoint = Endpoint { name, url, weight: 1, backup: false, drain: false, max_in_flight: None };
    vary_endpoint(&mut endpoint, rng);
    endpoint
}

fn vary_endpoint(endpoint: &mut Endpoint, rng: &mut Rng) {
    endpoint.weight = if rng.bool() { 1 } else { rng.u32(..6) };
    endpoint.backup = rng.u8(..6) == 0;
    endpoint.drain = rng.u8(..12) == 0;
    endpoint.max_in_flight = (rng.u8(..5) == 0).then(|| rng.usize(1..4));
}

/// What may differ from one generation to the next.
fn vary(config: &mut Config, rng: &mut Rng) {
    config.routes["all"].timeouts.request = (rng.u8(..4) == 0).then_some(value::Duration(WHOLE));
    let service = &mut config.services["shop"];
    service.max_in_flight = (rng.u8(..6) == 0).then(|| rng.usize(1..8));
    service.on_all_down = if rng.bool() { OnAllDown::Closed } else { OnAllDown::Open };
    let eject_for = value::Duration::seconds(rng.u64(1..6));
    service.outlier = rng.bool().then(|| Outlier { consecutive: rng.u32(1..4), eject_for });
    service.circuit_breaker = (rng.u8(..3) == 0).then(|| CircuitBreaker {
        failure_ratio: Percent(f64::from(rng.u8(1..4)) / 4.0),
        min_requests: rng.u32(1..6),
        open_for: value::Duration::seconds(rng.u64(1..6)),
    });
    service.slow_start = (rng.u8(..4) == 0).then(|| value::Duration::seconds(5));
    service.retry = Retry {
        max_attempts: rng.u32(1..5),
        on: ALL_REASONS.into_iter().filter(|_| rng.u8(..4) > 0).collect(),
        backoff: Backoff { base: value::Duration::millis(25), max: value::Duration::millis(60) },
        budget: Budget { ratio: Percent(f64::from(rng.u8(..5)) / 4.0), min_per_second: rng.u32(..3) },
        ..Retry::default()
    };
}

/// The next generation.
pub(crate) fn reload(config: &Config, rng: &mut Rng) -> Config {
    let mut config = config.clone();
    if rng.u8(..3) == 0 {
        vary(&mut config, rng);
    }
    let endpoints = &mut config.services["shop"].endpoints;
    match rng.u8(..4) {
        0 if endpoints.len() > 1 => drop(endpoints.remove(rng.usize(..endpoints.len()))),
        1 => {
            let free = (0..8).find(|index| endpoints.iter().all(|other| other.name != format!("web-{index}")));
            endpoints.extend(free.map(|index| endpoint(rng, index)));
        }
        _ => {
            let changed = rng.usize(..endpoints.len());
            vary_endpoint(&mut endpoints[changed], rng);
        }
    }
    config
}
