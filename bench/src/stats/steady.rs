//! Where the warm-up ends, found in the data.
//!
//! Owns the rule: the leading windows whose level lies outside the noise around the run's second half are warm-up.
//! Never cuts more than half, and never cuts because of what happens later.
//!
//! Why not MSER (least standard error of the rest): with a server that stalls now and then it likes to cut just
//! after a stall and so hides what is to be measured. This rule only looks at whether the *beginning* is unlike the
//! rest; medians do not move with a few stalls.

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WarmUp {
    /// Leading windows to discard.
    pub windows: usize,
    /// Whether the run reached a level at all within its first half.
    pub settled: bool,
}

/// Differences below this (natural logarithm: a quarter of the level) are never a warm-up.
const TOLERANCE_MIN: f64 = 0.25;
const SPREADS: f64 = 4.0;

/// Finds the warm-up in a series of levels (a window's median latency; `None` for a window without requests).
pub fn warm_up(levels: &[Option<f64>]) -> WarmUp {
    let half = levels.len() / 2;
    let logs = |part: &[Option<f64>]| -> Vec<f64> {
        part.iter()
            .flatten()
            .filter(|level| **level > 0.0)
            .map(|level| level.ln())
            .collect()
    };
    let reference = logs(&levels[half..]);
    let Some(centre) = median(reference.clone()) else {
        return WarmUp {
            windows: 0,
            settled: true,
        };
    };
    // The spread from one window to the next, not around the centre: a level that drifts all the time must not
    // widen its own tolerance.
    let steps = reference
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).abs())
        .collect();
    let spread = median(steps).unwrap_or(0.0) * 1.4826 / std::f64::consts::SQRT_2;
    let tolerance = (SPREADS * spread).max(TOLERANCE_MIN);
    let inside = |level: &Option<f64>| {
        level.is_none_or(|level| level <= 0.0 || (level.ln() - centre).abs() <= tolerance)
    };
    // Two windows in a row: one alone may cross the level on its way.
    let settled_at = levels[..half]
        .windows(2)
        .position(|pair| pair.iter().all(inside));
    match settled_at {
        Some(windows) => WarmUp {
            windows,
            settled: true,
        },
        None if half < 2 => WarmUp {
            windows: 0,
            settled: true,
        },
        None => WarmUp {
            windows: half,
            settled: false,
        },
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A level with a little repeatable noise.
    fn noisy(window: usize, level: f64) -> Option<f64> {
        Some(level * (1.0 + 0.03 * ((window * 7919 % 13) as f64 / 6.0 - 1.0)))
    }

    #[test]
    fn a_steady_run_loses_nothing() {
        let levels: Vec<_> = (0..100).map(|window| noisy(window, 200.0)).collect();
        assert_eq!(
            warm_up(&levels),
            WarmUp {
                windows: 0,
                settled: true
            }
        );
    }

    #[test]
    fn a_cold_beginning_is_cut_about_where_it_ends() {
        let levels: Vec<_> = (0..100)
            .map(|window| noisy(window, 200.0 * (1.0 + 5.0 * (-(window as f64) / 5.0).exp())))
            .collect();
        let found = warm_up(&levels);
        assert!(found.settled);
        assert!((10..25).contains(&found.windows), "{found:?}");
    }

    #[test]
    fn stalls_are_not_taken_for_a_warm_up() {
        let levels: Vec<_> = (0..200)
            .map(|window| noisy(window, if window % 100 >= 90 { 500_000.0 } else { 200.0 }))
            .collect();
        assert_eq!(
            warm_up(&levels),
            WarmUp {
                windows: 0,
                settled: true
            }
        );
    }

    #[test]
    fn a_run_that_never_settles_says_so() {
        let levels: Vec<_> = (1..100)
            .map(|window| Some(1000.0 * window as f64))
            .collect();
        assert!(!warm_up(&levels).settled);
    }

    #[test]
    fn next_to_nothing_is_no_reason_to_cut() {
        for levels in [vec![], vec![Some(1.0)], vec![None; 10], vec![Some(0.0); 3]] {
            assert_eq!(
                warm_up(&levels),
                WarmUp {
                    windows: 0,
                    settled: true
                }
            );
        }
    }
}
