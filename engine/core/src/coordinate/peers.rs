//! What this shard feels of the other nodes: who answers, how fast, how long their queues are.
//!
//! A node that does not answer is treated as away by the callers that feel it, whatever the detector says (grey
//! failure: Huang et al., HotOS 2017); it is tried again after a while.

use std::collections::BTreeMap;

use crate::base::ids::NodeId;
use crate::ring::NodeView;

/// How long a node that let a call time out is avoided at first; doubled each time, up to the greatest.
const AVOID_NS_MIN: u64 = 500_000_000;
const AVOID_NS_MAX: u64 = 4_000_000_000;
/// The share of a new sample in the mean.
const SAMPLE_SHARE: u64 = 8;
/// What is assumed of a node that was never asked.
const LATENCY_NS_DEFAULT: u64 = 1_000_000;

#[derive(Clone, Copy)]
struct Peer {
    latency_ns: u64,
    queue: u32,
    avoid_until_ns: u64,
    avoid_ns: u64,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            latency_ns: LATENCY_NS_DEFAULT,
            queue: 0,
            avoid_until_ns: 0,
            avoid_ns: AVOID_NS_MIN,
        }
    }
}

/// All of them.
#[derive(Default)]
pub(super) struct Peers {
    peers: BTreeMap<NodeId, Peer>,
}

impl Peers {
    /// It answered.
    pub(super) fn answered(&mut self, node: NodeId, took_ns: u64, queue: u32) {
        let peer = self.peers.entry(node).or_default();
        peer.latency_ns = peer.latency_ns - peer.latency_ns / SAMPLE_SHARE + took_ns / SAMPLE_SHARE;
        peer.queue = queue;
        peer.avoid_until_ns = 0;
        peer.avoid_ns = AVOID_NS_MIN;
    }

    /// It let a call time out, or its connection broke.
    pub(super) fn failed(&mut self, node: NodeId, now_ns: u64) {
        let peer = self.peers.entry(node).or_default();
        if peer.avoid_until_ns > now_ns {
            return;
        }
        peer.avoid_until_ns = now_ns.saturating_add(peer.avoid_ns);
        peer.avoid_ns = (peer.avoid_ns * 2).min(AVOID_NS_MAX);
    }

    /// Whether callers should do without it for now.
    fn is_avoided(&self, node: NodeId, now_ns: u64) -> bool {
        self.peers
            .get(&node)
            .is_some_and(|peer| peer.avoid_until_ns > now_ns)
    }

    /// Whether a node is worth asking.
    pub(super) fn is_usable(&self, node: &NodeView, now_ns: u64) -> bool {
        node.is_alive && !self.is_avoided(node.id, now_ns)
    }

    /// Less is better.
    pub(super) fn cost(&self, node: NodeId) -> u64 {
        let peer = self.peers.get(&node).copied().unwrap_or_default();
        peer.latency_ns.saturating_mul(u64::from(peer.queue) + 1)
    }
}
