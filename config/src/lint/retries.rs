//! `[services.*.retry]`: retries that never happen.
//!
//! Every endpoint gets a request once; the last one that is left a second time, over a new connection, when the kept one
//! has come to its end. What was not sent costs no budget.

use super::{Lint, Linter, Remark};
use crate::Service;
use crate::place::Place;
use crate::service::Retry;
use crate::value::RetryOn;

impl Linter<'_> {
    pub(super) fn retries(&mut self) {
        let config = self.config;
        for (name, service) in &config.services {
            if service.retry.max_attempts > 1 {
                let place = Place::root().keys(&["services", name, "retry"]);
                self.attempts(&place, service);
                self.budget(&place.key("budget"), &service.retry);
            }
        }
        self.request_timeouts();
    }

    /// What is only a default is meant for services of every size.
    fn attempts(&mut self, place: &Place, service: &Service) {
        let Retry { max_attempts, on, .. } = &service.retry;
        let count = service.endpoints.len();
        let (attempts, reasons) = (place.key("max_attempts"), place.key("on"));
        let wanted = self.is_written(&attempts);
        if on.is_empty() && wanted {
            let message = "nothing is worth another attempt, so there is only the first".to_owned();
            let hint = "leave `on` out, or write max_attempts = 1".to_owned();
            self.remark(Lint::RetryNeverFits, &reasons, (message, hint));
        } else if count == 1 && !on.is_empty() && !on.contains(&RetryOn::Reset) {
            let message = "the service has one endpoint, which is asked again after a \"reset\" only".to_owned();
            let hint = "add \"reset\" to `on`, or another endpoint, or write max_attempts = 1".to_owned();
            self.remark(Lint::RetryNeverFits, &reasons, (message, hint));
        } else if wanted && *max_attempts as usize > count + 1 {
            let message =
                format!("no request is sent {max_attempts} times: each endpoint gets it once, the last one twice");
            let hint = format!("write {} or less, or add endpoints", count + 1);
            self.remark(Lint::RetryNeverFits, &attempts, (message, hint));
        }
    }

    fn budget(&mut self, place: &Place, retry: &Retry) {
        let needs = |on: &RetryOn| matches!(on, RetryOn::Timeout | RetryOn::Status(_));
        let broke = retry.budget.ratio.0 <= 0.0 && retry.budget.min_per_second == 0;
        if let Some(needy) = retry.on.iter().find(|on| needs(on)).filter(|_| broke) {
            let message =
                format!("with a budget of nothing no request is sent twice, so \"{needy}\" is never repeated");
            let hint = "write a ratio above \"0%\"; for what was not sent, on = [\"connect_failure\", \"reset\"] does";
            self.remark(Lint::RetryNeverFits, place, (message, hint.to_owned()));
        }
    }

    /// When the time of the whole is over, an attempt that has taken all of it is not followed by another.
    fn request_timeouts(&mut self) {
        let config = self.config;
        for (name, route) in &config.routes {
            let (Some(whole), Some(service)) = (route.timeouts.request, config.services.get(&route.service)) else {
                continue;
            };
            let attempt = service.timeouts.response;
            let retry = &service.retry;
            let repeats = retry.max_attempts > 1 && service.endpoints.len() > 1 && retry.on.contains(&RetryOn::Timeout);
            if !repeats || attempt < whole {
                continue;
            }
            let remark = Remark {
                lint: Lint::RetryNeverFits,
                place: Place::root().keys(&["routes", name, "timeouts", "request"]),
                message: format!("one attempt may take {attempt}, so a \"timeout\" is the end of the request"),
                hint: format!(
                    "write a timeouts.response below {whole} in [services.{}], or a longer time here",
                    route.service
                ),
                related: None,
            };
            let other = Place::root().keys(&["services", &route.service, "timeouts", "response"]);
            self.remark_with(remark, (other, "of one attempt"));
        }
    }
}
