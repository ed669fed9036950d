//! Which request was executed how often, and where: the book in which a doubled POST shows.
//!
//! Owns the counts by request key. A key is whatever the client sent as `Idempotency-Key` or `x-request-key`; requests
//! without a key are not booked.

use std::collections::HashMap;

use http::{HeaderMap, HeaderName, header};
use parking_lot::Mutex;

/// Tells the proxy that a request may be repeated.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Names a request for the book alone: the proxy learns nothing from it.
pub(crate) const REQUEST_KEY: HeaderName = HeaderName::from_static("x-request-key");

/// Executions by key, then by container.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    executions: Mutex<HashMap<String, Vec<u64>>>,
}

impl Ledger {
    /// Books one execution of `key` by the container with this index.
    pub(crate) fn record(&self, key: &str, container: usize) {
        let mut executions = self.executions.lock();
        let counts = executions.entry(key.to_owned()).or_default();
        if counts.len() <= container {
            counts.resize(container + 1, 0);
        }
        counts[container] += 1;
    }

    pub(crate) fn executions(&self, key: &str) -> u64 {
        self.executions.lock().get(key).map_or(0, |counts| counts.iter().sum())
    }

    pub(crate) fn executions_by(&self, key: &str, container: usize) -> u64 {
        self.executions.lock().get(key).and_then(|counts| counts.get(container).copied()).unwrap_or(0)
    }

    /// All keys with their executions, in the order of the keys.
    pub(crate) fn all(&self) -> Vec<(String, u64)> {
        let mut all: Vec<_> =
            self.executions.lock().iter().map(|(key, counts)| (key.clone(), counts.iter().sum())).collect();
        all.sort();
        all
    }

    pub(crate) fn doubled(&self) -> Vec<(String, u64)> {
        self.all().into_iter().filter(|&(_, count)| count > 1).collect()
    }

    pub(crate) fn clear(&self) {
        self.executions.lock().clear();
    }
}

/// The key under which a request is booked, if it carries one.
pub(crate) fn key_of(headers: &HeaderMap) -> Option<&str> {
    headers.get(IDEMPOTENCY_KEY).or_else(|| headers.get(REQUEST_KEY)).and_then(|key| key.to_str().ok())
}

/// Whether the request says how long its body is, or that it has one.
pub(crate) fn announces_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executions_add_up_over_containers() {
        let ledger = Ledger::default();
        ledger.record("a", 2);
        ledger.record("a", 0);
        ledger.record("b", 1);
        assert_eq!(ledger.executions("a"), 2);
        assert_eq!(ledger.executions_by("a", 2), 1);
        assert_eq!(ledger.executions_by("a", 1), 0);
        assert_eq!(ledger.doubled(), [("a".to_owned(), 2)]);
        ledger.clear();
        assert_eq!(ledger.all(), []);
    }
}
