//! How many retries does this service bear?
//!
//! Retries help while a few requests fail and hurt when all do. So they may be a share of the requests of the last ten
//! seconds; on top of it a few each second are always allowed, or a quiet service could never retry. Depositing, once
//! a request, is one atomic addition; withdrawing, once a retry, takes a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use waypost_config::service::Budget;

/// The window: the current second and the nine before.
const WINDOW: usize = 10;

/// The retry budget of one service. Time is given as the time since any fixed moment, the same for all calls.
#[derive(Debug)]
pub struct RetryBudget {
    /// For each second of the window: its number in the upper half, its requests in the lower.
    requests: [AtomicU64; WINDOW],
    retries: Mutex<Retries>,
}

#[derive(Debug)]
struct Retries {
    config: Budget,
    seconds: [Second; WINDOW],
}

/// Retries within one second.
#[derive(Debug, Clone, Copy, Default)]
struct Second {
    number: u32,
    /// Under `min_per_second`.
    free: u32,
    /// Out of the share of requests.
    paid: u32,
}

impl RetryBudget {
    /// A budget that has seen no request.
    pub fn new(config: &Budget) -> RetryBudget {
        let retries = Retries { config: config.clone(), seconds: [Second::default(); WINDOW] };
        RetryBudget { requests: Default::default(), retries: Mutex::new(retries) }
    }

    /// Applies another config; what was deposited and withdrawn stays.
    pub fn reconfigure(&self, config: &Budget) {
        self.retries.lock().config = config.clone();
    }

    /// Counts a request (not its retries).
    pub fn deposit(&self, now: Duration) {
        let second = second(now);
        let requests = &self.requests[slot(second)];
        // Relaxed throughout: each counter stands alone, and a request counted a moment late changes nothing.
        let mut counter = requests.load(Ordering::Relaxed);
        while second > number(counter) {
            let fresh = u64::from(second) << 32 | 1;
            match requests.compare_exchange_weak(counter, fresh, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(current) => counter = current,
            }
        }
        requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a retry may be made now; if so, it is counted.
    pub fn withdraw(&self, now: Duration) -> bool {
        let second = second(now);
        let requests = self.requests(second);
        self.retries.lock().withdraw(second, requests)
    }

    fn requests(&self, second: u32) -> u64 {
        let counters = self.requests.iter().map(|requests| requests.load(Ordering::Relaxed));
        counters.filter(|counter| is_within(number(*counter), second)).map(count).sum()
    }
}

impl Retries {
    fn withdraw(&mut self, second: u32, requests: u64) -> bool {
        let past = self.seconds.iter().filter(|past| is_within(past.number, second));
        let paid: u32 = past.map(|past| past.paid).sum();
        let current = &mut self.seconds[slot(second)];
        if current.number < second {
            *current = Second { number: second, ..Second::default() };
        }
        if current.free < self.config.min_per_second {
            current.free += 1;
            return true;
        }
        let allowed = f64::from(paid) < (self.config.ratio.0 * requests as f64).floor();
        current.paid += u32::from(allowed);
        allowed
    }
}

/// Counted from 1, so that an untouched counter, of second 0, is over.
fn second(now: Duration) -> u32 {
    u32::try_from(now.as_secs()).unwrap_or(u32::MAX).saturating_add(1)
}

fn slot(second: u32) -> usize {
    second as usize % WINDOW
}

fn is_within(number: u32, second: u32) -> bool {
    number != 0 && number as usize + WINDOW > second as usize
}

fn number(counter: u64) -> u32 {
    (counter >> 32) as u32
}

fn count(counter: u64) -> u64 {
    counter & u64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;
    use waypost_config::value::Percent;

    use super::*;

    fn config(percent: u32, min_per_second: u32) -> Budget {
        Budget { ratio: Percent(f64::from(percent) / 100.0), min_per_second }
    }

    fn withdrawn(budget: &RetryBudget, tries: usize, at: u64) -> usize {
        (0..tries).filter(|_| budget.withdraw(Duration::from_secs(at))).count()
    }

    fn deposited(budget: &RetryBudget, requests: usize, at: u64) {
        (0..requests).for_each(|_| budget.deposit(Duration::from_secs(at)));
    }

    #[test]
    fn quiet_service_may_retry_a_few_times_each_second() {
        let budget = RetryBudget::new(&config(20, 3));
        assert_eq!([withdrawn(&budget, 9, 0), withdrawn(&budget, 9, 0), withdrawn(&budget, 9, 1)], [3, 0, 3]);
    }

    #[test]
    fn busy_service_may_retry_its_share_of_ten_seconds() {
        let budget = RetryBudget::new(&config(20, 0));
        deposited(&budget, 100, 5);
        assert_eq!([withdrawn(&budget, 15, 5), withdrawn(&budget, 15, 14)], [15, 5]);
        assert_eq!(withdrawn(&budget, 15, 15), 0, "the requests are too long ago");
    }

    #[test]
    fn no_ratio_and_no_minimum_means_no_retry() {
        let budget = RetryBudget::new(&config(0, 0));
        deposited(&budget, 100, 0);
        assert_eq!(withdrawn(&budget, 10, 0), 0);
    }

    #[test]
    fn other_config_keeps_what_was_counted() {
        let budget = RetryBudget::new(&config(10, 0));
        deposited(&budget, 100, 0);
        assert_eq!(withdrawn(&budget, 100, 0), 10);
        budget.reconfigure(&config(50, 0));
        assert_eq!(withdrawn(&budget, 100, 0), 40);
    }

    #[test]
    fn no_deposit_is_lost_under_concurrency() {
        let budget = RetryBudget::new(&config(100, 0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| deposited(&budget, 1000, 0));
            }
        });
        assert_eq!(withdrawn(&budget, 5000, 0), 4000);
    }

    /// The same rule over plain lists of the seconds in which something happened.
    #[derive(Default)]
    struct Model {
        requests: Vec<u64>,
        paid: Vec<u64>,
        free: Vec<u64>,
    }

    impl Model {
        fn withdraw(&mut self, config: &Budget, now: u64) -> bool {
            let recent = |seconds: &[u64]| seconds.iter().filter(|second| **second + 10 > now).count();
            let free = self.free.iter().filter(|second| **second == now).count();
            if free < config.min_per_second as usize {
                self.free.push(now);
                return true;
            }
            let allowed = (recent(&self.paid) + 1) as f64 <= config.ratio.0 * recent(&self.requests) as f64;
            self.paid.extend(allowed.then_some(now));
            allowed
        }
    }

    proptest! {
        #[test]
        fn budget_agrees_with_the_model(
            percent in prop_oneof![Just(0_u32), Just(25), Just(50), Just(100)],
            min_per_second in 0_u32..4,
            steps in prop::collection::vec((0_u64..40, 0_usize..20, 0_usize..8), 1..60),
        ) {
            let config = config(percent, min_per_second);
            let (budget, mut model, mut now) = (RetryBudget::new(&config), Model::default(), 0);
            for (pause, requests, retries) in steps {
                // Mostly the same second or the next, sometimes far beyond the window.
                now += pause.saturating_sub(25);
                deposited(&budget, requests, now);
                model.requests.extend(vec![now; requests]);
                for _ in 0..retries {
                    prop_assert_eq!(budget.withdraw(Duration::from_secs(now)), model.withdraw(&config, now));
                }
            }
        }
    }
}
