//! One measurement from end to end: open, load what is missing, run, judge.
//!
//! Owns the order of these. Never parses arguments and never prints: the commands do.

pub mod target;

pub mod run;
