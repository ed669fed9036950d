//! Values with a meaning: each is parsed once, here, and can't be wrong afterwards.
//!
//! Owns the text forms of durations, sizes, percentages, hosts, networks, header names and the like.

use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::str::FromStr;
use std::time;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Implements serde through `FromStr` and `Display`, so that a value has one text form everywhere.
macro_rules! text_value {
    ($type:ty, $description:literal, $example:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $type;
                    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                        formatter.write_str(concat!($description, ", for example \"", $example, "\""))
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Visitor)
            }
        }
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "description": $description, "examples": [$example] })
            }
        }
    };
}

/// A length of time, written with a unit: `"250ms"`, `"5s"`, `"1h 30m"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub time::Duration);

impl Duration {
    /// No time at all.
    pub const ZERO: Duration = Duration(time::Duration::ZERO);

    /// Whole seconds.
    pub const fn seconds(count: u64) -> Duration {
        Duration(time::Duration::from_secs(count))
    }

    /// Whole milliseconds.
    pub const fn millis(count: u64) -> Duration {
        Duration(time::Duration::from_millis(count))
    }
}

impl Deref for Duration {
    type Target = time::Duration;
    fn deref(&self) -> &time::Duration {
        &self.0
    }
}

impl FromStr for Duration {
    type Err = String;
    fn from_str(text: &str) -> Result<Duration, String> {
        humantime::parse_duration(text)
            .map(Duration)
            .map_err(|_| format!("`{text}` is not a duration; write numbers with units: \"250ms\", \"5s\", \"1h 30m\""))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(formatter)
    }
}

text_value!(Duration, "a duration with a unit", "250ms");

/// A number of bytes, written with a unit: `"64KiB"`, `"10MB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = String;
    fn from_str(text: &str) -> Result<ByteSize, String> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!("`{text}` is not a size; a size needs a unit: \"{text}B\", \"64KiB\", \"10MB\""));
        }
        text.parse::<bytesize::ByteSize>()
            .map(|size| ByteSize(size.0))
            .map_err(|_| format!("`{text}` is not a size; write a number with a unit: \"64KiB\", \"10MB\""))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match exact.iter().find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(formatter, "{}{name}", self.0 / unit),
            None => write!(formatter, "{}B", self.0),
        }
    }
}

text_value!(ByteSize, "a size with a unit", "64KiB");

/// A share between 0 and 1, written `"20%"`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Percent(pub f64);

impl Percent {
    /// `"100%"`.
    pub const ALL: Percent = Percent(1.0);
}

impl FromStr for Percent {
    type Err = String;
    fn from_str(text: &str) -> Result<Percent, String> {
        let number = text.strip_suffix('%').ok_or("a share is in percent; for example \"20%\"")?;
        match number.trim().parse::<f64>() {
            Ok(value) if (0.0..=100.0).contains(&value) => Ok(Percent(value / 100.0)),
            Ok(value) => Err(format!("{value}% is not between 0% and 100%")),
            Err(_) => Err(format!("`{number}` is not a number")),
        }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}%", self.0 * 100.0)
    }
}

text_value!(Percent, "a share in percent", "20%");

/// Text that must not be seen: shows itself as `***`.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself; the only way to it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Secret {
        Secret(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

/// A host name, lower case, without port: exact or one wildcard label in front.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// `shop.example`
    Exact(String),
    /// `*.shop.example`, held without the star and its dot: exactly one more label in front.
    Wildcard(String),
}

impl FromStr for HostPattern {
    type Err = String;
    fn from_str(text: &str) -> Result<HostPattern, String> {
        let lower = text.to_ascii_lowercase();
        let (name, wildcard) = match lower.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (lower.as_str(), false),
        };
        check_host_name(name)?;
        Ok(if wildcard { HostPattern::Wildcard(name.to_owned()) } else { HostPattern::Exact(name.to_owned()) })
    }
}

fn check_host_name(name: &str) -> Result<(), String> {
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    if address {
        return Ok(());
    }
    if name.contains(':') {
        let host = name.split("://").last().and_then(|rest| rest.split([':', '/']).next()).unwrap_or_default();
        return Err(format!("a host has no scheme and no port here; write \"{host}\": the listener has the rest"));
    }
    if name.contains('*') {
        return Err("`*` may stand for the whole first label only, as in `*.shop.example`".to_owned());
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if name.len() <= 253 && name.split('.').all(label) { Ok(()) } else { Err(format!("`{name}` is not a host name")) }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Exact(name) => formatter.write_str(name),
            HostPattern::Wildcard(name) => write!(formatter, "*.{name}"),
        }
    }
}

text_value!(HostPattern, "a host name, with `*.` in front for any first label", "*.shop.example");

/// A network, or a single address: `10.0.0.0/8`, `192.0.2.1`, `2001:db8::/32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr(pub ipnet::IpNet);

impl Cidr {
    /// Whether the address lies in it. An IPv4 address in IPv6 clothes counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Cidr {
    type Err = String;
    fn from_str(text: &str) -> Result<Cidr, String> {
        let network = text.parse::<ipnet::IpNet>().or_else(|_| text.parse::<IpAddr>().map(ipnet::IpNet::from));
        network.map(Cidr).map_err(|_| format!("`{text}` is neither a network like 10.0.0.0/8 nor an address"))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

text_value!(Cidr, "a network or an address", "10.0.0.0/8");

/// A header field name, lower case (RFC 9110 section 5.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HeaderName(String);

impl HeaderName {
    /// The name, lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HeaderName {
    type Err = String;
    fn from_str(text: &str) -> Result<HeaderName, String> {
        if is_token(text) {
            Ok(HeaderName(text.to_ascii_lowercase()))
        } else {
            Err(format!("`{text}` is not a header field name"))
        }
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

text_value!(HeaderName, "a header field name", "x-tenant");

/// A request method, upper case as it is sent (RFC 9110 section 9.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Method(String);

impl Method {
    /// The method's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Method {
    type Err = String;
    fn from_str(text: &str) -> Result<Method, String> {
        if !is_token(text) {
            return Err(format!("`{text}` is not a request method"));
        }
        if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
            return Err(format!("methods are case-sensitive; did you mean `{}`?", text.to_ascii_uppercase()));
        }
        Ok(Method(text.to_owned()))
    }
}

impl fmt::Display for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

text_value!(Method, "a request method", "GET");

/// RFC 9110 section 5.6.2.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// A regular expression that compiles.
#[derive(Debug, Clone)]
pub struct Regex(regex::Regex);

impl Regex {
    /// The compiled expression, as written (not anchored).
    pub fn get(&self) -> &regex::Regex {
        &self.0
    }

    /// The expression for a whole text. It need not compile: a comment at its end swallows the anchor.
    pub fn anchored(&self) -> Result<regex::Regex, regex::Error> {
        regex::Regex::new(&format!("^(?:{self})$"))
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Regex) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl FromStr for Regex {
    type Err = String;
    fn from_str(text: &str) -> Result<Regex, String> {
        regex::Regex::new(text)
            .map(Regex)
            .map_err(|error| format!("not a regular expression: {}", regex_reason(&error)))
    }
}

impl fmt::Display for Regex {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.as_str())
    }
}

/// The reason alone: the drawing of it is for a terminal, and there is a drawing of the file already.
fn regex_reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let reason = text.lines().last().unwrap_or_default();
    reason.trim_start_matches("error: ").to_owned()
}

text_value!(Regex, "a regular expression", "^/v[0-9]+/");

/// Where an endpoint is: scheme, host and port, nothing more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UpstreamUrl {
    /// Whether the scheme is `https`.
    pub tls: bool,
    /// A name, or an address (IPv6 without its brackets).
    pub host: String,
    /// The port; 80 or 443 when the text has none.
    pub port: u16,
}

impl UpstreamUrl {
    /// `host:port` as in a `Host` header: IPv6 in brackets, the scheme's own port left out.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == self.default_port() { host } else { format!("{host}:{}", self.port) }
    }

    fn default_port(&self) -> u16 {
        if self.tls { 443 } else { 80 }
    }
}

impl FromStr for UpstreamUrl {
    type Err = String;
    fn from_str(text: &str) -> Result<UpstreamUrl, String> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| format!("an endpoint's url begins with http:// or https://; write \"http://{text}\""))?;
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return Err(format!("the scheme is http or https, not `{scheme}`")),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '@']) {
            return Err(
                "an endpoint's url is scheme, host and port; a path belongs to routes and middlewares".to_owned()
            );
        }
        let (host, port) = split_authority(authority, if tls { 443 } else { 80 })?;
        check_host_name(&host.to_ascii_lowercase())?;
        Ok(UpstreamUrl { tls, host, port })
    }
}

fn split_authority(authority: &str, default_port: u16) -> Result<(String, u16), String> {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None => return Err(format!("`{rest}` is not a port; write \"[{host}]:PORT\"")),
        },
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port {
        None => default_port,
        Some(text) => match text.parse() {
            Ok(port) if port > 0 => port,
            _ => return Err(format!("`{text}` is not a port")),
        },
    };
    Ok((host.to_owned(), port))
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

text_value!(UpstreamUrl, "scheme, host and port", "http://10.0.0.1:8080");

/// Where a collector takes OTLP: scheme, host, and a port and a path if the usual ones will not do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OtlpUrl {
    /// Whether the scheme is `https`.
    pub tls: bool,
    /// A name, or an address (IPv6 without its brackets).
    pub host: String,
    /// The port, if the text has one.
    pub port: Option<u16>,
    /// The path, if the text has one and it is not `/`.
    pub path: Option<String>,
}

impl FromStr for OtlpUrl {
    type Err = String;
    fn from_str(text: &str) -> Result<OtlpUrl, String> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| format!("a collector's url begins with http:// or https://; write \"http://{text}\""))?;
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return Err(format!("the scheme is http or https, not `{scheme}`; `protocol` says what is spoken")),
        };
        let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        if authority.contains('@') {
            return Err("a url is no place for a password; write headers = { authorization = \"…\" }".to_owned());
        }
        if path.contains(['?', '#']) || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("`{path}` is not a path; visible ASCII without `?` and `#`"));
        }
        // No port is written as 0, which is refused.
        let (host, port) = split_authority(authority, 0)?;
        check_host_name(&host.to_ascii_lowercase())?;
        let path = (path != "/").then(|| path.to_owned());
        Ok(OtlpUrl { tls, host, port: (port > 0).then_some(port), path })
    }
}

impl fmt::Display for OtlpUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let brackets = if self.host.contains(':') { ["[", "]"] } else { [""; 2] };
        let scheme = if self.tls { "https" } else { "http" };
        write!(formatter, "{scheme}://{}{}{}", brackets[0], self.host, brackets[1])?;
        self.port.map_or(Ok(()), |port| write!(formatter, ":{port}"))?;
        formatter.write_str(self.path.as_deref().unwrap_or_default())
    }
}

text_value!(OtlpUrl, "scheme, host, port and path of a collector", "http://127.0.0.1:4317");

/// What the `hash` balancer hashes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HashKey {
    /// The client's address.
    ClientIp,
    /// A header field's value.
    Header(HeaderName),
    /// A cookie's value.
    Cookie(String),
    /// The path.
    Path,
}

impl FromStr for HashKey {
    type Err = String;
    fn from_str(text: &str) -> Result<HashKey, String> {
        match text.split_once(':') {
            None if text == "client_ip" => Ok(HashKey::ClientIp),
            None if text == "path" => Ok(HashKey::Path),
            Some(("header", name)) => name.parse().map(HashKey::Header),
            Some(("cookie", name)) if is_token(name) => Ok(HashKey::Cookie(name.to_owned())),
            _ => Err(format!(
                "`{text}` can't be hashed; write \"client_ip\", \"path\", \"header:NAME\" or \"cookie:NAME\""
            )),
        }
    }
}

impl fmt::Display for HashKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HashKey::ClientIp => formatter.write_str("client_ip"),
            HashKey::Header(name) => write!(formatter, "header:{name}"),
            HashKey::Cookie(name) => write!(formatter, "cookie:{name}"),
            HashKey::Path => formatter.write_str("path"),
        }
    }
}

text_value!(HashKey, "what to hash: client_ip, path, header:NAME or cookie:NAME", "client_ip");

/// What is worth another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetryOn {
    /// No connection: refused, unreachable, timed out, TLS failed.
    ConnectFailure,
    /// The connection ended before the response's head.
    Reset,
    /// No response head within `timeouts.response`.
    Timeout,
    /// The endpoint answered with this status.
    Status(u16),
}

impl FromStr for RetryOn {
    type Err = String;
    fn from_str(text: &str) -> Result<RetryOn, String> {
        match text {
            "connect_failure" => Ok(RetryOn::ConnectFailure),
            "reset" => Ok(RetryOn::Reset),
            "timeout" => Ok(RetryOn::Timeout),
            _ => match text.parse() {
                Ok(status @ 400..=599) => Ok(RetryOn::Status(status)),
                _ => Err(format!(
                    "`{text}` is nothing to retry on; write \"connect_failure\", \"reset\", \"timeout\" or a status from \
                     \"400\" to \"599\""
                )),
            },
        }
    }
}

impl fmt::Display for RetryOn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RetryOn::ConnectFailure => formatter.write_str("connect_failure"),
            RetryOn::Reset => formatter.write_str("reset"),
            RetryOn::Timeout => formatter.write_str("timeout"),
            RetryOn::Status(status) => status.fmt(formatter),
        }
    }
}

text_value!(RetryOn, "connect_failure, reset, timeout or a status", "503");

/// Statuses from one to another: `"200-299"`, `"204"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StatusRange {
    /// The first status in it.
    pub first: u16,
    /// The last status in it.
    pub last: u16,
}

impl StatusRange {
    /// Whether the status lies in it.
    pub fn contains(&self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}

impl FromStr for StatusRange {
    type Err = String;
    fn from_str(text: &str) -> Result<StatusRange, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.trim().parse(), last.trim().parse()) {
            (Ok(first @ 100..=599), Ok(last @ 100..=599)) if first <= last => Ok(StatusRange { first, last }),
            _ => Err(format!("`{text}` is neither a status nor a range like 200-299")),
        }
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            self.first.fmt(formatter)
        } else {
            write!(formatter, "{}-{}", self.first, self.last)
        }
    }
}

text_value!(StatusRange, "a status or a range of statuses", "200-299");

/// Worker threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workers {
    /// One per core that the process may use.
    Auto,
    /// So many, 1 to 1024.
    Count(usize),
}

impl Workers {
    /// The number of threads.
    pub fn count(self) -> usize {
        match self {
            Workers::Auto => std::thread::available_parallelism().map_or(1, usize::from),
            Workers::Count(count) => count,
        }
    }
}

impl<'de> Deserialize<'de> for Workers {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Workers, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Workers;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a count from 1 to 1024, or \"auto\"")
            }
            fn visit_i64<E: serde::de::Error>(self, count: i64) -> Result<Workers, E> {
                match usize::try_from(count) {
                    Ok(count @ 1..=1024) => Ok(Workers::Count(count)),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Signed(count), &self)),
                }
            }
            fn visit_u64<E: serde::de::Error>(self, count: u64) -> Result<Workers, E> {
                self.visit_i64(i64::try_from(count).unwrap_or(i64::MAX))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Workers, E> {
                if text == "auto" {
                    Ok(Workers::Auto)
                } else {
                    Err(E::invalid_value(serde::de::Unexpected::Str(text), &self))
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for Workers {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Workers::Auto => serializer.serialize_str("auto"),
            Workers::Count(count) => serializer.serialize_u64(*count as u64),
        }
    }
}

impl JsonSchema for Workers {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Workers".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "worker threads: a count, or \"auto\" for one per core",
            "oneOf": [{ "type": "integer", "minimum": 1, "maximum": 1024 }, { "const": "auto" }]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text is read, and written again as `shown`.
    #[track_caller]
    fn good<T: FromStr<Err = String> + fmt::Display>(text: &str, shown: &str) {
        assert_eq!(text.parse::<T>().map(|value| value.to_string()), Ok(shown.to_owned()));
    }

    #[track_caller]
    fn bad<T: FromStr<Err = String> + fmt::Display>(texts: &[&str]) {
        for text in texts {
            assert!(text.parse::<T>().is_err(), "{text:?} was taken for {}", std::any::type_name::<T>());
        }
    }

    #[test]
    fn durations_have_units() {
        good::<Duration>("250ms", "250ms");
        good::<Duration>("1h 30m", "1h 30m");
        good::<Duration>("90s", "1m 30s");
        bad::<Duration>(&["", "5", "5 parsecs", "-5s", "s"]);
    }

    #[test]
    fn sizes_have_units() {
        good::<ByteSize>("64KiB", "64KiB");
        good::<ByteSize>("1024B", "1KiB");
        good::<ByteSize>("10MB", "10000000B");
        bad::<ByteSize>(&["", "64", "64 kilobytes", "-1KiB"]);
    }

    #[test]
    fn shares_lie_between_nothing_and_all() {
        good::<Percent>("20%", "20%");
        good::<Percent>("0.5 %", "0.5%");
        bad::<Percent>(&["20", "0.2", "101%", "-1%", "%", "NaN%"]);
    }

    #[test]
    fn hosts_are_names_with_at_most_one_star_in_front() {
        good::<HostPattern>("Shop.Example", "shop.example");
        good::<HostPattern>("*.shop.example", "*.shop.example");
        good::<HostPattern>("10.0.0.1", "10.0.0.1");
        good::<HostPattern>("[::1]", "[::1]");
        bad::<HostPattern>(&["", "*", "a..b", "shop.example:80", "https://shop.example", "a.*.example", "a b"]);
    }

    #[test]
    fn networks_know_their_addresses() {
        good::<Cidr>("10.0.0.0/8", "10.0.0.0/8");
        good::<Cidr>("192.0.2.1", "192.0.2.1/32");
        bad::<Cidr>(&["", "10.0.0.0/33", "proxy.internal", "10.0.0"]);
        let network: Cidr = "10.0.0.0/8".parse().unwrap();
        assert!(network.contains("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!network.contains("11.0.0.1".parse().unwrap()));
    }

    #[test]
    fn endpoint_urls_are_scheme_host_and_port() {
        good::<UpstreamUrl>("http://10.0.0.1:8080", "http://10.0.0.1:8080");
        good::<UpstreamUrl>("https://web.internal/", "https://web.internal");
        good::<UpstreamUrl>("http://[::1]:80", "http://[::1]");
        bad::<UpstreamUrl>(&["10.0.0.1:80", "tcp://a:1", "http://", "http://a:0", "http://a/b", "http://u@a"]);
    }

    #[test]
    fn collectors_urls_may_have_a_port_and_a_path() {
        good::<OtlpUrl>("http://127.0.0.1:4317", "http://127.0.0.1:4317");
        good::<OtlpUrl>("https://otlp.example/", "https://otlp.example");
        good::<OtlpUrl>("http://[::1]:4318/v1/traces", "http://[::1]:4318/v1/traces");
        bad::<OtlpUrl>(&["127.0.0.1:4317", "grpc://a:1", "http://", "http://a:0", "http://u:p@a", "http://a/b?c"]);
    }

    #[test]
    fn words_with_a_meaning_are_read_and_written_alike() {
        good::<HashKey>("header:X-User", "header:x-user");
        good::<HashKey>("cookie:id", "cookie:id");
        bad::<HashKey>(&["", "header:", "cookie:a b", "x-user"]);
        good::<RetryOn>("connect_failure", "connect_failure");
        good::<RetryOn>("503", "503");
        bad::<RetryOn>(&["", "5xx", "200", "600"]);
        good::<StatusRange>("200-299", "200-299");
        good::<StatusRange>("204", "204");
        bad::<StatusRange>(&["", "2xx", "299-200", "99", "200-600"]);
        good::<Method>("GET", "GET");
        bad::<Method>(&["", "get", "G T"]);
        good::<HeaderName>("X-Tenant", "x-tenant");
        bad::<HeaderName>(&["", "x tenant", "x:y"]);
        bad::<Regex>(&["(", "[a"]);
    }

    #[test]
    fn a_secret_never_shows_itself() {
        let secret = Secret::from("hunter2");
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
        assert_eq!(secret.reveal(), "hunter2");
    }
}
