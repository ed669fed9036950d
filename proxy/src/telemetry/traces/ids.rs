//! Which trace, and which span of it: identities, and their way from hop to hop in `traceparent` (W3C Trace Context).
//!
//! Pure, but for the draw of new identities. Never decides what is recorded.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};

use http::{HeaderMap, HeaderName, HeaderValue};

/// The field that names trace, span and decision.
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The field that goes with it, and is whoever's has written to it.
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// A trace: everything that came of one request somewhere. Shows itself as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(NonZeroU128);

/// A span: one piece of work in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(NonZeroU64);

impl TraceId {
    /// A new one. It has to be unique, not secret.
    pub fn random() -> TraceId {
        TraceId(NonZeroU128::new(fastrand::u128(..)).unwrap_or(NonZeroU128::MIN))
    }

    /// As it is sent to a collector.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.get().to_be_bytes()
    }

    /// The part that is random whoever has made it (W3C Trace Context level 2, "Random Trace ID Flag").
    pub(super) fn randomness(self) -> u64 {
        let bytes = self.to_bytes();
        u64::from_be_bytes(*bytes.last_chunk().expect("sixteen bytes end with eight")) & (u64::MAX >> 8)
    }
}

impl SpanId {
    /// A new one.
    pub fn random() -> SpanId {
        SpanId(NonZeroU64::new(fastrand::u64(..)).unwrap_or(NonZeroU64::MIN))
    }

    /// As it is sent to a collector.
    pub fn to_bytes(self) -> [u8; 8] {
        self.0.get().to_be_bytes()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

/// Of which span a request is a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace: TraceId,
    /// The span.
    pub span: SpanId,
    /// Whether it is recorded.
    pub sampled: bool,
}

/// The flag that says that the span is recorded.
const SAMPLED: u8 = 0x01;

/// Length of the field in version 00.
const LENGTH: usize = 55;

impl TraceParent {
    /// What a request says. Two such fields say nothing.
    pub fn of(headers: &HeaderMap) -> Option<TraceParent> {
        let mut fields = headers.get_all(TRACEPARENT).iter();
        let field = fields.next()?;
        if fields.next().is_some() { None } else { TraceParent::read(field.as_bytes()) }
    }

    /// Reads the field. A later version is read as far as this one goes, as it is specified.
    pub fn read(field: &[u8]) -> Option<TraceParent> {
        let (known, rest) = field.split_first_chunk::<LENGTH>()?;
        let version = digits(&known[..2])?;
        let ends = if version == 0 { rest.is_empty() } else { version != 0xff && matches!(rest, [] | [b'-', ..]) };
        if !ends || [known[2], known[35], known[52]] != *b"---" {
            return None;
        }
        let (trace, span, flags) = (&known[3..35], &known[36..52], &known[53..]);
        let span = u64::try_from(digits(span)?).ok().and_then(NonZeroU64::new)?;
        let sampled = digits(flags)? & u128::from(SAMPLED) != 0;
        Some(TraceParent { trace: TraceId(NonZeroU128::new(digits(trace)?)?), span: SpanId(span), sampled })
    }

    /// The field, in version 00.
    pub fn written(self) -> HeaderValue {
        let flags = if self.sampled { SAMPLED } else { 0 };
        let text = format!("00-{}-{:016x}-{flags:02x}", self.trace, self.span.0);
        HeaderValue::try_from(text).expect("digits and hyphens")
    }
}

/// A number in hexadecimal digits, lower case as is prescribed; 32 of them at most.
fn digits(text: &[u8]) -> Option<u128> {
    text.iter().try_fold(0, |number, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_was_read_is_written_alike() {
        let parent = TraceParent::read(GOOD.as_bytes()).unwrap();
        assert!(parent.sampled);
        assert_eq!(parent.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(parent.span.to_bytes(), [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
        assert_eq!(parent.written(), GOOD);
        let silent = TraceParent::read(GOOD.replace("-01", "-00").as_bytes()).unwrap();
        assert_eq!(
            (silent.sampled, silent.written()),
            (false, HeaderValue::try_from(GOOD.replace("-01", "-00")).unwrap())
        );
    }

    #[track_caller]
    fn check(change: (&str, &str), expected: Option<bool>) {
        assert!(GOOD.contains(change.0), "{change:?}");
        let field = GOOD.replacen(change.0, change.1, 1);
        assert_eq!(TraceParent::read(field.as_bytes()).map(|parent| parent.sampled), expected, "{field}");
    }

    #[test]
    fn what_does_not_follow_the_rules_is_no_parent() {
        for (from, to) in [
            ("00-", "ff-"),
            ("00-", "0-"),
            ("4bf92f", "4BF92F"),
            ("4bf92f", "4bg92f"),
            ("-01", "-1"),
            ("-01", "-01-"),
            ("-01", "-011"),
            ("-01", "-0x"),
            ("4bf92f3577b34da6a3ce929d0e0e4736", "00000000000000000000000000000000"),
            ("00f067aa0ba902b7", "0000000000000000"),
            ("4736-00f0", "473-600f0"),
            ("4736-00f0", "4736_00f0"),
        ] {
            check((from, to), None);
        }
        assert_eq!(TraceParent::read(b""), None);
    }

    #[test]
    fn flags_beyond_the_first_and_later_versions_are_borne() {
        check(("-01", "-fe"), Some(false));
        check(("-01", "-ff"), Some(true));
        check(("00-", "01-"), Some(true));
        check(
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more",
            ),
            Some(false),
        );
        check(
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00more",
            ),
            None,
        );
    }

    #[test]
    fn two_parents_are_none() {
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, HeaderValue::from_static(GOOD));
        assert!(TraceParent::of(&headers).is_some());
        headers.append(TRACEPARENT, HeaderValue::from_static(GOOD));
        assert_eq!(TraceParent::of(&headers), None);
    }

    #[test]
    fn new_identities_differ() {
        let ids: std::collections::HashSet<_> = (0..1_000).map(|_| (TraceId::random(), SpanId::random())).collect();
        assert_eq!(ids.len(), 1_000);
    }
}
