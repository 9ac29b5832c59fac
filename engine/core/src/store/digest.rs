//! Merkle leaves that are never stale: each is the sum of its keys' fingerprints.
//!
//! A write takes the old fingerprint off and adds the new one; no tree is ever built anew. Sums wrap and commute, so a
//! node's leaf is the sum over its shards, and nodes with different core counts compare directly.

use crate::base::ids::{PartitionId, Token};
use crate::ring::Slices;

/// Leaves of a partition.
pub const LEAVES: usize = 16;

/// The leaves of one shard.
pub struct Digest {
    slices: Slices,
    leaves: Vec<[u64; LEAVES]>,
}

impl Digest {
    /// All leaves zero: no keys.
    pub fn new(slices: Slices) -> Self {
        Self {
            slices,
            leaves: vec![[0; LEAVES]; slices.partitions() as usize],
        }
    }

    /// A key's fingerprint changes; 0 stands for no entry.
    pub fn replace(&mut self, token: Token, former: u64, new: u64) {
        // Hints are this node's own affair.
        if token.is_hint() {
            return;
        }
        let partition = self.slices.partition_of(token).0 as usize;
        let leaf = self.leaf_of(token);
        let sum = &mut self.leaves[partition][leaf];
        *sum = sum.wrapping_sub(former).wrapping_add(new);
    }

    /// Loads the leaf of a key that will be written, without waiting for it (as [`Index::foresee`]).
    ///
    /// [`Index::foresee`]: crate::store::index::Index::foresee
    pub fn foresee(&self, token: Token) {
        let leaves = self.leaves.get(self.slices.partition_of(token).0 as usize);
        core::hint::black_box(leaves.map(|leaves| leaves[self.leaf_of(token)]));
    }

    /// The leaf of a token within its partition.
    pub const fn leaf_of(&self, token: Token) -> usize {
        let within = token.0 << self.slices.partitions().trailing_zeros();
        (within >> (64 - LEAVES.trailing_zeros())) as usize
    }

    /// A partition's leaves.
    pub fn leaves(&self, partition: PartitionId) -> Option<&[u64; LEAVES]> {
        self.leaves.get(partition.0 as usize)
    }

    /// A partition's root.
    pub fn root(&self, partition: PartitionId) -> u64 {
        self.leaves(partition).map_or(0, |leaves| {
            leaves.iter().fold(0, |sum, leaf| sum.wrapping_add(*leaf))
        })
    }
}

#[cfg(test)]
#[path = "digest_props.rs"]
mod props;
