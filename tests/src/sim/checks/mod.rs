//! What must hold of a history and of what the cluster shows at its end; a file each. A check returns its violations.

pub mod acknowledged;
pub mod bounded;
pub mod converged;
pub mod denied;
pub mod expired;
mod graph;
pub mod in_order;
pub mod latest;
pub mod prefix;
pub mod quorum;
pub mod resurrected;
pub mod ring;
pub mod sessions;
pub mod siblings;

use std::collections::{BTreeMap, BTreeSet};

use super::history::WriteNumber;
use super::swarm::Swarm;
use super::world::SMALL_LEAP_MS;

/// What each node showed of each key at the end: the writes of its values.
pub type Shown = BTreeMap<(usize, usize), BTreeSet<WriteNumber>>;

/// How far a clock may run ahead of its wall clock after a crash.
const AHEAD_NS: u64 = 1_000_000_000;

/// How far apart the times of two writes may be that are made at one moment. Whatever began so much after another ended is
/// the later one by every clock.
pub(super) const fn apart_ns(swarm: &Swarm) -> u64 {
    // A small leap stays: nobody calls such a clock wrong.
    let leap_ms = if swarm.leaps > 0 { SMALL_LEAP_MS } else { 0 };
    let off_ns = (swarm.skew_ms + leap_ms) * 1_000_000;
    if !swarm.has_restarts() && !swarm.ends_in_blackout {
        off_ns + 2_000_000
    } else {
        off_ns + AHEAD_NS
    }
}

/// Whether every read meets every write that was acknowledged before it.
pub(super) const fn is_strict(swarm: &Swarm) -> bool {
    // A node that forgets what it acknowledged from memory is no replica to count on.
    let may_forget = swarm.bent.has_victim || swarm.bent.is_lone;
    !swarm.sloppy && swarm.r + swarm.w > swarm.n && !may_forget
}
