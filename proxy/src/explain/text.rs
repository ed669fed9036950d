//! An explanation for people: one page, from the listener to the endpoint.

use std::fmt;

use super::{EndpointTold, Explanation, HOLDS, MiddlewareTold, ReplyTold, ServiceTold, UpstreamTold};

/// How many routes that were not taken are told: more than anybody reads.
const MOST_ROUTES: usize = 20;

/// Where the second column begins.
const COLUMN: usize = 12;

impl fmt::Display for Explanation {
    fn fmt(&self, page: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(page, "{}\n", self.request)?;
        line(page, "listener", &format!("{} ({})", self.listener, self.listener_why))?;
        line(page, "client", &format!("{} ({})", self.client, self.client_why))?;
        self.certificate.iter().try_for_each(|certificate| line(page, "certificate", certificate))?;
        self.routes(page)?;
        self.middlewares.iter().try_for_each(|middleware| middleware.write(page))?;
        self.service.iter().try_for_each(|service| service.write(page))?;
        self.upstream.iter().try_for_each(|upstream| upstream.write(page))?;
        match &self.reply {
            Some(reply) => reply.write(page),
            None => line(page, "answer", "the endpoint's own"),
        }
    }
}

impl Explanation {
    fn routes(&self, page: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.routes.is_empty() {
            return Ok(());
        }
        line(page, "route", self.route().map_or("none", |route| &route.name))?;
        let others = self.routes.iter().filter(|route| !route.taken);
        // Those that could have been it come first.
        let (near, far): (Vec<_>, Vec<_>) = others.partition(|route| route.why.starts_with(HOLDS));
        let told = near.iter().chain(&far).take(MOST_ROUTES);
        told.into_iter().try_for_each(|route| line(page, "", &format!("not {}: {}", route.name, route.why)))?;
        match (near.len() + far.len()).saturating_sub(MOST_ROUTES) {
            0 => Ok(()),
            more => line(page, "", &format!("nor {more} others; --json has all")),
        }
    }
}

impl MiddlewareTold {
    fn write(&self, page: &mut fmt::Formatter<'_>) -> fmt::Result {
        let response = self.response.iter().map(|effect| format!("in the response {effect}"));
        let effects: Vec<_> = self.request.iter().cloned().chain(response).collect();
        let effects = if effects.is_empty() { "changes nothing here".to_owned() } else { effects.join("; ") };
        line(page, "middleware", &format!("{}: {effects}", self.name))
    }
}

impl ServiceTold {
    fn write(&self, page: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(page, "service", &format!("{}, {}", self.name, self.balancer))?;
        self.sticky.iter().try_for_each(|sticky| line(page, "sticky", sticky))?;
        let widths = [EndpointTold::name_width, EndpointTold::url_width];
        let [name, url] = widths.map(|width| self.endpoints.iter().map(width).max().unwrap_or_default());
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            let EndpointTold { name: own, url: at, state, chance, why } = endpoint;
            let chance = format!("{:.0} %", 100.0 * chance);
            let text = format!("{own:name$}  {at:url$}  {state:8}  {chance:>5}  {why}");
            line(page, if index == 0 { "endpoints" } else { "" }, &text)?;
        }
        several(page, "retry", &self.retry)
    }
}

impl EndpointTold {
    fn name_width(&self) -> usize {
        self.name.chars().count()
    }

    fn url_width(&self) -> usize {
        self.url.chars().count()
    }
}

impl UpstreamTold {
    fn write(&self, page: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(page, "upstream", &format!("{} {}", self.method, self.target))?;
        self.headers.iter().try_for_each(|(name, value)| line(page, "", &format!("{name}: {value}")))
    }
}

impl ReplyTold {
    fn write(&self, page: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = self.middleware.as_ref().map(|name| format!(" by `{name}`")).unwrap_or_default();
        line(page, "answer", &format!("{} {}{by}: {}", self.status, self.reason, self.detail))?;
        self.location.iter().try_for_each(|location| line(page, "", &format!("location: {location}")))
    }
}

fn several(page: &mut fmt::Formatter<'_>, title: &str, texts: &[String]) -> fmt::Result {
    let mut titles = std::iter::once(title).chain(std::iter::repeat(""));
    texts.iter().try_for_each(|text| line(page, titles.next().unwrap_or_default(), text))
}

fn line(page: &mut fmt::Formatter<'_>, title: &str, text: &str) -> fmt::Result {
    writeln!(page, "{title:COLUMN$}{text}")
}
