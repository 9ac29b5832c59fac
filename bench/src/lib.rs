//! The gramme latency harness: load on any target, latency from the intended start, statistics that hold.
//!
//! # Layout
//! `workload` decides what is asked and when, without I/O · `stats` says what figures mean, without I/O ·
//! `target` is what can be measured · `load` makes the load and writes down what happened.
//!
//! A module imports from those before it, never from those after.

pub mod workload;

pub mod stats;

pub mod target;

pub mod load;

pub mod record;

pub mod measure;

pub mod command;
