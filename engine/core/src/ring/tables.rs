//! Tables: the parts of a shard's [`RingView`](super::view::RingView) that follow from the ring.
//!
//! Liveness and buckets come from elsewhere. The table of partitions does not depend on liveness, so it is made once an
//! epoch and shared by all views of that epoch.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::routes::{Role, Routes};
use super::state::Ring;
use super::view::{NodeView, PartitionView};
use crate::base::ids::NodeId;

/// Stand-ins of a partition that are worth asking.
const STAND_INS_MAX: usize = 8;

impl Ring {
    /// All members by id, with what the ring does not know of them: whether they are alive, and take values.
    pub fn node_views(
        &self,
        is_alive: impl Fn(NodeId) -> bool,
        takes_values: impl Fn(NodeId) -> bool,
    ) -> Vec<NodeView> {
        self.members()
            .iter()
            .map(|(node, member)| NodeView {
                id: node,
                address: member.facts().listen.clone(),
                zone: member.facts().zone.clone(),
                shards: member.facts().shards,
                is_alive: is_alive(node),
                takes_values: takes_values(node),
            })
            .collect()
    }

    /// One row for each partition as the node `me` sees it; node numbers are places in [`Self::node_views`]. Empty when
    /// `me` is the only member and holds everything.
    pub fn partition_views(&self, me: NodeId, routes: &Routes) -> Arc<Vec<PartitionView>> {
        let numbers: BTreeMap<NodeId, u16> = self
            .members()
            .iter()
            .map(|(node, _)| node)
            .zip(0..)
            .collect();
        let holds_all = self
            .held(me)
            .is_some_and(|held| held.count() == self.partitions().partitions());
        if numbers.len() == 1 && numbers.contains_key(&me) && holds_all {
            return Arc::default();
        }
        let numbered = |nodes: &[NodeId]| -> Box<[u16]> {
            nodes
                .iter()
                .filter_map(|node| numbers.get(node).copied())
                .collect()
        };
        let row = |partition| {
            let route = routes.of(partition);
            let role = route.role(me);
            PartitionView {
                read: numbered(route.readers()),
                write: numbered(route.writers()),
                stand_ins: numbered(&routes.first_stand_ins(partition, STAND_INS_MAX)),
                others: numbered(route.draining()),
                is_pending_here: role == Role::Pending,
                is_draining_here: role == Role::Draining,
                is_move_known: false,
            }
        };
        Arc::new(self.partitions().iter().map(row).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::{cluster, commit, facts, settle, stamp};
    use super::*;

    #[test]
    fn a_node_alone_needs_no_table() {
        let ring = cluster(1);
        assert!(ring.partition_views(NodeId(1), &ring.routes()).is_empty());
    }

    #[test]
    fn rows_name_nodes_by_their_place_among_the_members() {
        let mut ring = cluster(4);
        ring.announce(NodeId(0), facts("a"), 1, stamp(5))
            .expect("new");
        ring.stage_join(NodeId(0), stamp(6)).expect("known");
        commit(&mut ring, 7);
        let nodes = ring.node_views(|node| node != NodeId(2), |_| true);
        assert_eq!(nodes.len(), 5);
        assert_eq!(nodes.iter().filter(|node| !node.is_alive).count(), 1);
        let routes = ring.routes();
        let rows = ring.partition_views(NodeId(0), &routes);
        let mut pending = 0;
        for (partition, row) in ring.partitions().iter().zip(rows.iter()) {
            let route = routes.of(partition);
            let of = |numbers: &[u16]| -> Vec<NodeId> {
                numbers
                    .iter()
                    .map(|number| nodes[usize::from(*number)].id)
                    .collect()
            };
            assert_eq!(of(&row.read), route.readers());
            assert_eq!(of(&row.write), route.writers());
            let stand_ins: Vec<NodeId> = routes.stand_ins(partition).take(8).collect();
            assert_eq!(of(&row.stand_ins), stand_ins);
            pending += usize::from(row.is_pending_here);
        }
        assert!(
            (9..=10).contains(&pending),
            "a fifth of 48 replicas: {pending}"
        );
        settle(&mut ring);
        let routes = ring.routes();
        let rows = ring.partition_views(NodeId(0), &routes);
        assert!(rows.iter().all(|row| !row.is_pending_here));
    }
}
