//! All cases, linked once.

mod tidy;
