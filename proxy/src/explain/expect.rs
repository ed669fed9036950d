//! Does a generation do what its file expects of it (`[[tests]]`)?
//!
//! Compares; what becomes of a request is explained next door. Whether endpoints are available plays no part: a test that
//! holds in the morning holds at night.

use waypost_config::test::Broken;
use waypost_config::{Place, Test};

use super::{Explanation, Question, ReplyTold, explain};
use crate::snapshot::Snapshot;

/// Every expectation that does not hold, in file order.
pub fn broken(snapshot: &Snapshot) -> Vec<Broken> {
    let tests = snapshot.config.tests.iter().enumerate();
    tests.flat_map(|(index, test)| broken_of(snapshot, index, test)).collect()
}

fn broken_of(snapshot: &Snapshot, index: usize, test: &Test) -> Vec<Broken> {
    match explain(snapshot, &question(test)) {
        Ok(told) => Bench { index, test, told }.run(),
        Err(unclear) => {
            vec![Broken { place: place(index).key("request"), message: unclear.to_string(), hint: None }]
        }
    }
}

fn question(test: &Test) -> Question {
    let (method, url) = test.method_and_url();
    let nobody = Question::default();
    Question {
        method: method.to_owned(),
        url: url.to_owned(),
        headers: test.headers.iter().map(|(name, value)| (name.to_string(), value.clone())).collect(),
        client: test.client.unwrap_or(nobody.client),
        listener: test.listener.clone(),
        sni: None,
    }
}

/// Where a test stands in the file.
fn place(index: usize) -> Place {
    Place::root().key("tests").index(index)
}

/// One test, and what is so.
struct Bench<'a> {
    index: usize,
    test: &'a Test,
    told: Explanation,
}

impl Bench<'_> {
    fn run(&self) -> Vec<Broken> {
        let expect = &self.test.expect;
        let reply = self.reply();
        let status = reply.map(|reply| reply.status.to_string());
        let target = self.told.upstream.as_ref().map(|upstream| upstream.target.as_str());
        let single = [
            self.compare("route", expect.route.as_deref(), self.told.route().map(|route| route.name.as_str())),
            self.compare("service", expect.service.as_deref(), self.told.service.as_ref().map(|one| one.name.as_str())),
            self.compare("status", expect.status.map(|status| status.to_string()).as_deref(), status.as_deref()),
            self.compare("reason", expect.reason.as_deref(), reply.map(|reply| reply.reason.as_str())),
            self.compare("location", expect.location.as_deref(), reply.and_then(|reply| reply.location.as_deref())),
            self.compare("target", expect.target.as_deref(), target),
        ];
        single.into_iter().flatten().chain(self.fields()).collect()
    }

    /// What Waypost answers before it looks for an endpoint.
    fn reply(&self) -> Option<&ReplyTold> {
        self.told.reply.as_ref().filter(|_| self.told.service.is_none())
    }

    fn fields(&self) -> impl Iterator<Item = Broken> {
        let sent = |name: &str| {
            let lines = self.told.upstream.iter().flat_map(|upstream| &upstream.headers);
            let values: Vec<_> = lines.filter(|line| line.0 == name).map(|line| line.1.as_str()).collect();
            (!values.is_empty()).then(|| values.join(", "))
        };
        let fields = self.test.expect.headers.iter();
        fields.filter_map(move |(name, value)| {
            let broken = self.compare("headers", Some(value), sent(name.as_str()).as_deref())?;
            Some(Broken { place: broken.place.key(name.as_str()), ..broken })
        })
    }

    /// Nothing at all is `""`.
    fn compare(&self, key: &str, expected: Option<&str>, found: Option<&str>) -> Option<Broken> {
        let expected = expected.filter(|expected| *expected != found.unwrap_or_default())?;
        let quoted = |text: &str| if text.is_empty() { "none".to_owned() } else { format!("`{text}`") };
        let message = format!("expected {}, it is {}", quoted(expected), quoted(found.unwrap_or_default()));
        let place = place(self.index).keys(&["expect", key]);
        Some(Broken { place, message, hint: self.why(key, expected) })
    }

    /// Why the expected route is not taken, or else why there is an answer at all.
    fn why(&self, key: &str, expected: &str) -> Option<String> {
        let routes = &self.told.routes;
        let route = routes.iter().find(|route| key == "route" && route.name == expected && !route.taken);
        let told = route.map(|route| format!("`{}` does not take it: {}", route.name, route.why));
        let answered =
            || self.reply().map(|reply| format!("the answer is {} {}: {}", reply.status, reply.reason, reply.detail));
        told.or_else(answered)
    }
}
