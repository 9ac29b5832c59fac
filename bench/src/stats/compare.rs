//! Whether B differs from A.
//!
//! Owns the test: paired rounds, logarithms of ratios, a bootstrap over rounds for the interval, Student's
//! t for the probability, Holm's correction over the figures, and a threshold below which a difference is of no
//! practical interest. A difference is called one only when interval and probability agree: the bootstrap guards
//! against odd spreads, and with few rounds its own probabilities are too coarse to be corrected. Never looks at one run alone:
//! the spread that counts is the one from run to run.

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

const RESAMPLES: usize = 2000;
const ALPHA: f64 = 0.05;
/// Fewer rounds cannot tell noise from difference.
pub const ROUNDS_MIN: usize = 4;

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Latencies.
    Less,
    /// Throughput.
    More,
}

/// One figure, measured in every round.
#[derive(Debug, Clone)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// Which way is better.
    pub better: Better,
    /// A's and B's value in each round; both above zero.
    pub rounds: Vec<(f64, f64)>,
}

/// A verdict in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Difference {
    /// B is better than A.
    Better,
    /// B is worse than A.
    Worse,
    /// B and A are the same within the threshold.
    Same,
    /// No difference was seen, and one may exist.
    NoDifferenceSeen,
}

impl Difference {
    /// For a person.
    pub fn words(self) -> &'static str {
        match self {
            Difference::Better => "B is better",
            Difference::Worse => "B is worse",
            Difference::Same => "the same",
            Difference::NoDifferenceSeen => "no difference seen",
        }
    }
}

/// One figure's comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The figure.
    pub metric: String,
    /// A's geometric mean.
    pub a: f64,
    /// B's geometric mean.
    pub b: f64,
    /// B / A.
    pub ratio: f64,
    /// The ratio's 95 % interval, lower end.
    pub ratio_low: f64,
    /// Its upper end.
    pub ratio_high: f64,
    /// The probability of such a difference by chance, corrected for the number of figures.
    pub p_value: f64,
    /// In words.
    pub verdict: Difference,
    /// Rounds that would show a difference as small as the threshold four times in five; absent when these were
    /// enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounds_needed: Option<u64>,
}

/// Compares every metric. `threshold` of 0.02 calls differences below 2 % uninteresting.
pub fn compare(metrics: &[Metric], threshold: f64, seed: u64) -> Vec<Comparison> {
    let tests: Vec<Test> = metrics
        .iter()
        .map(|metric| Test::of(metric, seed))
        .collect();
    let corrected = holm(&tests.iter().map(|test| test.p_value).collect::<Vec<_>>());
    metrics
        .iter()
        .zip(&tests)
        .zip(corrected)
        .map(|((metric, test), p_value)| judge(metric, test, p_value, threshold))
        .collect()
}

fn judge(metric: &Metric, test: &Test, p_value: f64, threshold: f64) -> Comparison {
    let geometric = |pick: fn(&(f64, f64)) -> f64| {
        let logs: f64 = metric
            .rounds
            .iter()
            .map(|round| pick(round).max(f64::MIN_POSITIVE).ln())
            .sum();
        (logs / metric.rounds.len().max(1) as f64).exp()
    };
    let edge = (1.0 + threshold).ln();
    let (low, high) = (test.low, test.high);
    let apart = p_value < ALPHA && (low > 0.0 || high < 0.0);
    let verdict = if apart && test.mean.abs() > edge {
        if (test.mean < 0.0) == (metric.better == Better::Less) {
            Difference::Better
        } else {
            Difference::Worse
        }
    } else if low > -edge && high < edge {
        Difference::Same
    } else {
        Difference::NoDifferenceSeen
    };
    // Two-sided 5 % and a power of 80 %: (1.96 + 0.84)².
    let needed = (7.84 * test.variance / (edge * edge))
        .ceil()
        .max(ROUNDS_MIN as f64) as u64;
    let open = verdict == Difference::NoDifferenceSeen && needed > metric.rounds.len() as u64;
    Comparison {
        metric: metric.name.clone(),
        a: geometric(|round| round.0),
        b: geometric(|round| round.1),
        ratio: test.mean.exp(),
        ratio_low: low.exp(),
        ratio_high: high.exp(),
        p_value,
        verdict,
        rounds_needed: open.then_some(needed),
    }
}

struct Test {
    mean: f64,
    variance: f64,
    low: f64,
    high: f64,
    p_value: f64,
}

impl Test {
    fn of(metric: &Metric, seed: u64) -> Test {
        let logs: Vec<f64> = metric
            .rounds
            .iter()
            .filter(|(a, b)| *a > 0.0 && *b > 0.0)
            .map(|(a, b)| (b / a).ln())
            .collect();
        let n = logs.len() as f64;
        let (mean, variance) = moments(&logs);
        let error = (variance / n.max(1.0)).sqrt();
        if logs.len() < 2 {
            return Test {
                mean,
                variance,
                low: -f64::MAX.ln(),
                high: f64::MAX.ln(),
                p_value: 1.0,
            };
        }
        if error < 1e-12 {
            // Every round gave the same ratio: there is no spread to doubt.
            return Test {
                mean,
                variance,
                low: mean,
                high: mean,
                p_value: if mean.abs() < 1e-12 { 1.0 } else { 0.0 },
            };
        }
        let (low, high) = bootstrap_interval(&logs, seed);
        Test {
            mean,
            variance,
            low,
            high,
            p_value: by_student((mean / error).abs(), n - 1.0),
        }
    }
}

/// The interval of the mean by resampling rounds, at a level that is right for few of them: plain percentiles of a
/// bootstrap are too narrow then, and studentized ones fall apart when a resample repeats one round (Hesterberg,
/// "What teachers should know about the bootstrap", expanded percentiles).
fn bootstrap_interval(logs: &[f64], seed: u64) -> (f64, f64) {
    let n = logs.len() as f64;
    let t = StudentsT::new(0.0, 1.0, n - 1.0)
        .map_or(0.0, |student| student.inverse_cdf(1.0 - ALPHA / 2.0));
    let tail = Normal::standard().cdf(-(n / (n - 1.0)).sqrt() * t);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            logs.iter()
                .map(|_| logs[rng.random_range(0..logs.len())])
                .sum::<f64>()
                / n
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let place = ((RESAMPLES as f64 * tail) as usize).min(RESAMPLES / 2);
    (means[place], means[RESAMPLES - 1 - place])
}

/// The probability of a t at least this far from zero, either way.
fn by_student(t: f64, freedom: f64) -> f64 {
    StudentsT::new(0.0, 1.0, freedom).map_or(1.0, |student| 2.0 * student.sf(t))
}

fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    if values.is_empty() {
        return (0.0, 0.0);
    }
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, if n > 1.0 { squares / (n - 1.0) } else { 0.0 })
}

/// Holm's step-down correction, in the order given.
fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let mut corrected = vec![1.0; p_values.len()];
    let mut greatest = 0.0f64;
    for (place, index) in order.iter().enumerate() {
        let scaled = p_values[*index] * (p_values.len() - place) as f64;
        greatest = greatest.max(scaled.min(1.0));
        corrected[*index] = greatest;
    }
    corrected
}

#[cfg(test)]
mod tests {
    use rand_distr::Distribution as _;

    use super::*;

    /// Rounds of five figures with run-to-run noise that they share in part, B slower by `effect`.
    fn experiment(seed: u64, rounds: usize, noise: f64, effect: f64) -> Vec<Metric> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let normal = rand_distr::Normal::new(0.0, noise).expect("positive");
        let mut metrics: Vec<Metric> = (0..5)
            .map(|number| Metric {
                name: format!("m{number}"),
                better: Better::Less,
                rounds: Vec::new(),
            })
            .collect();
        for _ in 0..rounds {
            let (shared_a, shared_b) = (normal.sample(&mut rng), normal.sample(&mut rng));
            for metric in &mut metrics {
                let a: f64 = 100.0 * (shared_a + normal.sample(&mut rng) * 0.5).exp();
                let b: f64 =
                    100.0 * (1.0 + effect) * (shared_b + normal.sample(&mut rng) * 0.5).exp();
                metric.rounds.push((a, b));
            }
        }
        metrics
    }

    fn is_difference(comparison: &Comparison) -> bool {
        matches!(comparison.verdict, Difference::Better | Difference::Worse)
    }

    /// Known answer 6, A/A: two hundred comparisons of a thing with itself, at most one in twenty cries out.
    #[test]
    fn a_thing_compared_with_itself_is_seldom_called_different() {
        let runs = 200;
        let alarms = (0..runs)
            .filter(|seed| {
                compare(&experiment(*seed, 8, 0.05, 0.0), 0.02, 7)
                    .iter()
                    .any(is_difference)
            })
            .count();
        assert!(
            alarms <= runs as usize / 20,
            "{alarms} false alarms in {runs}"
        );
    }

    /// Known answer 6, A/B: 5 % slower is found four times in five, and called worse.
    #[test]
    fn five_percent_slower_is_found() {
        let runs = 100;
        let found = (0..runs)
            .filter(|seed| {
                compare(&experiment(*seed, 10, 0.02, 0.05), 0.02, 7)
                    .iter()
                    .all(|comparison| comparison.verdict == Difference::Worse)
            })
            .count();
        assert!(found >= 80, "found {found} of {runs}");
    }

    #[test]
    fn the_interval_holds_the_true_ratio() {
        let runs = 200;
        let holds = (0..runs)
            .filter(|seed| {
                let comparison = &compare(&experiment(*seed, 8, 0.05, 0.1), 0.02, 7)[0];
                (comparison.ratio_low..comparison.ratio_high).contains(&1.1)
            })
            .count();
        assert!(holds >= 185, "{holds} of {runs}");
    }

    #[test]
    fn a_large_difference_is_seen_in_the_fewest_rounds() {
        let seen = (0..50)
            .filter(|seed| {
                compare(&experiment(*seed, 5, 0.1, 3.0), 0.02, 7)
                    .iter()
                    .all(|comparison| comparison.verdict == Difference::Worse)
            })
            .count();
        assert!(seen >= 45, "four times slower was seen in {seen} of 50");
    }

    #[test]
    fn students_t_has_its_textbook_values() {
        for (t, freedom, p) in [(2.776, 4.0, 0.05), (4.604, 4.0, 0.01), (2.262, 9.0, 0.05)] {
            assert!((by_student(t, freedom) - p).abs() < 1e-4);
        }
    }

    #[test]
    fn throughput_counts_the_other_way() {
        let metric = |better| Metric {
            name: "m".into(),
            better,
            rounds: (0..8)
                .map(|i| (100.0 + f64::from(i), 150.0 + f64::from(i)))
                .collect(),
        };
        let both = compare(&[metric(Better::More), metric(Better::Less)], 0.02, 7);
        assert_eq!(
            (both[0].verdict, both[1].verdict),
            (Difference::Better, Difference::Worse)
        );
    }

    #[test]
    fn little_noise_and_no_difference_is_the_same_and_much_noise_asks_for_more_rounds() {
        let same = &compare(&experiment(1, 10, 0.001, 0.0), 0.02, 7)[0];
        assert_eq!(same.verdict, Difference::Same);
        let noisy = &compare(&experiment(1, 5, 0.5, 0.0), 0.02, 7)[0];
        assert_eq!(noisy.verdict, Difference::NoDifferenceSeen);
        assert!(noisy.rounds_needed.is_some_and(|rounds| rounds > 1000));
    }

    #[test]
    fn nothing_to_compare_is_no_difference_and_no_nan() {
        let empty = compare(
            &[Metric {
                name: "m".into(),
                better: Better::Less,
                rounds: vec![(0.0, 1.0)],
            }],
            0.02,
            7,
        );
        assert_eq!(empty[0].verdict, Difference::NoDifferenceSeen);
        assert!(
            empty[0].ratio.is_finite()
                && empty[0].ratio_high.is_finite()
                && empty[0].p_value == 1.0
        );
    }

    #[test]
    fn holm_corrects_the_smallest_most_and_keeps_the_order() {
        assert_eq!(holm(&[0.01, 0.04, 0.03]), vec![0.03, 0.06, 0.06]);
    }
}
