//! What a simulated node takes part in its cluster with: the identity of its directory, what that keeps of the ring, and
//! the newest view of its control shard. Only in worlds whose ring is live; in the others all views are given.

use std::sync::Arc;

use gramme_core::base::durability::Durability;
use gramme_core::base::ids::NodeId;
use gramme_core::ring::{BucketView, RingView};
use gramme_core::version::{BlindPut, Conflict};

use super::swarm::Swarm;

/// Identities of one place differ by this: a wiped directory has a new one.
const PLACES: u64 = 1_000;

/// One node's part.
#[derive(Default)]
pub(super) struct Membership {
    /// What `ring.bin` holds.
    pub state: Option<Vec<u8>>,
    /// Starts of this directory.
    pub starts: u64,
    /// The newest view of its control shard in this life.
    pub view: Option<Arc<RingView>>,
    /// It has not come yet, or has left for good.
    pub is_away: bool,
}

/// Which of the simulated machines a node runs on.
pub(super) const fn place_of(id: NodeId) -> usize {
    ((id.0 - 1) % PLACES) as usize
}

/// The first identity of a place.
pub(super) const fn first_id(place: usize) -> NodeId {
    NodeId(place as u64 + 1)
}

/// The identity of an empty directory in the place of one that had this.
pub(super) const fn next_id(id: NodeId) -> NodeId {
    NodeId(id.0 + PLACES)
}

/// The address of a place, whoever runs there.
pub(super) fn address_of(place: usize) -> String {
    format!("10.0.0.{place}:7400")
}

/// The failure domain of a place.
pub(super) fn zone_of(place: usize) -> String {
    format!("z{}", place % 3)
}

/// The rules of the only bucket.
pub(super) fn bucket(swarm: &Swarm) -> BucketView {
    BucketView {
        name: b"default".to_vec(),
        n: swarm.n,
        r: swarm.r,
        w: swarm.w,
        durability: Durability::Buffered,
        conflict: Conflict::Siblings,
        blind_put: BlindPut::Sibling,
        ttl_ms: None,
    }
}
