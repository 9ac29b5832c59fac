//! When requests are meant to start: one global schedule.
//!
//! Owns the sequence of intended times as nanoseconds from the start. Never reads a clock and never waits: whoever
//! sends looks at its own clock and is late or not.
//!
//! Invariants:
//! - times never decrease;
//! - the sequence depends on process, shape, rate and seed alone, not on how many workers, connections or agents
//!   share it: each takes every n-th arrival of the same sequence, so a rate far below the number of connections is
//!   still one even process (per-connection pacing is what makes other tools send in bursts).

use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution as _, Exp1, Gamma};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};

const NS_PER_S: f64 = 1e9;

/// How arrivals scatter around the rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Process {
    /// Independent users: exponential gaps.
    #[default]
    Poisson,
    /// Equal gaps.
    Fixed,
    /// Burstier than independent: gamma gaps with a coefficient of variation of 2.
    Gamma,
}

/// How the rate moves over the run. Factors multiply the rate that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "shape", rename_all = "kebab-case")]
pub enum Shape {
    /// It does not.
    #[default]
    Constant,
    /// From one factor to another, evenly over `over_s`, then it stays.
    Ramp {
        /// The factor at the start.
        from: f64,
        /// The factor at the end.
        to: f64,
        /// Seconds between.
        over_s: f64,
    },
    /// Swings around the rate.
    Sine {
        /// The swing as a part of the rate, 0 to 1.
        amplitude: f64,
        /// Seconds of one swing.
        period_s: f64,
    },
    /// `factor` times the rate for `length_s` in every `period_s`, the plain rate between.
    Burst {
        /// How much more.
        factor: f64,
        /// Seconds of a burst.
        length_s: f64,
        /// Seconds from one burst to the next.
        period_s: f64,
    },
}

impl Shape {
    /// Why this shape cannot be used, if it cannot.
    pub fn problem(&self) -> Option<String> {
        let positive = |value: f64| value.is_finite() && value > 0.0;
        match *self {
            Shape::Constant => None,
            Shape::Ramp { from, to, over_s } => {
                (!(positive(from) && positive(to) && positive(over_s))).then(|| "a ramp needs from, to and over_s above 0".to_owned())
            }
            Shape::Sine { amplitude, period_s } => (!((0.0..=1.0).contains(&amplitude) && positive(period_s)))
                .then(|| "a sine needs an amplitude between 0 and 1 and a period_s above 0".to_owned()),
            Shape::Burst { factor, length_s, period_s } => {
                (!(positive(factor) && positive(length_s) && positive(period_s) && length_s <= period_s))
                    .then(|| "a burst needs factor, length_s and period_s above 0, and length_s within period_s".to_owned())
            }
        }
    }

    /// The factor at `at_s` seconds.
    pub fn factor(&self, at_s: f64) -> f64 {
        match *self {
            Shape::Constant => 1.0,
            Shape::Ramp { from, to, over_s } => {
                from + (to - from) * (at_s / over_s).clamp(0.0, 1.0)
            }
            Shape::Sine {
                amplitude,
                period_s,
            } => 1.0 + amplitude * (std::f64::consts::TAU * at_s / period_s).sin(),
            Shape::Burst {
                factor,
                length_s,
                period_s,
            } => {
                if at_s % period_s < length_s {
                    factor
                } else {
                    1.0
                }
            }
        }
    }

    fn factor_max(&self) -> f64 {
        match *self {
            Shape::Constant => 1.0,
            Shape::Ramp { from, to, .. } => from.max(to),
            Shape::Sine { amplitude, .. } => 1.0 + amplitude,
            Shape::Burst { factor, .. } => factor.max(1.0),
        }
    }

    /// The mean factor over the first `duration_s` seconds.
    pub fn factor_mean(&self, duration_s: f64) -> f64 {
        const STEPS: u32 = 1000;
        (0..STEPS)
            .map(|step| self.factor(duration_s * (f64::from(step) + 0.5) / f64::from(STEPS)))
            .sum::<f64>()
            / f64::from(STEPS)
    }
}

/// One worker's part of the global schedule.
#[derive(Debug, Clone)]
pub struct Arrivals {
    process: Process,
    shape: Shape,
    rate_max: f64,
    gap: Gap,
    rng: Xoshiro256PlusPlus,
    at_ns: f64,
    skip: u64,
    stride: u64,
}

#[derive(Debug, Clone)]
enum Gap {
    Exponential,
    Equal,
    Gamma(Gamma<f64>),
}

impl Arrivals {
    /// Every `stride`-th arrival of the schedule, beginning with arrival number `first`.
    pub fn new(
        process: Process,
        shape: Shape,
        rate: f64,
        seed: u64,
        first: u64,
        stride: u64,
    ) -> Self {
        let gap = match process {
            Process::Poisson => Gap::Exponential,
            Process::Fixed => Gap::Equal,
            // Shape k and scale 1/k: mean 1, coefficient of variation 1/√k = 2.
            Process::Gamma => Gamma::new(0.25, 4.0).map_or(Gap::Exponential, Gap::Gamma),
        };
        Arrivals {
            process,
            shape,
            rate_max: rate * shape.factor_max(),
            gap,
            rng: Xoshiro256PlusPlus::seed_from_u64(super::distribution::stream_seed(
                seed,
                u64::MAX,
            )),
            at_ns: 0.0,
            skip: first,
            stride: stride.max(1),
        }
    }

    /// The next intended start, in nanoseconds from the start of the run.
    pub fn next_ns(&mut self) -> u64 {
        for _ in 0..self.skip {
            self.advance();
        }
        self.advance();
        self.skip = self.stride - 1;
        self.at_ns as u64
    }

    fn advance(&mut self) {
        if self.process == Process::Fixed {
            let factor = self.shape.factor(self.at_ns / NS_PER_S).max(1e-6);
            self.at_ns += NS_PER_S / (self.rate_max / self.shape.factor_max() * factor);
            return;
        }
        // Thinning: draw at the greatest rate, keep each with the probability that its moment deserves.
        loop {
            let gap: f64 = match &self.gap {
                Gap::Exponential => Exp1.sample(&mut self.rng),
                Gap::Gamma(gamma) => gamma.sample(&mut self.rng),
                Gap::Equal => 1.0,
            };
            self.at_ns += gap / self.rate_max * NS_PER_S;
            if matches!(self.shape, Shape::Constant) {
                return;
            }
            let keep = self.shape.factor(self.at_ns / NS_PER_S) / self.shape.factor_max();
            if self.rng.random::<f64>() < keep {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(process: Process, shape: Shape, rate: f64, count: usize) -> Vec<u64> {
        let mut arrivals = Arrivals::new(process, shape, rate, 5, 0, 1);
        (0..count).map(|_| arrivals.next_ns()).collect()
    }

    fn variation(times: &[u64]) -> f64 {
        let gaps: Vec<f64> = times
            .windows(2)
            .map(|pair| (pair[1] - pair[0]) as f64)
            .collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        variance.sqrt() / mean
    }

    /// Known answer: 10 requests a second over 1000 connections are still one Poisson (or one even) process.
    #[test]
    fn a_rate_far_below_the_number_of_connections_is_one_even_process() {
        let connections = 1000;
        for (process, expected) in [
            (Process::Poisson, 1.0),
            (Process::Fixed, 0.0),
            (Process::Gamma, 2.0),
        ] {
            let mut merged: Vec<u64> = (0..connections)
                .flat_map(|connection| {
                    let mut mine =
                        Arrivals::new(process, Shape::Constant, 10.0, 5, connection, connections);
                    (0..20).map(move |_| mine.next_ns()).collect::<Vec<_>>()
                })
                .collect();
            merged.sort_unstable();
            assert!(
                (variation(&merged) - expected).abs() < 0.06,
                "{process:?}: {}",
                variation(&merged)
            );
            let rate = merged.len() as f64 / (*merged.last().expect("not empty") as f64 / 1e9);
            assert!((rate - 10.0).abs() < 0.3, "{process:?}: rate {rate}");
        }
    }

    #[test]
    fn shares_of_the_schedule_are_the_schedule() {
        let whole = times(Process::Poisson, Shape::Constant, 1000.0, 300);
        let mut shares: Vec<u64> = (0..3)
            .flat_map(|worker| {
                let mut mine =
                    Arrivals::new(Process::Poisson, Shape::Constant, 1000.0, 5, worker, 3);
                (0..100).map(move |_| mine.next_ns()).collect::<Vec<_>>()
            })
            .collect();
        shares.sort_unstable();
        assert_eq!(shares, whole);
    }

    #[test]
    fn a_burst_sends_its_factor_inside_and_the_plain_rate_outside() {
        let shape = Shape::Burst {
            factor: 5.0,
            length_s: 1.0,
            period_s: 10.0,
        };
        for process in [Process::Poisson, Process::Fixed] {
            let times = times(process, shape, 1000.0, 70_000);
            let end_s = (*times.last().expect("not empty") / 10_000_000_000) * 10;
            let within = times.iter().filter(|at| **at < end_s * 1_000_000_000);
            let inside = within
                .clone()
                .filter(|at| **at % 10_000_000_000 < 1_000_000_000)
                .count() as f64;
            let outside = within.count() as f64 - inside;
            assert!(
                (inside / outside - 5.0 / 9.0).abs() < 0.03,
                "{process:?}: {inside} inside, {outside} outside"
            );
        }
    }

    #[test]
    fn a_sine_keeps_the_mean_and_a_ramp_ends_at_its_end() {
        let sine = Shape::Sine {
            amplitude: 0.5,
            period_s: 2.0,
        };
        assert!((sine.factor_mean(10.0) - 1.0).abs() < 0.01);
        let times = times(Process::Poisson, sine, 1000.0, 20_000);
        let rate = 20_000.0 / (*times.last().expect("not empty") as f64 / 1e9);
        assert!((rate - 1000.0).abs() < 30.0, "rate {rate}");
        let ramp = Shape::Ramp {
            from: 1.0,
            to: 3.0,
            over_s: 10.0,
        };
        assert_eq!(ramp.factor(20.0), 3.0);
        assert!((ramp.factor_mean(10.0) - 2.0).abs() < 0.01);
    }

    #[test]
    fn impossible_shapes_are_refused() {
        assert!(
            Shape::Sine {
                amplitude: 2.0,
                period_s: 1.0
            }
            .problem()
            .is_some()
        );
        assert!(
            Shape::Burst {
                factor: 2.0,
                length_s: 2.0,
                period_s: 1.0
            }
            .problem()
            .is_some()
        );
        assert!(
            Shape::Ramp {
                from: 0.0,
                to: 1.0,
                over_s: 1.0
            }
            .problem()
            .is_some()
        );
    }
}
