//! `[listeners.*]`.

use super::Checker;
use crate::Listener;
use crate::listener::Tls;
use crate::place::Place;
use crate::problem::Complaint;
use crate::value::ByteSize;

/// hyper reads a request head into a buffer of at least this size.
const LEAST_HEADER_BYTES: ByteSize = ByteSize(8 * 1024);

impl Checker<'_> {
    pub(super) fn listeners(&mut self) {
        let config = self.config;
        self.names("listeners", &config.listeners);
        for (index, (name, listener)) in config.listeners.iter().enumerate() {
            let place = Place::root().keys(&["listeners", name]);
            self.address_is_free(&place.key("address"), index, listener);
            self.redirect_https(&place.key("redirect_https"), listener);
            self.limits(&place, listener);
            if let Some(tls) = &listener.tls {
                self.tls(&place.key("tls"), tls);
            }
        }
    }

    fn address_is_free(&mut self, place: &Place, index: usize, listener: &Listener) {
        let mut earlier = self.config.listeners.iter().take(index);
        let same = |(_, other): &(&String, &Listener)| other.address == listener.address;
        let Some((name, _)) = earlier.find(same).filter(|_| listener.address.port() != 0) else { return };
        let other = Place::root().keys(&["listeners", name, "address"]);
        let taken = Complaint::new(format!("the listener `{name}` has this address already"));
        self.against(place, taken.hint("one listener an address; routes can tell hosts apart"), (&other, "first here"));
    }

    fn redirect_https(&mut self, place: &Place, listener: &Listener) {
        if !listener.redirect_https {
            return;
        }
        if listener.tls.is_some() {
            let complaint = Complaint::new("a TLS listener can't redirect to TLS");
            self.value(place, complaint.hint("it belongs to the plain listener; leave it out here"));
        } else if !self.has_tls() {
            let complaint = Complaint::new("there is no TLS listener to redirect to");
            self.value(place, complaint.hint("add a listener with [listeners.NAME.tls], or leave this out"));
        }
    }

    /// Whether any listener speaks TLS, or was meant to.
    pub(super) fn has_tls(&self) -> bool {
        let meant = |name: &String| self.document.has_lost_key(&Place::root().keys(&["listeners", name]), "tls");
        if !self.document.lost_names(&Place::root().key("listeners")).is_empty() {
            return true;
        }
        let listeners = &self.config.listeners;
        listeners.iter().any(|(name, listener)| listener.tls.is_some() || meant(name))
    }

    fn limits(&mut self, place: &Place, listener: &Listener) {
        self.at_least_one(&place.key("max_connections"), listener.max_connections);
        let timeouts = &listener.timeouts;
        let pairs = [
            ("handshake", timeouts.handshake),
            ("header", timeouts.header),
            ("idle", timeouts.idle),
            ("body_idle", timeouts.body_idle),
        ];
        for (key, duration) in pairs {
            self.not_zero(&place.keys(&["timeouts", key]), duration);
        }
        let limits = &listener.limits;
        let limit = place.key("limits");
        if limits.header_bytes < LEAST_HEADER_BYTES {
            let complaint = Complaint::new(format!("{} is too little for a request head", limits.header_bytes));
            self.value(&limit.key("header_bytes"), complaint.hint(format!("write \"{LEAST_HEADER_BYTES}\" or more")));
        }
        self.at_least_one(&limit.key("headers"), limits.headers);
        self.at_least_one(&limit.key("uri_bytes"), usize::try_from(limits.uri_bytes.0).unwrap_or(usize::MAX));
        self.at_least_one(&limit.key("concurrent_streams"), limits.concurrent_streams as usize);
    }

    fn tls(&mut self, place: &Place, tls: &Tls) {
        let certificates = place.key("certificates");
        if tls.certificates.is_empty() {
            let none = Complaint::new("TLS needs a certificate");
            self.value(&certificates, none.hint("write certificates = [{ cert = \"site.pem\", key = \"site.key\" }]"));
        }
        for (index, pair) in tls.certificates.iter().enumerate() {
            let place = certificates.index(index);
            self.file(&place.key("cert"), &pair.cert);
            self.file(&place.key("key"), &pair.key);
        }
        if let Some(auth) = &tls.client_auth {
            self.file(&place.keys(&["client_auth", "ca"]), &auth.ca);
        }
    }
}
