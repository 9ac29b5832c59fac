//! What the figures mean: histograms, percentiles with their confidence, verdicts.
//!
//! Owns all arithmetic on results. Never does I/O, never reads a clock; every judgement is a function of what was
//! measured, so the tests know the answers.
//!
//! # Layout
//! `latencies` holds durations · `quantile` puts intervals around percentiles · `steady` finds the warm-up's end ·
//! `sla` judges against a promise · `validity` judges the run itself ·
//! `search` chooses the next rate · `compare` tells two targets apart · `unit` writes figures.

pub mod latencies;

pub mod quantile;
pub mod steady;

pub mod sla;
pub mod validity;

pub mod search;

pub mod compare;

pub mod unit;
