//! What the connections between nodes tell of themselves: for `/status` and `/metrics`.
//!
//! A shard counts for itself and adds up at the end of a turn: no message costs an atomic operation.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of all shards of a node. Written by the shards, at most once a turn each, read by anyone.
#[derive(Debug, Default)]
pub struct PeerCounters {
    /// Messages handed to a connection.
    pub sent: AtomicU64,
    /// Messages received and handed on.
    pub received: AtomicU64,
    /// Connections that were opened, or taken from a peer, and on which both sides said who they are.
    pub opened: AtomicU64,
    /// Tries to reach a peer that failed.
    pub failed: AtomicU64,
    /// Connections refused, since the other side is of another cluster, or not the one that was wanted.
    pub refused: AtomicU64,
    /// Messages dropped since too much waited for their peer.
    pub dropped_full: AtomicU64,
    /// Messages dropped since their peer could not be reached.
    pub dropped_unreachable: AtomicU64,
    /// Messages dropped on arrival, since they were older than an object may be.
    pub dropped_old: AtomicU64,
    /// Messages dropped on arrival, for a shard that there is not, or of a kind that is not known.
    pub dropped_unknown: AtomicU64,
    /// Messages dropped since they are longer than a frame may be.
    pub dropped_long: AtomicU64,
    /// Connections ended by bytes that are not frames.
    pub bad_frames: AtomicU64,
}

/// What one shard has counted in this turn.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) sent: Cell<u64>,
    pub(super) received: Cell<u64>,
    pub(super) opened: Cell<u64>,
    pub(super) failed: Cell<u64>,
    pub(super) refused: Cell<u64>,
    pub(super) dropped_full: Cell<u64>,
    pub(super) dropped_unreachable: Cell<u64>,
    pub(super) dropped_old: Cell<u64>,
    pub(super) dropped_unknown: Cell<u64>,
    pub(super) dropped_long: Cell<u64>,
    pub(super) bad_frames: Cell<u64>,
}

impl Counts {
    pub(super) fn count(counter: &Cell<u64>) {
        counter.set(counter.get() + 1);
    }

    /// Adds them up.
    pub(super) fn flush(&self, to: &PeerCounters) {
        let pairs = [
            (&self.sent, &to.sent),
            (&self.received, &to.received),
            (&self.opened, &to.opened),
            (&self.failed, &to.failed),
            (&self.refused, &to.refused),
            (&self.dropped_full, &to.dropped_full),
            (&self.dropped_unreachable, &to.dropped_unreachable),
            (&self.dropped_old, &to.dropped_old),
            (&self.dropped_unknown, &to.dropped_unknown),
            (&self.dropped_long, &to.dropped_long),
            (&self.bad_frames, &to.bad_frames),
        ];
        for (own, shared) in pairs {
            let count = own.take();
            if count > 0 {
                shared.fetch_add(count, Ordering::Relaxed);
            }
        }
    }
}
