//! The health checks that run: one task per endpoint that has one.
//!
//! Owns the tasks, keeps those whose endpoint and check are as before a reload, and tells the service when an
//! endpoint's state changes. Decides nothing about health.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use waypost_config::service::HealthCheck;

use crate::snapshot::Snapshot;
use crate::telemetry::metrics::EndpointMetrics;
use crate::upstream::health::probe::{Probe, ProbeFailure, Target, TargetTls};
use crate::upstream::health::{State, Transition, active};
use crate::upstream::{Endpoint, Service};
use crate::upstream::{connect, endpoint};

/// An endpoint that has not answered its first probe for so long is not waited for.
const KNOWN_WITHIN: Duration = Duration::from_secs(2);

/// The running checks.
#[derive(Debug, Default)]
pub(super) struct Monitors {
    running: Mutex<HashMap<Key, Monitor>>,
    /// Told of every change of state.
    changed: Arc<Notify>,
}

/// Service and endpoint.
type Key = (Arc<str>, Arc<str>);

/// Of the endpoint it keeps what outlives a reload, and how it was reached; not the rest of an old generation.
#[derive(Debug)]
struct Monitor {
    live: Arc<endpoint::Live>,
    target: connect::Target,
    check: HealthCheck,
    task: JoinHandle<()>,
}

impl Monitors {
    /// Starts and ends checks so that they are those of the published snapshot.
    pub(super) fn follow(&self, published: &Arc<ArcSwap<Snapshot>>) {
        let snapshot = published.load_full();
        let mut running = self.running.lock();
        let mut before = std::mem::take(&mut *running);
        let mut new = Vec::new();
        for (service, endpoint) in snapshot.endpoints() {
            let Some(check) = &service.config.health_check else { continue };
            let key = (Arc::clone(&service.name), Arc::clone(&endpoint.name));
            match before.remove(&key).filter(|monitor| monitor.fits(endpoint, check)) {
                Some(kept) => drop(running.insert(key, kept)),
                None => new.push((key, service, endpoint, check)),
            }
        }
        let crowd = new.len();
        for (key, service, endpoint, check) in new {
            running.insert(key, self.start((service, endpoint), (check, crowd), published));
        }
    }

    /// Of a crowd that is started together.
    fn start(
        &self,
        (service, endpoint): (&Service, &Endpoint),
        (check, crowd): (&HealthCheck, usize),
        published: &Arc<ArcSwap<Snapshot>>,
    ) -> Monitor {
        let live = Arc::clone(&endpoint.live);
        let probe = Counted { target: target(endpoint, check), metrics: Arc::clone(&live.metrics) };
        let (show, changed) = (changed(service, endpoint, published), Arc::clone(&self.changed));
        let told = move |transition| {
            show(transition);
            changed.notify_waiters();
        };
        let first = active::first_delay(check, live.health.state(), crowd);
        let (health, suspect) = (Arc::clone(&live.health), Arc::clone(&live.suspect));
        let task = tokio::spawn(async move {
            sleep(first).await;
            active::watch(probe, health, suspect, told).await;
        });
        Monitor { live, target: endpoint.target.clone(), check: check.clone(), task }
    }

    /// Waits until every endpoint has been probed once. Who serves before that knows only those whose answer came
    /// first, and has nowhere else to go when they fail.
    pub(super) async fn know_all(&self, published: &Arc<ArcSwap<Snapshot>>) {
        let checking = || published.load().endpoints().any(|(_, endpoint)| endpoint.state() == State::Checking);
        let known = async {
            loop {
                let mut changed = pin!(self.changed.notified());
                // Before the look, so that no change is lost between the look and the wait.
                changed.as_mut().enable();
                if !checking() {
                    return;
                }
                changed.await;
            }
        };
        if timeout(KNOWN_WITHIN, known).await.is_err() {
            tracing::info!("not every endpoint has answered its first probe");
        }
    }

    /// Ends all checks.
    pub(super) fn stop(&self) {
        self.running.lock().clear();
    }
}

impl Monitor {
    fn fits(&self, endpoint: &Endpoint, check: &HealthCheck) -> bool {
        let target = &self.target;
        let same_tls = match (&target.tls, &endpoint.target.tls) {
            (None, None) => true,
            (Some(old), Some(new)) => Arc::ptr_eq(&old.any, &new.any),
            _ => false,
        };
        let same_place = target.url == endpoint.target.url && target.protocol == endpoint.target.protocol && same_tls;
        Arc::ptr_eq(&self.live, &endpoint.live) && same_place && self.check == *check
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One log line, one metric, and a new available set, whenever the state changes.
fn changed(
    service: &Service,
    endpoint: &Endpoint,
    published: &Arc<ArcSwap<Snapshot>>,
) -> impl Fn(Transition) + Send + use<> {
    let (service, endpoint, published) = (Arc::clone(&service.name), Arc::clone(&endpoint.name), Arc::clone(published));
    move |Transition { from, to, why }| {
        if let Some(service) = published.load().services.get(&service) {
            if let Some(endpoint) = service.endpoint(&endpoint) {
                if (from, to) == (State::Down, State::Up) {
                    endpoint.live.standing.warm_up();
                }
                endpoint.show();
            }
            service.refresh();
        }
        tracing::info!(%service, %endpoint, %from, %to, %why, "endpoint health");
    }
}

fn target(endpoint: &Endpoint, check: &HealthCheck) -> Target {
    let tls = endpoint.target.tls.as_ref();
    Target {
        url: endpoint.target.url.clone(),
        tls: tls.map(|tls| TargetTls { config: Arc::clone(&tls.any), server_name: tls.server_name.clone() }),
        check: check.clone(),
        protocol: endpoint.target.protocol,
    }
}

/// A probe that is counted.
struct Counted {
    target: Target,
    metrics: Arc<EndpointMetrics>,
}

impl Probe for Counted {
    fn check(&self) -> &HealthCheck {
        &self.target.check
    }

    async fn probe(&self) -> Result<(), ProbeFailure> {
        // Whoever probes drops the future when time is up; the guard then counts what never came to an end.
        let mut verdict = Verdict { metrics: &self.metrics, result: "timed_out" };
        let result = self.target.probe().await;
        verdict.result = match &result {
            Ok(()) => "passed",
            Err(ProbeFailure::NotMade { .. }) => "not_made",
            Err(_) => "failed",
        };
        result
    }
}

struct Verdict<'a> {
    metrics: &'a EndpointMetrics,
    result: &'static str,
}

impl Drop for Verdict<'_> {
    fn drop(&mut self) {
        self.metrics.probed(self.result);
    }
}
