//! What holds for the whole of gramme, checked from outside its packages.
//!
//! # Layout
//! - [`sim`]: the simulator, which `gramme-sim` runs;
//! - `cases/`: the tests, one file a concern, all linked into one program.

pub mod sim;
