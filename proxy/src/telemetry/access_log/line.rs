//! The shapes of a line: JSON, common and combined.
//!
//! Pure. Whatever a client can choose is escaped, control characters above all: no request can end a line, forge a
//! field or speak to a terminal.

use std::io::Write as _;
use std::time::{Duration, SystemTime};

use http::{HeaderValue, Version};
use time::OffsetDateTime;
use waypost_config::telemetry::AccessLogFormat;

use super::{Attempt, Record, Tls};
use crate::telemetry::timestamp::{Timestamp, decimal};

/// A field's name, a constant that needs no escaping, with what stands around it.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}

/// Appends the record's line, with its newline.
pub(super) fn write(format: AccessLogFormat, record: &Record<'_>, out: &mut Vec<u8>) {
    match format {
        AccessLogFormat::Json => json(record, out),
        AccessLogFormat::Common => common(record, out),
        AccessLogFormat::Combined => combined(record, out),
    }
    out.push(b'\n');
}

fn json(record: &Record<'_>, out: &mut Vec<u8>) {
    let mut object = Object::begin(out);
    object.plain(key!("time"), Timestamp(record.time).to_bytes());
    object.text(key!("listener"), Some(record.listener));
    object.text(key!("route"), record.route);
    object.text(key!("service"), record.service);
    object.text(key!("endpoint"), record.endpoint);
    object.display(key!("client_ip"), record.client_ip);
    object.display(key!("peer"), record.peer);
    object.text(key!("method"), Some(record.method.as_str()));
    object.text(key!("target"), Some(record.target));
    object.plain(key!("protocol"), protocol(record.protocol));
    object.text(key!("host"), Some(record.host));
    object.number(key!("status"), record.status.into());
    object.text(key!("reason"), record.reason);
    object.number(key!("request_bytes"), record.request_bytes);
    object.number(key!("response_bytes"), record.response_bytes);
    object.millis(key!("duration_ms"), Some(record.duration));
    object.millis(key!("head_after_ms"), record.head_after);
    object.key(key!("attempts"));
    attempts(record.attempts, object.out);
    object.key(key!("tls"));
    tls(record.tls, object.out);
    object.header(key!("request_id"), Some(record.request_id));
    match record.trace_id {
        Some(trace) => object.display(key!("trace_id"), trace),
        None => object.value(key!("trace_id"), "null"),
    }
    object.header(key!("user_agent"), record.user_agent);
    object.header(key!("referer"), record.referer);
    object.value(key!("upgraded"), if record.upgraded { "true" } else { "false" });
    object.end();
}

fn attempts(attempts: &[Attempt], out: &mut Vec<u8>) {
    out.push(b'[');
    for (at, attempt) in attempts.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let mut object = Object::begin(out);
        object.text(key!("endpoint"), Some(&attempt.endpoint));
        object.plain(key!("outcome"), attempt.outcome);
        object.millis(key!("ms"), Some(attempt.elapsed));
        object.end();
    }
    out.push(b']');
}

fn tls(tls: Option<&Tls>, out: &mut Vec<u8>) {
    let Some(tls) = tls else { return out.extend(b"null") };
    let mut object = Object::begin(out);
    object.plain(key!("version"), tls.version);
    object.plain(key!("cipher"), tls.cipher);
    object.text(key!("sni"), tls.sni.as_deref());
    object.text(key!("client_subject"), tls.client_subject.as_deref());
    object.end();
}

/// A JSON object being written. Each of its keys begins with a comma; that of the first becomes the brace.
struct Object<'a> {
    begin: usize,
    out: &'a mut Vec<u8>,
}

impl Object<'_> {
    fn begin(out: &mut Vec<u8>) -> Object<'_> {
        Object { begin: out.len(), out }
    }

    fn end(self) {
        self.out[self.begin] = b'{';
        self.out.push(b'}');
    }

    /// Of [`key!`].
    fn key(&mut self, key: &'static str) {
        self.out.extend_from_slice(key.as_bytes());
    }

    /// A value that is JSON already.
    fn value(&mut self, key: &'static str, value: &str) {
        self.key(key);
        self.out.extend_from_slice(value.as_bytes());
    }

    fn number(&mut self, key: &'static str, value: u64) {
        self.value(key, itoa::Buffer::new().format(value));
    }

    /// With three decimals.
    fn millis(&mut self, key: &'static str, value: Option<Duration>) {
        let Some(value) = value else { return self.value(key, "null") };
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        self.number(key, micros / 1_000);
        self.out.push(b'.');
        self.out.extend(decimal::<3>(micros % 1_000));
    }

    /// Text in which nothing needs escaping.
    fn plain(&mut self, key: &'static str, value: impl AsRef<[u8]>) {
        self.key(key);
        self.out.push(b'"');
        self.out.extend_from_slice(value.as_ref());
        self.out.push(b'"');
    }

    /// The like, as it shows itself.
    fn display(&mut self, key: &'static str, value: impl std::fmt::Display) {
        self.key(key);
        append(self.out, format_args!("\"{value}\""));
    }

    fn text(&mut self, key: &'static str, value: Option<&str>) {
        let Some(value) = value else { return self.value(key, "null") };
        self.key(key);
        self.out.push(b'"');
        quote(value, self.out);
        self.out.push(b'"');
    }

    fn header(&mut self, key: &'static str, value: Option<&HeaderValue>) {
        let value = value.map(|value| String::from_utf8_lossy(value.as_bytes()));
        self.text(key, value.as_deref());
    }
}

/// The inside of a JSON string. Most are plain, and to see that at once costs a tenth of looking for what is not.
fn quote(text: &str, out: &mut Vec<u8>) {
    if is_all_plain(text.as_bytes()) {
        out.extend(text.as_bytes());
    } else {
        escape_json(text, out);
    }
}

/// Every byte is asked, without a way out at the first that is special: so several are asked at a time.
fn is_all_plain(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |plain, byte| plain & is_plain(*byte))
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')
}

fn escape_json(text: &str, out: &mut Vec<u8>) {
    for piece in text.split_inclusive(is_special) {
        match piece.char_indices().next_back() {
            Some((at, last)) if is_special(last) => {
                out.extend(&piece.as_bytes()[..at]);
                match last {
                    '"' | '\\' => append(out, format_args!("\\{last}")),
                    _ => append(out, format_args!("\\u{:04x}", u32::from(last))),
                }
            }
            _ => out.extend(piece.as_bytes()),
        }
    }
}

/// Control characters beyond ASCII and Unicode's line ends are escaped too, which JSON does not ask for.
fn is_special(character: char) -> bool {
    character.is_control() || matches!(character, '"' | '\\' | '\u{2028}' | '\u{2029}')
}

/// For example `21/Nov/2026:05:12:00 +0000`.
fn clf_time(time: SystemTime) -> [u8; 26] {
    const MONTHS: [&[u8; 3]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    let time = OffsetDateTime::from(time);
    let mut text = *b"DD/Mon/YYYY:HH:MM:SS +0000";
    text[..2].copy_from_slice(&decimal::<2>(time.day().into()));
    text[3..6].copy_from_slice(MONTHS[usize::from(u8::from(time.month())) - 1]);
    text[7..11].copy_from_slice(&decimal::<4>(u64::from(time.year().unsigned_abs())));
    for (pair, place) in [time.hour(), time.minute(), time.second()].into_iter().zip(text[12..].chunks_mut(3)) {
        place[..2].copy_from_slice(&decimal::<2>(pair.into()));
    }
    text
}

fn common(record: &Record<'_>, out: &mut Vec<u8>) {
    append(out, format_args!("{} - - [", record.client_ip));
    out.extend(clf_time(record.time));
    out.extend(b"] \"");
    escape(record.method.as_str().as_bytes(), out);
    out.push(b' ');
    escape(record.target.as_bytes(), out);
    for part in [" ", protocol(record.protocol), "\" ", itoa::Buffer::new().format(record.status), " "] {
        out.extend_from_slice(part.as_bytes());
    }
    match record.response_bytes {
        0 => out.push(b'-'),
        bytes => out.extend_from_slice(itoa::Buffer::new().format(bytes).as_bytes()),
    }
}

fn combined(record: &Record<'_>, out: &mut Vec<u8>) {
    common(record, out);
    for header in [record.referer, record.user_agent] {
        out.extend(b" \"");
        escape(header.map_or(b"-", HeaderValue::as_bytes), out);
        out.push(b'"');
    }
}

/// As Apache does: quotes and backslashes get a backslash, what is not printable ASCII becomes `\xhh`.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    if is_all_plain(bytes) {
        return out.extend_from_slice(bytes);
    }
    for byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', *byte]),
            b' '..=b'~' => out.push(*byte),
            _ => append(out, format_args!("\\x{byte:02x}")),
        }
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

fn append(out: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    out.write_fmt(arguments).expect("a vector takes every byte");
}
