//! Is a trace that begins here recorded?
//!
//! Pure. Decides by the random part of the trace's identity, as OpenTelemetry's consistent sampling does: whoever asks
//! the same of the same trace with the same ratio gets the same answer, and with a greater ratio at least as many.

use super::ids::TraceId;

/// One more than the greatest [`TraceId::randomness`].
const RANGE: u64 = 1 << 56;

/// A share of all traces.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sampler {
    /// Traces from here on are recorded.
    threshold: u64,
}

impl Sampler {
    /// Of a ratio between 0 and 1; both are exact.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it lies between 0 and 2^56")]
    pub(super) fn new(ratio: f64) -> Sampler {
        let left_out = (1.0 - ratio.clamp(0.0, 1.0)) * RANGE as f64;
        Sampler { threshold: left_out.round() as u64 }
    }

    /// Whether this one is recorded.
    pub(super) fn takes(self, trace: TraceId) -> bool {
        trace.randomness() >= self.threshold
    }
}

#[cfg(test)]
mod tests {
    use super::super::ids::TraceParent;
    use super::*;

    fn trace(id: u128) -> TraceId {
        TraceParent::read(format!("00-{id:032x}-0000000000000001-01").as_bytes()).unwrap().trace
    }

    fn taken(ratio: f64, seed: u64) -> usize {
        let mut rng = fastrand::Rng::with_seed(seed);
        (0..10_000).filter(|_| Sampler::new(ratio).takes(trace(rng.u128(1..)))).count()
    }

    #[test]
    fn nothing_and_everything_are_exact() {
        for id in [1, u128::MAX, u128::from(RANGE), u128::from(RANGE) - 1] {
            assert!(!Sampler::new(0.0).takes(trace(id)), "{id:x}");
            assert!(Sampler::new(1.0).takes(trace(id)), "{id:x}");
        }
    }

    #[test]
    fn a_share_is_taken_by_the_random_part_of_the_identity() {
        for (ratio, expected) in [(0.5, 5_000), (0.1, 1_000), (0.01, 100)] {
            let taken = taken(ratio, 7);
            assert!(taken.abs_diff(expected) < expected / 5, "{taken} of {expected}");
        }
        let half = Sampler::new(0.5);
        assert!(half.takes(trace(0x80_0000_0000_0000)) && !half.takes(trace(0x7f_ffff_ffff_ffff)));
        assert!(!half.takes(trace(0xff << 56)));
    }

    #[test]
    fn who_takes_more_takes_the_same_and_more() {
        let mut rng = fastrand::Rng::with_seed(7);
        let ids: Vec<_> = (0..1_000).map(|_| trace(rng.u128(1..))).collect();
        assert!(ids.iter().all(|id| !Sampler::new(0.2).takes(*id) || Sampler::new(0.3).takes(*id)));
    }
}
