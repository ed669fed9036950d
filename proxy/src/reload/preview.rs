//! What a reload would change, found out without changing anything.
//!
//! Owns the words for what it would mean to those who are connected now. What is different is the reload's own list.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use waypost_config::Config;
use waypost_config::value::Duration;

use crate::snapshot::Snapshot;
use crate::upstream::{Endpoint, Service};

/// What a reload would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// What is different, one phrase each, as a reload says it; empty when nothing is.
    pub changes: Vec<String>,
    /// What that means to clients and endpoints that are connected now, one phrase each.
    pub touched: Vec<String>,
    /// How many of the file's own tests have passed: all it has, or there would be no preview.
    pub tests: usize,
}

/// What is known of the generation that serves.
pub(super) struct Now<'a> {
    pub(super) snapshot: &'a Snapshot,
    /// Client connections of each listener.
    pub(super) inside: HashMap<Arc<str>, usize>,
}

impl Now<'_> {
    /// What the next generation means to those who are connected.
    pub(super) fn touched(&self, next: &Snapshot) -> Vec<String> {
        let listeners = self.listeners(next);
        listeners.chain(self.services(next)).collect()
    }

    fn listeners(&self, next: &Snapshot) -> impl Iterator<Item = String> {
        let (old, new) = (&self.snapshot.config.listeners, &next.config.listeners);
        let opened = new.iter().filter(|(name, _)| !old.contains_key(*name));
        let opened = opened.map(|(name, listener)| format!("listener {name} opens {}", listener.address));
        let kept = old.keys().filter_map(|name| self.listener(name, next));
        opened.chain(kept)
    }

    fn listener(&self, name: &str, next: &Snapshot) -> Option<String> {
        let before = &self.snapshot.config.listeners[name];
        let Some(after) = next.config.listeners.get(name) else {
            return Some(format!("listener {name} closes {}: {}", before.address, self.leaving(name)));
        };
        if before.address != after.address {
            let (from, to) = (before.address, after.address);
            return Some(format!("listener {name} moves from {from} to {to}: {}", self.leaving(name)));
        }
        let tls = before.tls != after.tls;
        tls.then(|| format!("listener {name} shows new connections other certificates or TLS settings"))
    }

    fn leaving(&self, name: &str) -> String {
        let count = self.inside.get(name).copied().unwrap_or_default();
        format!("{count} connections end when their requests do, WebSockets {}", grace(&self.snapshot.config))
    }

    fn services(&self, next: &Snapshot) -> impl Iterator<Item = String> {
        let services = self.snapshot.services.values();
        services.flat_map(|service| self.service(service, next.services.get(&service.name)))
    }

    fn service(&self, before: &Service, after: Option<&Arc<Service>>) -> Vec<String> {
        let endpoints = before.endpoints.iter().filter_map(|endpoint| self.endpoint(endpoint, after));
        let pinned =
            after.filter(|after| before.config.sticky.is_some() && after.config.sticky != before.config.sticky);
        let pinned = pinned.map(|_| format!("service {}: clients may be pinned anew", before.name));
        endpoints.chain(pinned).collect()
    }

    fn endpoint(&self, before: &Endpoint, after: Option<&Arc<Service>>) -> Option<String> {
        let what = format!("service {}, endpoint {}", before.service, before.name);
        let load = before.load();
        // The same name at another URL is another endpoint.
        match after.and_then(|service| service.endpoint(&before.name)).filter(|now| now.config.url == before.config.url)
        {
            None => Some(format!("{what} leaves: {load} in flight go on, WebSockets {}", grace(&self.snapshot.config))),
            Some(now) if now.config.drain && !before.config.drain => {
                Some(format!("{what} drains: {load} in flight go on, and clients that are pinned to it stay"))
            }
            Some(_) => None,
        }
    }
}

fn grace(config: &Config) -> String {
    let Duration(grace) = config.server.grace_period;
    format!("{} at the latest", humantime::format_duration(grace))
}
