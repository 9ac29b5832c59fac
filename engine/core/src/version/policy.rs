//! What a bucket says about conflicts: the two questions that the paper leaves open.
//!
//! Owns the names and how a rule becomes a mode of [`super::put`]. Never decides anything itself.

use super::put::PutMode;

/// What becomes of a put that has not seen a sibling which is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Conflict {
    /// Both stay; a reader gets both and reconciles. Nothing is lost, readers must be able to merge.
    #[default]
    Siblings,
    /// The later time wins: every put counts as a `latest` one. Never two values; of concurrent puts one is lost.
    Lww,
    /// The put fails with [`super::PutError::Stale`]: compare-and-set at one coordinator, not linearizable across a
    /// partition of the network.
    Reject,
}

/// What a put without a context means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BlindPut {
    /// It follows everything earlier, as a last writer; it needs no read.
    #[default]
    Latest,
    /// It follows exactly what the coordinator's replica knows, as the paper may be read; it costs a read.
    Supersede,
    /// It is concurrent with everything and never overwrites silently.
    Sibling,
    /// It is refused.
    Reject,
}

impl BlindPut {
    /// The mode of such a put; none where it is refused.
    pub const fn mode(self) -> Option<PutMode<'static>> {
        match self {
            Self::Latest => Some(PutMode::Latest),
            Self::Supersede => Some(PutMode::Supersede),
            Self::Sibling => Some(PutMode::Sibling),
            Self::Reject => None,
        }
    }
}
