//! Partitions and slices: a token's partition, and the core of a node that owns it.
//!
//! Each partition's range is cut into as many equal slices as the node has shards; shard *s* owns slice *s* of every
//! partition of its node, so cores are balanced however few partitions the node has.

use crate::base::ids::{PartitionId, ShardIndex, Token};
use crate::base::limits::{PARTITIONS_MAX, SHARDS_MAX};

/// The cut of the token space into partitions, and of each partition into the slices of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slices {
    partition_bits: u32,
    shards: u16,
}

impl Slices {
    /// `partitions` is a power of two from 2 to [`PARTITIONS_MAX`], `shards` from 1 to [`SHARDS_MAX`]; else `None`.
    pub const fn new(partitions: u32, shards: u16) -> Option<Self> {
        let partitions_fit =
            partitions.is_power_of_two() && partitions >= 2 && partitions <= PARTITIONS_MAX;
        if !partitions_fit || shards == 0 || shards > SHARDS_MAX {
            return None;
        }
        Some(Self {
            partition_bits: partitions.trailing_zeros(),
            shards,
        })
    }

    /// The number of partitions.
    pub const fn partitions(&self) -> u32 {
        1 << self.partition_bits
    }

    /// The number of this node's shards.
    pub const fn shards(&self) -> u16 {
        self.shards
    }

    /// The partition of a token: its top bits.
    pub const fn partition_of(&self, token: Token) -> PartitionId {
        PartitionId((token.0 >> (64 - self.partition_bits)) as u32)
    }

    /// The shard whose slice of the token's partition holds it.
    pub const fn shard_of(&self, token: Token) -> ShardIndex {
        let within = token.0 << self.partition_bits;
        ShardIndex(((within as u128 * self.shards as u128) >> 64) as u16)
    }

    /// The first and the last token of `shard`'s slice of a partition.
    pub const fn slice(&self, partition: PartitionId, shard: ShardIndex) -> (Token, Token) {
        let width = 1u128 << (64 - self.partition_bits);
        let base = partition.0 as u128 * width;
        let first = (shard.0 as u128 * width).div_ceil(self.shards as u128);
        let end = ((shard.0 as u128 + 1) * width).div_ceil(self.shards as u128);
        (Token((base + first) as u64), Token((base + end - 1) as u64))
    }

    /// The cursor of a walk that stands for the beginning of `shard`'s slice of a partition: its first token, and never 0,
    /// which stands for the beginning of everything.
    pub const fn beginning(&self, partition: PartitionId, shard: ShardIndex) -> Token {
        let (first, _) = self.slice(partition, shard);
        if first.0 == 0 { Token(1) } else { first }
    }

    /// Whether a cursor is before every token of `shard`'s slice of its partition: what stands for its beginning.
    pub const fn is_beginning(&self, cursor: Token, shard: ShardIndex) -> bool {
        cursor.0 <= self.beginning(self.partition_of(cursor), shard).0
    }

    /// The partition behind one; none behind the last.
    pub const fn partition_behind(&self, partition: PartitionId) -> Option<PartitionId> {
        if partition.0 + 1 < self.partitions() {
            Some(PartitionId(partition.0 + 1))
        } else {
            None
        }
    }

    /// The same cut into partitions, for a node of so many shards.
    #[must_use]
    pub const fn of_shards(&self, shards: u16) -> Option<Self> {
        Self::new(self.partitions(), shards)
    }

    /// Where a token lies within `shard`'s slice of its partition, as a fraction of 2^64; rises with the token.
    pub const fn within_slice(&self, token: Token, shard: ShardIndex) -> u64 {
        let scaled = (token.0 << self.partition_bits) as u128 * self.shards as u128;
        scaled.wrapping_sub((shard.0 as u128) << 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shard_owns_one_unbroken_equal_slice_of_every_partition() {
        for shards in [1, 2, 3, 7, 64] {
            let slices = Slices::new(16, shards).expect("valid");
            let width = 1u64 << 60;
            for partition in [0u64, 5, 15] {
                let steps = 4096u64;
                let owners: Vec<u16> = (0..steps)
                    .map(|i| {
                        slices
                            .shard_of(Token(partition * width + i * (width / steps)))
                            .0
                    })
                    .collect();
                assert!(owners.is_sorted(), "slices are unbroken");
                for shard in 0..shards {
                    let share = owners.iter().filter(|owner| **owner == shard).count();
                    let fair = steps as usize / usize::from(shards);
                    assert!(
                        share.abs_diff(fair) <= 1,
                        "shard {shard} of {shards} has {share} of {steps}"
                    );
                }
                assert_eq!(
                    slices.partition_of(Token(partition * width + 3)),
                    PartitionId(partition as u32)
                );
            }
        }
    }

    #[test]
    fn a_slice_begins_and_ends_where_its_shard_does() {
        for shards in [1, 2, 3, 7, 64] {
            let slices = Slices::new(16, shards).expect("valid");
            for partition in [0, 5, 15] {
                let mut next = u128::from(partition) << 60;
                for shard in 0..shards {
                    let (first, last) = slices.slice(PartitionId(partition), ShardIndex(shard));
                    assert_eq!(u128::from(first.0), next);
                    assert_eq!(slices.shard_of(first), ShardIndex(shard));
                    assert_eq!(slices.shard_of(last), ShardIndex(shard));
                    assert_eq!(slices.partition_of(last), PartitionId(partition));
                    next = u128::from(last.0) + 1;
                }
                assert_eq!(next, u128::from(partition + 1) << 60);
            }
        }
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        assert_eq!(Slices::new(1000, 2), None);
        assert_eq!(Slices::new(1 << 17, 2), None);
        assert_eq!(Slices::new(1024, 0), None);
    }
}
