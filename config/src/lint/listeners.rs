//! `[listeners.*]`: who is believed there, and whether anything is served.

use super::{Lint, Linter, asked};
use crate::Listener;
use crate::place::Place;

impl Linter<'_> {
    pub(super) fn listeners(&mut self) {
        let config = self.config;
        let mut served = vec![false; config.listeners.len()];
        for (index, _) in config.routes.values().flat_map(|route| asked(config, route)) {
            served[index] = true;
        }
        for ((name, listener), served) in config.listeners.iter().zip(served) {
            let place = Place::root().keys(&["listeners", name]);
            if !served && !listener.redirect_https {
                let message = "no route applies here, so every request is answered with 404".to_owned();
                let hint = format!("add \"{name}\" to the `listeners` of a route, or take the listener out");
                self.remark(Lint::ListenerWithoutRoute, &place, (message, hint));
            }
            self.trust(&place.key("trusted_proxies"), listener);
        }
    }

    /// On loopback everybody is this machine.
    fn trust(&mut self, place: &Place, listener: &Listener) {
        if listener.address.ip().is_loopback() {
            return;
        }
        for (index, network) in listener.trusted_proxies.iter().enumerate() {
            if network.0.prefix_len() == 0 {
                let message = "this is everybody: whoever connects may claim any client address, scheme and host";
                let hint = "name the networks of the proxies before this one, for example \"10.0.0.0/8\"";
                self.remark(Lint::TrustsEverybody, &place.index(index), (message.to_owned(), hint.to_owned()));
            }
        }
    }
}
