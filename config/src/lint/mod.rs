//! What is doubtful in a configuration that may be put to work: it does what it says, and that is hardly what was meant.
//!
//! Decides what is warned of, each under the name of a [`Lint`]. A lint speaks only when it is certain: what it says
//! follows from the file, whatever requests come. Never refuses anything; that is the affair of `validate`.

mod listeners;
mod retries;
mod routes;
mod secrets;
mod services;
mod shadow;

use std::fmt;

use serde::{Serialize, Serializer};

use crate::document::{Document, Part};
use crate::place::Place;
use crate::problem::{Complaint, Find, Problems};
use crate::{Config, Listener, Route};

/// Nobody reads more, and each is kept while the configuration serves.
const MOST_WARNINGS: usize = 100;

/// What can be warned of. Its name is part of the contract: it stands in logs and in the admin API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lint {
    /// A route that is never taken, because another one goes first and holds whenever it does.
    ShadowedRoute,
    /// A route whose listeners redirect every request before a route is asked.
    RouteBehindRedirect,
    /// A listener that no route applies to.
    ListenerWithoutRoute,
    /// A middleware that no route names.
    UnusedMiddleware,
    /// A service that no route leads to.
    UnusedService,
    /// A listener that believes the forwarded headers of every peer.
    TrustsEverybody,
    /// A secret written in the file itself.
    PlainTextSecret,
    /// A sticky cookie that browsers do not keep, because it is set in plain text.
    StickyInsecure,
    /// A retry that never happens.
    RetryNeverFits,
    /// A backup that never gets a request, or that stands in for nobody.
    UnreachableBackup,
    /// `on_all_down = "open"` where no endpoint is ever down.
    OpenWithoutHealthCheck,
    /// A certificate at the end of its validity.
    CertificateExpires,
    /// A host of a route that no certificate of its listener covers.
    CertificateNames,
}

impl Lint {
    /// All there are, in the order of the documentation.
    pub const ALL: [Lint; 13] = [
        Lint::ShadowedRoute,
        Lint::RouteBehindRedirect,
        Lint::ListenerWithoutRoute,
        Lint::UnusedMiddleware,
        Lint::UnusedService,
        Lint::TrustsEverybody,
        Lint::PlainTextSecret,
        Lint::StickyInsecure,
        Lint::RetryNeverFits,
        Lint::UnreachableBackup,
        Lint::OpenWithoutHealthCheck,
        Lint::CertificateExpires,
        Lint::CertificateNames,
    ];

    /// Its name, for example `shadowed_route`.
    pub fn name(self) -> &'static str {
        match self {
            Lint::ShadowedRoute => "shadowed_route",
            Lint::RouteBehindRedirect => "route_behind_redirect",
            Lint::ListenerWithoutRoute => "listener_without_route",
            Lint::UnusedMiddleware => "unused_middleware",
            Lint::UnusedService => "unused_service",
            Lint::TrustsEverybody => "trusts_everybody",
            Lint::PlainTextSecret => "plain_text_secret",
            Lint::StickyInsecure => "sticky_insecure",
            Lint::RetryNeverFits => "retry_never_fits",
            Lint::UnreachableBackup => "unreachable_backup",
            Lint::OpenWithoutHealthCheck => "open_without_health_check",
            Lint::CertificateExpires => "certificate_expires",
            Lint::CertificateNames => "certificate_names",
        }
    }
}

impl fmt::Display for Lint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl Serialize for Lint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A warning before its place is looked up in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// Which lint it is of.
    pub lint: Lint,
    /// What it is about.
    pub place: Place,
    /// Why, in lower case, without a period.
    pub message: String,
    /// What to write instead.
    pub hint: String,
    /// Another place that has to do with it, and how.
    pub related: Option<(Place, String)>,
}

/// All that the file alone gives reason to warn of. Secrets in its text are not drawn: warnings are shown where a
/// configuration is in order, in pipelines for example, that keep what they print.
pub(crate) fn warnings(name: &str, text: &str, (config, document): (&Config, &Document<'_>)) -> Problems {
    let mut linter = Linter { config, document, remarks: Vec::new() };
    linter.routes();
    linter.listeners();
    linter.services();
    linter.retries();
    let exposed = secrets::in_plain_text(text, document);
    linter.secrets(&exposed);
    let finds = placed(linter.remarks, document);
    Problems::new(name, &secrets::masked(text, &exposed), finds)
}

/// The text as it may be drawn.
pub(crate) fn without_secrets(text: &str, document: &Document<'_>) -> String {
    secrets::masked(text, &secrets::in_plain_text(text, document))
}

impl Problems {
    /// These warnings and further ones, of somebody who knows more than the file says.
    #[must_use]
    pub fn and(&self, remarks: Vec<Remark>) -> Problems {
        if remarks.is_empty() {
            return self.clone();
        }
        let finds = placed(remarks, &Document::again(self.text()));
        self.clone().with(finds)
    }
}

fn placed(remarks: Vec<Remark>, document: &Document<'_>) -> Vec<Find> {
    let mut finds: Vec<Find> = remarks.into_iter().filter_map(|remark| remark.find(document)).collect();
    finds.sort_by_key(|find| find.span.start);
    finds.truncate(MOST_WARNINGS);
    finds
}

impl Remark {
    fn find(self, document: &Document<'_>) -> Option<Find> {
        let Remark { lint, place, message, hint, related } = self;
        let complaint = Complaint::new(message).hint(hint);
        let related = related.and_then(|(other, label)| Some((document.span(&other, part(&other))?, label)));
        let find = document.complain(&place, part(&place), complaint)?;
        Some(Find { related, lint: Some(lint), ..find })
    }
}

/// What stands right in a table of the file is pointed at by its name, everything below by its value.
fn part(place: &Place) -> Part {
    if place.steps().len() == 2 { Part::Key } else { Part::Value }
}

/// The remarks so far, and what to look at.
struct Linter<'a> {
    config: &'a Config,
    document: &'a Document<'a>,
    remarks: Vec<Remark>,
}

impl Linter<'_> {
    fn remark(&mut self, lint: Lint, place: &Place, (message, hint): (String, String)) {
        self.remarks.push(Remark { lint, place: place.clone(), message, hint, related: None });
    }

    /// A remark that has to do with another place, too.
    fn remark_with(&mut self, remark: Remark, (other, label): (Place, &str)) {
        self.remarks.push(Remark { related: Some((other, label.to_owned())), ..remark });
    }

    /// Whether the file says it, and not only its defaults.
    fn is_written(&self, place: &Place) -> bool {
        self.document.span(place, Part::Value).is_some()
    }
}

/// The listeners on which a request can come to the route, with their places in the file's order. One that redirects
/// answers before any route is asked.
fn asked<'a>(config: &'a Config, route: &'a Route) -> impl Iterator<Item = (usize, (&'a String, &'a Listener))> {
    let listeners = config.listeners.iter().enumerate();
    listeners.filter(|(_, (name, listener))| route.is_on(name) && !listener.redirect_https)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const LEAST: &str = "version = 1\nlisteners.web.address = '127.0.0.1:0'\nroutes.all.service = 'app'\n\
                         [services.app]\nendpoints = [{ name = 'app-1', url = 'http://127.0.0.1:9001' }]\n";

    fn warned(text: &str) -> Problems {
        crate::parse(text, Path::new("waypost.toml"), &|_| None)
            .unwrap_or_else(|problems| panic!("{problems}"))
            .warnings
    }

    #[test]
    fn every_lint_has_a_name_of_its_own() {
        let mut names = Lint::ALL.map(Lint::name).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Lint::ALL.len());
        assert_eq!(serde_json::to_value(Lint::ShadowedRoute).unwrap(), "shadowed_route");
    }

    #[test]
    fn the_least_configuration_is_not_warned_of() {
        assert!(warned(LEAST).is_empty());
    }

    #[test]
    fn what_others_know_is_drawn_at_its_place() {
        let remark = Remark {
            lint: Lint::CertificateExpires,
            place: Place::root().keys(&["services", "app", "endpoints"]).index(0).key("url"),
            message: "no good".to_owned(),
            hint: "do better".to_owned(),
            related: None,
        };
        let both =
            warned(&LEAST.replace(
                "version = 1",
                "version = 1\nservices.idle = { endpoints = [{ name = 'i', url = 'http://i' }] }",
            ))
            .and(vec![remark]);
        let lints: Vec<_> = both.iter().map(|problem| (problem.line, problem.lint.unwrap())).collect();
        assert_eq!(lints, [(2, Lint::UnusedService), (6, Lint::CertificateExpires)]);
        assert_eq!(both.iter().next_back().unwrap().path, "services.app.endpoints[0].url");
    }

    #[test]
    fn a_template_gone_wrong_is_told_a_hundred_times() {
        let idle =
            |number: usize| format!("services.s-{number} = {{ endpoints = [{{ name = 'i', url = 'http://i' }}] }}");
        let idle = (0..1_000).map(idle).collect::<Vec<_>>().join("\n");
        assert_eq!(warned(&LEAST.replace("version = 1", &format!("version = 1\n{idle}"))).len(), MOST_WARNINGS);
    }
}
