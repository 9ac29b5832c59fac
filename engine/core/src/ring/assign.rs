//! Assignment: each partition gets its nodes within every bound, and as few as possible are new.
//!
//! A minimum-cost flow by successive shortest paths: partitions want replicas, nodes take between the floor and the
//! ceiling of their share, a pair that was there before costs nothing and a new one costs one. It starts from what can
//! be kept (any part of what was there is optimal for its size) and sends one missing replica after the other along a
//! shortest path: some node takes the partition; if it is full, it gives another up, which some other node takes; and
//! so on to a node with room. Potentials keep all lengths non-negative, so the end is exact, not a local optimum.
//!
//! Partitions are no vertices: a step from one node to the next *through* a partition is decided by counting the
//! partition's few replicas. The graph has as many vertices as nodes, and two more:
//! - `hub`: the whole shares (floors) and the extras (one more, where a share is not whole) are counted apart, since only
//!   so many nodes may have their extra; a node that takes an extra when all are given takes it from another;
//! - `end`: where there is room.
//!
//! Never decides what the bounds are; never panics for want of a solution: what cannot be placed stays unplaced.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// No node: fills rows that are shorter than others.
pub(super) const NONE: u16 = u16::MAX;

/// What is asked.
pub(super) struct Demand<'a> {
    /// Q.
    pub(super) partitions: usize,
    /// Replicas that each partition wants.
    pub(super) replicas: usize,
    /// Of each node: the least and the most replicas.
    pub(super) bounds: &'a [(usize, usize)],
    /// Of each node: the index of its zone.
    pub(super) zones: &'a [u16],
    /// Replicas of a partition that each of the zones has at least.
    pub(super) zone_min: usize,
    /// Replicas of a partition that each of the zones has at most.
    pub(super) zone_max: usize,
    /// Whom each partition had before, best first: rows of `before_width`, filled with [`NONE`].
    pub(super) before: &'a [u16],
    /// The length of those rows.
    pub(super) before_width: usize,
    /// Whom each partition may have: rows of `allowed_width`; empty when that is everyone.
    pub(super) allowed: &'a [u16],
    /// The length of those rows.
    pub(super) allowed_width: usize,
}

/// The nodes of each partition, in no particular order: rows of `replicas`, filled with [`NONE`] where none fits.
pub(super) fn assign(demand: &Demand<'_>) -> Vec<u16> {
    let mut work = Work::new(demand);
    work.keep();
    work.release_what_is_too_much();
    for partition in 0..demand.partitions {
        while work.row(partition).len() < demand.replicas && work.place(partition) {}
    }
    work.sets
}

/// A hash of a partition and a node, the same everywhere: the order in which equals are taken.
pub(super) fn mix(partition: usize, node: u64) -> u64 {
    let mut x = node
        ^ (partition as u64)
            .wrapping_add(1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// A length: the cost, then the steps. Fewer steps among equals, so that no path uses one partition twice for what one
/// step could do.
type Length = (i64, u32);

struct Work<'a> {
    demand: &'a Demand<'a>,
    nodes: usize,
    zone_count: usize,
    /// How many nodes may have one more than their floor.
    extras: usize,

    // the assignment
    sets: Vec<u16>,
    lengths: Vec<u8>,
    /// The partitions of each node, in no particular order.
    lists: Vec<Vec<u32>>,
    extras_used: usize,

    // one search
    potentials: Vec<i64>,
    lengths_to: Vec<Length>,
    settled: Vec<bool>,
    /// The vertex before, and the partition through which the step goes.
    came_by: Vec<(u16, u32)>,
    heap: BinaryHeap<Reverse<(Length, u32, u16)>>,
}

const FAR: Length = (i64::MAX, u32::MAX);
const START: u16 = u16::MAX;
const NO_PARTITION: u32 = u32::MAX;

impl<'a> Work<'a> {
    fn new(demand: &'a Demand<'a>) -> Self {
        let nodes = demand.bounds.len();
        let floors: usize = demand.bounds.iter().map(|(least, _)| least).sum();
        Self {
            demand,
            nodes,
            zone_count: demand
                .zones
                .iter()
                .max()
                .map_or(0, |zone| usize::from(*zone) + 1),
            extras: (demand.partitions * demand.replicas).saturating_sub(floors),
            sets: vec![NONE; demand.partitions * demand.replicas],
            lengths: vec![0; demand.partitions],
            lists: vec![Vec::new(); nodes],
            extras_used: 0,
            potentials: vec![0; nodes + 2],
            lengths_to: vec![FAR; nodes + 2],
            settled: vec![false; nodes + 2],
            came_by: vec![(START, NO_PARTITION); nodes + 2],
            heap: BinaryHeap::new(),
        }
    }

    fn hub(&self) -> usize {
        self.nodes
    }

    fn end(&self) -> usize {
        self.nodes + 1
    }

    fn row(&self, partition: usize) -> &[u16] {
        let from = partition * self.demand.replicas;
        &self.sets[from..from + usize::from(self.lengths[partition])]
    }

    fn before(&self, partition: usize) -> &'a [u16] {
        let from = partition * self.demand.before_width;
        &self.demand.before[from..from + self.demand.before_width]
    }

    fn cost(&self, partition: usize, node: u16) -> i64 {
        i64::from(!self.before(partition).contains(&node))
    }

    /// Whom a partition may have; empty when that is everyone.
    fn listed(&self, partition: usize) -> &'a [u16] {
        let width = self.demand.allowed_width;
        &self.demand.allowed[partition * width..][..width]
    }

    fn is_allowed(&self, partition: usize, node: u16) -> bool {
        self.demand.allowed_width == 0 || self.listed(partition).contains(&node)
    }

    /// Whether a partition can take a replica in `zone` once `without` has given up its own.
    fn fits(&self, partition: usize, zone: u16, without: u16) -> bool {
        let demand = self.demand;
        let (mut replicas, mut in_zone) = (0, 0);
        let others = || self.row(partition).iter().filter(|node| **node != without);
        for node in others() {
            replicas += 1;
            in_zone += usize::from(demand.zones[usize::from(*node)] == zone);
        }
        if in_zone < demand.zone_min {
            return true;
        }
        if in_zone >= demand.zone_max || replicas >= demand.replicas {
            return false;
        }
        if demand.zone_min == 0 {
            return true;
        }
        // Zones that still lack what they must have need the rest of the places.
        let mut lacking = self.zone_count * demand.zone_min;
        for (position, node) in others().enumerate() {
            let zone_of = |node: &u16| demand.zones[usize::from(*node)];
            let before = others()
                .take(position)
                .filter(|earlier| zone_of(earlier) == zone_of(node))
                .count();
            lacking -= usize::from(before < demand.zone_min);
        }
        replicas + lacking < demand.replicas
    }

    fn add(&mut self, partition: usize, node: u16) {
        let at = partition * self.demand.replicas + usize::from(self.lengths[partition]);
        self.sets[at] = node;
        self.lengths[partition] += 1;
        let list = &mut self.lists[usize::from(node)];
        list.push(partition as u32);
        self.extras_used += usize::from(list.len() > self.demand.bounds[usize::from(node)].0);
    }

    fn give_up(&mut self, partition: usize, node: u16) {
        let length = usize::from(self.lengths[partition]);
        let from = partition * self.demand.replicas;
        let row = &mut self.sets[from..from + length];
        let list = &mut self.lists[usize::from(node)];
        let in_row = row.iter().position(|other| *other == node);
        let in_list = list.iter().position(|other| *other as usize == partition);
        if let (Some(in_row), Some(in_list)) = (in_row, in_list) {
            row[in_row..].rotate_left(1);
            row[length - 1] = NONE;
            self.lengths[partition] -= 1;
            self.extras_used -= usize::from(list.len() > self.demand.bounds[usize::from(node)].0);
            list.swap_remove(in_list);
        }
    }

    /// Takes over from before what the rules of zones allow, each partition's best first.
    fn keep(&mut self) {
        for partition in 0..self.demand.partitions {
            for node in self.before(partition) {
                let keeps = usize::from(*node) < self.nodes
                    && usize::from(self.lengths[partition]) < self.demand.replicas
                    && !self.row(partition).contains(node)
                    && self.is_allowed(partition, *node)
                    && self.fits(partition, self.demand.zones[usize::from(*node)], NONE);
                if keeps {
                    self.add(partition, *node);
                }
            }
        }
    }

    /// Nodes over their ceiling, and more extras than there are, give partitions up: of those that lack nothing first,
    /// since one newcomer can take only one replica of each.
    fn release_what_is_too_much(&mut self) {
        for node in 0..self.nodes {
            let most = self.demand.bounds[node].1;
            let surplus = self.lists[node].len().saturating_sub(most);
            self.release(node, surplus);
        }
        for node in 0..self.nodes {
            let over = self.lists[node].len() > self.demand.bounds[node].0;
            if over && self.extras_used > self.extras {
                self.release(node, 1);
            }
        }
    }

    fn release(&mut self, node: usize, count: usize) {
        if count == 0 {
            return;
        }
        let mut order: Vec<(usize, u64, u32)> = self.lists[node]
            .iter()
            .map(|partition| {
                let at = *partition as usize;
                let missing = self.demand.replicas - usize::from(self.lengths[at]);
                (missing, mix(at, node as u64), *partition)
            })
            .collect();
        order.sort_unstable();
        for (_, _, partition) in order.into_iter().take(count) {
            self.give_up(partition as usize, node as u16);
        }
    }

    fn has_floor_room(&self, node: usize) -> bool {
        self.lists[node].len() < self.demand.bounds[node].0
    }

    /// At its floor with an extra to take.
    fn may_take_extra(&self, node: usize) -> bool {
        let (least, most) = self.demand.bounds[node];
        self.lists[node].len() == least && most > least
    }

    fn has_extra(&self, node: usize) -> bool {
        self.lists[node].len() > self.demand.bounds[node].0
    }

    /// Places one more replica of a partition along a shortest path. Whether there was one.
    fn place(&mut self, partition: usize) -> bool {
        if let Some(node) = self.with_room(partition) {
            self.add(partition, node);
            return true;
        }
        self.lengths_to.fill(FAR);
        self.settled.fill(false);
        self.heap.clear();
        self.begin(partition);
        while let Some(Reverse((length, _, vertex))) = self.heap.pop() {
            let at = usize::from(vertex);
            if self.settled[at] || length > self.lengths_to[at] {
                continue;
            }
            self.settled[at] = true;
            if at == self.end() || self.is_decided(length) {
                let length = self.lengths_to[self.end()];
                for (potential, to) in self.potentials.iter_mut().zip(&self.lengths_to) {
                    *potential += to.0.min(length.0);
                }
                self.walk_back(partition);
                return true;
            }
            if at == self.hub() {
                self.leave_hub(length);
            } else {
                self.leave_node(at, length);
            }
        }
        false
    }

    /// Whether the end was reached by a length that no other path can beat, `length` being the least not yet left.
    fn is_decided(&self, length: Length) -> bool {
        self.lengths_to[self.end()] <= (length.0, length.1 + 1)
    }

    /// A node with room that is as near as any: the path to it is a shortest one and changes no potential. Most replicas
    /// of a first layout, and of a newcomer, need no search beyond this.
    fn with_room(&self, partition: usize) -> Option<u16> {
        let end = self.potentials[self.end()];
        let hub_leads_on = self.extras_used < self.extras && self.potentials[self.hub()] == end;
        let has_room = |node: usize| {
            self.potentials[node] == end
                && (self.has_floor_room(node) || hub_leads_on && self.may_take_extra(node))
        };
        self.takers(partition)
            .map(|node| {
                let at = usize::from(node);
                let start = self.cost(partition, node) - self.potentials[at];
                (start, !has_room(at), mix(partition, u64::from(node)), node)
            })
            .min()
            .filter(|(_, has_no_room, ..)| !has_no_room)
            .map(|(.., node)| node)
    }

    /// The first steps: every node that could take the partition as it is.
    fn begin(&mut self, partition: usize) {
        let nodes: Vec<u16> = self.takers(partition).collect();
        let start = |work: &Self, node: u16| {
            work.cost(partition, node) - work.potentials[usize::from(node)]
        };
        let least = nodes
            .iter()
            .map(|node| start(self, *node))
            .min()
            .unwrap_or(0);
        for node in nodes {
            let length = (start(self, node) - least, 1);
            self.reach(usize::from(node), length, (START, partition as u32));
        }
    }

    /// The nodes that could take a replica of the partition as it is.
    fn takers(&self, partition: usize) -> impl Iterator<Item = u16> + '_ {
        // Once for each zone: there are far fewer than nodes, as a rule.
        let zone_fits: Vec<bool> = (0..self.zone_count)
            .map(|zone| self.fits(partition, zone as u16, NONE))
            .collect();
        let is_listed = self.demand.allowed_width > 0;
        let everyone = if is_listed { 0 } else { self.nodes };
        (0..everyone as u16)
            .chain(self.listed(partition).iter().copied())
            .filter(move |node| {
                self.demand
                    .zones
                    .get(usize::from(*node))
                    .is_some_and(|zone| zone_fits[usize::from(*zone)])
                    && !self.row(partition).contains(node)
            })
    }

    fn reach(&mut self, vertex: usize, length: Length, by: (u16, u32)) {
        if self.settled[vertex] || length >= self.lengths_to[vertex] {
            return;
        }
        self.lengths_to[vertex] = length;
        self.came_by[vertex] = by;
        // Among equals first where there is room, then in hash order: that spreads a node's partitions over all others.
        let has_no_room = vertex < self.nodes && !self.has_floor_room(vertex);
        let hash = mix(by.1 as usize, vertex as u64) as u32;
        let tie = u32::from(has_no_room) << 31 | hash >> 1;
        self.heap.push(Reverse((length, tie, vertex as u16)));
    }

    fn step(&self, from: usize, length: Length, cost: i64, to: usize) -> Length {
        let reduced = cost + self.potentials[from] - self.potentials[to];
        debug_assert!(reduced >= 0, "potentials keep every step non-negative");
        (length.0 + reduced, length.1 + 1)
    }

    fn leave_hub(&mut self, length: Length) {
        let hub = self.hub();
        if self.extras_used < self.extras {
            let end = self.end();
            let to_end = self.step(hub, length, 0, end);
            self.reach(end, to_end, (hub as u16, NO_PARTITION));
        }
        for node in 0..self.nodes {
            if self.has_extra(node) {
                let to_node = self.step(hub, length, 0, node);
                self.reach(node, to_node, (hub as u16, NO_PARTITION));
            }
        }
    }

    fn leave_node(&mut self, node: usize, length: Length) {
        if self.has_floor_room(node) {
            let end = self.end();
            let to_end = self.step(node, length, 0, end);
            self.reach(end, to_end, (node as u16, NO_PARTITION));
        }
        if self.may_take_extra(node) {
            let hub = self.hub();
            // No step of its own: whoever has an extra left is as near as whoever has a whole share left.
            let to_hub = (self.step(node, length, 0, hub).0, length.1);
            self.reach(hub, to_hub, (node as u16, NO_PARTITION));
        }
        if self.is_decided(length) {
            return;
        }
        // No step leads below this length, so whoever is there already needs no look.
        let floor = (length.0, length.1 + 1);
        let mut improvable: Vec<u16> = (0..self.nodes)
            .filter(|other| !self.settled[*other] && self.lengths_to[*other] > floor)
            .map(|other| other as u16)
            .collect();
        let is_listed = self.demand.allowed_width > 0;
        for index in 0..self.lists[node].len() {
            let partition = self.lists[node][index];
            if is_listed {
                for other in self.listed(partition as usize) {
                    if self.lengths_to[usize::from(*other)] > floor {
                        self.hand_over(node, length, partition, *other);
                    }
                }
                continue;
            }
            if improvable.is_empty() {
                return;
            }
            let mut position = 0;
            while let Some(other) = improvable.get(position).copied() {
                self.hand_over(node, length, partition, other);
                if self.lengths_to[usize::from(other)] <= floor {
                    improvable.swap_remove(position);
                } else {
                    position += 1;
                }
            }
        }
    }

    /// One step: `node` gives a partition up and `other` takes it, if that is allowed and shorter than what was found.
    fn hand_over(&mut self, node: usize, length: Length, partition: u32, other: u16) {
        let (at, to) = (partition as usize, usize::from(other));
        let cost = self.cost(at, other) - self.cost(at, node as u16);
        let reduced = cost + self.potentials[node] - self.potentials[to];
        let takes = (length.0 + reduced, length.1 + 1) < self.lengths_to[to]
            && !self.row(at).contains(&other)
            && self.fits(at, self.demand.zones[to], node as u16);
        if takes {
            let reached = self.step(node, length, cost, to);
            self.reach(to, reached, (node as u16, partition));
        }
    }

    fn walk_back(&mut self, wanted: usize) {
        let mut vertex = self.end();
        let mut moves = Vec::new();
        loop {
            let (from, partition) = self.came_by[vertex];
            if partition != NO_PARTITION {
                moves.push((partition as usize, from, vertex as u16));
            }
            if from == START {
                break;
            }
            vertex = usize::from(from);
        }
        // From the end: each giver has already given before it takes in turn, so no row ever overflows.
        for (partition, from, to) in moves {
            if from == START {
                assert_eq!(
                    partition, wanted,
                    "a path begins where a replica is missing"
                );
            } else {
                self.give_up(partition, from);
            }
            assert!(
                !self.row(partition).contains(&to),
                "a partition never has a node twice"
            );
            self.add(partition, to);
        }
    }
}

#[cfg(test)]
#[path = "assign_tests.rs"]
mod tests;
