//! What holds for the whole of gramme, checked from outside its packages.
//!
//! # Layout
//! - `cases/`: the tests, one file a concern, all linked into one program.
