//! `headers`: fields of requests and responses removed, set and appended, in this order.
//!
//! Names and values are fixed when the chain is built. Never touches what frames a message or belongs to one
//! connection (RFC 9110 section 7.6.1): that is refused, for a wrong length is a way to smuggle a second request.

use http::header::{CONNECTION, CONTENT_LENGTH, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, request, response};
use indexmap::IndexMap;
use waypost_config::middleware as config;
use waypost_config::value;

use super::{Flow, Middleware, Problem};
use crate::context::RequestContext;

const UNTOUCHABLE: [HeaderName; 6] = [CONNECTION, CONTENT_LENGTH, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

#[derive(Debug)]
pub(super) struct Headers {
    request: Changes,
    response: Changes,
}

impl Headers {
    pub(super) fn new(config: &config::Headers) -> Result<Headers, Problem> {
        Ok(Headers {
            request: Changes::new(&config.request_remove, &config.request_set, &config.request_append)?,
            response: Changes::new(&config.response_remove, &config.response_set, &config.response_append)?,
        })
    }
}

impl Middleware for Headers {
    fn on_request(&self, head: &mut request::Parts, _: &RequestContext) -> Flow {
        self.request.apply(&mut head.headers);
        Flow::Continue
    }

    fn on_response(&self, head: &mut response::Parts, _: &RequestContext) {
        self.response.apply(&mut head.headers);
    }
}

#[derive(Debug)]
struct Changes {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
    append: Vec<(HeaderName, HeaderValue)>,
}

type Fields = IndexMap<value::HeaderName, String>;

impl Changes {
    fn new(remove: &[value::HeaderName], set: &Fields, append: &Fields) -> Result<Changes, Problem> {
        Ok(Changes {
            remove: remove.iter().map(name).collect::<Result<_, _>>()?,
            set: set.iter().map(field).collect::<Result<_, _>>()?,
            append: append.iter().map(field).collect::<Result<_, _>>()?,
        })
    }

    fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.append {
            headers.append(name, value.clone());
        }
    }
}

fn field((key, text): (&value::HeaderName, &String)) -> Result<(HeaderName, HeaderValue), Problem> {
    let name = name(key)?;
    match HeaderValue::from_bytes(text.as_bytes()) {
        Ok(value) => Ok((name, value)),
        Err(_) => Err(Problem::HeaderValue(name)),
    }
}

fn name(name: &value::HeaderName) -> Result<HeaderName, Problem> {
    let name = HeaderName::from_bytes(name.as_str().as_bytes())?;
    if UNTOUCHABLE.contains(&name) { Err(Problem::Framing(name)) } else { Ok(name) }
}
