//! `[server]`, `[admin]` and `[telemetry.access_log]`.

use super::Checker;
use crate::place::Place;
use crate::problem::Complaint;
use crate::server::Admin;
use crate::telemetry::AccessLogPath;

impl Checker<'_> {
    pub(super) fn server(&mut self) {
        let config = self.config;
        let server = &config.server;
        if server.drain_delay > server.grace_period {
            let complaint = Complaint::new("the delay before the drain is longer than the whole grace period");
            let place = Place::root().keys(&["server", "drain_delay"]);
            self.value(&place, complaint.hint(format!("at most grace_period = \"{}\"", server.grace_period)));
        }
        if let Some(guard) = &server.guard {
            let place = Place::root().keys(&["server", "guard"]);
            self.not_zero(&place.key("window"), guard.window);
            if guard.min_requests == 0 {
                let none = Complaint::new("no request at all says nothing");
                self.value(&place.key("min_requests"), none.hint("write 1 or more"));
            }
        }
        if let Some(admin) = &config.admin {
            self.admin(admin);
        }
        let access_log = config.telemetry.access_log.as_ref();
        if access_log.is_some_and(|log| log.path == AccessLogPath::File("".into())) {
            let complaint = Complaint::new("an empty file name").hint("write \"stdout\", \"stderr\" or a file's name");
            self.value(&Place::root().keys(&["telemetry", "access_log", "path"]), complaint);
        }
    }

    fn admin(&mut self, admin: &Admin) {
        let address = Place::root().keys(&["admin", "address"]);
        let token = Place::root().keys(&["admin", "token"]);
        match &admin.token {
            None if !admin.address.ip().is_loopback() => {
                let open = Complaint::new("an admin address that others can reach needs a token");
                let hint = "add token = \"${file:/run/secrets/admin}\", or listen on 127.0.0.1";
                self.value(&address, open.hint(hint));
            }
            None => {}
            Some(secret) => self.secret(&token, secret.reveal()),
        }
        let same = |(_, listener): &(&String, &crate::Listener)| listener.address == admin.address;
        if let Some((name, _)) = self.config.listeners.iter().find(same).filter(|_| admin.address.port() != 0) {
            let other = Place::root().keys(&["listeners", name, "address"]);
            let repeated = Complaint::new(format!("the listener `{name}` has this address already"));
            self.against(&address, repeated.hint("admin needs a port of its own"), (&other, "here"));
        }
    }
}
