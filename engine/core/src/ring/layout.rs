//! Layout: the table of each partition's targets, a value with a version.
//!
//! A layout is computed by `solve`, committed once and never changed. Of two that were committed on two sides of a split
//! the greater [`LayoutId`] wins at every node, so all end with one. Knows nothing of who holds what, or is alive.
//!
//! Invariants:
//! - the nodes of its table are sorted, each once;
//! - every partition has the same number of targets, all distinct.

use super::bytes::{Reader, RingBytesError, Writer};
use super::members::{Stamp, decode_stamp, encode_stamp};
use super::partition::PartitionMap;
use crate::base::ids::{NodeId, PartitionId};
use crate::base::limits::{MEMBERS_MAX, PARTITIONS_MAX, REPLICAS_MAX};

/// Which layout this is. The greater wins: by version, then by when and where it was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct LayoutId {
    /// One more than that of the layout before it; zero before the first.
    pub version: u64,
    /// When and where it was committed.
    pub stamp: Stamp,
}

/// Each partition's targets, best first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Layout {
    id: LayoutId,
    base: LayoutId,
    partitions: PartitionMap,
    n: u8,
    /// Targets of each partition: `n`, or all nodes with a weight where there are fewer.
    width: usize,
    nodes: Vec<NodeId>,
    /// `width` indexes into `nodes` for each partition.
    targets: Vec<u16>,
}

impl Layout {
    /// A layout before its commit; `targets` has `width` indexes into `nodes` for each partition.
    pub(super) fn draft(
        partitions: PartitionMap,
        n: u8,
        nodes: Vec<NodeId>,
        width: usize,
        targets: Vec<u16>,
    ) -> Self {
        assert!(
            nodes.is_sorted_by(|a, b| a < b),
            "nodes are sorted, each once"
        );
        assert_eq!(targets.len(), width * partitions.count(), "a full table");
        Self {
            id: LayoutId::default(),
            base: LayoutId::default(),
            partitions,
            n,
            width,
            nodes,
            targets,
        }
    }

    /// The draft gets its place in the history: after `base`.
    pub(super) fn committed(mut self, base: LayoutId, stamp: Stamp) -> Self {
        self.base = base;
        self.id = LayoutId {
            version: base.version + 1,
            stamp,
        };
        self
    }

    /// Which layout this is.
    pub fn id(&self) -> LayoutId {
        self.id
    }

    /// The layout that it was planned from.
    pub fn base(&self) -> LayoutId {
        self.base
    }

    /// The cut of the token space.
    pub fn partitions(&self) -> PartitionMap {
        self.partitions
    }

    /// The replicas that each partition should have.
    pub fn n(&self) -> u8 {
        self.n
    }

    /// The replicas that each partition has: [`Self::n`], or fewer where there are not as many nodes.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The members that it was made for, sorted; one of weight zero is among them and in no partition.
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// Whether this node is one of its members.
    pub fn contains(&self, node: NodeId) -> bool {
        self.nodes.binary_search(&node).is_ok()
    }

    /// The targets of a partition, best first; none for a partition that does not exist.
    pub fn targets(
        &self,
        partition: PartitionId,
    ) -> impl ExactSizeIterator<Item = NodeId> + Clone + '_ {
        self.target_indexes(partition)
            .iter()
            .map(|index| self.nodes[usize::from(*index)])
    }

    /// The targets of a partition as indexes into [`Self::nodes`].
    pub fn target_indexes(&self, partition: PartitionId) -> &[u16] {
        let from = (partition.0 as usize).saturating_mul(self.width);
        self.targets
            .get(from..from + self.width)
            .unwrap_or_default()
    }

    /// Whether a node is a target of a partition.
    pub fn is_target(&self, node: NodeId, partition: PartitionId) -> bool {
        self.targets(partition).any(|target| target == node)
    }

    /// The layout alone as bytes, with a checksum.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::of_kind(KIND);
        self.encode(&mut out);
        out.seal()
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`RingBytesError`], for any bytes that are not that.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RingBytesError> {
        Self::decode(&mut Reader::open(bytes, KIND)?)
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        out.record(|out| {
            for id in [self.id, self.base] {
                out.u64(id.version);
                encode_stamp(out, id.stamp);
            }
            out.u32(self.partitions.partitions());
            out.u8(self.n);
            out.u8(u8::try_from(self.width).unwrap_or(u8::MAX));
            out.count(self.nodes.len());
            for node in &self.nodes {
                out.u64(node.0);
            }
            for index in &self.targets {
                out.u16(*index);
            }
        });
    }

    pub(super) fn decode(from: &mut Reader<'_>) -> Result<Self, RingBytesError> {
        let mut from = from.record()?;
        let mut id = || -> Result<LayoutId, RingBytesError> {
            Ok(LayoutId {
                version: from.u64()?,
                stamp: decode_stamp(&mut from)?,
            })
        };
        let (id, base) = (id()?, id()?);
        let partitions = PartitionMap::new(from.u32()?.min(PARTITIONS_MAX + 1))
            .ok_or(RingBytesError::Field { name: "partitions" })?;
        let (n, width) = (from.u8()?, from.u8()?);
        if n == 0 || n > REPLICAS_MAX || width > n {
            return Err(RingBytesError::Field { name: "replicas" });
        }
        let width = usize::from(width);
        let count = from.count("nodes", MEMBERS_MAX, 8)?;
        let nodes = (0..count)
            .map(|_| from.u64().map(NodeId))
            .collect::<Result<Vec<_>, _>>()?;
        if width > count || !nodes.is_sorted_by(|a, b| a < b) {
            return Err(RingBytesError::Field { name: "nodes" });
        }
        let table = from.take(partitions.count() * width * 2)?;
        let targets: Vec<u16> = table
            .chunks_exact(2)
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
            .collect();
        let distinct = |row: &[u16]| {
            row.iter().enumerate().all(|(position, index)| {
                usize::from(*index) < count && !row[..position].contains(index)
            })
        };
        if width > 0 && !targets.chunks_exact(width).all(distinct) {
            return Err(RingBytesError::Field { name: "targets" });
        }
        Ok(Self {
            id,
            base,
            partitions,
            n,
            width,
            nodes,
            targets,
        })
    }
}

/// A `Layout` by itself, format 1.
const KIND: u32 = 0x6c47_0001;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Hlc;
    use proptest::prelude::*;

    fn small() -> Layout {
        let partitions = PartitionMap::new(4).expect("valid");
        let nodes = vec![NodeId(3), NodeId(5), NodeId(9)];
        Layout::draft(partitions, 2, nodes, 2, vec![0, 1, 1, 2, 2, 0, 0, 2])
    }

    fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
        let body = bytes.len() - 4;
        let checksum = crc32c::crc32c(&bytes[..body]);
        bytes[body..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    #[test]
    fn targets_are_in_order_and_a_strange_partition_has_none() {
        let layout = small();
        let of = |partition| {
            layout
                .targets(PartitionId(partition))
                .map(|node| node.0)
                .collect::<Vec<_>>()
        };
        assert_eq!(of(2), [9, 3]);
        assert!(of(4).is_empty());
        assert!(layout.is_target(NodeId(5), PartitionId(1)));
        assert!(!layout.is_target(NodeId(3), PartitionId(1)));
    }

    #[test]
    fn the_order_is_by_version_then_time_then_node() {
        let id = |version, hlc, node| LayoutId {
            version,
            stamp: Stamp {
                hlc: Hlc(hlc),
                node: NodeId(node),
            },
        };
        assert!(id(2, 1, 1) > id(1, 9, 9));
        assert!(id(1, 2, 1) > id(1, 1, 9));
        assert!(id(1, 1, 2) > id(1, 1, 1));
    }

    #[test]
    fn bytes_return_the_same_and_are_compact() {
        let stamp = Stamp {
            hlc: Hlc(77),
            node: NodeId(3),
        };
        let layout = small().committed(LayoutId::default(), stamp);
        assert_eq!(layout.id().version, 1);
        let bytes = layout.to_bytes();
        assert_eq!(bytes.len(), 4 + 4 + 2 * 24 + 4 + 2 + 4 + 3 * 8 + 8 * 2 + 4);
        assert_eq!(Layout::from_bytes(&bytes), Ok(layout));
    }

    #[test]
    fn a_target_that_is_no_node_or_comes_twice_is_refused() {
        let bytes = small().to_bytes();
        let first_target = bytes.len() - 4 - 8 * 2;
        for wrong in [1, 3] {
            let mut damaged = bytes.clone();
            damaged[first_target] = wrong;
            assert_eq!(
                Layout::from_bytes(&resealed(damaged)),
                Err(RingBytesError::Field { name: "targets" })
            );
        }
    }

    proptest! {
        #[test]
        fn no_damage_makes_a_reader_panic(at in 0usize..80, bits in any::<u8>(), cut in 0usize..90) {
            let mut bytes = small().to_bytes();
            let length = bytes.len();
            bytes[at % length] ^= bits;
            let _ = Layout::from_bytes(&resealed(bytes.clone()));
            bytes.truncate(length - cut.min(length - 4));
            let _ = Layout::from_bytes(&resealed(bytes));
        }
    }
}
