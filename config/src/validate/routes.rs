//! `[routes.*]`.

use super::Checker;
use crate::Route;
use crate::place::Place;
use crate::problem::Complaint;

impl Checker<'_> {
    pub(super) fn routes(&mut self) {
        let config = self.config;
        self.names("routes", &config.routes);
        for (name, route) in &config.routes {
            let place = Place::root().keys(&["routes", name]);
            self.references(&place, route);
            self.paths(&place, route);
            if let Some(request) = route.timeouts.request {
                self.not_zero(&place.keys(&["timeouts", "request"]), request);
            }
        }
    }

    fn references(&mut self, place: &Place, route: &Route) {
        let config = self.config;
        for (index, name) in route.listeners.iter().enumerate() {
            self.reference(&place.key("listeners").index(index), name, ("listeners", &config.listeners));
        }
        for (index, name) in route.middlewares.iter().enumerate() {
            self.reference(&place.key("middlewares").index(index), name, ("middlewares", &config.middlewares));
        }
        self.reference(&place.key("service"), &route.service, ("services", &config.services));
    }

    fn paths(&mut self, place: &Place, route: &Route) {
        let given = [
            ("path", route.path.is_some()),
            ("path_prefix", route.path_prefix.is_some()),
            ("path_regex", route.path_regex.is_some()),
        ];
        let given: Vec<&str> = given.into_iter().filter(|(_, is_given)| *is_given).map(|(key, _)| key).collect();
        if let [first, .., last] = given[..] {
            let complaint = Complaint::new(format!("a route has one condition on the path, here are {}", given.len()));
            let hint = "choose one; for either of two paths write two routes, or one path_regex";
            self.against(&place.key(last), complaint.hint(hint), (&place.key(first), "and here"));
        }
        for (key, path) in [("path", &route.path), ("path_prefix", &route.path_prefix)] {
            if let Some(path) = path {
                self.path(&place.key(key), path);
            }
        }
        if route.path_regex.as_ref().is_some_and(|regex| regex.anchored().is_err()) {
            let complaint = Complaint::new("the expression can't be held against the whole path");
            self.value(
                &place.key("path_regex"),
                complaint.hint("leave out the comment at its end, or make it shorter"),
            );
        }
    }
}
