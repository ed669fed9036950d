//! How long things take: a count for each range of seconds, and the sum.
//!
//! Stands in for the crate's histogram, whose five atomic steps an observation meet those of all other workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::core::Metric;
use prometheus::proto;

use super::shards::Shards;

/// Upper bounds of every duration histogram, in seconds. 0.3 and 1.2 are exact, for Apdex with T = 0.3 s.
pub const BUCKETS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 0.5, 1.0, 1.2, 2.5, 5.0, 10.0];

/// How many durations fell between each bound and the one before; the last ones are over all bounds.
pub type Counts = [u64; BUCKETS.len() + 1];

/// The seconds within which this share of so many durations were, as if those of a bucket were spread evenly over it, which
/// is how Prometheus has it; of the last bucket, which has no end, its beginning. `None` of none.
pub(super) fn quantile(counts: &Counts, share: f64) -> Option<f64> {
    let wanted = share * counts.iter().sum::<u64>() as f64;
    let (mut lower, mut below) = (0.0, 0.0);
    for (index, count) in counts.iter().map(|count| *count as f64).enumerate() {
        let upper = BUCKETS.get(index).copied().unwrap_or(lower);
        if count > 0.0 && below + count >= wanted {
            return Some(lower + (upper - lower) * (wanted - below).max(0.0) / count);
        }
        (lower, below) = (upper, below + count);
    }
    None
}

/// Durations of one series. A clone is the same one.
#[derive(Clone)]
pub struct Histogram(Arc<Inner>);

struct Inner {
    labels: Vec<proto::LabelPair>,
    cells: Shards<Durations>,
}

/// What one worker has seen.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Durations {
    /// In microseconds: 64 bits of them last ten thousand requests at once for half a century.
    micros: AtomicU64,
    counts: [AtomicU64; BUCKETS.len() + 1],
}

impl Durations {
    /// Something took so many seconds.
    pub(super) fn observe(&self, seconds: f64) {
        let bucket = BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS.len());
        // Relaxed: what is read may lack the latest observation or a part of it, as if read a moment earlier.
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a duration is finite and not negative"
        )]
        self.micros.fetch_add((seconds * 1e6).round() as u64, Ordering::Relaxed);
    }

    /// Adds what one worker has seen.
    pub(super) fn add_to(&self, counts: &mut Counts) {
        for (count, more) in counts.iter_mut().zip(&self.counts) {
            *count += more.load(Ordering::Relaxed);
        }
    }

    /// What all workers have seen together.
    pub(super) fn sum<'a>(cells: impl Iterator<Item = &'a Durations>) -> proto::Histogram {
        let (mut counts, mut micros) = (Counts::default(), 0);
        for cell in cells {
            micros += cell.micros.load(Ordering::Relaxed);
            cell.add_to(&mut counts);
        }
        let mut total = 0;
        let buckets = BUCKETS.iter().zip(counts).map(|(bound, count)| {
            total += count;
            let mut shown = proto::Bucket::default();
            shown.set_upper_bound(*bound);
            shown.set_cumulative_count(total);
            shown
        });
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(counts.iter().sum());
        histogram.set_sample_sum(micros as f64 / 1e6);
        histogram
    }
}

impl Histogram {
    pub(super) fn new(labels: Vec<proto::LabelPair>) -> Histogram {
        Histogram(Arc::new(Inner { labels, cells: Shards::default() }))
    }

    /// Something took so many seconds.
    pub fn observe(&self, seconds: f64) {
        self.0.cells.mine().observe(seconds);
    }

    /// What was observed so far.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.0.cells.all().for_each(|cell| cell.add_to(&mut counts));
        counts
    }
}

impl Metric for Histogram {
    fn metric(&self) -> proto::Metric {
        let mut metric = proto::Metric::from_label(self.0.labels.clone());
        metric.set_histogram(Durations::sum(self.0.cells.all()));
        metric
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(seconds: &[f64], bound: f64, expected: u64) {
        let histogram = Histogram::new(Vec::new());
        for seconds in seconds {
            histogram.observe(*seconds);
        }
        let shown = histogram.metric();
        let (shown, total) = (shown.get_histogram(), seconds.len() as u64);
        let bucket = shown.get_bucket().iter().find(|bucket| bucket.upper_bound() >= bound);
        assert_eq!(bucket.map_or(total, proto::Bucket::cumulative_count), expected, "{seconds:?} up to {bound}");
        assert_eq!(shown.get_sample_count(), total);
        assert!((shown.get_sample_sum() - seconds.iter().sum::<f64>()).abs() < 1e-6);
    }

    #[test]
    fn a_bucket_holds_all_that_took_no_longer_than_its_bound() {
        check(&[], 0.001, 0);
        check(&[0.0, 0.001, 0.0011], 0.001, 2);
        check(&[0.3, 0.300_001], 0.3, 1);
        check(&[0.3, 1.2, 4.0], 1.2, 2);
        check(&[10.0, 10.1, 9000.0], 10.0, 1);
        check(&[10.0, 10.1, 9000.0], f64::INFINITY, 3);
    }

    /// In milliseconds.
    #[track_caller]
    fn check_quantile(seconds: &[f64], share: f64, expected: Option<f64>) {
        let histogram = Histogram::new(Vec::new());
        for seconds in seconds {
            histogram.observe(*seconds);
        }
        let found = quantile(&histogram.counts(), share).map(|seconds| (seconds * 1e4).round() / 10.0);
        assert_eq!(found, expected, "{seconds:?} at {share}");
    }

    #[test]
    fn a_quantile_lies_in_its_bucket_as_if_the_bucket_were_evenly_filled() {
        check_quantile(&[], 0.5, None);
        check_quantile(&[0.02; 10], 0.5, Some(17.5));
        check_quantile(&[0.02; 10], 1.0, Some(25.0));
        check_quantile(&[0.0005, 0.0005, 0.04, 0.04], 0.5, Some(1.0));
        check_quantile(&[0.0005, 0.0005, 0.04, 0.04], 0.75, Some(37.5));
        check_quantile(&[0.0005, 60.0], 0.99, Some(10_000.0));
        check_quantile(&[60.0], 0.0, Some(10_000.0));
    }
}
