//! What the shards of one node tell each other. Notes are never lost and arrive in order.

use std::sync::Arc;

use crate::base::ids::{PartitionId, ShardIndex};
use crate::base::time::Now;
use crate::port::Progress;
use crate::ring::RingView;

/// What a shard has of its node's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ShardDisk {
    /// Bytes of live records.
    pub live_bytes: u64,
    /// Bytes that its data may take.
    pub capacity_bytes: u64,
    /// Whether it takes writes of values.
    pub takes_writes: bool,
}

/// One note.
#[derive(Clone, Debug)]
pub enum Note {
    /// From the control shard to all, itself too: who owns what, and who seems alive.
    View(Arc<RingView>),
    /// To the control shard: the sender has all of its slice of a partition, on stable media, as of this view.
    Gained {
        /// The sender.
        shard: ShardIndex,
        /// The partition.
        partition: PartitionId,
        /// The view's epoch.
        epoch: u64,
    },
    /// To the control shard: the sender's slice of a draining partition is equal to that of all its targets.
    Drained {
        /// The sender.
        shard: ShardIndex,
        /// The partition.
        partition: PartitionId,
        /// The view's epoch.
        epoch: u64,
    },
    /// From the control shard to all: an operator wants every partition compared with its other replicas now.
    CompareAll,
    /// From the control shard to all: whether this node's clock is too far from the others'.
    ClockWrong {
        /// By how many milliseconds it is ahead of them, or behind, below zero; none where it is right.
        off_ms: Option<i64>,
        /// When another one's agreed with it last.
        agreed: Option<Now>,
    },
    /// To the control shard, for people: how far the sender's background is.
    Progress {
        /// The sender.
        shard: ShardIndex,
        /// How far.
        progress: Box<Progress>,
    },
    /// To the control shard: what the sender has of the disk, where that is news.
    Disk {
        /// The sender.
        shard: ShardIndex,
        /// What it has.
        disk: ShardDisk,
    },
    /// To the control shard: part of the sender's slice of these partitions is lost; they are no longer held.
    Lost(Vec<PartitionId>),
}
