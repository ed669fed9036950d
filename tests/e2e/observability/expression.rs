//! What an expression of Prometheus asks for: metric names and labels, taken from its text.
//!
//! Decides what may be asked for: what Waypost defines, what Prometheus adds, what the rules record. Whether the
//! expression is valid is Prometheus's own affair, which is asked elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regex::Regex;
use waypost::telemetry::metrics::{Metrics, definitions};

/// Of the target that was scraped, on every series.
const TARGET: [&str; 2] = ["job", "instance"];

/// Words with a meaning of their own.
const KEYWORDS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];

/// An expression, taken apart.
#[derive(Debug)]
pub(super) struct Expression {
    /// Each metric with the labels that it is filtered by.
    selectors: Vec<(String, Vec<String>)>,
    /// The labels by which it is put together, and matched.
    groups: BTreeSet<String>,
}

impl Expression {
    /// Takes strings and windows away first, since they may look like anything.
    pub(super) fn read(text: &str) -> Expression {
        let text = STRING.replace_all(text, "");
        let text = WINDOW.replace_all(&text, "");
        let grouped = GROUPS.captures_iter(&text);
        let groups = grouped.flat_map(|found| words(&found[1])).collect();
        let text = GROUPS.replace_all(&text, " ");
        let named = NAME.captures_iter(&text).filter(|found| &found[2] != "(" && !KEYWORDS.contains(&&found[1]));
        let selectors = named.map(|found| (found[1].to_owned(), words(&found[2]))).collect();
        Expression { selectors, groups }
    }

    /// The metrics that it asks for.
    pub(super) fn metrics(&self) -> impl Iterator<Item = &str> {
        self.selectors.iter().map(|(metric, _)| metric.as_str())
    }
}

static STRING: LazyLock<Regex> = LazyLock::new(|| regex(r#""(?:[^"\\]|\\.)*""#));
static WINDOW: LazyLock<Regex> = LazyLock::new(|| regex(r"\[[^\]]*\]"));
static GROUPS: LazyLock<Regex> =
    LazyLock::new(|| regex(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)"));
static NAME: LazyLock<Regex> = LazyLock::new(|| regex(r"\b([a-zA-Z_][\w:]*)\s*(\(|\{[^}]*\}|)"));
static WORD: LazyLock<Regex> = LazyLock::new(|| regex(r"\w+"));

fn regex(text: &str) -> Regex {
    Regex::new(text).unwrap()
}

fn words(text: &str) -> Vec<String> {
    WORD.find_iter(text).map(|found| found.as_str().to_owned()).collect()
}

/// Every metric that there is, with the labels of its series.
#[derive(Debug)]
pub(super) struct Known(BTreeMap<String, BTreeSet<String>>);

impl Known {
    /// What is scraped: Waypost's metrics, its process's, and what Prometheus says of the target.
    pub(super) fn scraped() -> Known {
        let mut known = Known(BTreeMap::new());
        for definition in definitions() {
            let histogram = definition.kind == "histogram";
            let suffixes: &[_] = if histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
            for suffix in suffixes {
                let bound = if *suffix == "_bucket" { Some("le") } else { None };
                known.add(&format!("{}{suffix}", definition.name), definition.labels.iter().copied().chain(bound));
            }
        }
        let page = Metrics::new().encode();
        let names = page.lines().filter_map(|line| line.split([' ', '{']).next());
        names.filter(|name| name.starts_with("process_")).for_each(|name| known.add(name, []));
        known.add("up", []);
        known
    }

    fn add<'a>(&mut self, metric: &str, labels: impl IntoIterator<Item = &'a str>) {
        let labels = labels.into_iter().chain(TARGET).map(str::to_owned).collect();
        self.0.insert(metric.to_owned(), labels);
    }

    /// A rule records this.
    pub(super) fn record(&mut self, metric: &str, expression: &Expression) {
        let labels = self.left_by(expression);
        self.0.insert(metric.to_owned(), labels);
    }

    /// The labels that a result may have: those that it is put together by, or else those of what was asked for.
    pub(super) fn left_by(&self, expression: &Expression) -> BTreeSet<String> {
        if expression.groups.is_empty() { self.asked_for(expression) } else { expression.groups.clone() }
    }

    fn asked_for(&self, expression: &Expression) -> BTreeSet<String> {
        expression.metrics().filter_map(|metric| self.0.get(metric)).flatten().cloned().collect()
    }

    /// Whether this metric has this label.
    pub(super) fn has(&self, metric: &str, label: &str) -> bool {
        self.0.get(metric).is_some_and(|labels| labels.contains(label))
    }

    /// Everything that the expression asks for and that is not there.
    pub(super) fn unknown(&self, expression: &Expression) -> Vec<String> {
        let metrics = expression.metrics().filter(|metric| !self.0.contains_key(*metric)).map(str::to_owned);
        let filtered = expression.selectors.iter().flat_map(|(metric, labels)| {
            labels.iter().filter(move |label| !self.has(metric, label)).map(move |label| format!("{metric}{{{label}}}"))
        });
        let all = self.asked_for(expression);
        let grouped = expression.groups.iter().filter(|label| !all.contains(*label)).map(|label| format!("by {label}"));
        metrics.chain(filtered).chain(grouped).collect()
    }
}

#[test]
fn expression_is_taken_apart() {
    let expression = Expression::read(
        r#"histogram_quantile(0.99, sum by (le, a) (rate(x_bucket{b=~"{c}|$d", e!="\""}[5m]))) > 1e3 and on (f) g:h:i"#,
    );
    let labels = ["b", "e"].map(str::to_owned).to_vec();
    assert_eq!(expression.selectors, [("x_bucket".to_owned(), labels), ("g:h:i".to_owned(), Vec::new())]);
    assert_eq!(expression.groups, ["a", "f", "le"].map(str::to_owned).into());
}

#[test]
fn what_is_not_there_is_found() {
    let known = Known::scraped();
    let unknown = |text| known.unknown(&Expression::read(text));
    assert_eq!(unknown("sum by (job, listener) (rate(waypost_connections_total[5m]))"), [""; 0]);
    assert_eq!(unknown("sum by (rout) (waypost_connections_total)"), ["by rout"]);
    assert_eq!(unknown(r#"waypost_connections_total{route="x"}"#), ["waypost_connections_total{route}"]);
    assert_eq!(unknown("waypost_conections_total"), ["waypost_conections_total"]);
    assert_eq!(unknown("waypost_request_duration_seconds"), ["waypost_request_duration_seconds"]);
}
