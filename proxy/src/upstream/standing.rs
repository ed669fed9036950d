//! What the requests of an endpoint have done to its standing: ejected, cut off, or not yet warm.
//!
//! Owns that state, which outlives a reload, and says how a request may pass. What the rules are is the file's affair,
//! and who is asked instead the service's. Beside [`super::health`], which knows probes only.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use waypost_config::service as config;

use super::health::circuit_breaker::{Circuit, CircuitBreaker, Pass};
use super::health::outlier::Outlier;

/// What the file says of a service's endpoints in this.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// When an endpoint is ejected; absent means never.
    pub outlier: Option<config::Outlier>,
    /// When nothing is sent to it; absent means never.
    pub circuit_breaker: Option<config::CircuitBreaker>,
    /// How long its share grows after it has returned.
    pub slow_start: Option<Duration>,
}

impl Rules {
    /// The part of a service's config that they are.
    pub fn of(service: &config::Service) -> Arc<Rules> {
        Arc::new(Rules {
            outlier: service.outlier.clone(),
            circuit_breaker: service.circuit_breaker.clone(),
            slow_start: service.slow_start.map(|duration| duration.0),
        })
    }
}

/// The standing of one endpoint.
#[derive(Debug)]
pub struct Standing {
    epoch: Instant,
    outlier: Outlier,
    breaker: CircuitBreaker,
    /// Milliseconds since `epoch`: when it returned, or 0 if that is long ago.
    returned: AtomicU64,
}

/// A change that an operator wants to hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It gets no requests for so long.
    Ejected(Duration),
    /// Its ejection is over.
    Returned,
    /// Its circuit is in another state.
    Circuit(Circuit),
}

/// The share that a returning endpoint begins with.
const FIRST_SHARE: f64 = 0.1;

impl Default for Standing {
    fn default() -> Standing {
        let now = clock();
        Standing {
            epoch: now,
            outlier: Outlier::new(now),
            breaker: CircuitBreaker::new(now),
            returned: AtomicU64::new(0),
        }
    }
}

/// tokio's clock, which tests pause; it runs outside of a runtime, too.
pub(crate) fn clock() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Standing {
    /// Whether its circuit lets a request pass.
    pub fn is_connected(&self, rules: &Rules) -> bool {
        rules.circuit_breaker.as_ref().is_none_or(|rule| self.breaker.would_pass(rule, clock))
    }

    /// Whether it gets no requests while another endpoint could have them.
    pub fn is_ejected(&self, rules: &Rules) -> bool {
        rules.outlier.is_some() && self.outlier.is_ejected(clock)
    }

    /// What its circuit does with requests.
    pub fn circuit(&self) -> Circuit {
        self.breaker.circuit()
    }

    /// Whether it is its turn, by the share it has while it warms up. `chance` is between 0 and 1.
    pub fn is_warm(&self, rules: &Rules, chance: impl FnOnce() -> f64) -> bool {
        // Relaxed here and below: it informs choices and publishes nothing.
        let returned = self.returned.load(Ordering::Relaxed);
        let (Some(whole), true) = (rules.slow_start, returned > 0) else { return true };
        let warmed = Duration::from_millis(self.millis(clock()).saturating_sub(returned));
        if warmed >= whole {
            self.returned.store(0, Ordering::Relaxed);
            return true;
        }
        chance() < (warmed.as_secs_f64() / whole.as_secs_f64()).max(FIRST_SHARE)
    }

    /// Its share begins to grow.
    pub fn warm_up(&self) {
        self.returned.store(self.millis(clock()).max(1), Ordering::Relaxed);
    }

    /// How a request may pass; `None` if another one has just taken the circuit's trial.
    pub fn pass(&self, rules: &Rules) -> Option<Pass> {
        match &rules.circuit_breaker {
            None => Some(Pass::Free),
            Some(rule) => self.breaker.pass(rule, clock),
        }
    }

    /// A request that had passed came to nothing that could be counted.
    pub fn abandoned(&self, pass: Pass) {
        if pass == Pass::Trial {
            self.breaker.abandoned(pass);
        }
    }

    /// The head of a good response came. Whether its body will is not known yet.
    pub fn answered(&self, pass: Pass, rules: &Rules) -> Option<Change> {
        let change = self.breaker.count((pass, false), rules.circuit_breaker.as_ref()?, clock())?;
        self.warm_up();
        Some(Change::Circuit(change))
    }

    /// A good response has come to its end.
    pub fn delivered(&self) {
        self.outlier.succeeded();
    }

    /// A request failed.
    pub fn failed(&self, pass: Pass, rules: &Rules) -> [Option<Change>; 2] {
        let cut = rules.circuit_breaker.as_ref().and_then(|rule| self.breaker.count((pass, true), rule, clock()));
        let out = rules.outlier.as_ref().and_then(|rule| self.outlier.failed(rule, clock()));
        [cut.map(Change::Circuit), out.map(Change::Ejected)]
    }

    /// Ends an ejection whose time is over. One caller hears of it.
    pub fn returns(&self) -> Option<Change> {
        self.outlier.ends(clock).then(|| {
            self.warm_up();
            Change::Returned
        })
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rules() -> Rules {
        let outlier = config::Outlier { consecutive: 2, eject_for: waypost_config::value::Duration::seconds(10) };
        Rules { outlier: Some(outlier), circuit_breaker: None, slow_start: Some(10 * SECOND) }
    }

    #[tokio::test(start_paused = true)]
    async fn its_share_grows_from_a_tenth_to_the_whole() {
        let (standing, rules) = (Standing::default(), rules());
        let warm = |chance: f64| standing.is_warm(&rules, || chance);
        assert!(warm(1.0), "nobody has left");
        tokio::time::advance(SECOND).await;
        standing.warm_up();
        assert!(warm(0.09) && !warm(0.11));
        tokio::time::advance(5 * SECOND).await;
        assert!(warm(0.49) && !warm(0.51));
        tokio::time::advance(5 * SECOND).await;
        assert!(warm(1.0));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_returns_is_not_warm() {
        let (standing, rules) = (Standing::default(), rules());
        assert_eq!(standing.failed(Pass::Free, &rules), [None, None]);
        assert_eq!(standing.failed(Pass::Free, &rules), [None, Some(Change::Ejected(10 * SECOND))]);
        assert!(standing.is_ejected(&rules) && standing.returns().is_none());
        tokio::time::advance(10 * SECOND).await;
        assert!(!standing.is_ejected(&rules));
        assert_eq!(standing.returns(), Some(Change::Returned));
        assert!(!standing.is_warm(&rules, || 0.5));
    }

    #[tokio::test(start_paused = true)]
    async fn without_rules_nothing_is_held_against_it() {
        let (standing, none) = (Standing::default(), Rules::default());
        for _ in 0..100 {
            assert_eq!(standing.failed(Pass::Free, &none), [None, None]);
        }
        assert!(!standing.is_ejected(&none) && standing.is_connected(&none) && standing.is_warm(&none, || 1.0));
        assert_eq!(standing.pass(&none), Some(Pass::Free));
    }
}
