//! Which word was meant.
//!
//! Owns the nearest known word, the words of other proxies, and the words of this format that this version does not
//! know yet. Never touches the file.

use crate::problem::Complaint;

/// What an unknown key calls for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Meant {
    /// This known word, nearly certainly.
    Known(String),
    /// This one: another proxy's word for it was written.
    Called(String),
    /// Part of the format, not of this version.
    Unsupported,
    /// Nothing that comes to mind.
    Nothing,
}

/// Keys and kinds of the format that this version refuses.
const UNSUPPORTED: &[&str] = &[
    "acme",
    "basic_auth",
    "body_limit",
    "compress",
    "cors",
    "discovery",
    "error_pages",
    "ewma",
    "failover",
    "forward_auth",
    "grpc",
    "http3",
    "in_flight",
    "ip_filter",
    "jwt_auth",
    "mirror",
    "rate_limit",
    "rule",
    "split",
];

/// Words of other proxies, and ours for them. A word may stand for several of ours; the first that is known counts.
const FOREIGN: &[(&str, &str)] = &[
    ("entrypoint", "listeners"),
    ("entrypoints", "listeners"),
    ("frontend", "listeners"),
    ("frontends", "listeners"),
    ("bind", "address"),
    ("listen", "address"),
    ("router", "routes"),
    ("routers", "routes"),
    ("location", "path_prefix"),
    ("prefix", "path_prefix"),
    ("server_name", "hosts"),
    ("domain", "hosts"),
    ("domains", "hosts"),
    ("backend", "service"),
    ("upstream", "service"),
    ("proxy_pass", "service"),
    ("backends", "services"),
    ("upstreams", "services"),
    ("clusters", "services"),
    ("cluster", "service"),
    ("filter", "middlewares"),
    ("filters", "middlewares"),
    ("plugins", "middlewares"),
    ("servers", "endpoints"),
    ("server", "endpoints"),
    ("backends", "endpoints"),
    ("hosts", "endpoints"),
    ("targets", "endpoints"),
    ("upstreams", "endpoints"),
    ("loadbalancer", "balancer"),
    ("load_balancer", "balancer"),
    ("lb_policy", "balancer"),
    ("algorithm", "balancer"),
    ("strategy", "balancer"),
    ("healthcheck", "health_check"),
    ("check", "health_check"),
    ("retries", "retry"),
    ("session", "sticky"),
    ("stick_table", "sticky"),
    ("affinity", "sticky"),
    ("address", "url"),
    ("addr", "url"),
    ("addr", "address"),
    ("target", "url"),
    ("certs", "certificates"),
    ("certfile", "cert"),
    ("cert_file", "cert"),
    ("certificate", "cert"),
    ("certificate", "certificates"),
    ("keyfile", "key"),
    ("key_file", "key"),
    ("private_key", "key"),
    ("ssl", "tls"),
    ("passhostheader", "headers"),
    ("stripprefix", "strip_prefix"),
    ("redirectregex", "redirect"),
    ("replacement", "to"),
    ("maxconn", "max_connections"),
    ("max_conn", "max_connections"),
    ("attempts", "max_attempts"),
    ("rise_count", "rise"),
    ("healthy_threshold", "rise"),
    ("unhealthy_threshold", "fall"),
    ("accesslog", "access_log"),
    ("traces", "tracing"),
    ("opentelemetry", "tracing"),
    ("otel", "tracing"),
    ("endpoint", "otlp"),
    ("url", "otlp"),
    ("address", "otlp"),
    ("sample_rate", "sample"),
    ("sampling", "sample"),
    ("resource_attributes", "resource"),
    ("attributes", "resource"),
    ("http/protobuf", "http"),
    ("api", "admin"),
    ("roundrobin", "round_robin"),
    ("wrr", "round_robin"),
    ("leastconn", "least_request"),
    ("least_conn", "least_request"),
    ("least_connections", "least_request"),
    ("ip_hash", "hash"),
    ("consistent_hash", "hash"),
    ("source", "hash"),
    ("warning", "warn"),
    ("notice", "info"),
    ("critical", "error"),
    ("fatal", "error"),
    ("http2", "h2c"),
    ("h2", "h2c"),
];

/// The known word that an unknown one stands for.
pub(crate) fn meant(word: &str, known: &[String]) -> Meant {
    let word = word.to_ascii_lowercase().replace('-', "_");
    if UNSUPPORTED.contains(&word.as_str()) {
        return Meant::Unsupported;
    }
    let squeezed = |text: &str| text.replace('_', "");
    if let Some(same) = known.iter().find(|known| squeezed(known) == squeezed(&word)) {
        return Meant::Known(same.clone());
    }
    if let Some(ours) = foreign(&word, known) {
        return Meant::Called(ours.clone());
    }
    nearest(&word, known).cloned().map_or(Meant::Nothing, Meant::Known)
}

/// The known word that differs least, when it differs little.
pub(crate) fn nearest<'a>(word: &str, known: &'a [String]) -> Option<&'a String> {
    // Versions and numbers are near to each other without being typos.
    if !word.contains(|letter: char| letter.is_alphabetic()) {
        return None;
    }
    let distance = |known: &&String| strsim::damerau_levenshtein(word, known);
    let best = known.iter().min_by_key(distance)?;
    let allowed = (word.chars().count().max(best.chars().count()) / 3).max(1);
    (distance(&best) <= allowed).then_some(best)
}

/// `a`, `b` or `c`.
pub(crate) fn list(words: &[String]) -> String {
    joined(words, "or")
}

/// `a`, `b` and `c`.
pub(crate) fn list_all(words: &[String]) -> String {
    joined(words, "and")
}

fn joined(words: &[String], last_by: &str) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        None => "nothing".to_owned(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} {last_by} {last}", rest.join(", ")),
    }
}

/// A complaint about a word, with the word that was meant or those there are.
pub(crate) fn complaint(what: &str, word: &str, known: &[String]) -> Complaint {
    let unknown = Complaint::new(format!("unknown {what} `{word}`"));
    match meant(word, known) {
        Meant::Unsupported => Complaint::new(format!("this version of Waypost does not support `{word}`"))
            .hint(format!("supported here: {}", list(known))),
        Meant::Called(ours) => unknown.hint(format!("here it is called `{ours}`")),
        Meant::Known(meant) => unknown.hint(format!("did you mean `{meant}`?")),
        Meant::Nothing if known.is_empty() => unknown.hint("nothing can be set here"),
        Meant::Nothing => unknown.hint(format!("known here: {}", list(known))),
    }
}

fn foreign<'a>(word: &str, known: &'a [String]) -> Option<&'a String> {
    let squeezed = word.replace('_', "");
    let ours = |(theirs, _): &&(&str, &str)| *theirs == word || theirs.replace('_', "") == squeezed;
    FOREIGN.iter().filter(ours).find_map(|(_, ours)| known.iter().find(|known| known == ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(word: &str, known: &[&str], expected: &Meant) {
        let known: Vec<String> = known.iter().map(ToString::to_string).collect();
        assert_eq!(&meant(word, &known), expected);
    }

    #[test]
    fn a_mistyped_word_finds_its_neighbour() {
        check("adress", &["address", "tls"], &Meant::Known("address".into()));
        check("health-check", &["health_check"], &Meant::Known("health_check".into()));
        check("healthCheck", &["health_check"], &Meant::Known("health_check".into()));
        check("middleware", &["middlewares"], &Meant::Known("middlewares".into()));
    }

    #[test]
    fn a_word_of_another_proxy_finds_ours() {
        check("entryPoints", &["hosts", "listeners"], &Meant::Called("listeners".into()));
        check("servers", &["endpoints", "retry"], &Meant::Called("endpoints".into()));
        check("leastconn", &["round_robin", "least_request"], &Meant::Called("least_request".into()));
    }

    #[test]
    fn a_word_that_is_far_from_all_finds_none() {
        check("banana", &["address", "tls"], &Meant::Nothing);
        check("xy", &["on", "to"], &Meant::Nothing);
        check("1.1", &["1.2", "1.3"], &Meant::Nothing);
    }

    #[test]
    fn a_word_of_a_later_version_is_never_taken_for_a_typo() {
        check("rule", &["retry"], &Meant::Unsupported);
        check("ewma", &["random"], &Meant::Unsupported);
    }
}
