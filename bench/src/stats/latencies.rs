//! Durations, kept so that any percentile can be read and any two sets added without loss.
//!
//! Owns one HdrHistogram in nanoseconds (three digits, up to an hour) and what it cannot tell exactly: the sum and
//! the greatest value. Never rounds twice.
//!
//! Invariants:
//! - `merge` of parts equals the whole, bucket for bucket;
//! - no percentile is above the exact greatest value; nothing here is ever NaN: an empty set answers zero.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longer durations are kept as this: an hour.
pub const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
const DIGITS: u8 = 3;

/// A set of durations.
#[derive(Debug, Clone)]
pub struct Latencies {
    histogram: Histogram<u64>,
    sum_ns: u128,
    max_ns: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Latencies::new()
    }
}

impl Latencies {
    /// An empty set. All its memory is taken now, none while recording.
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS)
            .expect("constant bounds are valid");
        Latencies {
            histogram,
            sum_ns: 0,
            max_ns: 0,
        }
    }

    /// Adds one duration.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.record_n(ns, 1);
    }

    /// Adds a duration `count` times.
    #[inline]
    pub fn record_n(&mut self, ns: u64, count: u64) {
        let ns = ns.min(LATENCY_NS_MAX);
        self.histogram.saturating_record_n(ns, count);
        self.sum_ns += u128::from(ns) * u128::from(count);
        self.max_ns = self.max_ns.max(ns);
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Latencies) {
        if other.is_empty() {
            return;
        }
        self.histogram
            .add(&other.histogram)
            .expect("all sets have the same bounds");
        self.sum_ns += other.sum_ns;
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// Adds all of a packed set.
    pub fn merge_packed(&mut self, other: &Packed) {
        for (ns, count) in &other.counts {
            self.histogram.saturating_record_n(*ns, *count);
        }
        self.sum_ns += other.sum_ns;
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        if !self.is_empty() {
            self.histogram.reset();
            self.sum_ns = 0;
            self.max_ns = 0;
        }
    }

    /// How many durations.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.histogram.is_empty()
    }

    /// The duration that a part `quantile` (0 to 1) does not exceed.
    pub fn quantile_ns(&self, quantile: f64) -> u64 {
        if self.is_empty() {
            return 0;
        }
        self.histogram.value_at_quantile(quantile).min(self.max_ns)
    }

    /// The mean, exact.
    pub fn mean_ns(&self) -> f64 {
        if self.is_empty() {
            0.0
        } else {
            self.sum_ns as f64 / self.count() as f64
        }
    }

    /// The greatest, exact.
    pub fn max_ns(&self) -> u64 {
        self.max_ns
    }

    /// The part of durations above `ns`, 0 to 1.
    pub fn share_above(&self, ns: u64) -> f64 {
        if self.is_empty() {
            0.0
        } else {
            1.0 - self.histogram.quantile_below(ns)
        }
    }

    /// The histogram, for the tools that read them.
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }

    /// The small form, to keep many.
    pub fn pack(&self) -> Packed {
        Packed {
            counts: self
                .histogram
                .iter_recorded()
                .map(|step| (step.value_iterated_to(), step.count_at_value()))
                .collect(),
            sum_ns: self.sum_ns,
            max_ns: self.max_ns,
        }
    }

    /// The usual percentiles.
    pub fn summary(&self) -> Summary {
        let us = |ns: u64| ns as f64 / 1000.0;
        Summary {
            p50: us(self.quantile_ns(0.5)),
            p90: us(self.quantile_ns(0.9)),
            p99: us(self.quantile_ns(0.99)),
            p99_9: us(self.quantile_ns(0.999)),
            p99_99: us(self.quantile_ns(0.9999)),
            max: us(self.max_ns),
            mean: self.mean_ns() / 1000.0,
        }
    }
}

/// A set of durations in as little memory as it needs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Packed {
    /// A value of each bucket that holds something, ascending, and how many it holds.
    pub counts: Vec<(u64, u64)>,
    /// The exact sum.
    pub sum_ns: u128,
    /// The exact greatest.
    pub max_ns: u64,
}

impl Packed {
    /// All of `parts` in one. The parts' values must come from sets with the same buckets, as all here do.
    pub fn join<'a>(parts: impl IntoIterator<Item = &'a Packed>) -> Packed {
        let mut all = Packed::default();
        for part in parts {
            all.counts.extend_from_slice(&part.counts);
            all.sum_ns += part.sum_ns;
            all.max_ns = all.max_ns.max(part.max_ns);
        }
        all.counts.sort_unstable_by_key(|(ns, _)| *ns);
        all.counts.dedup_by(|next, before| {
            let same = next.0 == before.0;
            before.1 += if same { next.1 } else { 0 };
            same
        });
        all
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// How many durations.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    /// The mean; zero when empty.
    pub fn mean_ns(&self) -> f64 {
        self.sum_ns as f64 / self.count().max(1) as f64
    }

    /// The duration that a part `quantile` (0 to 1) does not exceed; zero when empty.
    pub fn quantile_ns(&self, quantile: f64) -> u64 {
        let rank = ((self.count() as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        for (ns, count) in &self.counts {
            seen += count;
            if seen >= rank {
                return (*ns).min(self.max_ns);
            }
        }
        self.max_ns
    }
}

/// The percentiles of a set, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Half are at or below.
    pub p50: f64,
    /// 90 % are at or below.
    pub p90: f64,
    /// 99 % are at or below.
    pub p99: f64,
    /// 99.9 % are at or below.
    pub p99_9: f64,
    /// 99.99 % are at or below.
    pub p99_99: f64,
    /// The greatest, exact.
    pub max: f64,
    /// The mean, exact.
    pub mean: f64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_set_answers_zero_everywhere() {
        let summary = Latencies::new().summary();
        assert_eq!(summary, Summary::default());
        assert_eq!(Packed::default().quantile_ns(0.99), 0);
    }

    #[test]
    fn the_greatest_and_the_mean_are_exact() {
        let mut latencies = Latencies::new();
        for ns in [1_000_001, 2_000_003, 123_456_789] {
            latencies.record(ns);
        }
        assert_eq!(latencies.max_ns(), 123_456_789);
        assert_eq!(latencies.quantile_ns(1.0), 123_456_789);
        assert!((latencies.mean_ns() - 126_456_793.0 / 3.0).abs() < 1e-3);
        latencies.record(u64::MAX);
        assert_eq!(latencies.max_ns(), LATENCY_NS_MAX);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

        /// Known answer: merge(h1 … hk) = h, exactly, dense or packed.
        #[test]
        fn merged_parts_equal_the_whole(parts in prop::collection::vec(prop::collection::vec(0..10_000_000_000u64, 0..50), 0..5)) {
            let mut whole = Latencies::new();
            let mut merged = Latencies::new();
            let mut unpacked = Latencies::new();
            let mut joined = Packed::default();
            for part in &parts {
                let mut latencies = Latencies::new();
                for ns in part {
                    whole.record(*ns);
                    latencies.record(*ns);
                }
                merged.merge(&latencies);
                unpacked.merge_packed(&latencies.pack());
                joined = Packed::join([&joined, &latencies.pack()]);
            }
            prop_assert_eq!(joined, whole.pack());
            for other in [&merged, &unpacked] {
                prop_assert_eq!(other.histogram(), whole.histogram());
                prop_assert_eq!(other.max_ns(), whole.max_ns());
                prop_assert_eq!(other.sum_ns, whole.sum_ns);
            }
            for quantile in [0.01, 0.5, 0.99, 1.0] {
                prop_assert_eq!(whole.pack().quantile_ns(quantile), whole.quantile_ns(quantile));
            }
        }
    }
}
