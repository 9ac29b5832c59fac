//! What a shard knows of its cluster at one moment: who owns what, and who seems alive.
//!
//! Made by the control shard from members, layout and held (see `routes`) and from its detector; shared by all shards of
//! the node, never changed. Lookups are O(1) and allocate nothing.

use crate::base::durability::Durability;
use crate::base::ids::{NodeId, PartitionId, Token};
use crate::ring::Slices;
use crate::version::{BlindPut, Conflict};

/// A node as the others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// Its id.
    pub id: NodeId,
    /// `HOST:PORT` of its native port; shard *s* also listens on that port + 1 + *s*.
    pub address: String,
    /// Its failure domain.
    pub zone: String,
    /// How many shards it has.
    pub shards: u16,
    /// Whether it seems alive to this node's detector, and able to serve.
    pub is_alive: bool,
    /// False when it said of late that it takes no values, its disk being full or failed. A hint, a while behind.
    pub takes_values: bool,
}

/// Who serves one partition; node numbers are places in [`RingView::nodes`].
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PartitionView {
    /// Who answers reads, best first: targets that hold it, filled up with other holders.
    pub read: Box<[u16]>,
    /// Who gets writes: the read set, then those whose acknowledgements do not count: targets that do not hold it yet,
    /// and other holders while a target lacks it.
    pub write: Box<[u16]>,
    /// Other nodes that may stand in, in the partition's own order: as many as it is worth to ask.
    pub stand_ins: Box<[u16]>,
    /// Who drains it beyond the write set, or was to gain it by an older layout and may hold it: they get writes and may be
    /// missed, and must agree before a tombstone is forgotten.
    pub others: Box<[u16]>,
    /// Whether this node should bring its copy up from the others: it is a target and does not hold it.
    pub is_pending_here: bool,
    /// Whether this node holds it and is no target: it lets go when the targets have all that it was to tell them.
    pub is_draining_here: bool,
    /// Whether, beside either, all who may coordinate writes of it have shown that they know that: of what they write from
    /// then on few of the targets may miss anything, whether this node has it or not.
    pub is_move_known: bool,
}

impl PartitionView {
    /// Whether the node of this view has a copy and stepped aside: its own word does not count yet, or its clock is wrong.
    pub(crate) fn is_aside(&self, me: u16) -> bool {
        let moves = self.is_pending_here || self.is_draining_here;
        !moves && !self.read.contains(&me) && self.write.contains(&me)
    }
}

/// A bucket's rules; N, R and W are bounded by the replicas that the layout has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketView {
    /// Its name.
    pub name: Vec<u8>,
    /// Replicas.
    pub n: u8,
    /// Answers of a read.
    pub r: u8,
    /// Acknowledgements of a write.
    pub w: u8,
    /// How durable a write is unless its request says otherwise.
    pub durability: Durability,
    /// What happens to writes that did not see each other.
    pub conflict: Conflict,
    /// What a put without a context means.
    pub blind_put: BlindPut,
    /// Values expire after this long unless the put says otherwise.
    pub ttl_ms: Option<u64>,
}

/// The whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingView {
    /// Rises with every change of members, layout or held (not of liveness).
    pub epoch: u64,
    /// The cluster, whose nodes refuse those of another; 0 while this node knows of none.
    pub cluster: u64,
    /// This node.
    pub me: NodeId,
    /// The cut of the token space, with this node's shards.
    pub slices: Slices,
    /// All members, in the order of their ids.
    pub nodes: Vec<NodeView>,
    /// One for each partition; empty where this node is alone and holds everything.
    pub partitions: std::sync::Arc<Vec<PartitionView>>,
    /// The buckets; `default` is always among them.
    pub buckets: Vec<BucketView>,
}

impl RingView {
    /// That of a node that serves nothing (yet).
    pub fn blank(me: NodeId, slices: Slices) -> Self {
        Self {
            epoch: 0,
            cluster: 0,
            me,
            slices,
            nodes: Vec::new(),
            partitions: std::sync::Arc::new(vec![
                PartitionView::default();
                slices.partitions() as usize
            ]),
            buckets: Vec::new(),
        }
    }

    /// Whether this node is the whole cluster: no other member, and it holds everything.
    pub fn is_alone(&self) -> bool {
        self.partitions.is_empty()
    }

    /// The partition's table row.
    pub fn partition(&self, partition: PartitionId) -> Option<&PartitionView> {
        self.partitions.get(partition.0 as usize)
    }

    /// The row of a token's partition.
    pub fn of_token(&self, token: Token) -> Option<&PartitionView> {
        self.partition(self.slices.partition_of(token))
    }

    /// A node by its number.
    pub fn node(&self, number: u16) -> &NodeView {
        &self.nodes[usize::from(number)]
    }

    /// A node's number.
    pub fn number_of(&self, id: NodeId) -> Option<u16> {
        let at = self.nodes.binary_search_by_key(&id, |node| node.id).ok()?;
        u16::try_from(at).ok()
    }

    /// This node's number; none where it is no member.
    pub fn my_number(&self) -> Option<u16> {
        self.number_of(self.me)
    }

    /// The rules of a bucket.
    pub fn bucket(&self, name: &[u8]) -> Option<&BucketView> {
        self.buckets.iter().find(|bucket| bucket.name == name)
    }
}
