//! The host tuner of gramme: every setting of a host that a latency promise depends on can be checked, explained,
//! applied, taken back, made to last, and tested on a directory that looks like another machine.
//!
//! It runs no other program and shares no code with the other packages.
//!
//! # Layout
//!
//! - [`cpus`]: sets of CPUs in the kernel's two spellings
//! - [`tree`]: the files of a machine, under a root
//! - [`mounts`], [`environment`], [`machine`]: what kind of machine it is and of what parts
//! - [`knob`]: what a setting is; [`knobs`]: all of them, each defined once
//! - [`mod@check`]: what is, beside what is wanted
//! - [`journal`] → [`mod@apply`] → [`mod@revert`]: changing, and taking back
//! - [`persist`], [`script`]: the same plan as files that last, and as a shell script
//! - [`listing`]: the catalogue as a table
//! - [`mod@calibrate`]: measuring the disk and the cores

pub mod apply;
pub mod calibrate;
pub mod check;
pub mod cpus;
pub mod environment;
pub mod journal;
pub mod knob;
pub mod knobs;
pub mod listing;
pub mod machine;
pub mod mounts;
pub mod persist;
pub mod revert;
pub mod script;
mod sys;
pub mod tree;
