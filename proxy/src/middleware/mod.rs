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
        source: crate::router::path::PathError,
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
        for (index, member) in self.0.iter().enumerate() {
            if let Flow::Reply(reply) = member.on_request(head, context) {
                let (mut head, body) = reply.into_parts();
                show_response(&self.0[..index], &mut head, context);
                return Flow::Reply(Response::from_parts(head, body));
            }
        }
        Flow::Continue
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
