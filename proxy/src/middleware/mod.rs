//! May it pass, and how?
//!
//! Owns the chain of a route's middlewares and the one place where a kind from the config becomes a running member.
//! One file per kind. Sees heads only: never a body, a socket or a service.

mod headers;
mod redirect;
mod strip_prefix;

use std::fmt;

use bytes::Bytes;
use http::{Response, request, response};
use indexmap::IndexMap;
use waypost_config::Middleware as Config;

use crate::context::RequestContext;

use headers::Headers;
use redirect::Redirect;
use strip_prefix::StripPrefix;

/// A route's middlewares, in the order a request meets them. An empty one owns nothing and does nothing.
#[derive(Debug, Default)]
pub struct Chain(Box<[Box<dyn Middleware>]>);

/// What becomes of a request.
#[derive(Debug)]
pub enum Flow {
    /// It goes on.
    Continue,
    /// It was answered. When a [`Chain`] says so, the members before the one that answered, being those that saw the
    /// request, have seen the reply too: [`Chain::on_response`] is not for this one.
    Reply(Response<Bytes>),
}

/// A chain that can't be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A route names a middleware that does not exist.
    #[error("there is no middleware `{0}`")]
    Unknown(String),
    /// A middleware that can't do what it is told.
    #[error("middleware `{name}`: {problem}")]
    Invalid {
        /// Its name in the config.
        name: String,
        /// What is wrong with it.
        #[source]
        problem: Problem,
    },
}

/// What is wrong with a middleware.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A name that no header field can have.
    #[error(transparent)]
    HeaderName(#[from] http::header::InvalidHeaderName),
    /// A value with a line break or another control character.
    #[error("`{0}` has a value that no header field can have")]
    HeaderValue(http::HeaderName),
    /// A field that says where a message ends or belongs to one connection.
    #[error("`{0}` belongs to the connection and can't be changed")]
    Framing(http::HeaderName),
    /// A prefix that no path can have.
    #[error("`{path}` is not a path: {source}")]
    Prefix {
        /// As it was written.
        path: String,
        /// Why it is none.
        source: crate::path::PathError,
    },
    /// A status that does not redirect.
    #[error("{0} is not one of 301, 302, 303, 307 and 308")]
    Status(u16),
}

/// One kind. Its methods do nothing unless it says otherwise.
trait Middleware: fmt::Debug + Send + Sync {
    fn on_request(&self, _head: &mut request::Parts, _context: &RequestContext) -> Flow {
        Flow::Continue
    }

    fn on_response(&self, _head: &mut response::Parts, _context: &RequestContext) {}
}

impl Chain {
    /// The chain of these names.
    pub fn build(names: &[String], all: &IndexMap<String, Config>) -> Result<Chain, BuildError> {
        let member = |name: &String| {
            let config = all.get(name).ok_or_else(|| BuildError::Unknown(name.clone()))?;
            build(config).map_err(|problem| BuildError::Invalid { name: name.clone(), problem })
        };
        names.iter().map(member).collect::<Result<_, _>>().map(Chain)
    }

    /// Shows the request to each member, until one answers it.
    pub fn on_request(&self, head: &mut request::Parts, context: &RequestContext) -> Flow {
        self.on_request_watched(head, context, |_| ())
    }

    /// The same, and what each member has made of the head is shown to `watch`; not the doing of one that answers.
    pub fn on_request_watched(
        &self,
        head: &mut request::Parts,
        context: &RequestContext,
        mut watch: impl FnMut(&request::Parts),
    ) -> Flow {
        for (index, member) in self.0.iter().enumerate() {
            if let Flow::Reply(reply) = member.on_request(head, context) {
                let (mut head, body) = reply.into_parts();
                show_response(&self.0[..index], &mut head, context);
                return Flow::Reply(Response::from_parts(head, body));
            }
            watch(head);
        }
        Flow::Continue
    }

    /// What each member alone, in the order of the chain, would make of this response.
    pub fn each_on_response(&self, head: &response::Parts, context: &RequestContext) -> Vec<response::Parts> {
        let alone = |member: &dyn Middleware| {
            let mut head = head.clone();
            member.on_response(&mut head, context);
            head
        };
        self.0.iter().map(|member| alone(&**member)).collect()
    }

    /// Shows a response to each member, last first: the service's own, or one invented after the chain let go.
    pub fn on_response(&self, head: &mut response::Parts, context: &RequestContext) {
        show_response(&self.0, head, context);
    }
}

fn show_response(members: &[Box<dyn Middleware>], head: &mut response::Parts, context: &RequestContext) {
    for member in members.iter().rev() {
        member.on_response(head, context);
    }
}

fn build(config: &Config) -> Result<Box<dyn Middleware>, Problem> {
    Ok(match config {
        Config::Headers(config) => Box::new(Headers::new(config)?),
        Config::StripPrefix(prefixes) => Box::new(StripPrefix::new(prefixes)?),
        Config::Redirect(config) => Box::new(Redirect::new(config)?),
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Instant, SystemTime};

    use http::{HeaderValue, Request};
    use serde_json::{Value, json};

    use super::*;

    /// A request's context: over TLS if the URL says `https`.
    pub(super) fn context(url: &str) -> RequestContext {
        let uri: http::Uri = url.parse().unwrap();
        RequestContext {
            started: Instant::now(),
            time: SystemTime::now(),
            listener: "web".into(),
            peer: "192.0.2.7:4711".parse().unwrap(),
            trusted: false,
            client_ip: "192.0.2.7".parse().unwrap(),
            secure: uri.scheme_str() == Some("https"),
            host: uri.host().unwrap_or_default().to_owned(),
            request_id: HeaderValue::from_static("id"),
        }
    }

    /// The head of a request for this target.
    pub(super) fn request(target: &str, fields: &[(&'static str, &str)]) -> request::Parts {
        let builder = fields.iter().fold(Request::get(target), |builder, (name, value)| builder.header(*name, *value));
        builder.body(()).unwrap().into_parts().0
    }

    /// One middleware as in the config, built.
    pub(super) fn member(config: Value) -> Result<Box<dyn Middleware>, Problem> {
        build(&serde_json::from_value(config).unwrap())
    }

    /// All lines of a field.
    pub(super) fn lines<'a>(headers: &'a http::HeaderMap, name: &str) -> Vec<&'a str> {
        headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }

    fn chain(names: &[&str]) -> Result<Chain, BuildError> {
        let all = json!({
            "one": { "headers": { "request_append": { "x-seen": "1" }, "response_append": { "x-seen": "1" } } },
            "two": { "headers": { "request_append": { "x-seen": "2" }, "response_append": { "x-seen": "2" } } },
            "away": { "redirect": { "regex": "", "to": "/away" } },
            "broken": { "redirect": { "regex": "", "to": "/", "status": 200 } },
        });
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Chain::build(&names, &serde_json::from_value(all).unwrap())
    }

    #[test]
    fn requests_go_forward_through_a_chain_and_responses_back() {
        let chain = chain(&["one", "two"]).unwrap();
        let context = context("http://a.example");
        let mut head = request("/", &[]);
        assert!(matches!(chain.on_request(&mut head, &context), Flow::Continue));
        assert_eq!(lines(&head.headers, "x-seen"), ["1", "2"]);
        let mut response = Response::new(()).into_parts().0;
        chain.on_response(&mut response, &context);
        assert_eq!(lines(&response.headers, "x-seen"), ["2", "1"]);
    }

    #[test]
    fn a_reply_is_seen_by_those_who_saw_the_request() {
        let chain = chain(&["one", "two", "away", "one"]).unwrap();
        let mut head = request("/", &[]);
        let Flow::Reply(reply) = chain.on_request(&mut head, &context("http://a.example")) else { panic!("no reply") };
        assert_eq!(lines(&head.headers, "x-seen"), ["1", "2"]);
        assert_eq!(lines(reply.headers(), "x-seen"), ["2", "1"]);
        assert_eq!(lines(reply.headers(), "location"), ["/away"]);
    }

    #[test]
    fn an_empty_chain_lets_everything_pass() {
        let mut head = request("/", &[]);
        let flow = chain(&[]).unwrap().on_request(&mut head, &context("http://a.example"));
        assert!(matches!(flow, Flow::Continue) && head.headers.is_empty());
    }

    #[test]
    fn a_chain_that_cannot_be_built_names_the_middleware() {
        let message = |names: &[&str]| chain(names).unwrap_err().to_string();
        assert_eq!(message(&["one", "three"]), "there is no middleware `three`");
        assert_eq!(message(&["one", "broken"]), "middleware `broken`: 200 is not one of 301, 302, 303, 307 and 308");
    }
}
