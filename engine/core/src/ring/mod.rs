//! Who owns a token. Knows nothing of liveness.

mod slices;

pub use slices::Slices;
