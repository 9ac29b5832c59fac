//! The paper's placement (strategy 3: Q equal partitions, Q/S of them a node), to compare with.
//!
//! Each partition has one owner; its replicas are the next N distinct owners clockwise. A node that joins takes
//! partitions from those that have most; one that leaves hands its own to those that have least. The walk knows no
//! zones and no replicas' balance: that is what the comparison shows. Nothing else uses it.

use std::collections::{BTreeMap, BTreeSet};

use super::layout::Layout;
use super::partition::PartitionMap;
use super::report::Report;
use super::solve::{NodeSpec, Shape, report_of};
use crate::base::ids::NodeId;

/// Owners of partitions, as the paper deals them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    owners: Vec<NodeId>,
    nodes: BTreeSet<NodeId>,
}

impl Walk {
    /// A ring of one node.
    pub fn new(partitions: PartitionMap, first: NodeId) -> Self {
        Self {
            owners: vec![first; partitions.count()],
            nodes: BTreeSet::from([first]),
        }
    }

    /// A node takes its Q/S from those that have most.
    pub fn join(&mut self, node: NodeId) {
        if !self.nodes.insert(node) {
            return;
        }
        for _ in 0..self.owners.len() / self.nodes.len() {
            let counts = self.counts();
            let richest = counts
                .iter()
                .filter(|(owner, _)| **owner != node)
                .max_by_key(|(owner, count)| (**count, **owner))
                .map(|(owner, _)| *owner);
            let Some(place) = self.widest(node, richest) else {
                return;
            };
            self.owners[place] = node;
        }
    }

    /// A node's partitions go to those that have least.
    pub fn leave(&mut self, node: NodeId) {
        if self.nodes.len() < 2 || !self.nodes.remove(&node) {
            return;
        }
        for place in 0..self.owners.len() {
            if self.owners[place] == node {
                let counts = self.counts();
                let poorest = self
                    .nodes
                    .iter()
                    .min_by_key(|owner| counts.get(owner).copied().unwrap_or(0));
                if let Some(poorest) = poorest {
                    self.owners[place] = *poorest;
                }
            }
        }
    }

    /// The layout that it makes and what that means, as `solve` says it of its own: to set one beside the other. `members`
    /// are the walk's nodes, each with a weight (which the walk does not look at); `None` if they are others.
    pub fn layout(
        &self,
        last: Option<&Layout>,
        members: &[NodeSpec],
        shape: Shape,
    ) -> Option<(Layout, Report)> {
        let nodes: Vec<NodeId> = self.nodes.iter().copied().collect();
        let mut named: Vec<NodeId> = members.iter().map(|spec| spec.node).collect();
        named.sort_unstable();
        if named != nodes || shape.partitions.count() != self.owners.len() {
            return None;
        }
        let width = usize::from(shape.n).min(nodes.len());
        let targets = self
            .targets(width)
            .iter()
            .flatten()
            .filter_map(|node| u16::try_from(nodes.binary_search(node).ok()?).ok())
            .collect::<Vec<u16>>();
        if targets.len() != width * self.owners.len() {
            return None; // a node so new that it owns nothing yet: the walk meets too few
        }
        let layout = Layout::draft(shape.partitions, shape.n, nodes, width, targets);
        let report = report_of(last, &layout, members, shape);
        Some((layout, report))
    }

    /// The targets of each partition: its owner and the next distinct ones clockwise.
    pub fn targets(&self, n: usize) -> Vec<Vec<NodeId>> {
        let count = self.owners.len();
        (0..count)
            .map(|partition| {
                let mut targets: Vec<NodeId> = Vec::with_capacity(n);
                for step in 0..count {
                    let owner = self.owners[(partition + step) % count];
                    if !targets.contains(&owner) {
                        targets.push(owner);
                    }
                    if targets.len() == n.min(self.nodes.len()) {
                        break;
                    }
                }
                targets
            })
            .collect()
    }

    fn counts(&self) -> BTreeMap<NodeId, usize> {
        let mut counts = BTreeMap::new();
        for owner in &self.owners {
            *counts.entry(*owner).or_default() += 1;
        }
        counts
    }

    /// The partition of `from` that is farthest from the last one that `to` has: they should not lie side by side.
    fn widest(&self, to: NodeId, from: Option<NodeId>) -> Option<usize> {
        let count = self.owners.len();
        let distance = |place: usize| {
            (0..count / 2)
                .find(|step| {
                    self.owners[(place + step) % count] == to
                        || self.owners[(place + count - step) % count] == to
                })
                .unwrap_or(count / 2)
                .min(64)
        };
        (0..count)
            .filter(|place| Some(self.owners[*place]) == from)
            .max_by_key(|place| (distance(*place), core::cmp::Reverse(*place)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_owns_its_share_and_a_walk_meets_distinct_nodes() {
        let partitions = PartitionMap::new(64).expect("valid");
        let mut walk = Walk::new(partitions, NodeId(1));
        for node in 2..=8 {
            walk.join(NodeId(node));
        }
        assert!(walk.counts().values().all(|count| *count == 8));
        for targets in walk.targets(3) {
            let distinct: BTreeSet<_> = targets.iter().collect();
            assert_eq!(distinct.len(), 3);
        }
        walk.leave(NodeId(3));
        assert!(walk.counts().values().all(|count| (8..=11).contains(count)));
        assert!(!walk.counts().contains_key(&NodeId(3)));
    }
}
