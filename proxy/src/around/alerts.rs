//! Alerts for a config: of the shipped ones those that can fire, each for the services or listeners by name that can
//! bring it about.
//!
//! Works on the text of the shipped file, whose rules stand one below the other in one form, so that its comments and
//! its advice come along.

use std::collections::BTreeMap;
use std::time::Duration;

use regex::Captures;
use waypost_config::Config;

use super::subject::{METRIC, Subject, speaks};

const SHIPPED: &str = include_str!("../../../docs/observability/rules/alerts.yml");

/// How a rule begins, and a group of them.
const RULE: &str = "      - alert: ";
const GROUP: &str = "  - name: ";
/// How the keys of a rule begin.
const KEY: &str = "        ";

/// The rules for Prometheus, to be read beside `rules/recording.yml`.
pub fn alerts(config: &Config) -> String {
    let (opening, groups) = groups(SHIPPED);
    let whose = named(config);
    let mut text = format!(
        "# For {whose}: made by `waypost generate alerts`, to be made anew when the config changes.\n{opening}"
    );
    for Group { head, rules } in groups {
        let rules: String = rules.iter().filter_map(|rule| fitted(config, rule)).collect();
        if !rules.is_empty() {
            text += head;
            text += &rules;
        }
    }
    format!("{}\n", text.trim_end())
}

fn named(config: &Config) -> String {
    let (services, listeners) = (list(config.services.keys()), list(config.listeners.keys()));
    format!("the services {services} and the listeners {listeners}")
}

fn list<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Rules that stand together.
#[derive(Debug)]
struct Group<'a> {
    /// Its name, with the comment above it.
    head: &'a str,
    rules: Vec<&'a str>,
}

/// The file, cut before each group and each rule; what comes before the first group.
fn groups(text: &str) -> (&str, Vec<Group<'_>>) {
    let (opening, mut rest) = text.split_at(end(text));
    let mut groups: Vec<Group<'_>> = Vec::new();
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(end(rest));
        match groups.last_mut() {
            Some(group) if piece.starts_with(RULE) => group.rules.push(piece),
            _ => groups.push(Group { head: piece, rules: Vec::new() }),
        }
        rest = behind;
    }
    (opening, groups)
}

/// Where the first piece of the text ends.
fn end(text: &str) -> usize {
    let mut at = 0;
    let mut comment = true;
    for line in text.split_inclusive('\n') {
        let opens_group = line.starts_with("  #") || line.starts_with(GROUP);
        // The comment above a group is a part of it.
        if at > 0 && (line.starts_with(RULE) || opens_group && !comment) {
            return at;
        }
        comment &= line.starts_with("  #");
        at += line.len();
    }
    at
}

/// The rule with the names in its expression; `None` if it cannot fire.
fn fitted(config: &Config, rule: &str) -> Option<String> {
    let begin = rule.find(&format!("{KEY}expr:")).expect("every shipped rule has an expression");
    let key = |line: &str| line.starts_with(KEY) && !line[KEY.len()..].starts_with(' ');
    let lines: Vec<_> = rule[begin..].split_inclusive('\n').collect();
    let count = 1 + lines[1..].iter().take_while(|line| !key(line)).count();
    let expression: String = lines[..count].concat();
    let names = |expression: &str| {
        METRIC.replace_all(expression, |metric: &Captures<'_>| selected(config, &metric[0])).into_owned()
    };
    speaks(config, &expression).then(|| {
        format!("{}{}{}", &rule[..begin], patient(config, &joined(&names(&expression))), lines[count..].concat())
    })
}

/// The metric for those that it can tell of.
fn selected(config: &Config, metric: &str) -> String {
    match Subject::of(config, metric) {
        Subject::Services(names) => format!("{metric}{{service=~\"{}\"}}", alternatives(&names)),
        Subject::Listeners(names) => format!("{metric}{{listener=~\"{}\"}}", alternatives(&names)),
        Subject::Process | Subject::Nobody => metric.to_owned(),
    }
}

/// Where the metric was filtered before, two filters follow each other: they become one.
fn joined(expression: &str) -> String {
    expression.replace("\"}{", "\", ")
}

/// As a regular expression in a string: of what names are made of, only a dot means something else there.
fn alternatives(names: &[&str]) -> String {
    names.join("|").replace('.', r"\\.")
}

/// What the shipped rule calls slow.
const SLOW: Duration = Duration::from_millis(1_200);

/// Of `timeouts.response`: a service that may take less than [`SLOW`] is slow before its requests are given up.
const NEARLY: f64 = 0.8;

/// Each service with a limit of its own, where it may take less time than the shipped rule allows.
fn patient(config: &Config, expression: &str) -> String {
    let metric = "service:waypost_request_duration_seconds:p99_rate5m";
    let limit = format!(" > {}", SLOW.as_secs_f64());
    let shipped = selected(config, metric) + &limit;
    let mut limits: BTreeMap<Duration, Vec<&str>> = BTreeMap::new();
    for (name, service) in &config.services {
        limits.entry(service.timeouts.response.0.mul_f64(NEARLY).min(SLOW)).or_default().push(name);
    }
    let own = limits
        .iter()
        .map(|(limit, names)| format!("{metric}{{service=~\"{}\"}} > {}", alternatives(names), limit.as_secs_f64()));
    let own: Vec<_> = own.collect();
    expression.replace(&shipped, &if own.len() == 1 { own.concat() } else { format!("({})", own.join(" or ")) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = r#"
        version = 1
        [listeners.web]
        address = "127.0.0.1:8080"
        [routes.all]
        service = "shop.eu"
        [services."shop.eu"]
        retry = { max_attempts = 1 }
        endpoints = [{ name = "one", url = "http://127.0.0.1:9001" }]
    "#;

    /// One more, that is probed.
    const BLOG: &str = r#"
        [services.blog]
        health_check = { path = "/health" }
        endpoints = [{ name = "one", url = "http://127.0.0.1:9001" }]
        [services."shop.eu"]
    "#;

    fn config(text: &str) -> Config {
        waypost_config::parse(text, "waypost.toml".as_ref(), &|_| None).unwrap().config
    }

    fn names(alerts: &str) -> Vec<&str> {
        alerts.lines().filter_map(|line| line.strip_prefix(RULE)).collect()
    }

    #[test]
    fn the_shipped_file_is_taken_apart_without_a_loss() {
        let (opening, groups) = groups(SHIPPED);
        let pieces = groups.iter().flat_map(|group| [group.head].into_iter().chain(group.rules.iter().copied()));
        assert_eq!([opening].into_iter().chain(pieces).collect::<String>(), SHIPPED);
        assert!(groups.iter().all(|group| group.head.contains(GROUP)), "{groups:#?}");
        assert_eq!(groups.iter().map(|group| group.rules.len()).sum::<usize>(), names(SHIPPED).len());
    }

    #[test]
    fn what_cannot_happen_is_left_out() {
        let alerts = alerts(&config(PLAIN));
        for absent in ["EndpointDown", "Ejected", "CircuitOpen", "Certificate", "AccessLog", "Retries"] {
            assert!(!names(&alerts).iter().any(|name| name.contains(absent)), "{absent}");
        }
        assert!(!alerts.contains("waypost-certificates"), "an empty group");
        for there in ["WaypostDown", "WaypostLatencyHigh", "WaypostServiceWithoutEndpoints", "WaypostReloadRefused"] {
            assert!(names(&alerts).contains(&there), "{there}");
        }
    }

    #[test]
    fn what_can_happen_is_asked_of_those_it_can_happen_to() {
        let text = PLAIN.replace("[services.\"shop.eu\"]", BLOG);
        let alerts = alerts(&config(&text));
        for line in [
            r#"expr: waypost_endpoint_up{service=~"blog"} == 0"#,
            r#"expr: waypost_service_endpoints_available{service=~"blog|shop\\.eu"} == 0"#,
            r#"expr: sum by (job, service) (rate(waypost_replies_total{service=~"blog|shop\\.eu", reason="overloaded"}[5m])) > 0"#,
            r#"expr: listener:waypost_connections_open:ratio{listener=~"web"} > 0.8"#,
            r#"service:waypost_request_errors:ratio_rate1h{service=~"blog|shop\\.eu"} > 14.4 * 0.001"#,
            r#"service:waypost_request_duration_seconds:p99_rate5m{service=~"blog|shop\\.eu"} > 1.2"#,
        ] {
            assert!(alerts.contains(line), "no {line} in\n{alerts}");
        }
    }

    #[test]
    fn who_may_take_less_time_is_slow_sooner() {
        let text = PLAIN.replace("retry = {", "timeouts = { response = \"500ms\" }\nretry = {");
        let line = r#"service:waypost_request_duration_seconds:p99_rate5m{service=~"shop\\.eu"} > 0.4"#;
        assert!(alerts(&config(&text)).contains(line));
    }
}
