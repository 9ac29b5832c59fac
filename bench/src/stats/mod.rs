//! What the figures mean: histograms, percentiles with their confidence, verdicts.
//!
//! Owns all arithmetic on results. Never does I/O, never reads a clock; every judgement is a function of what was
//! measured, so the tests know the answers.
//!
//! # Layout
//! `latencies` holds durations · `quantile` puts intervals around percentiles · `steady` finds the warm-up's end ·
//! `sla` judges against a promise · `validity` judges the run itself.

pub mod latencies;

pub mod quantile;
pub mod steady;

pub mod sla;
pub mod validity;
