//! What is asked, and how it would have come in: the listener, the connection and the head that a client's URL stands
//! for.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Method, Request, Uri, Version, header, request};

use crate::context::RequestContext;
use crate::downstream::{Activity, Downstream};
use crate::drain::Lifecycle;
use crate::forwarding;
use crate::snapshot::{ListenerView, Snapshot};
use crate::tls::TlsInfo;

/// A request that nobody sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The method.
    pub method: String,
    /// The URL, `https://shop.example/api?x=1`; or only the path, for a listener without TLS.
    pub url: String,
    /// Further fields, in order; a `host` replaces that of the URL.
    pub headers: Vec<(String, String)>,
    /// The other end of the connection.
    pub client: IpAddr,
    /// The listener's name; absent means the one that the URL fits.
    pub listener: Option<String>,
    /// The host that an HTTP/2 connection was opened for, over which this comes, too; absent means the URL's own.
    pub sni: Option<String>,
}

/// A question that cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    /// No method has this form.
    #[error("`{0}` is not a method")]
    Method(String),
    /// Neither a URL nor a path.
    #[error("`{0}` is neither a URL (https://shop.example/cart) nor a path (/cart)")]
    Url(String),
    /// No header field has this name or value.
    #[error("`{0}` is not a header field; write NAME: VALUE")]
    Header(String),
    /// There is no such listener.
    #[error("there is no listener `{0}`")]
    Listener(String),
    /// No listener speaks the URL's scheme.
    #[error("no listener speaks {0}")]
    Scheme(&'static str),
}

impl Default for Question {
    fn default() -> Question {
        // An address for documentation (RFC 5737): no network of a config is likely to hold it.
        let client = Ipv4Addr::new(192, 0, 2, 1).into();
        let (method, url) = ("GET".to_owned(), "/".to_owned());
        Question { method, url, headers: Vec::new(), client, listener: None, sni: None }
    }
}

/// A field as people write it: `NAME: VALUE`.
pub fn header(text: &str) -> Result<(String, String), Unclear> {
    let (name, value) = text.split_once(':').ok_or_else(|| Unclear::Header(text.to_owned()))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// The question, as it would have come in.
pub(super) struct Asked<'a> {
    pub(super) listener: &'a ListenerView,
    /// Why that listener.
    pub(super) why: String,
    pub(super) head: request::Parts,
    pub(super) downstream: Downstream,
}

impl<'a> Asked<'a> {
    pub(super) fn read(snapshot: &'a Snapshot, question: &Question) -> Result<Asked<'a>, Unclear> {
        let url: Uri = question.url.parse().map_err(|_| Unclear::Url(question.url.clone()))?;
        let (listener, why) = match &question.listener {
            Some(name) => (named(snapshot, name)?, "as asked for".to_owned()),
            None => fitting(snapshot, &url)?,
        };
        let head = head(question, &url)?;
        let host = host(&head);
        // A client opens its connection for the host that it asks for.
        let opened_for = question.sni.as_deref().or(url.host()).or(host.as_ref().map(Authority::host));
        let downstream = downstream(listener, question.client, opened_for);
        Ok(Asked { listener, why, head, downstream })
    }
}

fn named<'a>(snapshot: &'a Snapshot, name: &str) -> Result<&'a ListenerView, Unclear> {
    snapshot.listeners.get(name).map(Arc::as_ref).ok_or_else(|| Unclear::Listener(name.to_owned()))
}

/// The first listener of the scheme at the URL's port, or else the first of the scheme.
fn fitting<'a>(snapshot: &'a Snapshot, url: &Uri) -> Result<(&'a ListenerView, String), Unclear> {
    let secure = url.scheme() == Some(&Scheme::HTTPS) || url.scheme_str() == Some("wss");
    let scheme = if secure { "https" } else { "http" };
    let of_scheme = || {
        let listeners = snapshot.config.listeners.keys().filter_map(|name| snapshot.listeners.get(name.as_str()));
        listeners.filter(|listener| listener.tls.is_some() == secure)
    };
    let at_port = of_scheme().find(|listener| url.port_u16() == Some(listener.config.address.port()));
    if let Some(listener) = at_port {
        return Ok((listener, format!("{scheme} at port {}", listener.config.address.port())));
    }
    let first = of_scheme().next().ok_or(Unclear::Scheme(scheme))?;
    Ok((first, format!("the first that speaks {scheme}")))
}

fn head(question: &Question, url: &Uri) -> Result<request::Parts, Unclear> {
    let method = Method::from_bytes(question.method.as_bytes());
    let method = method.map_err(|_| Unclear::Method(question.method.clone()))?;
    let target = url.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let (mut head, ()) = Request::new(()).into_parts();
    (head.method, head.uri) = (method, Uri::from(target));
    if question.sni.is_some() {
        // Nobody asks for another host over HTTP/1.1.
        head.version = Version::HTTP_2;
    }
    let named_host = question.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
    if let Some(authority) = url.authority().filter(|_| !named_host) {
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        head.headers.insert(header::HOST, field_value("host", host)?);
    }
    for (name, value) in &question.headers {
        let unclear = |_| Unclear::Header(format!("{name}: {value}"));
        let field = HeaderName::from_bytes(name.as_bytes()).map_err(unclear)?;
        head.headers.append(field, field_value(name, value)?);
    }
    Ok(head)
}

fn host(head: &request::Parts) -> Option<Authority> {
    head.headers.get(header::HOST)?.to_str().ok()?.parse().ok()
}

fn field_value(name: &str, value: &str) -> Result<HeaderValue, Unclear> {
    HeaderValue::from_str(value).map_err(|_| Unclear::Header(format!("{name}: {value}")))
}

/// A connection of this client, as the listener would see it.
fn downstream(listener: &ListenerView, client: IpAddr, host: Option<&str>) -> Downstream {
    let tls = listener.tls.as_ref().map(|_| TlsInfo {
        version: "TLSv1.3",
        cipher: "",
        sni: host.map(str::to_ascii_lowercase),
        alpn_h2: false,
        client_subject: None,
    });
    Downstream {
        listener: Arc::clone(&listener.name),
        peer: SocketAddr::new(client, 0),
        tls,
        certificates: listener.tls.as_ref().map(|tls| Arc::clone(&tls.store)),
        peer_ip: forwarding::address_value(client),
        local_port: HeaderValue::from(listener.config.address.port()),
        tls_log: None,
        activity: Activity::new(Instant::now()),
        lifecycle: Lifecycle::new(),
    }
}

/// A request's id is made anew for each: one that was made for the question would mislead.
pub(super) fn stand_in_for_id(head: &request::Parts, context: &mut RequestContext) {
    if !context.trusted || head.headers.get("x-request-id") != Some(&context.request_id) {
        context.request_id = HeaderValue::from_static("(made for each request)");
    }
}
