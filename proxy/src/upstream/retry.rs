//! May this failed attempt be followed by another, and after what wait?
//!
//! Decides by facts alone: what failed, whether anything was sent, whether the request may be done twice. Owns no
//! state and never sends.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use waypost_config::service::{Backoff, Retry};
use waypost_config::value::RetryOn;

use crate::reply::Cause;

/// What is to be decided about one failed attempt.
#[derive(Debug, Clone, Copy)]
pub struct Failed {
    /// What kind of failure, in the words of `retry.on`; `None` for what no retry can mend.
    pub on: Option<RetryOn>,
    /// Whether the endpoint may have begun to work on the request.
    pub sent: bool,
    /// Whether it may be nothing but a kept connection at its end.
    pub faded: bool,
}

/// What the request itself allows.
#[derive(Debug, Clone, Copy)]
pub struct Repeatable {
    /// Doing it twice is like doing it once.
    pub idempotent: bool,
    /// Its body, if it has one, can be sent from the first byte.
    pub body: bool,
    /// Its body, if it has one, is whole in the replay buffer or was never read.
    pub whole_body: bool,
}

/// Whether attempt number `attempt` (the first is 1) may be followed by another one.
pub fn allows(policy: &Retry, attempt: u32, failed: Failed, request: Repeatable) -> bool {
    let worth_it = failed.on.is_some_and(|on| policy.on.contains(&on));
    // RFC 9110 section 9.2.2: a client may repeat by itself only what is idempotent, or what was surely not processed.
    let safe = if failed.sent { request.idempotent && request.whole_body } else { request.body };
    attempt < policy.max_attempts && worth_it && safe
}

/// Idempotent by its method (RFC 9110 section 9.2.2), or because the client says so by naming the operation.
pub fn is_idempotent(method: &Method, headers: &HeaderMap) -> bool {
    method.is_idempotent() || headers.contains_key("idempotency-key")
}

/// A failure without a response, in the words of `retry.on`.
pub fn kind_of(cause: Cause) -> Option<RetryOn> {
    match cause {
        Cause::ConnectFailed => Some(RetryOn::ConnectFailure),
        Cause::UpstreamReset | Cause::UpstreamInvalid => Some(RetryOn::Reset),
        Cause::AttemptTimeout => Some(RetryOn::Timeout),
        _ => None,
    }
}

/// The status that a response's head stands for. A gRPC answer without messages carries its status there: 14,
/// "unavailable", is gRPC's 503.
pub fn status_of(status: StatusCode, headers: &HeaderMap) -> u16 {
    match headers.get("grpc-status") {
        Some(code) if code == "14" => 503,
        _ => status.as_u16(),
    }
}

/// What an attempt says about the endpoint, whether another may follow or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    Good,
    /// It failed the request.
    Bad,
}

impl Verdict {
    /// Of a response. 501 and 505 are about the request, whatever their class says.
    pub fn of_status(status: u16) -> Verdict {
        if (500..600).contains(&status) && !matches!(status, 501 | 505) { Verdict::Bad } else { Verdict::Good }
    }

    /// Of a failure without a response; `None` for what the client did, and for a time that all attempts share.
    pub fn of_failure(cause: Cause) -> Option<Verdict> {
        kind_of(cause).map(|_| Verdict::Bad)
    }
}

/// The label of retries for this reason.
pub fn token(on: RetryOn) -> &'static str {
    match on {
        RetryOn::ConnectFailure => "connect_failure",
        RetryOn::Reset => "reset",
        RetryOn::Timeout => "timeout",
        RetryOn::Status(502) => "502",
        RetryOn::Status(503) => "503",
        RetryOn::Status(504) => "504",
        RetryOn::Status(500..) => "5xx",
        RetryOn::Status(_) => "4xx",
    }
}

/// The wait before the attempt that follows attempt number `attempt`: full jitter, `chance` between 0 and 1.
pub fn backoff(policy: &Backoff, attempt: u32, chance: f64) -> Duration {
    let doubled = policy.base.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)));
    doubled.min(policy.max.0).mul_f64(chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: Repeatable = Repeatable { idempotent: true, body: true, whole_body: true };
    const POST: Repeatable = Repeatable { idempotent: false, body: true, whole_body: true };
    const LONG_PUT: Repeatable = Repeatable { idempotent: true, body: false, whole_body: false };

    const UNSENT: fn(RetryOn) -> Failed = |on| Failed { on: Some(on), sent: false, faded: false };
    const SENT: fn(RetryOn) -> Failed = |on| Failed { on: Some(on), sent: true, faded: false };

    #[track_caller]
    fn check(expected: bool, attempt: u32, failed: Failed, request: Repeatable) {
        assert_eq!(allows(&Retry::default(), attempt, failed, request), expected, "{failed:?} {request:?}");
    }

    #[test]
    fn what_was_not_sent_is_repeated_whatever_its_method() {
        check(true, 1, UNSENT(RetryOn::ConnectFailure), GET);
        check(true, 1, UNSENT(RetryOn::ConnectFailure), POST);
        check(false, 1, UNSENT(RetryOn::ConnectFailure), LONG_PUT);
    }

    #[test]
    fn what_was_sent_is_repeated_only_if_idempotent_and_whole() {
        check(true, 1, SENT(RetryOn::Reset), GET);
        check(false, 1, SENT(RetryOn::Reset), POST);
        check(false, 1, SENT(RetryOn::Reset), LONG_PUT);
        check(true, 1, SENT(RetryOn::Status(503)), GET);
        check(false, 1, SENT(RetryOn::Status(503)), POST);
    }

    #[test]
    fn what_is_not_listed_is_not_repeated() {
        check(false, 1, SENT(RetryOn::Status(500)), GET);
        check(false, 1, Failed { on: None, ..SENT(RetryOn::Reset) }, GET);
        check(false, 1, Failed { on: None, ..UNSENT(RetryOn::Reset) }, GET);
    }

    #[test]
    fn attempts_are_counted_with_the_first() {
        check(true, 2, SENT(RetryOn::Timeout), GET);
        check(false, 3, SENT(RetryOn::Timeout), GET);
    }

    #[test]
    fn idempotency_key_makes_a_post_repeatable() {
        let mut headers = HeaderMap::new();
        assert!(!is_idempotent(&Method::POST, &headers));
        headers.insert("idempotency-key", http::HeaderValue::from_static("4711"));
        assert!(is_idempotent(&Method::POST, &headers));
        assert!(is_idempotent(&Method::PUT, &HeaderMap::new()));
        assert!(!is_idempotent(&Method::PATCH, &HeaderMap::new()));
    }

    #[test]
    fn backoff_doubles_up_to_its_maximum_with_full_jitter() {
        let policy = Backoff::default();
        let longest = |attempt| backoff(&policy, attempt, 1.0).as_millis();
        assert_eq!([1, 2, 3, 4, 7, 100].map(longest), [25, 50, 100, 200, 1000, 1000]);
        assert_eq!(backoff(&policy, 3, 0.0), Duration::ZERO);
        assert_eq!(backoff(&policy, 3, 0.5).as_millis(), 50);
    }

    #[test]
    fn grpc_unavailable_in_the_head_counts_as_503() {
        let mut headers = HeaderMap::new();
        assert_eq!(status_of(StatusCode::OK, &headers), 200);
        headers.insert("grpc-status", http::HeaderValue::from_static("14"));
        assert_eq!(status_of(StatusCode::OK, &headers), 503);
    }
}
