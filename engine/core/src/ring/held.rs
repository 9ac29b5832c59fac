//! Held: the partitions of which one node has complete data, as it says itself.
//!
//! Only the node itself changes its bitmap; each change raises the version, and a merge takes the newer one whole. The
//! version leads with the node's start count, so what a node says after a restart is newer than all it said before,
//! and a node that comes back from an old backup cannot take back what it does not have any more.
//!
//! Why a bitmap and not a list: 128 bytes say it for 1024 partitions, however many are held.

use super::bytes::{Reader, RingBytesError, Writer};
use super::partition::PartitionMap;
use crate::base::ids::PartitionId;

/// Which of two bitmaps of one node is newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct HeldVersion {
    /// How often the node has started.
    pub start_count: u64,
    /// Changes since that start.
    pub sequence: u64,
}

/// The partitions that one node holds completely.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held {
    version: HeldVersion,
    partitions: PartitionMap,
    /// One bit a partition, lowest first; bits past the last partition are zero.
    words: Vec<u64>,
}

impl Held {
    /// A node that has just started and holds nothing.
    pub fn nothing(partitions: PartitionMap, start_count: u64) -> Self {
        Self {
            version: HeldVersion {
                start_count,
                sequence: 0,
            },
            partitions,
            words: vec![0; partitions.count().div_ceil(64)],
        }
    }

    /// A node that holds everything: the first of a cluster.
    pub fn everything(partitions: PartitionMap, start_count: u64) -> Self {
        let mut held = Self::nothing(partitions, start_count);
        for partition in partitions.iter() {
            held.put(partition, true);
        }
        held
    }

    /// How new this is.
    pub fn version(&self) -> HeldVersion {
        self.version
    }

    /// The cut that it counts in.
    pub fn partitions(&self) -> PartitionMap {
        self.partitions
    }

    /// Whether the partition is held.
    pub fn contains(&self, partition: PartitionId) -> bool {
        let index = partition.0 as usize;
        self.words
            .get(index / 64)
            .is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    /// How many are held.
    pub fn count(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// The held partitions in order.
    pub fn iter(&self) -> impl Iterator<Item = PartitionId> + '_ {
        (0u32..).zip(&self.words).flat_map(|(index, word)| {
            let mut rest = *word;
            core::iter::from_fn(move || {
                let bit = rest.trailing_zeros();
                rest &= rest.wrapping_sub(1);
                (bit < 64).then_some(PartitionId(index * 64 + bit))
            })
        })
    }

    /// Says that the partition is held from now on. Returns whether that is new.
    pub fn set(&mut self, partition: PartitionId) -> bool {
        self.change(partition, true)
    }

    /// Says that the partition is held no longer. Returns whether that is new.
    pub fn clear(&mut self, partition: PartitionId) -> bool {
        self.change(partition, false)
    }

    /// The node started again, as its `start_count`th time, and still has what it had.
    pub fn restart(&mut self, start_count: u64) {
        if start_count > self.version.start_count {
            self.version = HeldVersion {
                start_count,
                sequence: 0,
            };
        }
    }

    /// Takes the newer of both. Returns whether this changed.
    pub fn merge(&mut self, other: &Self) -> bool {
        // The bits decide between equal versions only, which an honest node never sends: both sides then agree.
        if other > self && other.partitions == self.partitions {
            self.clone_from(other);
            return true;
        }
        false
    }

    fn change(&mut self, partition: PartitionId, held: bool) -> bool {
        if !self.partitions.contains(partition) || self.contains(partition) == held {
            return false;
        }
        self.put(partition, held);
        self.version.sequence += 1;
        true
    }

    fn put(&mut self, partition: PartitionId, held: bool) {
        let index = partition.0 as usize;
        if let Some(word) = self.words.get_mut(index / 64) {
            *word = *word & !(1 << (index % 64)) | u64::from(held) << (index % 64);
        }
    }

    /// Bytes of the encoding that a count of bitmaps may assume at least.
    pub(super) const ENCODED_BYTES_MIN: usize = 8 + 8 + 8;

    pub(super) fn encode(&self, out: &mut Writer) {
        out.u64(self.version.start_count);
        out.u64(self.version.sequence);
        for word in &self.words {
            out.u64(*word);
        }
    }

    pub(super) fn decode(
        from: &mut Reader<'_>,
        partitions: PartitionMap,
    ) -> Result<Self, RingBytesError> {
        let version = HeldVersion {
            start_count: from.u64()?,
            sequence: from.u64()?,
        };
        let mut held = Self::nothing(partitions, 0);
        held.version = version;
        for word in &mut held.words {
            *word = from.u64()?;
        }
        let unused_bits = held.words.len() * 64 - partitions.count();
        let unused = held
            .words
            .last()
            .is_some_and(|last| unused_bits > 0 && last >> (64 - unused_bits) != 0);
        if unused {
            return Err(RingBytesError::Field { name: "held" });
        }
        Ok(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(partitions: u32) -> PartitionMap {
        PartitionMap::new(partitions).expect("valid")
    }

    #[test]
    fn what_is_set_is_iterated_counted_and_cleared() {
        let mut held = Held::nothing(map(1024), 3);
        for partition in [0, 63, 64, 1023] {
            assert!(held.set(PartitionId(partition)));
            assert!(!held.set(PartitionId(partition)), "nothing new");
        }
        assert!(!held.set(PartitionId(1024)), "there is none such");
        let found: Vec<u32> = held.iter().map(|partition| partition.0).collect();
        assert_eq!(found, [0, 63, 64, 1023]);
        assert_eq!(held.count(), 4);
        assert_eq!(held.version().sequence, 4);
        assert!(held.clear(PartitionId(63)));
        assert!(!held.contains(PartitionId(63)));
        assert_eq!(Held::everything(map(8), 1).count(), 8);
    }

    #[test]
    fn after_a_restart_everything_said_before_is_older() {
        let mut before = Held::nothing(map(16), 1);
        before.set(PartitionId(3));
        before.set(PartitionId(4));
        let mut restarted = Held::nothing(map(16), 2);
        let mut peer = before.clone();
        assert!(peer.merge(&restarted));
        assert!(peer.is_empty());
        assert!(!restarted.merge(&before));
    }

    proptest! {
        #[test]
        fn merge_is_a_join(
            versions in prop::collection::vec((0u64..3, 0u64..3, any::<u16>()), 3),
        ) {
            let all: Vec<Held> = versions
                .iter()
                .map(|(start_count, sequence, bits)| {
                    let mut held = Held::nothing(map(16), *start_count);
                    held.words[0] = u64::from(*bits);
                    held.version.sequence = *sequence;
                    held
                })
                .collect();
            let join = |left: &Held, right: &Held| {
                let mut joined = left.clone();
                joined.merge(right);
                joined
            };
            prop_assert_eq!(join(&all[0], &all[1]), join(&all[1], &all[0]));
            prop_assert_eq!(
                join(&join(&all[0], &all[1]), &all[2]),
                join(&all[0], &join(&all[1], &all[2]))
            );
            prop_assert_eq!(join(&all[0], &all[0]), all[0].clone());
        }

        #[test]
        fn encoding_returns_the_same(bits in any::<u64>(), sequence in any::<u64>()) {
            let mut held = Held::nothing(map(128), 9);
            held.words[1] = bits;
            held.version.sequence = sequence;
            let mut writer = Writer::of_kind(1);
            held.encode(&mut writer);
            let bytes = writer.seal();
            let mut reader = Reader::open(&bytes, 1).expect("opens");
            prop_assert_eq!(Held::decode(&mut reader, map(128)), Ok(held));
        }
    }
}
