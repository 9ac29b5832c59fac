//! The identity of a write.
//!
//! Owns actors, dots and write ids. Never compares what was written.
//!
//! Invariants:
//! - a dot's time is never before its actor's birth, and never zero;
//! - `Ord` sorts dots by actor, as vectors and exceptions lie; [`Dot::rank`] sorts them as a last writer wins.
//!
//! Why a birth and not the node alone: a vector entry says "everything of this actor up to here", which is true only
//! of an actor that never forgot. A node that lost a key goes on as another actor.

use core::fmt;

use crate::base::ids::NodeId;
use crate::base::time::Hlc;

/// A node and the time at which its present history of one key began.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Actor {
    /// The node that coordinates.
    pub node: NodeId,
    /// The time of the first write of its present history of the key.
    pub birth: Hlc,
}

/// One write: who coordinated it, and when.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Dot {
    /// Whose event it is.
    pub actor: Actor,
    /// Its time, at once the actor's event counter.
    pub hlc: Hlc,
}

/// Names a client's write, so that its retries through several coordinators are known as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId {
    /// The client: 64 random bits.
    pub client: u64,
    /// The client's count of writes.
    pub sequence: u64,
}

impl Dot {
    /// The first write of a new history of `node`: its birth is its own time.
    pub const fn newborn(node: NodeId, hlc: Hlc) -> Self {
        Self {
            actor: Actor { node, birth: hlc },
            hlc,
        }
    }

    /// The key of the last-writer-wins order: the later time, and among equal times the greater actor.
    pub const fn rank(self) -> (Hlc, Actor) {
        (self.hlc, self.actor)
    }

    /// Whether such a write can exist: after time zero and not before its actor's birth.
    pub(crate) fn is_possible(self) -> bool {
        self.hlc >= self.actor.birth && self.hlc > Hlc(0)
    }
}

impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{:?}", self.node, self.birth)
    }
}

impl fmt::Debug for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}@{:?}", self.actor, self.hlc)
    }
}
