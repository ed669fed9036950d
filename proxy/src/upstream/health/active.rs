//! When is an endpoint probed?
//!
//! One probe at a time, one stream of probes per endpoint, jittered, so that neither many endpoints nor many instances
//! probe in step. A failed request may ask for a probe before its time. How to probe is [`super::probe`]'s.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use waypost_config::service::HealthCheck;

use super::probe::Probe;
use super::{Health, ProbeFailure, State, Transition};

/// The first probe of an endpoint that serves already comes within this.
const FIRST_WITHIN: Duration = Duration::from_secs(1);

/// The first probe of an endpoint that waits for it comes within this.
const FIRST_OF_CHECKING_WITHIN: Duration = Duration::from_millis(100);

/// Probes asked for are at least this far apart, or a tenth of the interval if that is longer.
const EARLY_APART: Duration = Duration::from_millis(100);

/// Probes for ever; the caller aborts it. `wake` asks for an early probe, after a failed request.
pub async fn watch(
    target: impl Probe,
    health: Arc<Health>,
    wake: Arc<Notify>,
    on_transition: impl Fn(Transition) + Send,
) {
    sleep(first_delay(target.check(), health.state())).await;
    loop {
        let began = Instant::now();
        let outcome = in_time(&target).await;
        if let Some(transition) = health.record(&outcome, Instant::now().into_std()) {
            on_transition(transition);
        }
        wait(target.check(), began, &wake).await;
    }
}

async fn in_time(target: &impl Probe) -> Result<(), ProbeFailure> {
    let limit = *target.check().timeout;
    timeout(limit, target.probe()).await.unwrap_or(Err(ProbeFailure::TimedOut { after: limit }))
}

fn first_delay(check: &HealthCheck, state: State) -> Duration {
    let within = if state == State::Checking { FIRST_OF_CHECKING_WITHIN } else { FIRST_WITHIN };
    within.min(*check.interval).mul_f64(fastrand::f64())
}

/// Until the next probe is due, counted from the beginning of the last one.
async fn wait(check: &HealthCheck, began: Instant, wake: &Notify) {
    let due = began + check.interval.mul_f64(0.9 + 0.2 * fastrand::f64());
    let early = began + EARLY_APART.max(*check.interval / 10);
    tokio::select! {
        () = sleep_until(due) => {}
        () = wake.notified() => sleep_until(early.min(due)).await,
    }
}
