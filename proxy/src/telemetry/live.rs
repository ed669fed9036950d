//! Which handles are alive: equal labels share one handle, and the last one to go takes its series along.
//!
//! A reload builds the handles of the new generation before the old one's are dropped, so a handle must not remove
//! series that a younger handle with the same labels goes on counting into.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::family::Series;

/// All live handles of one kind, by their label values.
pub(super) struct Live<T>(Mutex<HashMap<Vec<String>, Entry<T>>>);

struct Entry<T> {
    handle: Weak<T>,
    /// Outlives the handle, so that a handle made while the last one is being dropped takes over its series.
    series: Arc<Series>,
}

impl<T> Default for Live<T> {
    fn default() -> Live<T> {
        Live(Mutex::default())
    }
}

impl<T> Live<T> {
    /// The live handle with these labels, or the one that `build` makes around its lease.
    pub(super) fn get(self: &Arc<Self>, labels: &[&str], build: impl FnOnce(Lease<T>) -> T) -> Arc<T> {
        let key: Vec<String> = labels.iter().map(ToString::to_string).collect();
        let mut entries = self.0.lock();
        let known = entries.get(&key);
        if let Some(handle) = known.and_then(|entry| entry.handle.upgrade()) {
            return handle;
        }
        let series = known.map(|entry| Arc::clone(&entry.series)).unwrap_or_default();
        let lease = Lease { live: Arc::clone(self), key: key.clone(), series: Arc::clone(&series) };
        let handle = Arc::new(build(lease));
        entries.insert(key, Entry { handle: Arc::downgrade(&handle), series });
        handle
    }

    /// Every live handle with its labels.
    pub(super) fn all(&self) -> Vec<(Vec<String>, Arc<T>)> {
        // Nothing is let go of before the lock is: the last one of a handle takes it, to retire.
        let entries = self.0.lock();
        entries.iter().filter_map(|(key, entry)| Some((key.clone(), entry.handle.upgrade()?))).collect()
    }

    fn retire(&self, key: &[String]) {
        let mut entries = self.0.lock();
        if entries.get(key).is_some_and(|entry| entry.handle.strong_count() == 0)
            && let Some(entry) = entries.remove(key)
        {
            entry.series.remove();
        }
    }
}

/// Held by a handle as long as it lives.
pub(super) struct Lease<T> {
    live: Arc<Live<T>>,
    key: Vec<String>,
    /// The series of the handle.
    pub(super) series: Arc<Series>,
}

impl<T> Drop for Lease<T> {
    fn drop(&mut self) {
        self.live.retire(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::family::{Counter, Definition, Family};

    static SEEN: Definition = Definition { name: "seen_total", kind: "counter", labels: &["name"], meaning: "Test." };

    /// Fields go in this order: what `last` does happens between the end of the handle and that of its lease.
    struct Handle {
        seen: Counter,
        last: Last,
        _lease: Lease<Handle>,
    }

    #[derive(Default)]
    struct Last(Mutex<Option<Box<dyn FnOnce() + Send>>>);

    impl Drop for Last {
        fn drop(&mut self) {
            if let Some(act) = self.0.get_mut().take() {
                act();
            }
        }
    }

    fn handle(live: &Arc<Live<Handle>>, family: &Family<Counter>) -> Arc<Handle> {
        live.get(&["a"], |lease| Handle {
            seen: lease.series.own(family, &["a"]),
            last: Last::default(),
            _lease: lease,
        })
    }

    fn series(family: &Family<Counter>) -> usize {
        prometheus::core::Collector::collect(family)[0].get_metric().len()
    }

    #[test]
    fn handle_made_while_the_last_one_is_dropped_keeps_the_series_until_it_goes_itself() {
        let (live, family) = (Arc::new(Live::default()), Family::new(&SEEN));
        let next: Arc<Mutex<Option<Arc<Handle>>>> = Arc::default();
        let old = handle(&live, &family);
        let make = {
            let (live, family, next) = (Arc::clone(&live), family.clone(), Arc::clone(&next));
            move || *next.lock() = Some(handle(&live, &family))
        };
        *old.last.0.lock() = Some(Box::new(make));
        old.seen.inc();
        drop(old);
        let young = next.lock().take().unwrap();
        young.seen.inc();
        assert_eq!((series(&family), family.cell(&["a"]).get()), (1, 2));
        drop(young);
        assert_eq!(series(&family), 0);
        assert!(live.0.lock().is_empty());
    }
}
