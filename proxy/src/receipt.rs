//! A receipt: what was done with a request, in the head of its response, for trusted clients that ask for it.
//!
//! Owns the field's name and form. What was done, the exchange knows; the access log says the same for everybody.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::context::RequestContext;
use crate::telemetry::access_log::Attempt;

/// `1` in a request asks for it; in the response it is a dictionary (RFC 9651):
/// `route="shop", service="shop", attempts=("web-1";outcome=connect_failed;ms=0.312 "web-2";outcome=response;ms=2.100)`.
pub const TRACE: HeaderName = HeaderName::from_static("x-waypost-trace");

/// Whether the client wants one and may have it. What it asked with goes no further.
pub fn wanted(headers: &mut HeaderMap, context: &RequestContext) -> bool {
    context.trusted && headers.remove(TRACE).is_some_and(|value| value == "1")
}

/// The field. Without a route there are no names, without an attempt an empty list.
pub fn written(names: Option<(&str, &str)>, attempts: &[Attempt]) -> HeaderValue {
    let names = names.map(|(route, service)| format!("route=\"{route}\", service=\"{service}\", "));
    let attempt = |Attempt { endpoint, outcome, elapsed }: &Attempt| {
        format!("\"{endpoint}\";outcome={outcome};ms={:.3}", 1000.0 * elapsed.as_secs_f64())
    };
    let attempts: Vec<_> = attempts.iter().map(attempt).collect();
    let text = format!("{}attempts=({})", names.unwrap_or_default(), attempts.join(" "));
    HeaderValue::try_from(text).expect("names in a config are letters, digits and a few signs")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn receipt_is_a_dictionary() {
        let attempt = |endpoint: &str, outcome, micros| Attempt {
            endpoint: endpoint.into(),
            outcome,
            elapsed: Duration::from_micros(micros),
        };
        let attempts = [attempt("web-1", "connect_failed", 312), attempt("web-2", "response", 2_100)];
        let expected = "route=\"shop\", service=\"all\", \
                        attempts=(\"web-1\";outcome=connect_failed;ms=0.312 \"web-2\";outcome=response;ms=2.100)";
        assert_eq!(written(Some(("shop", "all")), &attempts), expected);
        assert_eq!(written(None, &[]), "attempts=()");
    }
}
