//! One endpoint: what the config says of it, and what has been seen of it.
//!
//! Owns the live state ([`Live`]) that outlives a reload: requests in flight, health, standing, the drain mark of an
//! operator. Says what changes of it to the log and the metrics. Never chooses and never connects.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use waypost_config::service as config;

use super::connect::Target;
use super::health::circuit_breaker::{Circuit, Pass};
use super::health::{Health, State};
use super::pool::Pool;
use super::standing::{Change, Rules, Standing};
use crate::telemetry::metrics::{self, EndpointMetrics};

/// One endpoint in one generation: unchanging settings around living state.
#[derive(Debug)]
pub struct Endpoint {
    /// Its identity within the service.
    pub name: Arc<str>,
    /// The service's name.
    pub service: Arc<str>,
    /// What is held against it.
    pub rules: Arc<Rules>,
    /// What the file says of it.
    pub config: config::Endpoint,
    /// How to reach it.
    pub target: Target,
    /// What has been seen of it.
    pub live: Arc<Live>,
    /// Its idle connections.
    pub pool: Arc<Pool>,
}

/// The state of an endpoint that a reload does not touch.
#[derive(Debug)]
pub struct Live {
    /// Requests in flight.
    pub load: Arc<AtomicUsize>,
    /// What its probes say.
    pub health: Arc<Health>,
    /// What its requests say.
    pub standing: Standing,
    /// Set and cleared by an operator; kept until cleared.
    pub drained: AtomicBool,
    /// Asks for an early probe.
    pub suspect: Arc<Notify>,
    /// Cancelled when the endpoint was removed and its drain time is over.
    pub removed: CancellationToken,
    /// Its figures.
    pub metrics: Arc<EndpointMetrics>,
}

impl Endpoint {
    /// Takes no new clients, by the file or by an operator.
    pub fn is_draining(&self) -> bool {
        // A mark set by an operator: whether one request more or less sees it does not matter.
        self.config.drain || self.live.drained.load(Ordering::Relaxed)
    }

    /// Requests in flight.
    pub fn load(&self) -> usize {
        self.live.load.load(Ordering::Relaxed)
    }

    /// Has as many requests in flight as it may.
    pub fn is_full(&self) -> bool {
        self.config.max_in_flight.is_some_and(|max| self.load() >= max)
    }

    /// Whether its circuit lets a request pass.
    pub fn is_connected(&self) -> bool {
        self.live.standing.is_connected(&self.rules)
    }

    /// Whether a request goes to it while another endpoint could have it, too: it is not ejected, and it is its turn
    /// while its share still grows.
    pub fn is_willing(&self) -> bool {
        !self.is_ejected() && self.live.standing.is_warm(&self.rules, fastrand::f64)
    }

    /// Gets no requests while another endpoint could have them, because it has failed too many.
    pub fn is_ejected(&self) -> bool {
        self.live.standing.returns().into_iter().for_each(|change| self.say(change));
        self.live.standing.is_ejected(&self.rules)
    }

    /// What its circuit does with requests.
    pub fn circuit(&self) -> Circuit {
        self.live.standing.circuit()
    }

    /// How a request may pass; `None` if another one has just taken the circuit's trial.
    pub fn pass(&self) -> Option<Pass> {
        self.live.standing.pass(&self.rules)
    }

    /// The head of a good response came.
    pub fn answered(&self, pass: Pass) {
        self.live.standing.answered(pass, &self.rules).into_iter().for_each(|change| self.say(change));
    }

    /// A request failed, and not by the client's doing.
    pub fn failed(&self, pass: Pass) {
        self.live.standing.failed(pass, &self.rules).into_iter().flatten().for_each(|change| self.say(change));
    }

    /// One log line and one metric.
    #[cold]
    fn say(&self, change: Change) {
        let Endpoint { name, service, live, .. } = self;
        match change {
            Change::Ejected(length) => {
                live.metrics.ejected(true);
                tracing::info!(%service, endpoint = %name, seconds = length.as_secs_f64(), "endpoint ejected");
            }
            Change::Returned => {
                live.metrics.ejected(false);
                tracing::info!(%service, endpoint = %name, "endpoint's ejection is over");
            }
            Change::Circuit(circuit) => {
                live.metrics.circuit(circuit.as_str());
                tracing::info!(%service, endpoint = %name, circuit = circuit.as_str(), "endpoint's circuit");
            }
        }
    }

    /// What its probes say.
    pub fn state(&self) -> State {
        self.live.health.state()
    }

    /// Brings the metrics of health and drain up to date.
    pub fn show(&self) {
        let health = match self.state() {
            State::Checking => metrics::Health::Checking,
            State::Up => metrics::Health::Up,
            State::Down => metrics::Health::Down,
        };
        self.live.metrics.health(health);
        self.live.metrics.draining.set(i64::from(self.is_draining()));
    }

    /// Counts a request in. Exactly one [`leave`](Endpoint::leave) must follow.
    pub fn enter(&self) {
        // The count informs choices and metrics; no memory is published through it.
        self.live.load.fetch_add(1, Ordering::Relaxed);
        self.live.metrics.in_flight.inc();
    }

    /// Counts a request out.
    pub fn leave(&self) {
        self.live.load.fetch_sub(1, Ordering::Relaxed);
        self.live.metrics.in_flight.dec();
    }

    /// An attempt failed in a way that a probe should look into now.
    pub fn suspect(&self) {
        self.live.suspect.notify_one();
    }
}
