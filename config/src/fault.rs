//! serde's complaints in the words of the configuration.
//!
//! Owns the wording. serde says what its types are called; a reader wants to know what to write. Never decides whether
//! something is wrong.

use crate::problem::Complaint;
use crate::words;

/// What serde found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A key or a variant that is not known, and those that are.
    Unknown {
        /// Which kind of word.
        what: What,
        /// As written.
        word: String,
        /// All there are.
        known: Vec<String>,
    },
    /// A key that must be there is not.
    Missing(String),
    /// The value is of the wrong kind, or out of range.
    Wrong {
        /// serde's word for what was found, for example ``integer `5` ``.
        found: String,
        /// serde's word for what was expected.
        expected: String,
    },
    /// A parser of ours said why.
    Said(String),
}

/// Which word was not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// A key of a table.
    Key,
    /// One of a fixed set of values.
    Value,
    /// One of a fixed set of values that stands in the place of a key: the kind of a middleware.
    Kind,
}

impl Fault {
    /// Reads a message of serde.
    pub(crate) fn of(message: &str) -> Fault {
        unknown(message)
            .or_else(|| missing(message))
            .or_else(|| wrong(message))
            .unwrap_or_else(|| Fault::Said(message.to_owned()))
    }

    /// The same fault, known to be about a key.
    pub(crate) fn of_key(self) -> Fault {
        match self {
            Fault::Unknown { what: What::Value, word, known } => Fault::Unknown { what: What::Kind, word, known },
            fault => fault,
        }
    }

    /// A complaint about the file's TOML itself.
    pub(crate) fn syntax(message: &str) -> Complaint {
        let complaint = Complaint::new(message);
        match message {
            "duplicate key" => complaint.hint("a key or a table stands once in a file; join the two"),
            _ if message.contains("string, expected") => complaint.hint("a string begins and ends with \""),
            _ if message.starts_with("key with no value") || message.starts_with("invalid unquoted key") => {
                complaint.hint("TOML writes `key = value`, and `[table.name]` above the keys of a table")
            }
            _ if message.starts_with("invalid float") || message.starts_with("invalid integer") => {
                Complaint::new("this is not a number").hint("text stands in quotation marks: \"0.0.0.0:8080\"")
            }
            _ => complaint,
        }
    }

    /// The same for the reader of the file.
    pub(crate) fn complaint(&self) -> Complaint {
        match self {
            Fault::Unknown { what: What::Key, word, known } => words::complaint("key", word, known),
            Fault::Unknown { what: What::Value, word, known } => words::complaint("value", word, known),
            Fault::Unknown { what: What::Kind, word, known } => words::complaint("kind", word, known),
            Fault::Missing(key) => Complaint::new(format!("`{key}` is missing")).maybe_hint(missing_hint(key)),
            Fault::Wrong { found, expected } => {
                let complaint = Complaint::new(format!("expected {}, found {}", plain(expected), plain_found(found)));
                complaint.maybe_hint(wrong_hint(found, expected))
            }
            Fault::Said(message) => said(message),
        }
    }
}

fn unknown(message: &str) -> Option<Fault> {
    let (what, rest) = match message.strip_prefix("unknown field `") {
        Some(rest) => (What::Key, rest),
        None => (What::Value, message.strip_prefix("unknown variant `")?),
    };
    let (word, known) = rest.rsplit_once("`, expected ").or_else(|| rest.rsplit_once("`, there are no "))?;
    let known = known.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    Some(Fault::Unknown { what, word: word.to_owned(), known })
}

fn missing(message: &str) -> Option<Fault> {
    let key = message.strip_prefix("missing field `")?.strip_suffix('`')?;
    Some(Fault::Missing(key.to_owned()))
}

fn wrong(message: &str) -> Option<Fault> {
    let rest = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "))?;
    let (found, expected) = rest.rsplit_once(", expected ").unwrap_or((rest, ""));
    // An example in the expectation may have a comma of its own, but never the words `, expected `.
    Some(Fault::Wrong { found: found.to_owned(), expected: expected.to_owned() })
}

fn missing_hint(key: &str) -> Option<String> {
    let example = match key {
        "version" => "add version = 1 as the first line",
        "address" => "add address = \"0.0.0.0:8080\"",
        "service" => "add service = \"NAME\", one of [services.*]",
        "name" => "add name = \"web-1\": it stays in cookies, metrics and logs whatever the url",
        "url" => "add url = \"http://10.0.0.1:8080\"",
        "certificates" => "add certificates = [{ cert = \"site.pem\", key = \"site.key\" }]",
        "cert" => "add cert = \"site.pem\", the chain of certificates, leaf first",
        "key" => "add key = \"site.key\", the certificate's private key",
        "ca" => "add ca = \"clients.pem\", the authorities that sign clients",
        "regex" => "add regex = \"^https://www\\\\.(.*)\"",
        "to" => "add to = \"https://$1\"",
        "otlp" => "add otlp = \"http://127.0.0.1:4317\", where a collector takes OTLP",
        _ => return None,
    };
    Some(example.to_owned())
}

/// serde's and Rust's words for kinds of values, in TOML's.
fn plain(expected: &str) -> String {
    match expected {
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "a table".to_owned(),
        "u16" => "a whole number from 0 to 65535".to_owned(),
        "u32" | "usize" | "u64" => "a whole number, 0 or more".to_owned(),
        "i64" => "a whole number".to_owned(),
        "socket address" => "an address with a port, for example \"0.0.0.0:8080\"".to_owned(),
        "path string" => "a file name".to_owned(),
        _ if expected.starts_with("struct ") => "a table".to_owned(),
        _ => expected.to_owned(),
    }
}

fn plain_found(found: &str) -> String {
    match found {
        "map" => "a table".to_owned(),
        "sequence" => "a list".to_owned(),
        _ => match found.split_once(' ') {
            Some(("string", text)) => format!("the string {text}"),
            Some((kind @ ("integer" | "boolean"), text)) => format!("the {kind} {text}"),
            Some(("floating", text)) => format!("the number {}", text.trim_start_matches("point ")),
            _ => found.to_owned(),
        },
    }
}

fn wrong_hint(found: &str, expected: &str) -> Option<String> {
    let number = number_in(found);
    let text = found.strip_prefix("string \"").and_then(|rest| rest.strip_suffix('"'));
    match (number, text) {
        (Some(number), _) if expected.starts_with("a duration") => Some(duration_hint(number)),
        (Some(number), _) if expected.starts_with("a size") => Some(size_hint(number)),
        (Some(number), _) if expected.starts_with("a share") => Some(share_hint(number)),
        (Some(number), _) if expected == "socket address" => Some(format!("write \"0.0.0.0:{number}\"")),
        _ if expected.starts_with("struct ") => table_hint(&expected["struct ".len()..]),
        (Some(number), _) if expected.contains("for example \"") || expected.contains("string") => {
            Some(format!("write \"{number}\""))
        }
        (_, Some(text)) if expected.starts_with('u') || expected == "i64" => {
            text.parse::<i64>().ok().map(|number| format!("without quotation marks: {number}"))
        }
        (_, Some("true" | "yes" | "on" | "1")) if expected == "a boolean" => Some("write true".to_owned()),
        (_, Some("false" | "no" | "off" | "0")) if expected == "a boolean" => Some("write false".to_owned()),
        (_, Some(text)) if expected == "a sequence" => Some(format!("write [\"{text}\"]")),
        _ => None,
    }
}

/// What a table looks like whose place is taken by something else.
fn table_hint(kind: &str) -> Option<String> {
    let example = match kind {
        "Listener" | "Admin" => "write { address = \"127.0.0.1:8080\" }",
        "Route" => "write { service = \"NAME\" }",
        "Service" => "write { endpoints = [{ name = \"web-1\", url = \"http://10.0.0.1:8080\" }] }",
        "Endpoint" => "write { name = \"web-1\", url = \"http://10.0.0.1:8080\" }",
        "StickyTable" => "write { cookie = \"lb\" } or { client_ip = \"1h\" }",
        "Certificate" => "write { cert = \"site.pem\", key = \"site.key\" }",
        "HealthCheck" => "write { path = \"/health\" }",
        "Tracing" => "write { otlp = \"http://127.0.0.1:4317\" }",
        "Retry" => "write { max_attempts = 3 }; 1 means no retry",
        _ => return None,
    };
    Some(example.to_owned())
}

fn number_in(found: &str) -> Option<&str> {
    let number = found.strip_prefix("integer `").or_else(|| found.strip_prefix("floating point `"))?;
    number.strip_suffix('`')
}

fn duration_hint(number: &str) -> String {
    if number == "0" {
        return "a duration needs a unit: write \"0s\"".to_owned();
    }
    match number.parse::<f64>() {
        Ok(value) if value.fract() != 0.0 => format!("a duration needs a unit: write \"{:.0}ms\"", value * 1000.0),
        _ => format!("a duration needs a unit: write \"{number}s\" for seconds, \"{number}ms\" for milliseconds"),
    }
}

fn size_hint(number: &str) -> String {
    let bytes = number.parse::<u64>().map(|bytes| crate::value::ByteSize(bytes).to_string());
    match bytes {
        Ok(size) => format!("a size needs a unit: write \"{size}\""),
        Err(_) => "a size needs a unit: write \"64KiB\"".to_owned(),
    }
}

fn share_hint(number: &str) -> String {
    match number.parse::<f64>() {
        Ok(share) if share > 0.0 && share < 1.0 => format!("a share is in percent: write \"{}%\"", share * 100.0),
        _ => format!("a share is in percent: write \"{number}%\""),
    }
}

fn said(message: &str) -> Complaint {
    match message {
        "invalid socket address syntax" => Complaint::new("not an address with a port")
            .hint("write \"0.0.0.0:8080\" for every IPv4 address, \"[::]:8080\" for IPv6, \"127.0.0.1:8080\" for this machine"),
        _ if message.starts_with("wanted exactly 1 element") => Complaint::new("a middleware has exactly one kind")
            .hint(format!("write one of {}", crate::middleware::kinds())),
        "wanted string or table" => Complaint::new("expected a string or a table"),
        _ => match message.split_once("; ") {
            Some((message, hint)) => Complaint::new(message).hint(hint),
            None => Complaint::new(message),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(message: &str, expected: &str, hint: Option<&str>) {
        let complaint = Fault::of(message).complaint();
        assert_eq!((complaint.message.as_str(), complaint.hint.as_deref()), (expected, hint));
    }

    #[test]
    fn a_bare_number_gets_its_unit() {
        let duration = "a duration with a unit, for example \"250ms\"";
        check(
            &format!("invalid type: integer `5`, expected {duration}"),
            &format!("expected {duration}, found the integer `5`"),
            Some("a duration needs a unit: write \"5s\" for seconds, \"5ms\" for milliseconds"),
        );
        let share = "a share in percent, for example \"20%\"";
        check(
            &format!("invalid type: floating point `0.2`, expected {share}"),
            &format!("expected {share}, found the number `0.2`"),
            Some("a share is in percent: write \"20%\""),
        );
        assert_eq!(size_hint("65536"), "a size needs a unit: write \"64KiB\"");
    }

    #[test]
    fn quotation_marks_and_brackets_are_taught() {
        check(
            "invalid type: string \"3\", expected u32",
            "expected a whole number, 0 or more, found the string \"3\"",
            Some("without quotation marks: 3"),
        );
        check(
            "invalid type: string \"web\", expected a sequence",
            "expected a list, found the string \"web\"",
            Some("write [\"web\"]"),
        );
        check(
            "invalid type: string \"yes\", expected a boolean",
            "expected true or false, found the string \"yes\"",
            Some("write true"),
        );
    }

    #[test]
    fn unknown_words_come_with_known_ones() {
        check(
            "unknown field `adress`, expected `address` or `tls`",
            "unknown key `adress`",
            Some("did you mean `address`?"),
        );
        check("unknown field `x`, there are no fields", "unknown key `x`", Some("nothing can be set here"));
        check(
            "unknown variant `banana`, expected one of `hash`, `random`, `round_robin`",
            "unknown value `banana`",
            Some("known here: `hash`, `random` or `round_robin`"),
        );
    }
}
