//! The gramme latency harness: load on any target, latency from the intended start, statistics that hold.
//!
//! # Layout
//! `workload` decides what is asked and when, without I/O · `stats` says what figures mean, without I/O ·
//! `target` is what can be measured · `load` makes the load and writes down what happened · `record` is what remains ·
//! `stub` is a server whose latencies are known · `limits` measures the machine · `report` draws it all · `measure` joins
//! these into one measurement · `agent` does so from other hosts · `command` is the command line.
//!
//! A module imports from those before it, never from those after.

pub mod workload;

pub mod stats;

pub mod target;

pub mod load;

pub mod record;

pub mod stub;

pub mod limits;

pub mod report;

pub mod measure;

pub mod agent;

pub mod command;
