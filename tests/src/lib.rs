//! What holds for the whole of gramme, checked from outside its packages.
//!
//! # Layout
//! - [`fuzz`]: what must hold of any bytes from outside, which `gramme-fuzz-smoke` and cargo-fuzz run;
//! - [`sim`]: the simulator, which `gramme-sim` runs;
//! - `cases/`: the tests, one file a concern, all linked into one program.

pub mod fuzz;
pub mod sim;
