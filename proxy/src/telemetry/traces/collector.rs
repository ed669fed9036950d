//! The collector: a connection to it, an export over it, and what its answer means (OTLP 1.x, "Protocol Details").
//!
//! Owns the connection, which is kept between exports. Never tries twice; it says what may be tried again.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, response};
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use waypost_config::telemetry::{OtlpProtocol, Tracing};
use waypost_config::value::UpstreamUrl;

use super::exporter::{Answer, Takes};
use super::otlp::{ExportTraceServiceResponse, RpcStatus};

/// TLS to a collector.
#[derive(Debug, Clone)]
pub struct CollectorTls {
    /// With the ALPN protocol that OTLP is to be spoken over.
    pub config: Arc<ClientConfig>,
    /// Sent as SNI and checked.
    pub server_name: ServerName<'static>,
}

/// Answers are a few bytes.
const LONGEST_ANSWER: usize = 64 * 1024;

/// Of a collector's own words no more is told.
const LONGEST_MESSAGE: usize = 200;

const AGENT: &str = concat!("waypost/", env!("CARGO_PKG_VERSION"));

pub(super) struct Collector {
    url: UpstreamUrl,
    tls: Option<CollectorTls>,
    protocol: OtlpProtocol,
    timeout: Duration,
    path: String,
    headers: HeaderMap,
    kept: Option<Connection>,
}

/// To whom requests are given; a task beside it moves the bytes.
enum Connection {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// A whole answer.
type Answered = (response::Parts, Collected<Bytes>);

type Broken = Box<dyn Error + Send + Sync>;

impl Collector {
    pub(super) fn new(config: &Tracing, tls: Option<CollectorTls>) -> Collector {
        Collector {
            url: config.collector(),
            tls,
            protocol: config.protocol,
            timeout: config.timeout.0,
            path: config.path().to_owned(),
            headers: headers(config),
            kept: None,
        }
    }

    async fn export(&mut self, export: Bytes) -> Result<Answered, Broken> {
        let body = match self.protocol {
            OtlpProtocol::Grpc => framed(&export),
            OtlpProtocol::Http => export,
        };
        // A connection that was idle may have ended without our knowing: that says nothing about the collector.
        if let Some(mut kept) = self.kept.take()
            && let Ok(answered) = kept.send(self.request(body.clone())?).await
        {
            self.kept = Some(kept);
            return Ok(answered);
        }
        let mut connection = self.connect().await?;
        let answered = connection.send(self.request(body)?).await?;
        self.kept = Some(connection);
        Ok(answered)
    }

    fn request(&self, body: Bytes) -> Result<Request<Full<Bytes>>, Broken> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        request.headers_mut().clone_from(&self.headers);
        match self.protocol {
            OtlpProtocol::Grpc => {
                *request.version_mut() = Version::HTTP_2;
                let scheme = if self.url.tls { "https" } else { "http" };
                *request.uri_mut() = format!("{scheme}://{}{}", self.url.authority(), self.path).parse::<Uri>()?;
            }
            OtlpProtocol::Http => {
                *request.uri_mut() = self.path.parse::<Uri>()?;
                request.headers_mut().insert(header::HOST, self.url.authority().parse()?);
            }
        }
        Ok(request)
    }

    async fn connect(&self) -> Result<Connection, Broken> {
        let stream = TcpStream::connect((self.url.host.as_str(), self.url.port)).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return self.handshake(stream).await };
        let connector = TlsConnector::from(Arc::clone(&tls.config));
        self.handshake(connector.connect(tls.server_name.clone(), stream).await?).await
    }

    async fn handshake(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Connection, Broken> {
        // Each ends with its sender.
        match self.protocol {
            OtlpProtocol::Grpc => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
                tokio::spawn(connection);
                Ok(Connection::Http2(sender))
            }
            OtlpProtocol::Http => {
                let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
                tokio::spawn(connection);
                Ok(Connection::Http1(sender))
            }
        }
    }
}

impl Takes for Collector {
    async fn take(&mut self, export: Bytes) -> Answer {
        let (protocol, timeout) = (self.protocol, self.timeout);
        match tokio::time::timeout(timeout, self.export(export)).await {
            Err(_) => later(format!("no answer within {timeout:?}")),
            Ok(Err(error)) => later(in_one_line(&*error)),
            Ok(Ok((head, answer))) => match protocol {
                OtlpProtocol::Grpc => of_grpc(&head, answer),
                OtlpProtocol::Http => of_http(&head, answer, SystemTime::now()),
            },
        }
    }
}

impl Connection {
    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Answered, Broken> {
        let response: Response<Incoming> = match self {
            Connection::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Connection::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        let (head, body) = response.into_parts();
        Ok((head, Limited::new(body, LONGEST_ANSWER).collect().await?))
    }
}

fn headers(config: &Tracing) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::USER_AGENT, HeaderValue::from_static(AGENT));
    let content_type = match config.protocol {
        OtlpProtocol::Grpc => {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
            "application/grpc"
        }
        OtlpProtocol::Http => "application/x-protobuf",
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    for (name, value) in &config.headers {
        let name = HeaderName::try_from(name.as_str()).expect("a name was checked with the config");
        let mut value = HeaderValue::try_from(value.reveal()).expect("a value was checked with the config");
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    headers
}

/// gRPC's frame: not compressed, and so long.
fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("a batch is far below 4 GiB"));
    frame.put_slice(message);
    frame.freeze()
}

/// A batch that did not get through.
fn later(why: String) -> Answer {
    Answer::Later { why, after: None }
}

fn in_one_line(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| (**cause).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn taken(response: &[u8]) -> Answer {
    let partial = ExportTraceServiceResponse::decode(response).ok().and_then(|response| response.partial_success);
    let partial = partial.unwrap_or_default();
    Answer::Taken {
        rejected: u64::try_from(partial.rejected_spans).unwrap_or_default(),
        why: short(&partial.error_message),
    }
}

/// Printable, and not much of it.
fn short(message: &str) -> String {
    message.chars().filter(|letter| !letter.is_control()).take(LONGEST_MESSAGE).collect()
}

/// Statuses of HTTP that pass.
fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502..=504)
}

fn of_http(head: &response::Parts, answer: Collected<Bytes>, now: SystemTime) -> Answer {
    let body = answer.to_bytes();
    if head.status.is_success() {
        return taken(&body);
    }
    let is_protobuf = head.headers.get(header::CONTENT_TYPE).is_some_and(|value| value == "application/x-protobuf");
    let message = RpcStatus::decode(body).ok().filter(|_| is_protobuf).map(|status| status.message);
    let why = described(&format!("status {}", head.status.as_u16()), &message.unwrap_or_default());
    if is_passing(head.status) {
        Answer::Later { why, after: head.headers.get(header::RETRY_AFTER).and_then(|value| retry_after(value, now)) }
    } else {
        Answer::Refused(why)
    }
}

/// Seconds, or a date (RFC 9110 section 10.2.3).
fn retry_after(value: &HeaderValue, now: SystemTime) -> Option<Duration> {
    let value = value.to_str().ok()?.trim();
    let seconds = value.parse().ok().map(Duration::from_secs);
    seconds.or_else(|| httpdate::parse_http_date(value).ok().map(|date| date.duration_since(now).unwrap_or_default()))
}

fn of_grpc(head: &response::Parts, answer: Collected<Bytes>) -> Answer {
    let trailers = answer.trailers().cloned();
    // An answer without a message has its status in the head.
    let fields = trailers.as_ref().filter(|fields| fields.contains_key(GRPC_STATUS)).unwrap_or(&head.headers);
    let Some(status) = fields.get(GRPC_STATUS).and_then(|value| value.to_str().ok()?.parse::<u8>().ok()) else {
        let why = format!("status {} without a grpc-status", head.status.as_u16());
        return if is_passing(head.status) { later(why) } else { Answer::Refused(why) };
    };
    if status == 0 {
        return taken(answer.to_bytes().get(5..).unwrap_or_default());
    }
    let message = fields.get("grpc-message").map(|value| percent_encoding::percent_decode(value.as_bytes()));
    let message = message.map(|message| message.decode_utf8_lossy().into_owned()).unwrap_or_default();
    let why = described(&format!("grpc-status {status}"), &message);
    let after = fields.get("grpc-status-details-bin").and_then(retry_info);
    if is_passing_in_grpc(status, after) { Answer::Later { why, after } } else { Answer::Refused(why) }
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Those that OTLP says may pass: cancelled, deadline exceeded, aborted, out of range, unavailable, data loss; and resource
/// exhausted, if the collector says when it will not be.
fn is_passing_in_grpc(status: u8, after: Option<Duration>) -> bool {
    matches!(status, 1 | 4 | 10 | 11 | 14 | 15) || status == 8 && after.is_some()
}

/// Base64 as gRPC sends it: with or without its padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn retry_info(details: &HeaderValue) -> Option<Duration> {
    let bytes = BASE64.decode(details.as_bytes()).ok()?;
    RpcStatus::decode(&*bytes).ok()?.retry_delay()
}

fn described(status: &str, message: &str) -> String {
    if message.is_empty() { status.to_owned() } else { format!("{status}: {}", short(message)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::traces::otlp::ExportTracePartialSuccess;

    /// A whole response with these fields; those of gRPC's status as trailers.
    async fn answer(status: u16, fields: &[(&'static str, &str)], body: Bytes) -> Answered {
        let mut response = Response::builder().status(status);
        let mut trailers = HeaderMap::new();
        for (name, value) in fields {
            if name.starts_with("grpc-") {
                trailers.insert(*name, value.parse().unwrap());
            } else {
                response = response.header(*name, *value);
            }
        }
        let (head, body) = response.body(Full::new(body)).unwrap().into_parts();
        let body = body.with_trailers(async { (!trailers.is_empty()).then_some(Ok(trailers)) });
        (head, body.collect().await.unwrap())
    }

    async fn grpc(fields: &[(&'static str, &str)], message: &[u8]) -> Answer {
        let (head, answer) = answer(200, fields, framed(message)).await;
        of_grpc(&head, answer)
    }

    async fn http(status: u16, fields: &[(&'static str, &str)], body: &[u8]) -> Answer {
        let (head, answer) = answer(status, fields, Bytes::copy_from_slice(body)).await;
        of_http(&head, answer, SystemTime::UNIX_EPOCH)
    }

    fn partial() -> Vec<u8> {
        let partial = ExportTracePartialSuccess { rejected_spans: 3, error_message: "too old\n".to_owned() };
        ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec()
    }

    fn whole() -> Answer {
        Answer::Taken { rejected: 0, why: String::new() }
    }

    #[tokio::test]
    async fn what_was_taken_says_what_was_not() {
        let some = Answer::Taken { rejected: 3, why: "too old".to_owned() };
        assert_eq!(grpc(&[("grpc-status", "0")], &[]).await, whole());
        assert_eq!(grpc(&[("grpc-status", "0")], &partial()).await, some);
        assert_eq!(http(200, &[], &[]).await, whole());
        assert_eq!(http(200, &[], &partial()).await, some);
    }

    #[tokio::test]
    async fn what_passes_in_grpc_is_tried_again() {
        for status in 1..=16 {
            let answer = grpc(&[("grpc-status", &status.to_string()), ("grpc-message", "no%20way")], &[]).await;
            let why = format!("grpc-status {status}: no way");
            let expected = match status {
                1 | 4 | 10 | 11 | 14 | 15 => Answer::Later { why, after: None },
                _ => Answer::Refused(why),
            };
            assert_eq!(answer, expected);
        }
    }

    #[tokio::test]
    async fn grpc_server_that_is_exhausted_may_say_for_how_long() {
        let details = BASE64.encode(RpcStatus::of_delay(Duration::from_secs(7)).encode_to_vec());
        for details in [details.as_str(), details.trim_end_matches('=')] {
            let fields = [("grpc-status", "8"), ("grpc-status-details-bin", details)];
            let expected = Answer::Later { why: "grpc-status 8".to_owned(), after: Some(Duration::from_secs(7)) };
            assert_eq!(grpc(&fields, &[]).await, expected);
        }
        let fields = [("grpc-status", "8"), ("grpc-status-details-bin", "!")];
        assert_eq!(grpc(&fields, &[]).await, Answer::Refused("grpc-status 8".to_owned()));
    }

    #[tokio::test]
    async fn what_is_no_grpc_is_judged_by_its_status() {
        for (status, passes) in [(503, true), (404, false), (200, false)] {
            let (head, answer) = answer(status, &[], Bytes::from_static(b"<html>")).await;
            let why = format!("status {status} without a grpc-status");
            let expected = if passes { later(why) } else { Answer::Refused(why) };
            assert_eq!(of_grpc(&head, answer), expected);
        }
    }

    #[tokio::test]
    async fn what_passes_in_http_is_tried_again_when_the_collector_wants_it() {
        for (field, after) in [("120", 120), ("Thu, 01 Jan 1970 00:00:09 GMT", 9)] {
            for status in [429, 502, 503, 504] {
                let expected =
                    Answer::Later { why: format!("status {status}"), after: Some(Duration::from_secs(after)) };
                assert_eq!(http(status, &[("retry-after", field)], b"").await, expected);
            }
        }
        let message = RpcStatus { code: 3, message: "what is this?".to_owned(), details: Vec::new() }.encode_to_vec();
        let protobuf = [("content-type", "application/x-protobuf")];
        assert_eq!(http(400, &protobuf, &message).await, Answer::Refused("status 400: what is this?".to_owned()));
        assert_eq!(http(500, &[], b"oh").await, Answer::Refused("status 500".to_owned()));
    }
}
