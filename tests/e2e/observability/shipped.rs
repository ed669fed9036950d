//! The files of docs/observability, read; and dashboards that are made of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::expression::{Expression, Known};

/// The folder, or something in it.
pub(super) fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/observability").join(name)
}

/// The text of a file.
pub(super) fn text(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The files of a folder that end with this, in the order of their names.
pub(super) fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path(folder)).unwrap();
    let found = entries.map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = found.filter(|file| file.to_string_lossy().ends_with(ending)).collect();
    found.sort();
    found
}

fn yaml<T: for<'a> Deserialize<'a>>(file: &Path) -> T {
    let text = std::fs::read_to_string(file).unwrap();
    serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[derive(Deserialize)]
struct RuleFile {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

/// An alert, or something that is recorded.
#[derive(Debug, Deserialize)]
pub(super) struct Rule {
    pub(super) record: Option<String>,
    pub(super) alert: Option<String>,
    pub(super) expr: String,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
}

/// All rules, in the order in which they are loaded.
pub(super) fn rules() -> Vec<Rule> {
    let mut files = files("rules", ".yml");
    // What is recorded comes first: alerts and other rules ask for it.
    files.sort_by_key(|file| !file.ends_with("recording.yml"));
    let groups = files.iter().flat_map(|file| yaml::<RuleFile>(file).groups);
    groups.flat_map(|group| group.rules).collect()
}

/// What may be asked for: what is scraped, and what the rules record.
pub(super) fn known() -> Known {
    let mut known = Known::scraped();
    for rule in rules() {
        if let Some(record) = &rule.record {
            known.record(record, &Expression::read(&rule.expr));
        }
    }
    known
}

#[derive(Deserialize)]
struct TestFile {
    tests: Vec<TestGroup>,
}

#[derive(Deserialize)]
struct TestGroup {
    #[serde(default)]
    promql_expr_test: Vec<Proof>,
}

/// What an expression gives at some time.
#[derive(Debug, Deserialize)]
pub(super) struct Proof {
    pub(super) expr: String,
    pub(super) exp_samples: Vec<serde_yaml::Value>,
}

/// Everything that `promtool test rules` is to find so.
pub(super) fn proofs() -> Vec<Proof> {
    let groups = files("rules/tests", ".yml").into_iter().flat_map(|file| yaml::<TestFile>(&file).tests);
    groups.flat_map(|group| group.promql_expr_test).collect()
}

/// The dashboard.
pub(super) struct Dashboard(pub(super) Value);

/// An expression of the dashboard.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) title: String,
    pub(super) expr: String,
    /// What its lines are called: `{{label}}`.
    pub(super) legend: String,
}

impl Dashboard {
    pub(super) fn read() -> Dashboard {
        Dashboard::of(&text("grafana/waypost.json"))
    }

    pub(super) fn of(text: &str) -> Dashboard {
        Dashboard(serde_json::from_str(text).unwrap())
    }

    /// Rows, and what is in them.
    pub(super) fn panels(&self) -> &[Value] {
        self.0["panels"].as_array().unwrap()
    }

    /// Those in closed rows, too.
    pub(super) fn all_panels(&self) -> impl Iterator<Item = &Value> {
        self.panels()
            .iter()
            .flat_map(|panel| [panel].into_iter().chain(panel["panels"].as_array().into_iter().flatten()))
    }

    /// All that is asked in panels.
    pub(super) fn shown(&self) -> Vec<Query> {
        let asked = |panel: &Value| -> Vec<Query> {
            let targets = panel["targets"].as_array().cloned().unwrap_or_default();
            targets.iter().map(|target| query(&panel["title"], &target["expr"], &target["legendFormat"])).collect()
        };
        self.all_panels().flat_map(asked).collect()
    }

    /// All that is asked in panels and for annotations.
    pub(super) fn queries(&self) -> Vec<Query> {
        let annotations =
            self.0["annotations"]["list"].as_array().unwrap().iter().filter(|one| one["expr"].is_string());
        let annotations = annotations.map(|one| query(&one["name"], &one["expr"], &one["textFormat"]));
        self.shown().into_iter().chain(annotations).collect()
    }

    /// What its variables ask for: the metric and the label, by the variable's name.
    pub(super) fn variables(&self) -> BTreeMap<String, (String, String)> {
        let all = self.0["templating"]["list"].as_array().unwrap().iter();
        all.filter_map(|variable| {
            let asked = variable["query"]["query"].as_str()?.strip_prefix("label_values(")?.strip_suffix(')')?;
            let (metric, label) = asked.split_once(", ")?;
            Some((variable["name"].as_str()?.to_owned(), (metric.to_owned(), label.to_owned())))
        })
        .collect()
    }
}

fn query(title: &Value, expr: &Value, legend: &Value) -> Query {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Query { title: text(title), expr: text(expr), legend: text(legend) }
}
