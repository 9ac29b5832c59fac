//! What a shard is told at its start; nothing of it changes while it runs.

use crate::base::ids::{NodeId, ShardIndex};
use crate::base::limits::SIBLINGS_BYTES_MAX;
use crate::port::Durability;
use crate::ring::Slices;
use crate::version::{BlindPut, Conflict};

/// The rules of one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: Vec<u8>,
    /// How durable a write is unless its request says otherwise.
    pub durability: Durability,
    /// What happens to writes that did not see each other.
    pub conflict: Conflict,
    /// What a put without a context means.
    pub blind_put: BlindPut,
    /// Values expire after this long unless the put says otherwise.
    pub ttl_ms: Option<u64>,
}

impl Bucket {
    /// A bucket with the rules that hold unless configured otherwise.
    pub fn new(name: &[u8]) -> Self {
        Self {
            name: name.to_vec(),
            durability: Durability::Buffered,
            conflict: Conflict::Siblings,
            blind_put: BlindPut::Latest,
            ttl_ms: None,
        }
    }
}

/// A shard's configuration.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// This node.
    pub node: NodeId,
    /// This shard.
    pub shard: ShardIndex,
    /// The cut of the token space.
    pub slices: Slices,
    /// The data directory's secret for key tags.
    pub tag_seed: u64,
    /// The buckets; `default` is always among them.
    pub buckets: Vec<Bucket>,
    /// A segment's length, a multiple of the block; fixed when the directory is made.
    pub segment_bytes: u32,
    /// The device's block, a power of two from 512; what is written is a multiple of it.
    pub block_bytes: u32,
    /// What a read of one record is a multiple of: a power of two, the block at most.
    pub read_align_bytes: u32,
    /// The most that this shard's segments may take together.
    pub capacity_bytes: u64,
    /// RAM for values: the log's tail and the cache of what was read.
    pub memory_bytes: u64,
    /// How long a buffered write may wait for its commit.
    pub commit_interval_ns: u64,
    /// How many group commits may be on their way to the disk at once.
    pub commits_in_flight_max: u32,
    /// How fast the cleaner reads while space is not short.
    pub clean_bytes_per_s: u64,
    /// How long a pass through everything on the disk takes, which finds what rotted there; 0: there is none.
    pub scrub_ns: u64,
    /// Log bytes after which a checkpoint is written.
    pub checkpoint_bytes: u64,
    /// Requests that may wait at once (for the disk, a commit, a slot); beyond it: `Overloaded`.
    pub requests_max: u32,
    /// The greatest value accepted from a client.
    pub value_bytes_max: u32,
    /// How far ahead of this node's wall clock another's may be.
    pub clock_drift_ms_max: u64,
}

impl ShardConfig {
    /// The longest object that always fits into a segment of its own, beside what the first batch of one has: a survey of an
    /// eighth of it, and the list of keys of the batch before. What is longer no shard can keep, from wherever it comes.
    pub(crate) const fn object_bytes_max(&self) -> usize {
        self.segment_bytes as usize / 4 * 3
    }

    /// What several siblings may have together when a client adds one. Replicas that did not see each other merge to more.
    pub(crate) fn siblings_bytes_max(&self) -> usize {
        (self.segment_bytes as usize / 8).min(SIBLINGS_BYTES_MAX)
    }
}
