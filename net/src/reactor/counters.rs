//! What the network of a node tells of itself: for `INFO`, `/status` and `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::peer::PeerCounters;

/// Counters of all shards of a node. Written by the shards, at most once a turn each, read by anyone.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that are open.
    pub connections: AtomicU64,
    /// Connections accepted since the start.
    pub accepted: AtomicU64,
    /// Connections refused since there were as many as allowed.
    pub refused: AtomicU64,
    /// Accepts that failed, for want of file descriptors, say.
    pub accept_failures: AtomicU64,
    /// Connections closed since their client did not read.
    pub closed_unread: AtomicU64,
    /// Connections closed since their unfinished input was too much for the shard.
    pub closed_input: AtomicU64,
    /// Connections closed since they did not say in time who they are.
    pub closed_strangers: AtomicU64,
    /// Connections ended since the other side's TLS was none, or its certificate not of the authority.
    pub tls_failures: AtomicU64,
    /// The second, since 1970, at which the node's certificate ends; 0 without TLS.
    pub certificate_ends_s: AtomicU64,
    /// Bytes received.
    pub received_bytes: AtomicU64,
    /// Bytes sent.
    pub sent_bytes: AtomicU64,
    /// Of the connections between nodes.
    pub peers: PeerCounters,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, count: u64) {
        if count > 0 {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }
}
