//! Partitions: the cut of the token space into Q equal ranges.
//!
//! Q is a power of two, fixed when the cluster is created; a token's partition is its top bits. Knows neither nodes nor
//! shards. `Slices` cuts each partition once more, for the shards of one node.

use core::ops::RangeInclusive;

use crate::base::ids::{PartitionId, Token};
use crate::base::limits::{PARTITIONS_DEFAULT, PARTITIONS_MAX};

/// The number of partitions of a cluster, and the way from a token to its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionMap {
    bits: u32,
}

impl Default for PartitionMap {
    fn default() -> Self {
        Self {
            bits: PARTITIONS_DEFAULT.trailing_zeros(),
        }
    }
}

impl PartitionMap {
    /// `partitions` is a power of two from 2 to [`PARTITIONS_MAX`], else `None`.
    pub const fn new(partitions: u32) -> Option<Self> {
        if !partitions.is_power_of_two() || partitions < 2 || partitions > PARTITIONS_MAX {
            return None;
        }
        Some(Self {
            bits: partitions.trailing_zeros(),
        })
    }

    /// The number of partitions, Q.
    pub const fn partitions(self) -> u32 {
        1 << self.bits
    }

    /// Q as a length of tables.
    pub const fn count(self) -> usize {
        1 << self.bits
    }

    /// The partition of a token: its top bits.
    pub const fn partition_of(self, token: Token) -> PartitionId {
        PartitionId((token.0 >> (64 - self.bits)) as u32)
    }

    /// The tokens of a partition, first to last.
    pub const fn range(self, partition: PartitionId) -> RangeInclusive<Token> {
        let first = (partition.0 as u64) << (64 - self.bits);
        Token(first)..=Token(first | (u64::MAX >> self.bits))
    }

    /// Whether there is such a partition.
    pub const fn contains(self, partition: PartitionId) -> bool {
        partition.0 < self.partitions()
    }

    /// All partitions in token order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = PartitionId> + Clone {
        (0..self.partitions()).map(PartitionId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ranges_cover_every_token_once_and_in_order() {
        for partitions in [2, 16, 1024, 65_536] {
            let map = PartitionMap::new(partitions).expect("valid");
            let mut next = Some(0u64);
            for partition in map.iter() {
                let range = map.range(partition);
                assert_eq!(Some(range.start().0), next, "{partition} of {partitions}");
                assert_eq!(map.partition_of(*range.start()), partition);
                assert_eq!(map.partition_of(*range.end()), partition);
                next = range.end().0.checked_add(1);
            }
            assert_eq!(next, None, "the last range ends with the last token");
        }
    }

    #[test]
    fn numbers_that_are_no_power_of_two_or_out_of_range_are_refused() {
        for partitions in [0, 1, 3, 1000, 1 << 17] {
            assert_eq!(PartitionMap::new(partitions), None, "{partitions}");
        }
    }
}
