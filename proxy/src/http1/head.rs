//! The head of a message: from bytes to its parts (RFC 9112 sections 2 to 5).
//!
//! httparse finds the lines; what it lets through beyond the RFC's grammar is refused here. Pure.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::Bytes;
use http::header::HeaderName;
use http::uri::InvalidUri;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, request, response};
use httparse::Header;
use hyper::ext::ReasonPhrase;

/// How large a head may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes, from the first line to the empty one.
    pub bytes: usize,
    /// Field lines.
    pub fields: usize,
}

/// Why a head, or a part of a body, cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not the grammar of RFC 9112.
    #[error("not HTTP/1.1")]
    Syntax,
    /// Over a limit.
    #[error("too large")]
    TooLarge,
    /// A target of more than 65 534 bytes.
    #[error("target too long")]
    TargetTooLong,
}

/// A head, and how many bytes it took.
pub type Parsed<T> = Result<Option<(T, usize)>, Malformed>;

/// Field lines that need no memory of their own while they are being parsed.
const FIELDS: usize = 100;

/// Room for the fields that are added to a request on its way, so that the map does not grow.
const ADDED_TO_REQUESTS: usize = 10;

/// The like for responses.
const ADDED_TO_RESPONSES: usize = 2;

/// The head of a request at the front of `bytes`; `None` while it is not whole.
pub fn request(bytes: &[u8], limits: Limits) -> Parsed<request::Parts> {
    with_slots(limits.fields, |slots| {
        let mut parsed = httparse::Request::new(&mut []);
        let outcome = parsed.parse_with_uninit_headers(bytes, slots);
        let Some(length) = whole(outcome, bytes, limits)? else { return Ok(None) };
        let text = Text::new(bytes, length);
        let mut head = Request::new(()).into_parts().0;
        // Complete, so httparse has found all of its parts.
        head.method =
            Method::from_bytes(parsed.method.unwrap_or_default().as_bytes()).map_err(|_| Malformed::Syntax)?;
        head.uri = text.uri(parsed.path.unwrap_or_default())?;
        head.version = version(parsed.version)?;
        head.headers = text.fields(parsed.headers, ADDED_TO_REQUESTS)?;
        text.lines_end_in_crlf()?;
        Ok(Some((head, length)))
    })
}

/// The head of a response at the front of `bytes`; `None` while it is not whole.
pub fn response(bytes: &[u8], limits: Limits) -> Parsed<response::Parts> {
    with_slots(limits.fields, |slots| {
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let outcome = config.parse_response_with_uninit_headers(&mut parsed, bytes, slots);
        let Some(length) = whole(outcome, bytes, limits)? else { return Ok(None) };
        let text = Text::new(bytes, length);
        let mut head = Response::new(()).into_parts().0;
        head.status = StatusCode::from_u16(parsed.code.unwrap_or_default()).map_err(|_| Malformed::Syntax)?;
        head.version = version(parsed.version)?;
        head.headers = text.fields(parsed.headers, ADDED_TO_RESPONSES)?;
        text.lines_end_in_crlf()?;
        keep_reason(&mut head, parsed.reason.unwrap_or_default());
        Ok(Some((head, length)))
    })
}

/// The fields of a trailer section at the front of `bytes`, which may have none (RFC 9112 section 7.1.2).
pub fn trailers(bytes: &[u8], limits: Limits) -> Parsed<HeaderMap> {
    let mut slots = [httparse::EMPTY_HEADER; FIELDS];
    let (length, fields) = match httparse::parse_headers(bytes, &mut slots) {
        Ok(httparse::Status::Complete((length, fields))) if length <= limits.bytes => (length, fields),
        Ok(httparse::Status::Partial) if bytes.len() <= limits.bytes => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(Malformed::TooLarge),
        Err(_) => return Err(Malformed::Syntax),
    };
    let text = Text::new(bytes, length);
    let fields = text.fields(fields, 0)?;
    text.last_line_ends_in_crlf()?;
    Ok(Some((fields, length)))
}

fn with_slots<'b, T>(fields: usize, parse: impl FnOnce(&mut [MaybeUninit<Header<'b>>]) -> T) -> T {
    match fields {
        0..=FIELDS => parse(&mut [const { MaybeUninit::uninit() }; FIELDS][..fields]),
        more => parse(&mut vec![MaybeUninit::uninit(); more]),
    }
}

fn whole(outcome: httparse::Result<usize>, bytes: &[u8], limits: Limits) -> Result<Option<usize>, Malformed> {
    match outcome {
        Ok(httparse::Status::Complete(length)) if length <= limits.bytes => Ok(Some(length)),
        Ok(httparse::Status::Partial) if bytes.len() <= limits.bytes => Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => Err(Malformed::TooLarge),
        Err(_) => Err(Malformed::Syntax),
    }
}

fn version(minor: Option<u8>) -> Result<Version, Malformed> {
    match minor {
        Some(1) => Ok(Version::HTTP_11),
        Some(0) => Ok(Version::HTTP_10),
        _ => Err(Malformed::Syntax),
    }
}

/// A reason that says something of its own is passed on; HTTP/2 and most servers have none (RFC 9112 section 4).
fn keep_reason(head: &mut response::Parts, reason: &str) {
    let own = !reason.is_empty() && head.status.canonical_reason() != Some(reason);
    if let (true, Ok(reason)) = (own, ReasonPhrase::try_from(reason.as_bytes())) {
        head.extensions.insert(reason);
    }
}

/// A head's own copy of its bytes: its values live as long as any of them, while the buffer reads on.
struct Text<'a> {
    read: &'a [u8],
    kept: Bytes,
}

impl<'a> Text<'a> {
    fn new(bytes: &'a [u8], length: usize) -> Text<'a> {
        let read = &bytes[..length];
        Text { read, kept: Bytes::copy_from_slice(read) }
    }

    /// Where a part of what was read stands.
    fn range(&self, part: &[u8]) -> Range<usize> {
        let start = part.as_ptr().addr() - self.read.as_ptr().addr();
        start..start + part.len()
    }

    fn uri(&self, target: &str) -> Result<Uri, Malformed> {
        let target = self.kept.slice(self.range(target.as_bytes()));
        if target.len() >= usize::from(u16::MAX) {
            return Err(Malformed::TargetTooLong);
        }
        Uri::from_maybe_shared(target).map_err(|_: InvalidUri| Malformed::Syntax)
    }

    /// A map of these fields with room for `more`.
    fn fields(&self, fields: &[Header<'_>], more: usize) -> Result<HeaderMap, Malformed> {
        let mut map = HeaderMap::with_capacity(fields.len() + more);
        for field in fields {
            let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed::Syntax)?;
            let range = self.range(field.value);
            if !self.ends_its_line(range.end) {
                return Err(Malformed::Syntax);
            }
            let value = HeaderValue::from_maybe_shared(self.kept.slice(range)).map_err(|_| Malformed::Syntax)?;
            map.try_append(name, value).map_err(|_| Malformed::TooLarge)?;
        }
        Ok(map)
    }

    /// After a value come blanks and CRLF. httparse takes a bare LF, too: a server behind us may see no end there.
    fn ends_its_line(&self, end: usize) -> bool {
        let after = self.read[end..].iter().find(|byte| !matches!(byte, b' ' | b'\t'));
        after == Some(&b'\r')
    }

    /// The same of the first line and the empty last one; those between were looked at as fields.
    fn lines_end_in_crlf(&self) -> Result<(), Malformed> {
        // Empty lines before the first one are passed over (section 2.2).
        let first = self.read.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or_default();
        let (empty, rest) = self.read.split_at(first);
        let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let whole = line.ends_with(b"\r") && empty.chunks(2).all(|line| line == b"\r\n");
        if whole { self.last_line_ends_in_crlf() } else { Err(Malformed::Syntax) }
    }

    fn last_line_ends_in_crlf(&self) -> Result<(), Malformed> {
        if self.read.ends_with(b"\r\n") { Ok(()) } else { Err(Malformed::Syntax) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { bytes: 256, fields: 4 };

    #[track_caller]
    fn refused(bytes: &str, expected: Malformed) {
        assert_eq!(request(bytes.as_bytes(), LIMITS).map(|_| ()), Err(expected), "{bytes:?}");
    }

    #[test]
    fn a_request_is_read_whole_or_not_at_all() {
        let bytes = b"GET /a?b HTTP/1.1\r\nHost: x.example\r\nX-Twice: 1\r\nx-twice:  2 \r\n\r\nbody";
        let (head, length) = request(bytes, LIMITS).unwrap().unwrap();
        assert_eq!((head.method, head.uri.to_string(), head.version), (Method::GET, "/a?b".into(), Version::HTTP_11));
        assert_eq!(head.headers["host"], "x.example");
        assert_eq!(head.headers.get_all("x-twice").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(&bytes[length..], b"body");
        for end in 0..length {
            assert_eq!(request(&bytes[..end], LIMITS).map(|head| head.is_none()), Ok(true), "{end}");
        }
    }

    #[test]
    fn targets_come_in_four_forms() {
        for target in ["/", "/a?b=c", "http://x.example/a", "*"] {
            let (head, _) = request(format!("GET {target} HTTP/1.1\r\n\r\n").as_bytes(), LIMITS).unwrap().unwrap();
            assert_eq!(head.uri.to_string(), target);
        }
        let (head, _) = request(b"CONNECT x.example:443 HTTP/1.1\r\n\r\n", LIMITS).unwrap().unwrap();
        assert_eq!(head.uri.authority().unwrap(), "x.example:443");
    }

    #[test]
    fn lines_that_end_in_two_ways_are_refused() {
        refused("GET / HTTP/1.1\nhost: a\r\n\r\n", Malformed::Syntax);
        refused("GET / HTTP/1.1\r\nhost: a\n\r\n", Malformed::Syntax);
        refused("GET / HTTP/1.1\r\nhost: a\r\n\n", Malformed::Syntax);
        refused("GET / HTTP/1.1\r\nhost: a \n\r\n", Malformed::Syntax);
        refused("GET / HTTP/1.1\r\nhost: a\rb: c\r\n\r\n", Malformed::Syntax);
        refused("GET / HTTP/1.1\r\nhost:\n\r\n", Malformed::Syntax);
        refused("\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", Malformed::Syntax);
        refused("\r\n\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", Malformed::Syntax);
        assert!(request(b"\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", LIMITS).unwrap().is_some(), "an empty line first");
    }

    #[test]
    fn what_is_no_head_is_refused() {
        for bytes in [
            "GET  / HTTP/1.1\r\n\r\n",
            "GET / HTTP/2.0\r\n\r\n",
            "GET / HTTP/1.2\r\n\r\n",
            "GET /\r\n\r\n",
            "GET / HTTP/1.1\r\nhost : a\r\n\r\n",
            "GET / HTTP/1.1\r\n host: a\r\n\r\n",
            "GET / HTTP/1.1\r\nx: a\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nx: a\0b\r\n\r\n",
            "GET / HTTP/1.1\r\n: a\r\n\r\n",
            "GET / HTTP/1.1\r\nno colon\r\n\r\n",
            "G(T / HTTP/1.1\r\n\r\n",
            "GET /\x7f HTTP/1.1\r\n\r\n",
        ] {
            refused(bytes, Malformed::Syntax);
        }
    }

    #[test]
    fn limits_hold_for_whole_and_unfinished_heads() {
        refused(&format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(300)), Malformed::TooLarge);
        refused(&format!("GET /{}", "y".repeat(300)), Malformed::TooLarge);
        refused(&format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(5)), Malformed::TooLarge);
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "y".repeat(70_000));
        let wide = Limits { bytes: 100_000, fields: 200 };
        assert_eq!(request(long.as_bytes(), wide).map(|_| ()), Err(Malformed::TargetTooLong));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(150));
        assert_eq!(request(many.as_bytes(), wide).unwrap().unwrap().0.headers.len(), 150);
    }

    #[test]
    fn a_response_keeps_a_reason_of_its_own() {
        let (head, _) = response(b"HTTP/1.1 299 All good\r\nx: y\r\n\r\n", LIMITS).unwrap().unwrap();
        assert_eq!((head.status.as_u16(), &head.headers["x"]), (299, &HeaderValue::from_static("y")));
        assert_eq!(head.extensions.get::<ReasonPhrase>().unwrap().as_bytes(), b"All good");
        let (head, _) = response(b"HTTP/1.0 200\r\n\r\n", LIMITS).unwrap().unwrap();
        assert_eq!((head.version, head.extensions.is_empty()), (Version::HTTP_10, true));
        assert!(response(b"HTTP/1.1 200 OK\n\r\n", LIMITS).is_err());
        assert!(response(b"ICY 200 OK\r\n\r\n", LIMITS).is_err());
        assert!(response(b"HTTP/1.1 99 OK\r\n\r\n", LIMITS).is_err());
    }
}
