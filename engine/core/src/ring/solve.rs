//! Solve: the next layout from the last one and the members, a pure function.
//!
//! In this order: every partition has N distinct nodes, in as many distinct zones as there can be; every node has its
//! weighted share, rounded down or up; every node comes first, second, … equally often; and among all such layouts it
//! is one with the fewest replicas that move. Never asks who is alive, never counts bytes.
//!
//! Zones: with at least N zones, no partition has two replicas in one. With fewer, every zone has one of each
//! partition, and the rest is spread as evenly as the zones' sizes allow. That goes before balance: a node alone in
//! its zone may have to have a replica of everything.

use std::collections::BTreeMap;

use super::assign::{Demand, NONE, assign};
use super::layout::Layout;
use super::partition::PartitionMap;
use super::report::Report;
use super::share::{Terms, around, shares};
use crate::base::ids::NodeId;

/// A node as placement sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSpec {
    /// Its id.
    pub node: NodeId,
    /// Its failure domain.
    pub zone: String,
    /// Its share of the data, relative to the others'. Zero: it owns nothing.
    pub weight: u32,
}

/// The size of the table to be filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The cut of the token space.
    pub partitions: PartitionMap,
    /// Replicas of each partition, from 1 to `REPLICAS_MAX`.
    pub n: u8,
}

/// A node that takes over another's places before anything is balanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heir {
    /// The one that leaves.
    pub old: NodeId,
    /// The one that comes.
    pub new: NodeId,
}

/// The next layout, not yet committed, and what it means.
pub fn solve(
    last: Option<&Layout>,
    members: &[NodeSpec],
    heirs: &[Heir],
    shape: Shape,
) -> (Layout, Report) {
    let members: BTreeMap<NodeId, &NodeSpec> =
        members.iter().map(|spec| (spec.node, spec)).collect();
    let owners: Vec<&NodeSpec> = members
        .values()
        .copied()
        .filter(|spec| spec.weight > 0)
        .collect();
    let ground = Ground::new(&owners, shape);
    let before = Before::new(last, &owners, heirs, shape);
    let mut sets = assign(&Demand {
        partitions: shape.partitions.count(),
        replicas: ground.replicas,
        bounds: &ground.bounds,
        zones: &ground.zones,
        zone_min: ground.zone_min,
        zone_max: ground.zone_max,
        before: &before.rows,
        before_width: before.width,
        allowed: &[],
        allowed_width: 0,
    });
    fill_up(&mut sets, &ground);
    let ordered = order(&ground, sets, &before, shape);
    let nodes: Vec<NodeId> = members.keys().copied().collect();
    // Owners are a part of the members in the same order: their indexes shift by those of weight zero before them.
    let index_of: Vec<u16> = owners
        .iter()
        .filter_map(|spec| u16::try_from(nodes.binary_search(&spec.node).ok()?).ok())
        .collect();
    let targets = ordered
        .iter()
        .map(|owner| index_of[usize::from(*owner)])
        .collect();
    let layout = Layout::draft(shape.partitions, shape.n, nodes, ground.replicas, targets);
    let report = Report::new(last, &layout, &ground.shares_of(&owners));
    (layout, report)
}

/// What a layout that was made otherwise means, beside the shares that it should have given.
pub(super) fn report_of(
    last: Option<&Layout>,
    layout: &Layout,
    members: &[NodeSpec],
    shape: Shape,
) -> Report {
    let mut owners: Vec<&NodeSpec> = members.iter().filter(|spec| spec.weight > 0).collect();
    owners.sort_unstable_by_key(|spec| spec.node);
    Report::new(
        last,
        layout,
        &Ground::new(&owners, shape).shares_of(&owners),
    )
}

/// The rules of one solution.
struct Ground {
    replicas: usize,
    shares: Vec<u64>,
    bounds: Vec<(usize, usize)>,
    zones: Vec<u16>,
    zone_min: usize,
    zone_max: usize,
}

impl Ground {
    fn new(owners: &[&NodeSpec], shape: Shape) -> Self {
        let replicas = usize::from(shape.n).min(owners.len());
        let mut sizes: BTreeMap<&str, (u16, usize)> = BTreeMap::new();
        for spec in owners {
            sizes.entry(&spec.zone).or_default().1 += 1;
        }
        for (index, (zone, _)) in (0u16..).zip(sizes.values_mut()) {
            *zone = index;
        }
        let zones: Vec<u16> = owners
            .iter()
            .filter_map(|spec| Some(sizes.get(spec.zone.as_str())?.0))
            .collect();
        let zone_min = usize::from(sizes.len() <= replicas);
        let zone_max = (1..=replicas)
            .find(|most| {
                let room: usize = sizes.values().map(|(_, size)| *size.min(most)).sum();
                room >= replicas
            })
            .unwrap_or(replicas);
        let weights: Vec<u32> = owners.iter().map(|spec| spec.weight).collect();
        let shares = shares(&Terms {
            weights: &weights,
            zones: &zones,
            partitions: shape.partitions.count(),
            replicas,
            zone_min,
            zone_max,
        });
        let bounds = shares.iter().map(|share| around(*share)).collect();
        Self {
            replicas,
            shares,
            bounds,
            zones,
            zone_min,
            zone_max,
        }
    }

    fn shares_of<'a>(&self, owners: &[&'a NodeSpec]) -> BTreeMap<NodeId, (&'a NodeSpec, u64)> {
        owners
            .iter()
            .zip(&self.shares)
            .map(|(spec, share)| (spec.node, (*spec, *share)))
            .collect()
    }
}

/// The last layout in this solution's indexes, heirs in the places of those they replace.
struct Before {
    width: usize,
    rows: Vec<u16>,
}

impl Before {
    fn new(last: Option<&Layout>, owners: &[&NodeSpec], heirs: &[Heir], shape: Shape) -> Self {
        let Some(last) = last.filter(|last| last.partitions() == shape.partitions) else {
            return Self {
                width: 0,
                rows: Vec::new(),
            };
        };
        let index = |node: NodeId| {
            owners
                .binary_search_by_key(&node, |spec| spec.node)
                .ok()
                .and_then(|index| u16::try_from(index).ok())
                .unwrap_or(NONE)
        };
        let heir = |node: &NodeId| {
            heirs
                .iter()
                .find(|heir| heir.old == *node)
                .map_or(*node, |heir| heir.new)
        };
        let indexes: Vec<u16> = last.nodes().iter().map(|node| index(heir(node))).collect();
        let rows = shape
            .partitions
            .iter()
            .flat_map(|partition| last.target_indexes(partition))
            .map(|target| indexes[usize::from(*target)])
            .collect();
        Self {
            width: last.width(),
            rows,
        }
    }

    /// Whom each partition had at this place.
    fn at(&self, place: usize, partitions: usize) -> Vec<u16> {
        if place >= self.width {
            return vec![NONE; partitions];
        }
        self.rows
            .iter()
            .skip(place)
            .step_by(self.width)
            .copied()
            .collect()
    }
}

/// Shares always have an assignment, so nothing is left to do here; were there ever a place left, a replica too many
/// at some node would be better than none, or than a panic in the middle of an operator's work.
fn fill_up(sets: &mut [u16], ground: &Ground) {
    if !sets.contains(&NONE) {
        return;
    }
    debug_assert!(false, "shares always have an assignment");
    let mut counts = vec![0usize; ground.bounds.len()];
    for node in sets.iter().filter(|node| **node != NONE) {
        counts[usize::from(*node)] += 1;
    }
    for row in sets.chunks_exact_mut(ground.replicas) {
        while let Some(place) = row.iter().position(|node| *node == NONE) {
            let zone_is_there = |node: u16| {
                row.iter().any(|other| {
                    *other != NONE
                        && ground.zones[usize::from(*other)] == ground.zones[usize::from(node)]
                })
            };
            let best = (0..NONE)
                .zip(&counts)
                .filter(|(node, _)| !row.contains(node))
                .min_by_key(|(node, count)| (zone_is_there(*node), **count))
                .map(|(node, _)| node);
            let Some(best) = best else { return };
            row[place] = best;
            counts[usize::from(best)] += 1;
        }
    }
}

/// Puts each partition's nodes in order, so that every node is at every place equally often and few change places.
fn order(ground: &Ground, sets: Vec<u16>, before: &Before, shape: Shape) -> Vec<u16> {
    let partitions = shape.partitions.count();
    let width = ground.replicas;
    let mut rest = sets;
    let mut places: Vec<Vec<u16>> = Vec::with_capacity(width);
    for place in 0..width {
        let rest_width = width - place;
        let mut counts = vec![0usize; ground.bounds.len()];
        for node in &rest {
            counts[usize::from(*node)] += 1;
        }
        let bounds: Vec<(usize, usize)> = counts
            .iter()
            .map(|count| (count / rest_width, count.div_ceil(rest_width)))
            .collect();
        let chosen = assign(&Demand {
            partitions,
            replicas: 1,
            bounds: &bounds,
            zones: &vec![0; bounds.len()],
            zone_min: 0,
            zone_max: 1,
            before: &before.at(place, partitions),
            before_width: 1,
            allowed: &rest,
            allowed_width: rest_width,
        });
        rest = rest
            .chunks_exact(rest_width)
            .zip(&chosen)
            .flat_map(|(row, first)| row.iter().filter(move |node| *node != first))
            .copied()
            .collect();
        places.push(chosen);
    }
    (0..partitions)
        .flat_map(|partition| places.iter().map(move |place| place[partition]))
        .collect()
}

#[cfg(test)]
#[path = "solve_tests.rs"]
mod tests;
