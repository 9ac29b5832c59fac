//! Who owns a token. Knows nothing of liveness.

mod slices;
mod view;

pub use slices::Slices;
pub use view::{BucketView, NodeView, PartitionView, RingView};
