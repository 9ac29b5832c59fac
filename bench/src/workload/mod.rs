//! What is asked of a store: keys, values, the mix of operations, and when they arrive.
//!
//! Owns every decision that makes up the load. Never does I/O, reads a clock, or starts a thread: the simulator and
//! the tests use it as the harness does, and one seed gives one load everywhere.
//!
//! # Layout
//! `permutation` scatters ranks · `distribution` chooses keys · `key` and `value` write bytes · `mix` chooses verbs ·
//! `spec` is the whole workload and its TOML form · `preset` the built-in ones · `arrival` the schedule ·
//! `stream` joins them into operations · `trace` replays a recorded load.

pub mod permutation;

pub mod distribution;
pub mod key;
pub mod value;

pub mod mix;
pub mod spec;

pub mod preset;

pub mod arrival;
pub mod stream;
pub mod trace;

pub use arrival::{Arrivals, Process, Shape};
pub use mix::{Mix, Verb};
pub use spec::{Durability, Workload};
pub use stream::{KeySpace, Operation, OperationStream};
