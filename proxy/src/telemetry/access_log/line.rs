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
use crate::telemetry::timestamp::Timestamp;

/// Appends the record's line, with its newline.
pub(super) fn write(format: AccessLogFormat, record: &Record, out: &mut Vec<u8>) {
    match format {
        AccessLogFormat::Json => json(record, out),
        AccessLogFormat::Common => common(record, out),
        AccessLogFormat::Combined => combined(record, out),
    }
    out.push(b'\n');
}

fn json(record: &Record, out: &mut Vec<u8>) {
    let mut object = Object::begin(out);
    object.raw("time", format_args!("\"{}\"", Timestamp(record.time)));
    object.text("listener", Some(&*record.listener));
    object.text("route", record.route.as_deref());
    object.text("service", record.service.as_deref());
    object.text("endpoint", record.endpoint.as_deref());
    object.raw("client_ip", format_args!("\"{}\"", record.client_ip));
    object.raw("peer", format_args!("\"{}\"", record.peer));
    object.text("method", Some(record.method.as_str()));
    object.text("target", Some(record.target.as_str()));
    object.text("protocol", Some(protocol(record.protocol)));
    object.text("host", Some(&record.host));
    object.raw("status", record.status);
    object.text("reason", record.reason);
    object.raw("request_bytes", record.request_bytes);
    object.raw("response_bytes", record.response_bytes);
    object.raw("duration_ms", Millis(record.duration));
    object.optional("head_after_ms", record.head_after.map(Millis));
    object.key("attempts");
    attempts(&record.attempts, object.out);
    object.key("tls");
    tls(record.tls.as_deref(), object.out);
    object.header("request_id", Some(&record.request_id));
    object.header("user_agent", record.user_agent.as_ref());
    object.header("referer", record.referer.as_ref());
    object.raw("upgraded", record.upgraded);
    object.end();
}

fn attempts(attempts: &[Attempt], out: &mut Vec<u8>) {
    out.push(b'[');
    for (at, attempt) in attempts.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let mut object = Object::begin(out);
        object.text("endpoint", Some(&*attempt.endpoint));
        object.text("outcome", Some(attempt.outcome));
        object.raw("ms", Millis(attempt.elapsed));
        object.end();
    }
    out.push(b']');
}

fn tls(tls: Option<&Tls>, out: &mut Vec<u8>) {
    let Some(tls) = tls else { return out.extend(b"null") };
    let mut object = Object::begin(out);
    object.text("version", Some(tls.version));
    object.text("cipher", Some(tls.cipher));
    object.text("sni", tls.sni.as_deref());
    object.text("client_subject", tls.client_subject.as_deref());
    object.end();
}

/// A JSON object being written.
struct Object<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl Object<'_> {
    fn begin(out: &mut Vec<u8>) -> Object<'_> {
        out.push(b'{');
        Object { out, first: true }
    }

    fn end(self) {
        self.out.push(b'}');
    }

    /// Names are constants that need no escaping.
    fn key(&mut self, name: &str) {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        for part in ["\"", name, "\":"] {
            self.out.extend(part.as_bytes());
        }
    }

    /// A value that is JSON already.
    fn raw(&mut self, name: &str, value: impl std::fmt::Display) {
        self.key(name);
        append(self.out, format_args!("{value}"));
    }

    fn optional(&mut self, name: &str, value: Option<impl std::fmt::Display>) {
        match value {
            Some(value) => self.raw(name, value),
            None => self.null(name),
        }
    }

    fn null(&mut self, name: &str) {
        self.key(name);
        self.out.extend(b"null");
    }

    fn text(&mut self, name: &str, value: Option<&str>) {
        let Some(value) = value else { return self.null(name) };
        self.key(name);
        self.out.push(b'"');
        quote(value, self.out);
        self.out.push(b'"');
    }

    fn header(&mut self, name: &str, value: Option<&HeaderValue>) {
        let value = value.map(|value| String::from_utf8_lossy(value.as_bytes()));
        self.text(name, value.as_deref());
    }
}

/// The inside of a JSON string. Most are plain, and to see that at once costs a tenth of looking for what is not.
fn quote(text: &str, out: &mut Vec<u8>) {
    // Every byte is asked, without a way out at the first that is special: so several are asked at a time.
    if text.bytes().fold(true, |plain, byte| plain & is_plain(byte)) {
        out.extend(text.as_bytes());
    } else {
        escape_json(text, out);
    }
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

/// Milliseconds with three decimals.
struct Millis(Duration);

impl std::fmt::Display for Millis {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let micros = self.0.as_micros();
        write!(out, "{}.{:03}", micros / 1_000, micros % 1_000)
    }
}

/// For example `21/Nov/2026:05:12:00 +0000`.
struct ClfTime(SystemTime);

impl std::fmt::Display for ClfTime {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let time = OffsetDateTime::from(self.0);
        let (year, month, day) = (time.year(), MONTHS[usize::from(u8::from(time.month())) - 1], time.day());
        let (hour, minute, second) = (time.hour(), time.minute(), time.second());
        write!(out, "{day:02}/{month}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000")
    }
}

fn common(record: &Record, out: &mut Vec<u8>) {
    append(out, format_args!("{} - - [{}] \"", record.client_ip, ClfTime(record.time)));
    escape(record.method.as_str().as_bytes(), out);
    out.push(b' ');
    escape(record.target.as_str().as_bytes(), out);
    append(out, format_args!(" {}\" {} ", protocol(record.protocol), record.status));
    match record.response_bytes {
        0 => out.push(b'-'),
        bytes => append(out, format_args!("{bytes}")),
    }
}

fn combined(record: &Record, out: &mut Vec<u8>) {
    common(record, out);
    for header in [&record.referer, &record.user_agent] {
        out.extend(b" \"");
        escape(header.as_ref().map_or(b"-", HeaderValue::as_bytes), out);
        out.push(b'"');
    }
}

/// As Apache does: quotes and backslashes get a backslash, what is not printable ASCII becomes `\xhh`.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
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
