//! What the admin API tells and does, read from the running process.
//!
//! Owns nothing: every answer is taken from the snapshot, the lifecycle or the reloader at the moment of the question.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use async_trait::async_trait;
use waypost_config::Lint;

use super::tasks::{Earlier, Order};
use super::{Process, listing};
use crate::admin::{
    AdminState, ConfigView, DrainOrder, EndpointView, GenerationView, ListenerView, NotFound, Phase, ProblemView,
    Proposal, RefusedView, ReloadRefused, ReloadReport, RouteView, ServiceView, StatusView,
};
use crate::drain;
use crate::explain::{self, Explanation, Question, Unclear};
use crate::reload::{Generation, Preview, Refusal, Report};
use crate::telemetry::events::Events;
use crate::telemetry::history::Told;
use crate::telemetry::timestamp::Timestamp;
use crate::upstream::{Endpoint, Service};

#[async_trait]
impl AdminState for Process {
    fn phase(&self) -> Phase {
        match self.shared.lifecycle.phase() {
            drain::Phase::Starting => Phase::Starting,
            drain::Phase::Running => Phase::Running,
            drain::Phase::Draining | drain::Phase::Stopped => Phase::Draining,
        }
    }

    fn ready(&self) -> Result<(), Vec<String>> {
        let snapshot = self.shared.snapshot.load();
        if !snapshot.config.admin.as_ref().is_some_and(|admin| admin.ready_needs_endpoints) {
            return Ok(());
        }
        let empty = snapshot.services.values().filter(|service| service.available_count() == 0);
        let reasons: Vec<_> =
            empty.map(|service| format!("service `{}` has no available endpoint", service.name)).collect();
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }

    fn metrics_text(&self) -> String {
        self.shared.metrics.encode()
    }

    fn status_view(&self) -> StatusView {
        let status = self.reloader.status();
        StatusView {
            version: env!("CARGO_PKG_VERSION"),
            phase: self.phase(),
            reasons: self.ready().err().unwrap_or_default(),
            generation: self.shared.snapshot.load().generation,
            loaded_at: Timestamp(status.published),
            checked_at: Timestamp(status.checked),
            refused_at: status.refused.map(|(at, _)| Timestamp(at)),
            events: self.logging.is_some(),
        }
    }

    fn history(&self, after: u64) -> Told {
        self.history.lock().after(after)
    }

    fn config_view(&self) -> ConfigView {
        let snapshot = self.shared.snapshot.load();
        let status = self.reloader.status();
        let refused =
            status.refused.map(|(at, refusal)| RefusedView { at: Timestamp(at), problems: problems(&refusal) });
        ConfigView {
            generation: snapshot.generation,
            loaded_at: Timestamp(status.published),
            path: Some(self.reloader.path().display().to_string()),
            text: snapshot.config.shown(),
            refused,
            warnings: self.reloader.warnings().iter().map(problem_view).collect(),
        }
    }

    fn listeners_view(&self) -> Vec<ListenerView> {
        listing::listeners(self)
    }

    fn routes_view(&self) -> Vec<RouteView> {
        listing::routes(&self.shared.snapshot.load())
    }

    fn services_view(&self) -> Vec<ServiceView> {
        self.shared.snapshot.load().services.values().map(service_view).collect()
    }

    fn explain(&self, question: &Question) -> Result<Explanation, Unclear> {
        explain::explain(&self.shared.snapshot.load(), question)
    }

    fn events(&self) -> Option<Events> {
        self.logging.as_ref().map(|logging| logging.events().clone())
    }

    async fn preview(&self, of: Proposal) -> Result<Preview, ReloadRefused> {
        let reloader = Arc::clone(&self.reloader);
        let preview = move || match of {
            Proposal::Text(text) => reloader.preview(&text),
            Proposal::Generation(number) => reloader.preview_rollback(number),
        };
        let preview = tokio::task::spawn_blocking(preview).await;
        let lost =
            |error: tokio::task::JoinError| vec![ProblemView { message: error.to_string(), ..ProblemView::default() }];
        let outcome = preview.map_err(lost).and_then(|preview| preview.map_err(|refusal| problems(&refusal)));
        outcome.map_err(|problems| ReloadRefused { problems })
    }

    async fn reload(&self) -> Result<ReloadReport, ReloadRefused> {
        self.ask(Order::default()).await.map(|report| reported(&report)).map_err(|refusal| refused(&refusal))
    }

    async fn rollback(&self, to: Option<u64>) -> Result<ReloadReport, ReloadRefused> {
        let order = Order { rollback: Some(to.map_or(Earlier::Last, Earlier::Number)), ..Order::default() };
        self.ask(order).await.map(|report| reported(&report)).map_err(|refusal| refused(&refusal))
    }

    fn generations(&self) -> Vec<GenerationView> {
        let view = |one: &Arc<Generation>| GenerationView {
            generation: one.number,
            published: Timestamp(one.published),
            origin: one.origin.to_string(),
            changes: one.changes.clone(),
        };
        self.reloader.generations().iter().map(view).collect()
    }

    fn drain(&self, service: &str, endpoint: &str, order: DrainOrder) -> Result<(), NotFound> {
        let snapshot = self.shared.snapshot.load();
        let service = snapshot.services.get(service).ok_or(NotFound::Service)?;
        let endpoint = service.endpoint(endpoint).ok_or(NotFound::Endpoint)?;
        endpoint.live.drained.store(order == DrainOrder::Drain, Ordering::Relaxed);
        endpoint.show();
        service.refresh();
        tracing::info!(service = %service.name, endpoint = %endpoint.name, ?order, "operator's order");
        Ok(())
    }
}

fn reported(report: &Report) -> ReloadReport {
    ReloadReport { generation: report.generation, changes: report.changes.clone() }
}

fn refused(refusal: &Refusal) -> ReloadRefused {
    ReloadRefused { problems: problems(refusal) }
}

/// The mistakes with their places, or the one reason without a place.
fn problems(refusal: &Refusal) -> Vec<ProblemView> {
    let placed: Vec<_> = refusal.problems().map(problem_view).collect();
    if placed.is_empty() {
        vec![ProblemView { message: refusal.to_string(), ..ProblemView::default() }]
    } else {
        placed
    }
}

fn problem_view(problem: &waypost_config::Problem) -> ProblemView {
    ProblemView {
        file: Some(problem.file.clone()),
        line: Some(problem.line),
        column: Some(problem.column),
        path: Some(problem.path.clone()),
        message: problem.message.clone(),
        hint: problem.hint.clone(),
        lint: problem.lint.map(Lint::name),
    }
}

fn service_view(service: &Arc<Service>) -> ServiceView {
    ServiceView {
        name: service.name.to_string(),
        balancer: service.config.balancer.name().to_owned(),
        available: service.available_count(),
        endpoints: service.endpoints.iter().map(|endpoint| endpoint_view(service, endpoint)).collect(),
    }
}

fn endpoint_view(service: &Service, endpoint: &Arc<Endpoint>) -> EndpointView {
    let status = endpoint.live.health.status();
    EndpointView {
        name: endpoint.name.to_string(),
        url: endpoint.target.url.to_string(),
        state: status.state.as_str(),
        why: status.why.to_string(),
        since: Timestamp(wall_clock(status.since)),
        weight: endpoint.config.weight,
        backup: endpoint.config.backup,
        draining: endpoint.is_draining(),
        available: service.is_available(endpoint) && endpoint.is_connected() && !endpoint.is_ejected(),
        ejected: endpoint.is_ejected(),
        circuit: endpoint.circuit().as_str(),
        in_flight: endpoint.load() as u64,
    }
}

fn wall_clock(moment: Instant) -> SystemTime {
    SystemTime::now() - moment.elapsed()
}
