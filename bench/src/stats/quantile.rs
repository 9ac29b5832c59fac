//! How sure a percentile is.
//!
//! Owns two intervals and gives the wider: one from order statistics (right when requests are independent), one by
//! resampling blocks of time (right when slow requests come in clusters, as they do). Never reports an upper bound
//! that the number of requests cannot support.

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};

use super::latencies::Packed;

/// The usual two-sided 95 %.
const Z: f64 = 1.96;
const RESAMPLES: usize = 200;
/// Blocks that a series is joined into: enough to resample, long enough to hold a cluster.
const BLOCKS_MAX: usize = 40;
const BLOCKS_MIN: usize = 8;

/// A 95 % interval, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    /// Its lower end.
    pub low_ns: u64,
    /// Its upper end; absent when there are too few requests to bound the percentile from above.
    pub high_ns: Option<u64>,
}

/// The least number of requests from which the greatest of them is an upper bound of `quantile` with 95 %
/// confidence: 299 for p99, 2,995 for p99.9, 29,956 for p99.99. With fewer, nothing measured bounds it.
pub fn samples_min(quantile: f64) -> u64 {
    if quantile <= 0.0 {
        return 1;
    }
    if quantile >= 1.0 {
        return 1;
    }
    (0.05f64.ln() / quantile.ln()).ceil() as u64
}

/// The 95 % intervals of `quantiles` for a series of consecutive windows. `seed` makes the resampling repeatable.
pub fn intervals(series: &[Packed], quantiles: &[f64], seed: u64) -> Vec<Interval> {
    let values = distinct_values(series);
    let blocks = blocks(series, &values);
    let total: u64 = blocks.iter().flatten().map(|(_, count)| count).sum();
    let mut sums = vec![0u64; values.len()];
    let mut low = vec![u64::MAX; quantiles.len()];
    let mut high = vec![0u64; quantiles.len()];
    let add = |block: &[(usize, u64)], sums: &mut [u64]| {
        block.iter().for_each(|(at, count)| sums[*at] += count)
    };
    blocks.iter().for_each(|block| add(block, &mut sums));
    let mut intervals: Vec<Interval> = quantiles
        .iter()
        .map(|quantile| by_order(&values, &sums, total, *quantile))
        .collect();
    if blocks.len() < BLOCKS_MIN {
        return intervals;
    }
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut draws: Vec<Vec<u64>> = vec![Vec::with_capacity(RESAMPLES); quantiles.len()];
    for _ in 0..RESAMPLES {
        sums.fill(0);
        for _ in 0..blocks.len() {
            add(&blocks[rng.random_range(0..blocks.len())], &mut sums);
        }
        let drawn: u64 = sums.iter().sum();
        for (draws, quantile) in draws.iter_mut().zip(quantiles) {
            draws.push(value_at(
                &values,
                &sums,
                (drawn as f64 * quantile).ceil() as u64,
            ));
        }
    }
    for (place, draws) in draws.iter_mut().enumerate() {
        draws.sort_unstable();
        low[place] = draws[RESAMPLES * 25 / 1000];
        high[place] = draws[RESAMPLES * 975 / 1000 - 1];
        let interval = &mut intervals[place];
        interval.low_ns = interval.low_ns.min(low[place]);
        interval.high_ns = interval.high_ns.map(|bound| bound.max(high[place]));
    }
    intervals
}

fn distinct_values(series: &[Packed]) -> Vec<u64> {
    let mut values: Vec<u64> = series
        .iter()
        .flat_map(|window| window.counts.iter().map(|(ns, _)| *ns))
        .collect();
    values.sort_unstable();
    values.dedup();
    values
}

/// The series in at most `BLOCKS_MAX` runs of consecutive windows, as (index into `values`, count).
fn blocks(series: &[Packed], values: &[u64]) -> Vec<Vec<(usize, u64)>> {
    let windows_per_block = series.len().div_ceil(BLOCKS_MAX).max(1);
    series
        .chunks(windows_per_block)
        .map(|chunk| {
            let counts = chunk.iter().flat_map(|window| &window.counts);
            counts
                .map(|(ns, count)| (values.partition_point(|value| value < ns), *count))
                .collect()
        })
        .collect()
}

fn by_order(values: &[u64], sums: &[u64], total: u64, quantile: f64) -> Interval {
    let n = total as f64;
    let spread = Z * (n * quantile * (1.0 - quantile)).sqrt();
    let rank_low = (n * quantile - spread).floor().max(1.0) as u64;
    let rank_high = (n * quantile + spread).ceil() as u64 + 1;
    let bounded = rank_high <= total && total >= samples_min(quantile);
    Interval {
        low_ns: value_at(values, sums, rank_low),
        high_ns: bounded.then(|| value_at(values, sums, rank_high)),
    }
}

fn value_at(values: &[u64], sums: &[u64], rank: u64) -> u64 {
    let mut seen = 0;
    for (ns, count) in values.iter().zip(sums) {
        seen += count;
        if seen >= rank.max(1) {
            return *ns;
        }
    }
    values.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use rand_distr::{Distribution as _, Exp1};

    use super::*;
    use crate::stats::latencies::Latencies;

    /// A series of windows of exponential latencies with a mean of 1 ms; `slow` says which windows are ten times slower.
    fn series(
        windows: usize,
        per_window: usize,
        seed: u64,
        slow: impl Fn(usize) -> bool,
    ) -> Vec<Packed> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        (0..windows)
            .map(|window| {
                let mut latencies = Latencies::new();
                for _ in 0..per_window {
                    let draw: f64 = Exp1.sample(&mut rng);
                    latencies.record((draw * if slow(window) { 1e7 } else { 1e6 }) as u64);
                }
                latencies.pack()
            })
            .collect()
    }

    #[test]
    fn the_interval_holds_the_true_percentile_in_nineteen_runs_of_twenty() {
        let truth_ns = -(1.0f64 - 0.99).ln() * 1e6;
        let runs = 100;
        let holds = (0..runs)
            .filter(|seed| {
                let interval = intervals(&series(20, 500, *seed, |_| false), &[0.99], 7)[0];
                let high_ns = interval.high_ns.expect("10,000 samples bound p99");
                (interval.low_ns as f64..high_ns as f64 * 1.001).contains(&truth_ns)
            })
            .count();
        assert!(
            holds * 100 >= runs as usize * 92,
            "{holds} of {runs} intervals held the truth"
        );
    }

    #[test]
    fn slow_moments_in_clusters_widen_the_interval() {
        let even = intervals(&series(40, 500, 1, |_| false), &[0.99], 7)[0];
        let clustered = intervals(&series(40, 500, 1, |window| window % 13 == 0), &[0.99], 7)[0];
        let width =
            |interval: Interval| interval.high_ns.expect("bounded") as f64 / interval.low_ns as f64;
        assert!(
            width(clustered) > 1.5 * width(even),
            "{clustered:?} against {even:?}"
        );
    }

    #[test]
    fn too_few_requests_leave_the_percentile_unbounded() {
        assert_eq!(
            (
                samples_min(0.5),
                samples_min(0.99),
                samples_min(0.999),
                samples_min(0.9999)
            ),
            (5, 299, 2995, 29956)
        );
        let interval = intervals(&series(10, 100, 1, |_| false), &[0.9999], 7)[0];
        assert_eq!(interval.high_ns, None);
        assert_eq!(
            intervals(&[], &[0.5], 7),
            vec![Interval {
                low_ns: 0,
                high_ns: None
            }]
        );
    }
}
