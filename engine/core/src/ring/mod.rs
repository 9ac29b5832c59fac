//! Who owns a token. Knows nothing of liveness.
//!
//! # Layout
//! - `partition`, `slices`: a token's partition, and a shard's slice of it;
//! - `members`, `layout`, `held`: what nodes agree on, each a value that merges;
//! - `share`, `assign`, `solve`, `report`: the next layout, and what it means;
//! - `walk`: the paper's placement, to compare with;
//! - `routes`: who reads, writes and stands in, derived from the three;
//! - `state`, `plan`, `exchange`: the [`Ring`] that joins them: acts, plans, merges;
//! - `view`, `tables`: what a shard is given of it, and how that is made;
//! - `bytes`: the encoding that all of them use.

mod assign;
pub(crate) mod bytes;
mod exchange;
mod held;
mod layout;
mod members;
mod partition;
mod plan;
mod report;
mod routes;
mod share;
mod slices;
mod solve;
mod state;
mod tables;
mod view;
mod walk;

#[cfg(test)]
mod sequence_tests;

pub use bytes::RingBytesError;
pub use exchange::{LostLayout, Merged, RingDigest, RingPart};
pub use held::{Held, HeldVersion};
pub use layout::{Layout, LayoutId};
pub use members::{Change, Facts, Member, MemberError, MemberVersion, Members, Stamp};
pub use partition::PartitionMap;
pub use plan::{Circumstances, Plan, Space, Warning, ZoneMoves};
pub use report::{NodeReport, Report};
pub use routes::{Role, Route, Routes, StandIns};
pub use slices::Slices;
pub use solve::{Heir, NodeSpec, Shape, solve};
pub use state::{Founding, MemberState, Ring, RingError, Staged};
pub use view::{BucketView, NodeView, PartitionView, RingView};
pub use walk::Walk;
