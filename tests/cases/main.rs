//! All cases, linked once.

mod fuzz;
mod tidy;
