//! What a head says to this hop: `Connection` (RFC 9110 section 7.6.1) and `TE` (section 10.1.4).
//!
//! Pure.

use http::{HeaderMap, header};

/// The options that decide what follows a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Nothing follows.
    pub close: bool,
    /// Asks HTTP/1.0 to let something follow.
    pub keep_alive: bool,
    /// Another protocol is to follow.
    pub upgrade: bool,
}

impl Options {
    /// As all `Connection` fields together say.
    pub fn of(headers: &HeaderMap) -> Options {
        let mut options = Options::default();
        for field in headers.get_all(header::CONNECTION) {
            for option in field.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                options.close |= option.eq_ignore_ascii_case(b"close");
                options.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                options.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
            }
        }
        options
    }
}

/// Whether `TE` asks for trailers.
pub fn takes_trailers(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TE).iter().flat_map(|te| te.as_bytes().split(|byte| *byte == b','));
    codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn trailers_are_asked_for_in_any_field() {
        let asks = |fields: &[&'static str]| {
            let fields = fields.iter().map(|field| (header::TE, HeaderValue::from_static(field)));
            takes_trailers(&fields.collect::<HeaderMap>())
        };
        assert!(asks(&["trailers"]));
        assert!(asks(&["gzip;q=0.5, Trailers"]));
        assert!(!asks(&[]));
        assert!(!asks(&["gzip", "x-trailers"]));
        let mut headers = HeaderMap::new();
        headers.append(header::TE, HeaderValue::from_static("gzip"));
        headers.append(header::TE, HeaderValue::from_static("trailers"));
        assert!(takes_trailers(&headers));
    }

    #[test]
    fn options_are_found_in_every_field() {
        let mut headers = HeaderMap::new();
        assert_eq!(Options::of(&headers), Options::default());
        headers.append("connection", HeaderValue::from_static("Keep-Alive, x-close"));
        assert_eq!(Options::of(&headers), Options { keep_alive: true, ..Options::default() });
        headers.append("connection", HeaderValue::from_static("te ,\tCLOSE,upgrade"));
        assert_eq!(Options::of(&headers), Options { close: true, keep_alive: true, upgrade: true });
    }
}
