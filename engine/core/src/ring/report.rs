//! Report: what a layout means, before anyone commits it.
//!
//! Counts replicas, not bytes. Any layout can be reported on, that of the paper's clockwise walk too, so the figures of
//! both stand beside each other.

use std::collections::{BTreeMap, BTreeSet};

use super::layout::Layout;
use super::share::{SHARE_BITS, around};
use super::solve::NodeSpec;
use crate::base::ids::NodeId;

/// One node's part.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeReport {
    /// The node.
    pub node: NodeId,
    /// Its weighted share of all replicas, within what zones allow. Zero for one that leaves.
    pub share: f64,
    /// Replicas it was a target of.
    pub before: usize,
    /// Replicas it is to be a target of.
    pub after: usize,
    /// Partitions in which it comes first.
    pub first: usize,
    /// Replicas that it has to fetch.
    pub gained: usize,
    /// Replicas that it will let go.
    pub lost: usize,
}

/// What a layout means.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// By node; those that leave are among them.
    pub nodes: Vec<NodeReport>,
    /// Replicas that move to a node which was not a target of that partition.
    pub moves: usize,
    /// No layout with the same balance moves fewer; zones may make more necessary.
    pub moves_min: usize,
    /// The greatest distance of a node from its share.
    pub imbalance: f64,
    /// The greatest distance of a node from its share of first places.
    pub imbalance_first: f64,
    /// Partitions in fewer distinct zones than there could be.
    pub zone_violations: usize,
    /// Partitions in which a node comes twice, or that have fewer nodes than there could be.
    pub node_violations: usize,
}

impl Report {
    pub(super) fn new(
        last: Option<&Layout>,
        next: &Layout,
        owners: &BTreeMap<NodeId, (&NodeSpec, u64)>,
    ) -> Self {
        let mut nodes: BTreeMap<NodeId, NodeReport> = BTreeMap::new();
        for (node, (_, share)) in owners {
            entry(&mut nodes, *node).share = *share as f64 / (1u64 << SHARE_BITS) as f64;
        }
        let zone_of = |node: &NodeId| owners.get(node).map(|(spec, _)| spec.zone.as_str());
        let zones: BTreeSet<_> = owners.keys().filter_map(zone_of).collect();
        let n = usize::from(next.n());
        let (zones_possible, nodes_possible) = (zones.len().min(n), owners.len().min(n));
        let (mut moves, mut zone_violations, mut node_violations) = (0, 0, 0);
        for partition in next.partitions().iter() {
            let targets: Vec<NodeId> = next.targets(partition).collect();
            let before: BTreeSet<NodeId> = last
                .map(|last| last.targets(partition).collect())
                .unwrap_or_default();
            let after: BTreeSet<NodeId> = targets.iter().copied().collect();
            for node in &before {
                let report = entry(&mut nodes, *node);
                report.before += 1;
                report.lost += usize::from(!after.contains(node));
            }
            for node in &after {
                let report = entry(&mut nodes, *node);
                let is_new = !before.contains(node);
                report.after += 1;
                report.gained += usize::from(is_new);
                report.first += usize::from(targets.first() == Some(node));
                moves += usize::from(is_new);
            }
            let zones: BTreeSet<_> = after.iter().filter_map(zone_of).collect();
            zone_violations += usize::from(zones.len() < zones_possible);
            node_violations +=
                usize::from(after.len() < nodes_possible || after.len() < targets.len());
        }
        let distance = |value: usize, share: f64| (value as f64 - share).abs();
        let greatest =
            |found: &dyn Fn(&NodeReport) -> f64| nodes.values().map(found).fold(0.0, f64::max);
        let width = nodes_possible.max(1) as f64;
        let imbalance = greatest(&|report| distance(report.after, report.share));
        let imbalance_first = greatest(&|report| distance(report.first, report.share / width));
        let moves_min = moves_min(&nodes, owners, next.partitions().count() * nodes_possible);
        Self {
            nodes: nodes.into_values().collect(),
            moves,
            moves_min,
            imbalance,
            imbalance_first,
            zone_violations,
            node_violations,
        }
    }

    /// One node's part.
    pub fn of(&self, node: NodeId) -> Option<&NodeReport> {
        self.nodes.iter().find(|report| report.node == node)
    }
}

fn entry(nodes: &mut BTreeMap<NodeId, NodeReport>, node: NodeId) -> &mut NodeReport {
    nodes.entry(node).or_insert(NodeReport {
        node,
        share: 0.0,
        before: 0,
        after: 0,
        first: 0,
        gained: 0,
        lost: 0,
    })
}

/// Every node must get at least what it lacks to its floor; and of the extras, those that no node already has.
fn moves_min(
    nodes: &BTreeMap<NodeId, NodeReport>,
    owners: &BTreeMap<NodeId, (&NodeSpec, u64)>,
    replicas: usize,
) -> usize {
    let had = |node: &NodeId| nodes.get(node).map_or(0, |report| report.before);
    let (mut lacking, mut floors, mut extras_there) = (0, 0, 0);
    for (node, (_, share)) in owners {
        let (floor, ceiling) = around(*share);
        floors += floor;
        lacking += floor.saturating_sub(had(node));
        extras_there += usize::from(ceiling > floor && had(node) > floor);
    }
    let extras = replicas.saturating_sub(floors);
    lacking + extras.saturating_sub(extras_there)
}
