//! A metric name with its label values: one cell per combination, made on first use and removed by name.
//!
//! Owns the cells of one name. It stands in for the crate's `MetricVec`, which finds a child by a hash over the
//! concatenated label values, so that (`ab`, `c`) and (`a`, `bc`) become one series; names here are the user's words.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc, Describer, GenericCounter, GenericGauge, Metric};
use prometheus::proto::{self, MetricFamily, MetricType};
use prometheus::{IntGauge, Opts};

use super::histogram::Histogram;
use super::shards::{Level, Sum};

/// Counts what happens, often on several workers at once.
pub type Counter = GenericCounter<Sum>;

/// Counts what is there now, changed often and on several workers at once.
pub type Presence = GenericGauge<Level>;

/// What is said of a metric name, here and in `docs/metrics.md`.
#[derive(Debug)]
pub struct Definition {
    /// The full name, `waypost_` in front.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Label names.
    pub labels: &'static [&'static str],
    /// One sentence for the operator.
    pub meaning: &'static str,
}

impl Definition {
    pub(super) fn desc(&self) -> Desc {
        let labels = self.labels.iter().map(ToString::to_string).collect();
        Desc::new(self.name.to_owned(), self.meaning.to_owned(), labels, HashMap::new()).expect(VALID)
    }

    /// All of its series, for the page of metrics.
    pub(super) fn family(&self, metrics: Vec<proto::Metric>) -> MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.meaning.to_owned());
        family.set_field_type(match self.kind {
            "counter" => MetricType::COUNTER,
            "histogram" => MetricType::HISTOGRAM,
            _ => MetricType::GAUGE,
        });
        family.set_metric(metrics);
        family
    }
}

/// A value that a family can hold: it knows how to be made for one combination of label values.
pub(super) trait Cell: Metric + Clone + 'static {
    /// The word for it in the docs.
    const KIND: &'static str;
    /// A new cell at zero.
    fn new(definition: &Definition, labels: HashMap<String, String>) -> Self;
}

/// Every definition is a constant that a test encodes, so no name or label can turn out invalid later.
const VALID: &str = "metric definitions are constants with valid names";

fn options(definition: &Definition, labels: HashMap<String, String>) -> Opts {
    Opts::new(definition.name, definition.meaning).const_labels(labels)
}

impl Cell for Counter {
    const KIND: &'static str = "counter";
    fn new(definition: &Definition, labels: HashMap<String, String>) -> Counter {
        Counter::with_opts(options(definition, labels)).expect(VALID)
    }
}

impl Cell for Presence {
    const KIND: &'static str = "gauge";
    fn new(definition: &Definition, labels: HashMap<String, String>) -> Presence {
        Presence::with_opts(options(definition, labels)).expect(VALID)
    }
}

impl Cell for IntGauge {
    const KIND: &'static str = "gauge";
    fn new(definition: &Definition, labels: HashMap<String, String>) -> IntGauge {
        IntGauge::with_opts(options(definition, labels)).expect(VALID)
    }
}

impl Cell for Histogram {
    const KIND: &'static str = "histogram";
    fn new(definition: &Definition, labels: HashMap<String, String>) -> Histogram {
        Histogram::new(options(definition, labels).describe().expect(VALID).const_label_pairs)
    }
}

/// All series of one name. A clone is the same family.
pub(super) struct Family<C>(Arc<Inner<C>>);

struct Inner<C> {
    definition: &'static Definition,
    desc: Desc,
    cells: Mutex<BTreeMap<Vec<String>, C>>,
}

impl<C> Clone for Family<C> {
    fn clone(&self) -> Family<C> {
        Family(Arc::clone(&self.0))
    }
}

impl<C: Cell> Family<C> {
    pub(super) fn new(definition: &'static Definition) -> Family<C> {
        Family(Arc::new(Inner { definition, desc: definition.desc(), cells: Mutex::default() }))
    }

    /// The cell with these label values, in the order of the definition.
    pub(super) fn cell(&self, values: &[&str]) -> C {
        let names = self.0.definition.labels;
        debug_assert_eq!(names.len(), values.len(), "{} has labels {names:?}", self.0.definition.name);
        let key: Vec<String> = values.iter().map(ToString::to_string).collect();
        let labels =
            || names.iter().zip(values).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.0.cells.lock().entry(key).or_insert_with(|| C::new(self.0.definition, labels())).clone()
    }

    fn remove(&self, values: &[String]) {
        self.0.cells.lock().remove(values);
    }
}

impl<C: Cell> Collector for Family<C> {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        vec![self.0.definition.family(self.0.cells.lock().values().map(Metric::metric).collect())]
    }
}

/// The series that one owner has brought into being, so that they can go with it.
#[derive(Default)]
pub(super) struct Series {
    removals: Mutex<Vec<Box<dyn Fn() + Send + Sync>>>,
    looked_at: AtomicBool,
}

impl Series {
    /// The cell with these label values, which from now on belongs to this owner.
    pub(super) fn own<C: Cell>(&self, family: &Family<C>, values: &[&str]) -> C {
        let cell = family.cell(values);
        let (family, key) = (family.clone(), values.iter().map(ToString::to_string).collect::<Vec<_>>());
        self.take_along(move || family.remove(&key));
        cell
    }

    /// Something that goes with them.
    pub(super) fn take_along(&self, remove: impl Fn() + Send + Sync + 'static) {
        self.removals.lock().push(Box::new(remove));
    }

    /// Whether nobody has asked this before.
    pub(super) fn is_first_look(&self) -> bool {
        // Relaxed: one task looks.
        !self.looked_at.swap(true, Ordering::Relaxed)
    }

    /// Takes all of them out of their families.
    pub(super) fn remove(&self) {
        for remove in self.removals.lock().drain(..) {
            remove();
        }
    }
}

/// Counters that differ in their last label, a token of a small closed list. Reading is lock-free.
pub(super) struct Tokens {
    family: Family<Counter>,
    series: Arc<Series>,
    base: Vec<String>,
    /// Filled from the front, never changed after: more room than any closed list in use needs.
    slots: [OnceLock<(&'static str, Counter)>; 32],
    other: OnceLock<Counter>,
}

impl Tokens {
    pub(super) fn new(family: &Family<Counter>, series: &Arc<Series>, base: &[&str]) -> Tokens {
        Tokens {
            family: family.clone(),
            series: Arc::clone(series),
            base: base.iter().map(ToString::to_string).collect(),
            slots: [const { OnceLock::new() }; 32],
            other: OnceLock::new(),
        }
    }

    /// The counter of a token; `other` once there are more tokens than slots, so that labels stay bounded.
    pub(super) fn get(&self, token: &'static str) -> &Counter {
        for slot in &self.slots {
            let (known, cell) = slot.get_or_init(|| (token, self.own(token)));
            if *known == token {
                return cell;
            }
        }
        self.other.get_or_init(|| self.own("other"))
    }

    /// Of all tokens together.
    pub(super) fn sum(&self) -> u64 {
        let known = self.slots.iter().filter_map(OnceLock::get).map(|(_, cell)| cell);
        known.chain(self.other.get()).map(Counter::get).sum()
    }

    /// The counter of a token that was counted before.
    pub(super) fn known(&self, token: &str) -> Option<&Counter> {
        let known = self.slots.iter().filter_map(OnceLock::get).find(|(known, _)| *known == token);
        known.map(|(_, counter)| counter)
    }

    fn own(&self, token: &str) -> Counter {
        let mut values: Vec<&str> = self.base.iter().map(String::as_str).collect();
        values.push(token);
        self.series.own(&self.family, &values)
    }
}
